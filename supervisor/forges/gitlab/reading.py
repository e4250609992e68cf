"""One poll of a GitLab project: two conditional reads while nothing happens, details where something did.

A label, an assignment, a note, an edit or a push brings the `updated_at` of its issue or merge request forward,
so both are listed by that time, always at the same address. GitLab groups no remarks into a review: the notes
that one person leaves on a request until they pause are taken for one.
"""

import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from supervisor.core.forge import (
    CheckSeen,
    CommentSeen,
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
    SECOND,
    is_same,
    is_taken,
    look_at,
    newest_of,
    time_of,
    without_others,
)
from supervisor.forges.errors import ForgeError
from supervisor.forges.gitlab.client import GitLabClient, project_path
from supervisor.forges.gitlab.values import comment_of, job_of, login_of, request_of
from supervisor.forges.tags import Tags

# Somebody who reviews leaves several remarks: they are one review once nothing was added for so long.
PAUSE = timedelta(seconds=20)
# … or once the first of them has waited for so long: whoever goes on talking holds up nobody.
_LONGEST_REVIEW = timedelta(minutes=5)
# More issues than change between two polls; of others, what is older than the last poll is not taken in again.
_MAX_MARKS = 2000
_LATEST = {"state": "all", "scope": "all", "order_by": "updated_at", "sort": "desc", "per_page": str(PAGE)}
_NOTES = {"order_by": "created_at", "sort": "desc", "per_page": str(PAGE)}
_EDITS = ("changed the description", "changed title", "marked the checklist item", "marked the task")
_DEVELOPER, _MAINTAINER = 30, 40
# The accounts that GitLab makes for project and group access tokens.
_TOKEN_BOT = re.compile(r"(project|group)_\d+_bot(_[0-9a-f]+|\d*)")


