"""What agents ask for: granted by rule or by a person, given for a while, and taken back."""

import fnmatch
import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Literal
from urllib.parse import urlsplit

from agent_daemon.protocol.model import CredentialRequest, Feedback, TaskReport, WaitReason
from supervisor.core.decision import Decision, Event
from supervisor.core.mint_rules import FORGE_TOKENS, why_not_made
from supervisor.core.record import Attempt, Grant, TaskRecord
from supervisor.core.secret_settings import AccessSettings, CredentialSettings
from supervisor.core.settings import GIT_USERS, Config, ProjectSettings
from supervisor.core.states import State

DENIED = "E_CREDENTIAL_DENIED"
# What one task may ask for; more is no work but a flood.
MAX_ASKED = 20
_MAX_CHARACTERS = 500
# What is longer than any name may be stays so when it is cut.
_MAX_NAME_CHARACTERS, _MAX_SCOPE_CHARACTERS = 64, 201
_SHOWN_CHARACTERS = 200
_WORD = re.compile(r"[a-z][a-z0-9_-]{0,40}")
_SCOPE = re.compile(r"[A-Za-z0-9@:/._*-]{0,200}")

# What is usual: the variable, and which access is granted by rule unless the configuration says otherwise.
_USUAL: dict[str, tuple[str, frozenset[str]]] = {
    "github_token": ("GITHUB_TOKEN", frozenset({"read"})),
    "gitlab_token": ("GITLAB_TOKEN", frozenset({"read"})),
    "npm_token": ("NPM_TOKEN", frozenset({"read"})),
    "pypi_token": ("PYPI_TOKEN", frozenset({"read"})),
    "database_url": ("DATABASE_URL", frozenset({"read_only"})),
    "api_key": ("API_KEY", frozenset()),
    "ssh_key": ("SSH_KEY", frozenset()),
}

_USUAL_FILES = frozenset({"ssh_key"})


def variable_of(name: str, settings: CredentialSettings) -> str:
    """The variable in which an agent gets it."""
    return settings.env or _USUAL.get(name, (name.upper().replace("-", "_"), frozenset()))[0]


def delivery_of(name: str, settings: CredentialSettings) -> Literal["environment", "file"]:
    """Whether its variable holds the value, or the path of a file that does: programs want keys of ssh so."""
    return settings.deliver or ("file" if name in _USUAL_FILES else "environment")


def granted_by(
    name: str, access: str, rule: AccessSettings
) -> Literal["by_rule", "by_person", "at_start", "never"]:
    """Who grants this access: what is configured, else what is usual, else a person.

    What pushes is the supervisor's: tokens of forges are for reading, unless somebody says otherwise.
    """
    usual = _USUAL.get(name, ("", frozenset()))[1]
    others: Literal["by_person", "never"] = "never" if name in FORGE_TOKENS else "by_person"
    return rule.granted or ("by_rule" if access in usual else others)


# --- asked ----------------------------------------------------------------------------------------------


def take_requests(task: TaskRecord, report: TaskReport | None, config: Config, now: datetime) -> Decision:
    """What the live attempt asks for and did not ask before: granted, put before a person, or denied."""
    decision = Decision(task=task)
    live = task.live
    if live is None or report is None or report.attempt != live.number:
        return decision
    for request in map(_cut, report.credential_requests):
        known = _without_old_refusal(decision.task, request)
        if len(of_run(known)) >= MAX_ASKED + 1 or _known(known, request) is not None:
            continue
        grant = _judged(known, request, config, now)
        event = event_of(grant, grant.status, actor=grant.by or "agent")
        decision = decision.then(Decision(task=known.evolve(grants=(*known.grants, grant)), events=(event,)))
    return decision


def grant_at_start(task: TaskRecord, config: Config, now: datetime) -> Decision:
    """What an attempt that begins has without asking, as the key of its coding CLI.

    What was over by itself is granted anew, by what is configured now; what a person has taken back, or denied,
    is not in this run.
    """
    decision = Decision(task=task)
    for kind, settings in config.credentials.items():
        for access in (name for name, rule in settings.access.items() if rule.granted == "at_start"):
            request = CredentialRequest(id="", type=kind, access=access, reason="every attempt has it")
            if next(_unfit(decision.task, request, config, settings), None) is None:
                decision = decision.then(_granted_unasked(decision.task, request, config, now))
    return decision


