"""What is found of a project's access to its forge, judged: whether it will do, and what mends it."""

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from urllib.parse import urlsplit

from supervisor.core.forge import Finding
from supervisor.core.record import Stored

# A token is told of so long before it ends.
_SOON = timedelta(days=7)


class HookSeen(Stored):
    """A webhook as its forge shows it; `events` by the forge's own names, `trouble` of its last delivery."""

    url: str
    active: bool = True
    events: frozenset[str] = frozenset()
    trouble: str = ""


def judge_account(configured: str, found: str) -> Finding:
    """Whether the token is of the account that our comments are told apart by."""
    if found.casefold() == configured.casefold():
        return Finding(what="account", ok=True, message=f"signed in as {found}")
    message = f"signed in as {found}, but `login` is {configured}: what we say is not known again, and said twice"
    mend = f"Write `login: {found}` into `auth` of the project, or take it out; then restart the supervisor."
    return Finding(what="account", ok=False, message=message, mend=mend)


def judge_name(configured: str, found: str) -> Finding:
    """Whether the repository still has the name that the configuration gives it."""
    if found.lower() == configured.lower():
        return Finding(what="repository", ok=True, message=f"{found} is there")
    return Finding(
        what="repository",
        ok=False,
        message=f"{configured} is called {found} now",
        mend=f"Write `repository: {found}` into config.yaml, and restart the supervisor.",
    )


def judge_push(may: bool, archived: bool, mend: str) -> Finding:
    """Whether branches can be pushed and requests opened."""
    if archived:
        message, mend = "it is archived: nothing can be pushed", "Take it out of the archive."
    else:
        message = "may push and open requests" if may else "may not push"
    return Finding(what="push", ok=may and not archived, message=message, mend=mend)


def judge_issues(on: bool, where: str) -> Finding:
    mend = f"Turn issues on in {where}'s settings; without them only task files and requests start tasks."
    return Finding(what="issues", ok=on, message="issues are on" if on else "issues are off", mend=mend)


def judge_labels(wanted: Iterable[str], known: Iterable[str]) -> Iterator[Finding]:
    """Whether the labels that start tasks can be set; forges take their case for no difference."""
    there = {name.lower() for name in known}
    for name in wanted:
        ok = name.lower() in there
        message = "it can be set on issues" if ok else "there is no such label: nobody can set it"
        mend = f"Make the label {name} there."
        yield Finding(what=f"label {name}", ok=ok, message=message, mend=mend, grave=False)


def judge_end(ends_at: datetime | None, now: datetime) -> Finding | None:
    """A token that ends soon; None where it does not, or nobody knows."""
    if ends_at is None or ends_at > now + _SOON:
        return None
    message = f"the token ends on {ends_at:%Y-%m-%d}"
    mend = "Make another and write it where this one is: it counts from the next request on."
    return Finding(what="token's end", ok=False, message=message, mend=mend, grave=False)


def judge_hook(hooks: Iterable[HookSeen], path: str, wanted: frozenset[str]) -> Finding:
    """Whether one of a repository's webhooks points to this path of ours and tells what is wanted (`*`: all)."""
    ours = [hook for hook in hooks if urlsplit(hook.url).path.endswith(path)]
    if not ours:
        mend = f"Register one with an address that ends in {path}, as docs/forges.md says."
        return Finding(what="webhook", ok=False, message="none points here", mend=mend, grave=False)
    hook = next((hook for hook in ours if hook.active), ours[0])
    missing = frozenset() if "*" in hook.events else wanted - hook.events
    if not hook.active:
        message, mend = f"{hook.url} is switched off", "Switch it on again, once the reason is mended."
    elif hook.trouble:
        message = f"{hook.url}: {hook.trouble}"
        mend = "See the deliveries in the webhook's settings, and the table of answers in docs/forges.md."
    elif missing:
        message = f"{hook.url} tells nothing of {', '.join(sorted(missing))}"
        mend = "Add that; until then the poll finds it later."
    else:
        return Finding(what="webhook", ok=True, message=f"{hook.url} points here")
    return Finding(what="webhook", ok=False, message=message, mend=mend, grave=False)


def unseen_hook(path: str, who: str) -> Finding:
    """For a token that may not see webhooks."""
    message = f"this token may not see webhooks; {who} sees whether one ends in {path}"
    return Finding(what="webhook", ok=True, message=message)
