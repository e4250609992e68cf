"""One poll of a GitHub repository: a single conditional read while nothing happens, details where something did.

Everything that matters here (a label, an assignment, a comment, a review, an edit, a push to a request) brings
an issue's or request's `updated_at` forward, so the list of issues by that time is asked first, always at the
same address. Only checks of a request's head do not: those are asked for each open request of ours.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from supervisor.core.forge import (
    NOBODY_KNOWN,
    Cursor,
    ForgeNews,
    ForgeRequest,
    IssueSeen,
    Person,
    ReviewSeen,
    Trigger,
    Watched,
    text_digest,
)
from supervisor.core.settings import TriggerSettings
from supervisor.core.slash import parse_slash
from supervisor.forges.client import (
    PAGE,
    REVIEWS,
    SECOND,
    is_missed,
    is_same,
    is_taken,
    look_at,
    newest_of,
    time_of,
    without_others,
)
from supervisor.forges.errors import ForgeError, moved
from supervisor.forges.github.client import GitHubClient
from supervisor.forges.github.values import (
    check_of,
    comment_of,
    is_bot,
    issue_number,
    login_of,
    request_of,
    review_comment_of,
    status_of,
    verdict_of,
)
from supervisor.forges.tags import Tags

_LATEST = {"state": "all", "sort": "updated", "direction": "desc", "per_page": str(PAGE)}
_COMMENTS = {"sort": "updated", "direction": "desc", "per_page": str(PAGE)}
_WHOLE = {"per_page": str(PAGE)}
_EVENTS = {"labeled": "label", "assigned": "assignment", "review_requested": "review_request"}
_EDITOR_QUERY = """
query($owner: String!, $name: String!, $number: Int!) {
  repository(owner: $owner, name: $name) {
    issueOrPullRequest(number: $number) {
      ... on Comment {
        createdAt lastEditedAt editor { login __typename }
        userContentEdits(first: 100) { nodes { editedAt editor { login __typename } } }
      }
    }
  }
}
"""


_MAX_PAGES = 20
# So long a forge may show a label before it tells of the event that set it, or an event before its issue changes.
_LAG = timedelta(minutes=2)


def _is_of(event: dict[str, Any], item: dict[str, Any]) -> bool:
    """Reviews are asked for on requests, everything else on issues."""
    return bool(event["event"] == "review_requested") == ("pull_request" in item)


def _editor(edit: dict[str, Any]) -> str:
    """Whose edit it is; the name of an App's account has an ending that GraphQL leaves out."""
    editor = edit.get("editor") or {}
    login = str(editor.get("login") or NOBODY_KNOWN)
    return f"{login}[bot]" if editor.get("__typename") == "Bot" and not login.endswith("[bot]") else login


def _is_later(edited_at: str | None, since: datetime | None) -> bool:
    return edited_at is not None and (since is None or time_of(edited_at) > since)


def _runs_of(repository: str, sha: str) -> str:
    return f"{repository}/commits/{sha}/check-runs"


def _status_of(repository: str, sha: str) -> str:
    return f"{repository}/commits/{sha}/status"