def _granted_unasked(task: TaskRecord, request: CredentialRequest, config: Config, now: datetime) -> Decision:
    """One such, in the place of what there was of it; what the attempt has already stays as it is."""
    known = _without_old_refusal(task, request)
    before = [grant for grant in of_run(known) if _is_same(grant, request) and grant.status in ("granted", "over")]
    grant = _judged(known, request, config, now)
    if before:
        last = before[-1]
        grant = grant.evolve(id=last.id, asked_as=last.asked_as, deliveries=last.deliveries)
        wanted = (grant.env, grant.deliver, grant.ttl_minutes)
        if last.status == "granted" and wanted == (last.env, last.deliver, last.ttl_minutes):
            return Decision(task=task)
    changed = with_grant(known, grant) if before else known.evolve(grants=(*known.grants, grant))
    return Decision(task=changed, events=(event_of(grant, grant.status, actor="rule"),))


def _cut(request: CredentialRequest) -> CredentialRequest:
    """No longer than a record and a tasking can hold of twenty such."""
    return request.model_copy(
        update={
            "id": request.id[:_MAX_NAME_CHARACTERS],
            "type": request.type[:_MAX_NAME_CHARACTERS],
            "access": request.access[:_MAX_NAME_CHARACTERS],
            "scope": request.scope[:_MAX_SCOPE_CHARACTERS],
            "reason": request.reason[:_MAX_CHARACTERS],
        }
    )


def of_run(task: TaskRecord) -> tuple[Grant, ...]:
    """What was asked for in this run; what a person denied in an earlier one may be asked for again."""
    earlier = {attempt.number for attempt in task.attempts if attempt.rerun < task.rerun}
    return tuple(grant for grant in task.grants if grant.attempt not in earlier)


def _is_same(grant: Grant, request: CredentialRequest) -> bool:
    return (grant.type, grant.access, grant.scope) == (request.type, request.access, request.scope)


def _without_old_refusal(task: TaskRecord, request: CredentialRequest) -> TaskRecord:
    """The task without what a rule said to the same in an earlier attempt: the rule may be another one by now.

    What a person was asked for stays, so that its id is not given out again: the question stands on the issue yet.
    """
    kept = tuple(
        grant
        for grant in task.grants
        if not (_is_same(grant, request) and _is_old_refusal(task, grant) and grant.answer_by is None)
    )
    return task.evolve(grants=kept) if len(kept) < len(task.grants) else task


def _is_old_refusal(task: TaskRecord, grant: Grant) -> bool:
    return (grant.status, grant.by) == ("denied", "rule") and grant.attempt < task.attempt


def _known(task: TaskRecord, request: CredentialRequest) -> Grant | None:
    """What the same was decided on before in this run, and still counts: asking again changes nothing."""
    return next(
        (
            grant
            for grant in of_run(task)
            if _is_same(grant, request)
            and (grant.status != "over" or _said(grant, request, task.attempt))
            and not _is_old_refusal(task, grant)
        ),
        None,
    )


def _said(grant: Grant, request: CredentialRequest, attempt: int) -> bool:
    """Whether this is the very request that is over by now, and not another one for the same."""
    return (grant.asked_as, grant.attempt) == (request.id, attempt)


def _judged(task: TaskRecord, request: CredentialRequest, config: Config, now: datetime) -> Grant:
    grant = Grant(
        id=_free_id(task, request.id),
        asked_as=request.id,
        type=request.type,
        access=request.access,
        scope=request.scope,
        reason=request.reason,
        attempt=task.attempt,
        asked_at=now,
        status="asked",
    )
    why = next(_objections(task, request, config), None)
    if why is not None:
        return grant.evolve(status="denied", why=why, by="rule", at=now)
    settings = config.credentials[request.type]
    rule = settings.access[request.access]
    grant = grant.evolve(
        env=variable_of(request.type, settings),
        deliver=delivery_of(request.type, settings),
        ttl_minutes=settings.ttl_minutes,
    )
    granted = granted_by(request.type, request.access, rule)
    if granted in ("by_rule", "at_start"):
        return _granted(grant, "rule", now).evolve(unasked=granted == "at_start")
    answer_by = now + timedelta(minutes=settings.answer_minutes)
    return grant.evolve(answer_by=answer_by, approve=rule.approve or "write")


def _free_id(task: TaskRecord, wanted: str) -> str:
    """The agent's own name for it where that is one and not taken, else the next one."""
    taken = {grant.id for grant in task.grants}
    if re.fullmatch(r"cred-[0-9]{3}", wanted) and wanted not in taken:
        return wanted
    return next(name for number in range(1, 1000) if (name := f"cred-{number:03}") not in taken)