class Poll:
    """One reading; made anew for each."""

    def __init__(self, client: GitLabClient, repository: str, trigger: TriggerSettings, cursor: Cursor) -> None:
        self._client, self._bot, self._trigger, self._cursor = client, client.login, trigger, cursor
        self._path = project_path(repository)
        self._tags = Tags(cursor, client.generation)
        self._people: dict[str, Person] = {}
        self._since, self._marks = dict(cursor.since), dict(cursor.marks)
        self._labels = {label.casefold() for label in trigger.labels}
        self._is_first = not cursor.since.keys() & {"spoken", "issues"}

    def read(self, watched: Watched) -> ForgeNews:
        """What is new since the cursor."""
        issues: list[IssueSeen] = []
        comments: list[CommentSeen] = []
        changed = self._changed("issues")
        self._since.setdefault("spoken", self._cursor.since.get("issues", self._client.forge_now()))
        for item in changed:
            notes = self._new_notes("issues", item) if self._may_speak(item) else []
            said = list(self._comments(notes, item))
            comments += said
            seen = self._issue(item, notes, watched, said[-1].at if said else None)
            if seen is not None:
                issues.append(seen)
        reviews: list[ReviewSeen] = []
        for item in self._changed("merge_requests"):
            number = int(item["iid"])
            if number in watched.requests:
                said = self._remarked(item)
                commands = [note for note in said if note.path is None and parse_slash(note.body) is not None]
                comments += commands
                reviews += _reviews_of(item, [note for note in said if note not in commands])
            elif self._may_speak(item):
                comments += self._comments(self._new_notes("merge_requests", item), item, "merge_requests")
            if number not in {*watched.requests, *watched.ended} and self._asked_for_review(item):
                issues += self._review_asked(item)
        now = self._client.forge_now()
        requests = [
            look_at(number, partial(self._request, number), self._since, now) for number in watched.requests
        ]
        return ForgeNews(
            issues=tuple(issues),
            comments=tuple(comments),
            reviews=tuple(reviews),
            requests=tuple(seen for seen in requests if seen is not None),
            cursor=Cursor(
                token_generation=self._client.generation,
                tags=self._tags.all(),
                since=without_others(self._since, watched),
                marks=self._marks_of(watched),
            ),
            budget=self._client.budget,
        )

    # --- lists by time ------------------------------------------------------------------------------------

    def _changed(self, kind: str) -> list[dict[str, Any]]:
        """The issues or merge requests that changed since the last poll, newest first."""
        path = f"{self._path}/{kind}"
        first = self._client.get_changed(path, _LATEST, self._tags)
        if first is None:
            return []
        known, found = self._cursor.since.get(kind), []
        for item in self._client.pages(path, _LATEST, first):
            if is_taken(item["updated_at"], known):
                break
            found.append(item)
        newest = newest_of(found, known, self._client.forge_now())
        if newest is not None:
            self._since[kind] = newest
        if self._client.is_racy(newest):
            self._tags.forget_path(path)
        return found

    def _may_speak(self, item: dict[str, Any]) -> bool:
        """Whether an issue's notes may say something: people's do, and assignments are told by GitLab's own.

        Nobody spoke to us before the first poll.
        """
        if self._is_assigned(item):
            return True
        return not self._is_first and item.get("user_notes_count") != 0

    def _new_notes(self, kind: str, item: dict[str, Any]) -> list[dict[str, Any]]:
        """The notes of an issue or request that have not been taken in, oldest first. Their ids only grow."""
        mark = f"{kind}/{item['iid']}"
        known, path = self._cursor.marks.get(mark, 0), f"{self._path}/{kind}/{item['iid']}/notes"
        found = []
        for note in self._client.pages(path, _NOTES):
            if int(note["id"]) <= known:
                break
            found.append(note)
        if found:
            self._mark(mark, int(found[0]["id"]))
        return list(reversed(found))

    def _mark(self, mark: str, number: int) -> None:
        """Those that were set last stand last."""
        self._marks.pop(mark, None)
        self._marks[mark] = number

    def _marks_of(self, watched: Watched) -> dict[str, int]:
        """The newest, and those of our requests."""
        ours = {f"merge_requests/{number}" for number in watched.requests}
        newest = set(list(self._marks)[-_MAX_MARKS:])
        return {mark: number for mark, number in self._marks.items() if mark in newest or mark in ours}

    # --- issues -------------------------------------------------------------------------------------------

    def _comments(
        self, notes: list[dict[str, Any]], item: dict[str, Any], kind: str = "issues"
    ) -> Iterator[CommentSeen]:
        """The commands in these notes; before the first poll nobody spoke to us."""
        known = max(self._since["spoken"], self._cursor.since.get(kind, self._since["spoken"]))
        for note in notes:
            ours = note["system"] or is_same(login_of(note), self._bot) or is_taken(note["created_at"], known)
            if not ours and parse_slash(str(note.get("body") or "")) is not None:
                yield comment_of(note, self._person(note["author"]), str(item["web_url"]))

    def _issue(
        self, item: dict[str, Any], notes: list[dict[str, Any]], watched: Watched, spoken: datetime | None
    ) -> IssueSeen | None:
        """An issue that asks for a run, that a task came from, or where we were spoken to; None for others."""
        ref, labels = str(item["iid"]), tuple(str(label) for label in item["labels"])
        is_open = item["state"] == "opened"
        label = self._label_trigger(ref, labels, watched.triggers.get(ref)) if is_open else None
        trigger = label or self._assignment(item, notes)
        if trigger is None and ref not in watched.issues and spoken is None:
            return None
        body = str(item.get("description") or "")
        since = watched.since.get(ref)
        edited = watched.issues.get(ref) != text_digest(str(item["title"]), body)
        asked_at = trigger.at if trigger is not None else spoken
        if ref not in watched.issues and asked_at is not None:  # what was asked for is the text of that time
            edited, since = time_of(item["updated_at"]) > asked_at, asked_at - SECOND
        return IssueSeen(
            ref=ref,
            url=str(item["web_url"]),
            title=str(item["title"]),
            body=body,
            labels=labels,
            author=Person(login=login_of(item)),
            open=is_open,
            updated_at=time_of(item["updated_at"]),
            trigger=trigger,
            editors=tuple(self._editors(ref, since)) if edited else (),
        )

    def _label_trigger(self, ref: str, labels: tuple[str, ...], known: str | None) -> Trigger | None:
        """The newest setting of a label that asks for a run, where one is set now and it is not the known one."""
        set_now = {label.casefold() for label in labels} & self._labels
        if not set_now:
            return None
        events = self._client.pages(f"{self._path}/issues/{ref}/resource_label_events", {"per_page": str(PAGE)})
        asking = [
            event
            for event in events
            if event["action"] == "add" and str((event.get("label") or {}).get("name")).casefold() in set_now
        ]
        if not asking:
            return None
        newest = max(asking, key=lambda event: int(event["id"]))
        if f"label-{newest['id']}" == known:
            return None
        who = self._person(newest["user"])
        return Trigger(id=f"label-{newest['id']}", kind="label", by=who, at=time_of(newest["created_at"]))

    def _assignment(self, item: dict[str, Any], notes: list[dict[str, Any]]) -> Trigger | None:
        """Assignment to the configured account, by the system note that tells who did it."""
        if not self._is_assigned(item):
            return None
        told = re.compile(rf"assigned to .*@{re.escape(self._trigger.assignee or '')}(?![\w.-])", re.IGNORECASE)
        asking = [note for note in notes if note["system"] and told.match(str(note["body"]))]
        if not asking:
            return None
        note = asking[-1]
        who = self._person(note["author"])
        return Trigger(id=f"note-{note['id']}", kind="assignment", by=who, at=time_of(note["created_at"]))

    def _is_assigned(self, item: dict[str, Any]) -> bool:
        """Whether the account is assigned whose assignment asks for a run."""
        wanted = self._trigger.assignee
        return wanted is not None and any(is_same(_name(person), wanted) for person in item["assignees"])

    def _editors(self, ref: str, since: datetime | None) -> Iterator[Person]:
        """Who changed title or text since then, by the system notes."""
        for note in self._client.pages(f"{self._path}/issues/{ref}/notes", _NOTES):
            if since is not None and time_of(note["created_at"]) <= since:
                return
            if note["system"] and str(note["body"]).startswith(_EDITS):
                yield self._person(note["author"])

    # --- people -------------------------------------------------------------------------------------------

    def _person(self, user: dict[str, Any] | None) -> Person:
        """Who somebody is, with the role that they have now, inherited ones included; asked once a poll."""
        login = str((user or {}).get("username") or "ghost")
        if login not in self._people:
            number = str((user or {}).get("id") or "")
            own = is_same(login, self._bot)
            level = 0 if own or not number else self._level(number)
            self._people[login] = Person(
                login=login,
                id=number,
                name=str((user or {}).get("name") or ""),
                can_write=level >= _DEVELOPER,
                is_admin=level >= _MAINTAINER,
                is_bot=bool((user or {}).get("bot")) or _TOKEN_BOT.fullmatch(login) is not None,
                is_self=own,
            )
        return self._people[login]

    def _level(self, number: str) -> int:
        try:
            return int(self._client.get(f"{self._path}/members/all/{number}")["access_level"])
        except ForgeError as error:
            if error.code == "E_FORGE_GONE":
                return 0
            raise

    # --- merge requests -----------------------------------------------------------------------------------

    def _asked_for_review(self, item: dict[str, Any]) -> bool:
        return any(is_same(_name(person), self._bot) for person in item.get("reviewers", ()))

    def _review_asked(self, item: dict[str, Any]) -> Iterator[IssueSeen]:
        """A request of somebody else's that we were asked to review, by the note that tells who asked."""
        told = re.compile(rf"requested review from .*@{re.escape(self._bot)}(?![\w.-])", re.IGNORECASE)
        notes = self._new_notes("merge_requests", item)
        asking = [note for note in notes if note["system"] and told.match(str(note["body"]))]
        if asking:
            note, who = asking[-1], self._person(asking[-1]["author"])
            at = time_of(note["created_at"])
            yield IssueSeen(
                ref=str(item["iid"]),
                kind="request",
                url=str(item["web_url"]),
                title=str(item["title"]),
                body=str(item.get("description") or ""),
                labels=tuple(str(label) for label in item["labels"]),
                branch=str(item["source_branch"]) if item["source_project_id"] == item["project_id"] else "",
                base=str(item["target_branch"]),
                author=Person(login=login_of(item)),
                open=item["state"] == "opened",
                updated_at=time_of(item["updated_at"]),
                trigger=Trigger(id=f"note-{note['id']}", kind="review_request", by=who, at=at),
            )

    def _request(self, number: int) -> ForgeRequest | None:
        found = self._client.get_changed(f"{self._path}/merge_requests/{number}", {}, self._tags)
        if found is None:
            return None
        seen = request_of(found)
        if seen.state == "open" and any(check.conclusion == "failure" for check in seen.checks):
            seen = seen.evolve(checks=self._failed_jobs(found["head_pipeline"]) or seen.checks)
        return seen

    def _failed_jobs(self, pipeline: dict[str, Any]) -> tuple[CheckSeen, ...]:
        """What made a pipeline fail, as far as it is shown to us."""
        path = f"{self._path}/repository/commits/{pipeline['sha']}/statuses"
        jobs = self._client.shown(path, {"pipeline_id": str(pipeline["id"])}) or ()
        return tuple(job_of(job) for job in jobs if job["status"] == "failed" and not job.get("allow_failure"))

    def _remarked(self, item: dict[str, Any]) -> list[CommentSeen]:
        """What people have remarked on one of our requests since the last time, once they pause."""
        mark = f"merge_requests/{item['iid']}"
        found = self._remarks(item, self._cursor.marks.get(mark, 0))
        times, now = [time_of(note["created_at"]) for note, _ in found], self._client.forge_now()
        if found and max(times) > now - PAUSE and min(times) > now - _LONGEST_REVIEW:
            # Somebody is still writing: look again soon, and do not pass over this request meanwhile.
            self._tags.forget_path(f"{self._path}/merge_requests")
            self._since["merge_requests"] = min(self._since["merge_requests"], time_of(item["updated_at"]))
            return []
        if found:
            self._mark(mark, max(int(note["id"]) for note, _ in found))
        if mark not in self._cursor.marks and "merge_requests" not in self._cursor.since:
            return []  # (all of it is from before the first poll)
        url = str(item["web_url"])
        return [comment_of(note, self._person(note["author"]), url, thread=thread) for note, thread in found]

    def _remarks(self, item: dict[str, Any], known: int) -> list[tuple[dict[str, Any], str]]:
        """The notes by others on a request since note `known`, oldest first, with the threads they stand in."""
        path = f"{self._path}/merge_requests/{item['iid']}/discussions"
        found = [
            (note, str(discussion["id"]))
            for discussion in self._client.pages(path, {})
            for note in discussion["notes"]
            if not note["system"] and int(note["id"]) > known and not is_same(login_of(note), self._bot)
        ]
        return sorted(found, key=lambda entry: int(entry[0]["id"]))


def _name(person: dict[str, Any]) -> str:
    return login_of({"author": person})


def _reviews_of(item: dict[str, Any], remarks: list[CommentSeen]) -> list[ReviewSeen]:
    """What each person has remarked, as one review; the last remark names it."""
    by_author: dict[str, list[CommentSeen]] = {}
    for remark in remarks:
        by_author.setdefault(remark.author.login, []).append(remark)
    return [
        ReviewSeen(
            id=theirs[-1].id,
            request=int(item["iid"]),
            author=theirs[0].author,
            at=theirs[-1].at,
            verdict="commented",
            body="\n\n".join(remark.body for remark in theirs if remark.path is None),
            comments=tuple(remark for remark in theirs if remark.path is not None),
            head=str(item.get("sha") or ""),
        )
        for theirs in by_author.values()
    ]