class Poll:
    """One reading; made anew for each."""

    def __init__(self, client: GitHubClient, repository: str, trigger: TriggerSettings, cursor: Cursor) -> None:
        self._client, self._bot, self._trigger = client, client.login, trigger
        self._labels = {label.casefold() for label in trigger.labels}
        self._owner, _, self._name = repository.partition("/")
        self._path = f"/repos/{repository}"
        self._cursor = cursor
        self._tags = Tags(cursor, client.generation)
        self._since = dict(cursor.since)
        self._people: dict[str, Person] = {}
        self._happened: datetime | None = None  # (the newest event)

    def read(self, watched: Watched) -> ForgeNews:
        """What is new since the cursor."""
        issues: list[IssueSeen] = []
        comments, changed = [], []
        latest = self._client.get_changed(f"{self._path}/issues", _LATEST, self._tags)
        if latest is not None:
            self._refuse_another(latest)
            begun = self._client.forge_now()
            changed = list(self._newer(f"{self._path}/issues", _LATEST, latest, "issues"))
            comments, events = list(self._comments(begun)), self._events()
            spoken = {issue_number(item): time_of(item["created_at"]) for item in comments if self._commands(item)}
            for item in changed:
                number = str(item["number"])
                seen = self._issue(item, events.get(number, []), watched, spoken.get(number))
                if seen is not None:
                    issues.append(seen)
            self._note_times(changed, comments, begun)
        touched = {int(item["number"]) for item in changed}
        now = self._client.forge_now()
        requests = [
            look_at(number, partial(self._request, number, head, number in touched), self._since, now)
            for number, head in watched.requests.items()
        ]
        touched |= {seen.number for seen in requests if seen is not None}
        there = [number for number in watched.requests if number in touched and not is_missed(number, self._since)]
        reviews = [review for number in there for review in self._reviews(number)]
        return ForgeNews(
            issues=tuple(issues),
            comments=tuple(
                comment_of(item, self._person(login_of(item), is_bot(item)))
                for item in comments
                if self._commands(item)
            ),
            reviews=tuple(reviews),
            requests=tuple(seen for seen in requests if seen is not None),
            cursor=Cursor(
                token_generation=self._client.generation,
                tags=self._tags.all(),
                since=without_others(self._since, watched),
            ),
            budget=self._client.budget,
        )

    # --- lists by time ------------------------------------------------------------------------------------

    def _refuse_another(self, items: list[Any]) -> None:
        """After a rename the library is led to the new name, and forgets on the way what was asked for."""
        for item in items[:1]:
            found = str(item.get("repository_url") or "").rpartition("/repos/")[2]
            if found and found.casefold() != f"{self._owner}/{self._name}".casefold():
                raise moved(f"GET {self._path}/issues", found)

    def _newer(self, path: str, parameters: dict[str, str], first: list[Any], kind: str) -> Iterator[Any]:
        """The items of a list, newest first, down to what has been taken in (with an overlap)."""
        for item in self._client.pages(path, parameters, first):
            if is_taken(item["updated_at"], self._cursor.since.get(kind)):
                return
            yield item

    def _comments(self, begun: datetime) -> Iterator[Any]:
        """What was said since the last poll; before the first one, which sets the time, nobody spoke to us."""
        path = f"{self._path}/issues/comments"
        first = self._client.get_changed(path, _COMMENTS, self._tags)
        known = self._cursor.since.get("comments", begun)
        for item in self._client.pages(path, _COMMENTS, first) if first is not None else ():
            if is_taken(item["updated_at"], known):
                return
            yield item

    def _note_times(self, changed: list[Any], comments: list[Any], begun: datetime) -> None:
        """How far it was read. What came between the first list and the others is looked for again."""
        now, known = self._client.forge_now(), self._since.get("comments", begun)
        issues, spoken = newest_of(changed, self._since.get("issues"), now), newest_of(comments, known, now)
        self._since |= {kind: at for kind, at in (("issues", issues), ("comments", spoken)) if at is not None}
        written = [item | {"updated_at": item["created_at"]} for item in comments]  # (an edit touches no issue)
        seen = (issues, newest_of(written, None, now), self._happened)
        latest = max((at for at in seen if at is not None), default=None)
        missed = latest != issues and latest is not None and latest > begun - _LAG  # (later it is no lag)
        if self._client.is_racy(latest) or missed:
            for path in ("issues", "issues/comments", "issues/events"):
                self._tags.forget_path(f"{self._path}/{path}")

    def _commands(self, comment: dict[str, Any]) -> bool:
        """Whether somebody else gives a command, in a comment that is as it was written: others may edit it.

        Only then is it asked for what they may.
        """
        as_written = comment["created_at"] == comment["updated_at"]
        ours = is_same(login_of(comment), self._bot)
        return as_written and not ours and parse_slash(str(comment.get("body") or "")) is not None

    # --- triggers -----------------------------------------------------------------------------------------

    def _events(self) -> dict[str, list[dict[str, Any]]]:
        """For each issue the events that ask for a run, newest first: labelled, assigned, asked for a review."""
        found: dict[str, list[dict[str, Any]]] = {}
        path = f"{self._path}/issues/events"
        first = self._client.get_changed(path, _WHOLE, self._tags)
        for event in self._client.pages(path, {}, first) if first is not None else ():
            if is_taken(event["created_at"], self._cursor.since.get("issues")):
                break
            if self._asks(event):
                self._happened = max(self._happened or time_of(event["created_at"]), time_of(event["created_at"]))
                found.setdefault(str((event.get("issue") or {}).get("number", "")), []).append(event)
        return found

    def _asks(self, event: dict[str, Any]) -> bool:
        match event.get("event"):
            case "labeled":
                return str((event.get("label") or {}).get("name")).casefold() in self._labels
            case "assigned":
                wanted = self._trigger.assignee
                return wanted is not None and is_same(login_of(event, "assignee"), wanted)
            case "review_requested":
                return is_same(login_of(event, "requested_reviewer"), self._bot)
            case _:
                return False

    def _stands(self, event: dict[str, Any], item: dict[str, Any]) -> bool:
        """Whether what asked for a run is there yet: whoever takes a label away again wants none."""
        match event["event"]:
            case "labeled":
                name = str(event["label"]["name"]).casefold()
                return any(str(label["name"]).casefold() == name for label in item["labels"])
            case "assigned":
                wanted = login_of(event, "assignee")
                return any(is_same(str(person.get("login")), wanted) for person in item.get("assignees") or ())
            case _:
                return "pull_request" in item

    def _issue(
        self, item: dict[str, Any], events: list[dict[str, Any]], watched: Watched, spoken: datetime | None
    ) -> IssueSeen | None:
        """An issue that asks for a run, that a task came from, or where we were spoken to; None for others."""
        ref, labels = str(item["number"]), tuple(str(label["name"]) for label in item["labels"])
        is_request = "pull_request" in item
        event = next((e for e in events if self._stands(e, item) and _is_of(e, item)), None)
        asked = event is not None
        if event is not None and str(event["id"]) == watched.triggers.get(ref):
            asked = False  # (it is what the task came of)
        is_open = item["state"] == "open"
        standing = any(label.casefold() in self._labels for label in labels) and not is_request and is_open
        if standing and not asked and ref not in watched.issues:
            event = self._label_event(ref, item)  # (older than what the repository's list of events still told)
            asked = event is not None
            if event is None and time_of(item["updated_at"]) > self._client.forge_now() - _LAG:
                self._tags.forget_path(f"{self._path}/issues")  # (it will be told yet who set it)
        if ref not in watched.issues and not asked and (spoken is None or is_request):
            return None
        trigger = None
        if asked and event is not None:
            who = self._person(login_of(event, "actor"), is_bot(event, "actor"))
            kind = _EVENTS[event["event"]]
            trigger = Trigger(id=str(event["id"]), kind=kind, by=who, at=time_of(event["created_at"]))
        body = str(item.get("body") or "")
        since = watched.since.get(ref)
        edited = watched.issues.get(ref) != text_digest(str(item["title"]), body)
        asked_at = trigger.at if trigger is not None else spoken
        if ref not in watched.issues and asked_at is not None:  # what was asked for is the text of that time
            edited, since = time_of(item["updated_at"]) > asked_at, asked_at - SECOND
        branch, base, awaited = self._branches(int(ref)) if is_request else ("", "", True)
        if not awaited:
            return None  # (nobody waits for our review any more)
        return IssueSeen(
            ref=ref,
            kind="request" if is_request else "issue",
            branch=branch,
            base=base,
            url=str(item["html_url"]),
            title=str(item["title"]),
            body=body,
            labels=labels,
            author=Person(login=login_of(item), is_bot=is_bot(item)),
            open=is_open,
            updated_at=time_of(item["updated_at"]),
            trigger=trigger,
            editors=tuple(self._editors(ref, since)) if edited else (),
        )

    def _branches(self, number: int) -> tuple[str, str, bool]:
        """A request's branch and base, and whether our review is awaited.

        No branch where it comes from another repository.
        """
        data = self._client.get(f"{self._path}/pulls/{number}")
        awaited = any(is_same(login_of({"user": person}), self._bot) for person in data["requested_reviewers"])
        name = str((data["head"].get("repo") or {}).get("full_name") or "")
        own = name.casefold() == f"{self._owner}/{self._name}".casefold()
        return (str(data["head"]["ref"]) if own else ""), str(data["base"]["ref"]), awaited

    def _label_event(self, ref: str, item: dict[str, Any]) -> dict[str, Any] | None:
        events = self._client.pages(f"{self._path}/issues/{ref}/events", {"per_page": str(PAGE)})
        asking = [
            event
            for event in events
            if event.get("event") == "labeled" and self._asks(event) and self._stands(event, item)
        ]
        return asking[-1] if asking else None

    def _editors(self, ref: str, since: datetime | None) -> Iterator[Person]:
        """All who changed the text since then, and who the title: GitHub tells of them in two places.

        Somebody without any right where it does not tell.
        """
        variables = {"owner": self._owner, "name": self._name, "number": int(ref)}
        try:
            data = self._client.graphql(_EDITOR_QUERY, variables)
        except ForgeError as error:
            if error.retryable:
                raise
            yield Person(login=NOBODY_KNOWN)
            return
        seen = (data.get("repository") or {}).get("issueOrPullRequest") or {}
        edits = [{"editedAt": seen.get("lastEditedAt"), "editor": seen.get("editor")}]
        nodes, written = (seen.get("userContentEdits") or {}).get("nodes") or (), seen.get("createdAt")
        # The first of them is how it was written.
        edits += (edit for edit in nodes if edit and edit["editedAt"] != written)
        for login in {_editor(edit): None for edit in edits if _is_later(edit["editedAt"], since)}:
            yield self._person(login, login.endswith("[bot]"))
        for event in self._client.pages(f"{self._path}/issues/{ref}/events", {"per_page": str(PAGE)}):
            renamed = event.get("event") == "renamed"
            if renamed and (since is None or time_of(event["created_at"]) > since):
                yield self._person(login_of(event, "actor"), is_bot(event, "actor"))

    # --- people -------------------------------------------------------------------------------------------

    def _person(self, login: str, bot: bool = False) -> Person:
        """Who somebody is, with the permission that they have now; asked once a poll."""
        if login not in self._people:
            own = is_same(login, self._bot)
            level = "none" if own or login == NOBODY_KNOWN else self._permission(login)
            self._people[login] = Person(
                login=login,
                can_write=level in ("write", "maintain", "admin"),
                is_admin=level == "admin",
                is_bot=bot or login.endswith("[bot]"),
                is_self=own,
            )
        return self._people[login]

    def _permission(self, login: str) -> str:
        try:
            found = self._client.get(f"{self._path}/collaborators/{login}/permission")
        except ForgeError as error:
            if error.code == "E_FORGE_GONE":
                return "none"
            raise
        return str(found.get("permission") or "none")

    # --- our requests -------------------------------------------------------------------------------------

    def _request(self, number: int, head: str, touched: bool) -> ForgeRequest | None:
        """One of our requests where it or its head's checks changed; None where all is as it was.

        Of the request itself the list of issues tells (`touched`), of checks nothing does.
        """
        pull, runs, statuses = (
            f"{self._path}/pulls/{number}",
            _runs_of(self._path, head),
            _status_of(self._path, head),
        )
        known = self._client.is_known(pull, self._tags) and not is_missed(number, self._since)
        found = None if known and not touched else self._client.get_changed(pull, {}, self._tags)
        changed = [self._first_checks(path) for path in (runs, statuses) if head]
        if found is None and not any(data is not None for data in changed):
            return None
        data = found or self._client.get(pull)
        if data["state"] != "open":
            return request_of(data)
        if data["head"]["sha"] != head or len(changed) < 2:
            head, changed = data["head"]["sha"], [None, None]
        checks = [check_of(run) for run in self._checks(_runs_of(self._path, head), "check_runs", changed[0])]
        checks += [
            status_of(entry) for entry in self._checks(_status_of(self._path, head), "statuses", changed[1])
        ]
        return request_of(data, tuple(checks))

    def _first_checks(self, path: str) -> dict[str, Any] | None:
        """The first page of checks, if it changed; a full one says nothing of what follows: it is read again."""
        try:
            found: dict[str, Any] | None = self._client.get_changed(path, _WHOLE, self._tags)
        except ForgeError as error:
            if not error.is_hidden:
                raise
            return None  # (a token that may not see checks: `project check` says so)
        if found is not None and max(map(len, (found.get("check_runs", ()), found.get("statuses", ())))) >= PAGE:
            self._tags.forget_path(path)
        return found

    def _checks(self, path: str, key: str, first: dict[str, Any] | None) -> Iterator[dict[str, Any]]:
        """All checks of a head, page after page; `first` is page 1, if read."""
        try:
            for number in range(1, _MAX_PAGES + 1):
                page = first if number == 1 and first is not None else None
                if page is None:
                    page = self._client.get(path, _WHOLE | ({"page": str(number)} if number > 1 else {}))
                entries = page.get(key, ())
                yield from entries
                if len(entries) < PAGE:
                    return
        except ForgeError as error:
            if not error.is_hidden:
                raise

    def _reviews(self, number: int) -> Iterator[ReviewSeen]:
        """The submitted reviews of a request that are new, with their comments."""
        path = f"{self._path}/pulls/{number}"
        first = self._client.get_changed(f"{path}/reviews", {"per_page": str(PAGE)}, self._tags)
        if first is None:
            return
        if len(first) >= PAGE:
            self._tags.forget_path(f"{path}/reviews")  # (the oldest come first: a full page never changes)
        mark = f"{REVIEWS}{number}"
        known = self._cursor.since.get(mark)
        for review in self._client.pages(f"{path}/reviews", {}, first):
            submitted = review.get("submitted_at")
            if not submitted or is_same(login_of(review), self._bot) or is_taken(submitted, known):
                continue  # (a pending review is its author's own)
            self._since[mark] = max(time_of(submitted), self._since.get(mark, time_of(submitted)))
            author = self._person(login_of(review), is_bot(review))
            comments = self._client.pages(f"{path}/reviews/{review['id']}/comments", {})
            yield ReviewSeen(
                id=str(review["id"]),
                request=number,
                author=author,
                at=time_of(submitted),
                verdict=verdict_of(str(review["state"])),
                body=str(review.get("body") or ""),
                comments=tuple(review_comment_of(item, author, number) for item in comments),
                head=str(review.get("commit_id") or ""),
            )