def _objections(task: TaskRecord, request: CredentialRequest, config: Config) -> Iterator[str]:
    """Why this cannot be granted by anybody, whatever is asked of a person."""
    if len(of_run(task)) >= MAX_ASKED:
        yield f"the task has asked for {MAX_ASKED} things already"
    if not _WORD.fullmatch(request.type) or not _WORD.fullmatch(request.access):
        yield "a type and an access are words of small letters, digits, '_' and '-'"
        return
    if not _SCOPE.fullmatch(request.scope):
        yield "a scope has letters, digits and @:/._*- only"
    settings = config.credentials.get(request.type)
    if settings is None:
        known = ", ".join(sorted(config.credentials)) or "nothing"
        yield f"there is no {request.type} here; what can be asked for: {known}"
        return
    yield from _unfit(task, request, config, settings)


def _unfit(
    task: TaskRecord, request: CredentialRequest, config: Config, settings: CredentialSettings
) -> Iterator[str]:
    """Why what is configured is not for this request."""
    if request.access not in settings.access:
        yield f"there is no access '{request.access}' to it, only: {', '.join(settings.access)}"
    elif granted_by(request.type, request.access, settings.access[request.access]) == "never":
        yield f"{request.type} is for reading: the supervisor pushes; `granted` in config.yaml could say otherwise"
    elif (times := settings.access[request.access].times) is not None and _had(task, request) >= times:
        yield f"this run of the task has had it {times} times, which is all that it may"
    elif settings.access[request.access].granted == "at_start" and _is_withdrawn(task, request):
        yield "a person has taken it back from this run of the task"
    elif settings.access[request.access].mint is not None:
        yield from _unmintable(request, config.projects[task.project])
    if settings.projects and task.project not in settings.projects:
        yield f"it is not for the project {task.project}"
    if settings.specialists and task.specialist not in settings.specialists:
        yield f"it is not for the specialist {task.specialist}"
    scopes = settings.scopes
    if request.type in FORGE_TOKENS and not scopes and request.scope:
        scopes = (config.projects[task.project].repository,)
    if scopes and not any(fnmatch.fnmatchcase(request.scope, scope) for scope in scopes):
        wrong = f"the scope '{request.scope}' is none of" if request.scope else "say --scope, one of"
        yield f"{wrong}: {', '.join(scopes)}"


def _unmintable(request: CredentialRequest, project: ProjectSettings) -> Iterator[str]:
    """Why the task's forge makes no such token: it makes them for the task's repository, and if it can at all."""
    why = why_not_made(request.type, project)
    if why is not None:
        yield why
    if request.scope not in ("", project.repository):
        yield f"it is made for {project.repository} alone, not for '{request.scope}'"


def git_place(credential_type: str, project: ProjectSettings) -> tuple[str, str] | None:
    """Where git may use a token: the host of the project's forge alone, and the name that goes with it there."""
    if project.forge not in GIT_USERS or project.forge != FORGE_TOKENS.get(credential_type):
        return None
    parts = urlsplit(project.web_address)
    return f"{parts.scheme}://{parts.netloc}", GIT_USERS[project.forge]


def _is_withdrawn(task: TaskRecord, request: CredentialRequest) -> bool:
    """Whether a person has denied this access in this run, or taken it back, of whatever scope."""
    return any(
        (grant.type, grant.access) == (request.type, request.access)
        and grant.status in ("denied", "over")
        and grant.by not in ("rule", "supervisor")
        for grant in of_run(task)
    )


def _had(task: TaskRecord, request: CredentialRequest) -> int:
    """How often the run was granted this access, of whatever scope."""
    return sum(
        (grant.type, grant.access) == (request.type, request.access) and grant.status in ("granted", "over")
        for grant in of_run(task)
    )


def _granted(grant: Grant, by: str, now: datetime) -> Grant:
    until = now + timedelta(minutes=grant.ttl_minutes)
    return grant.evolve(status="granted", by=by, at=now, expires_at=until)


# --- decided by a person --------------------------------------------------------------------------------


def open_grant(task: TaskRecord, wanted: str) -> Grant | None:
    """What a person is to decide: the one of this id, or without one the first."""
    return next((g for g in task.grants if g.status == "asked" and wanted in ("", g.id)), None)


def decide_grant(
    task: TaskRecord, grant: Grant, *, by: str, why: str | None, now: datetime, via: str = "cli", text: str = ""
) -> Decision:
    """A person grants it, or denies it for the reason `why`. A task that waits for nothing else goes on.

    `via` and `text` are for the books: how it was said, and with which words.
    """
    if why is None:
        decided, name = _granted(grant, by, now), "granted"
    else:
        decided, name = grant.evolve(status="denied", by=by, at=now, why=why), "denied"
    said: dict[str, object] = {"via": via}
    if text:
        said["text"] = text[:_MAX_CHARACTERS]
    decision = Decision(task=with_grant(task, decided), events=(event_of(decided, name, actor=by, extra=said),))
    return decision.then(_go_on(decision.task, by, now))


def _go_on(task: TaskRecord, by: str, now: datetime) -> Decision:
    """Another attempt where the last one stopped for want of what is decided now; a paused task's comes later."""
    waits = [wait for wait in task.waits_for if wait.reason is not WaitReason.CREDENTIAL]
    if waits or any(grant.status == "asked" for grant in task.grants):
        return Decision(task=task)
    if task.state is State.BLOCKED:
        return another_attempt(task, by, now)
    if (task.state, task.paused_from) == (State.PAUSED, State.BLOCKED) and task.waits_for:
        return Decision(task=_told_of(task).evolve(waits_for=(), paused_from=State.PENDING))
    return Decision(task=task)


def another_attempt(task: TaskRecord, by: str, now: datetime) -> Decision:
    """What it asked for is decided: the next attempt, which is told, and no failure."""
    why = "what it asked for is decided"
    return Decision(task=_told_of(task).moved(State.PENDING, reason=why, actor=by, at=now, waits_for=()))


def _told_of(task: TaskRecord) -> TaskRecord:
    told = tuple(Feedback(code="CREDENTIAL", message=sentence(grant)) for grant in of_run(task))
    return task.evolve(feedback=(*task.feedback, *told))


def was_just_decided(task: TaskRecord, attempt: Attempt) -> bool:
    """Whether all that it asked for is decided, and something since this attempt began: it may have missed it.

    Each decision speaks for one more attempt and no further one: an agent that stops again is a person's matter.
    """
    if any(grant.status == "asked" for grant in task.grants):
        return False
    return any(
        grant.at is not None and grant.at >= attempt.started_at and _is_news(grant, attempt)
        for grant in of_run(task)
    )


def _is_news(grant: Grant, attempt: Attempt) -> bool:
    """A person's word, or what a rule granted and this attempt was not given."""
    if grant.by != "rule":
        return grant.status in ("granted", "denied")
    return grant.status == "granted" and (grant.given_to is None or grant.given_to[0] != attempt.number)


def sentence(grant: Grant) -> str:
    """What became of a request, for an agent or a person; never a value."""
    what = f"{grant.id}: {grant.type}, {grant.access}" + (f", {grant.scope}" if grant.scope else "")
    match grant.status:
        case "asked":
            return f"{what}: a person is asked"
        case "granted":
            return f"{what}: granted by {grant.by}, as {grant.env}"
        case "denied":
            return f"{what}: denied by {grant.by}: {grant.why}"
        case _:
            return f"{what}: taken back: {grant.why}"


def said_why(grant: Grant) -> str:
    """The agent's reason, on one line and no longer than a line is read."""
    words = " ".join(grant.reason.split())
    return words if len(words) <= _SHOWN_CHARACTERS else words[: _SHOWN_CHARACTERS - 1] + "…"


def revoke(task: TaskRecord, grant: Grant, *, by: str, why: str, now: datetime) -> Decision:
    """Take back what was granted."""
    over = grant.evolve(status="over", why=why, by=by, at=now, given_to=None)
    return Decision(task=with_grant(task, over), events=(event_of(over, "revoked", actor=by),))


def with_grant(task: TaskRecord, grant: Grant) -> TaskRecord:
    return task.evolve(grants=tuple(grant if g.id == grant.id else g for g in task.grants))


def event_of(
    grant: Grant, what: str, *, actor: str = "supervisor", extra: dict[str, object] | None = None
) -> Event:
    details: dict[str, object] = {
        "id": grant.id,
        "type": grant.type,
        "access": grant.access,
        "scope": grant.scope,
    }
    if what == "denied":
        details |= {"code": DENIED}
    if what in ("asked", "granted", "denied") and grant.reason:
        details |= {"reason": said_why(grant)}
    if grant.why:
        details |= {"message": grant.why}
    return Event(name=f"credential.{what}", details=details | (extra or {}), actor=actor)
