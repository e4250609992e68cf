"""What we say and do on GitLab: notes, emoji, labels, merge requests. Each method is one thing done."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from supervisor.core.forge import ForgeRequest, RequestText
from supervisor.forges.client import is_same
from supervisor.forges.errors import ForgeError
from supervisor.forges.gitlab.client import GitLabClient, project_path
from supervisor.forges.gitlab.values import login_of, plain_title, request_of
from supervisor.ports import Place

_KINDS = {"issue": "issues", "request": "merge_requests"}
_EMOJI = {"eyes": "eyes", "+1": "thumbsup", "confused": "confused"}


class Writer:
    """The writing half of `Forge` for one project."""

    def __init__(self, client: GitLabClient, repository: str) -> None:
        self._client = client
        self._path = project_path(repository)

    def _item(self, place: Place) -> str:
        return f"{self._path}/{_KINDS[place.kind]}/{place.number}"

    # --- notes --------------------------------------------------------------------------------------------

    def find_comment(self, place: Place, marker: str) -> str | None:
        """Our own note with this first line; one by anybody else does not count."""
        return self._ours(self._client.pages(f"{self._item(place)}/notes", {"sort": "asc"}), marker)

    def _ours(self, notes: Any, marker: str) -> str | None:
        for note in notes:
            first = str(note.get("body") or "").partition("\n")[0].rstrip("\r")
            if is_same(login_of(note), self._client.login) and first == marker:
                return str(note["id"])
        return None

    def post_comment(self, place: Place, body: str) -> str:
        return str(self._client.create(f"{self._item(place)}/notes", {"body": body})["id"])

    def edit_comment(self, place: Place, body: str) -> None:
        self._client.change("PUT", f"{self._item(place)}/notes/{place.comment}", {"body": body})

    def react(self, place: Place, emoji: str) -> None:
        note = f"/notes/{place.comment}" if place.comment else ""
        try:
            self._client.change("POST", f"{self._item(place)}{note}/award_emoji", {"name": _EMOJI[emoji]})
        except ForgeError as error:
            if "already been taken" not in error.message:
                raise

    def reply(self, request: int, thread: str, body: str) -> str:
        path = f"{self._path}/merge_requests/{request}/discussions/{thread}/notes"
        return str(self._client.create(path, {"body": body})["id"])

    def find_reply(self, request: int, thread: str, marker: str) -> str | None:
        for discussion in self._client.pages(f"{self._path}/merge_requests/{request}/discussions", {}):
            if str(discussion["id"]) == thread:
                return self._ours(discussion["notes"], marker)
        return None

    # --- labels -------------------------------------------------------------------------------------------

    def ensure_labels(self, colours: Mapping[str, str]) -> None:
        known = {str(label["name"]) for label in self._client.pages(f"{self._path}/labels", {})}
        for name, colour in colours.items():
            if name in known:
                continue
            try:
                self._client.create(f"{self._path}/labels", {"name": name, "color": f"#{colour}"})
            except ForgeError as error:
                if "already exists" not in error.message:  # (somebody else was faster)
                    raise

    def change_labels(self, place: Place, add: tuple[str, ...], remove: tuple[str, ...]) -> None:
        """Both in one request: nobody sees the state between."""
        body = {"add_labels": ",".join(add), "remove_labels": ",".join(remove)}
        self._client.change("PUT", self._item(place), {key: value for key, value in body.items() if value})

    # --- merge requests -----------------------------------------------------------------------------------

    def find_request(self, branch: str) -> ForgeRequest | None:
        """The newest merge request from this branch of the project itself: a fork may have one of its name."""
        parameters = {"source_branch": branch, "state": "all", "order_by": "created_at", "sort": "desc"}
        listed = self._client.pages(f"{self._path}/merge_requests", parameters)
        return next(
            (request_of(found) for found in listed if found["source_project_id"] == found["project_id"]), None
        )

    def open_request(self, text: RequestText) -> ForgeRequest:
        try:
            made = self._client.create(
                f"{self._path}/merge_requests",
                {
                    "source_branch": text.branch,
                    "target_branch": text.base,
                    "title": _title(text),
                    "description": text.body,
                    **({"labels": ",".join(text.labels)} if text.labels else {}),
                    **({"reviewer_ids": self._users(text.reviewers)} if text.reviewers else {}),
                },
            )
        except ForgeError as error:
            known = self.find_request(text.branch) if error.code == "E_FORGE_REFUSED" else None
            if known is None or known.state != "open":
                raise
            self.edit_request(known.number, text)
            return known
        return request_of(made)

    def edit_request(self, number: int, text: RequestText) -> None:
        body = {"description": text.body}
        labels = {"add_labels": ",".join(text.labels)} if text.labels else {}
        found = self._client.change("PUT", f"{self._path}/merge_requests/{number}", body | labels)
        self._add_reviewers(number, found, text.reviewers)

    def mark_ready(self, number: int) -> None:
        """A draft is one by its title."""
        title = str(self._client.get(f"{self._path}/merge_requests/{number}")["title"])
        if plain_title(title) != title:
            self._client.change("PUT", f"{self._path}/merge_requests/{number}", {"title": plain_title(title)})

    def request_review(self, number: int, logins: tuple[str, ...]) -> None:
        """Add reviewers; those whom the instance does not know are left out, those there are kept."""
        if logins:
            self._add_reviewers(number, self._client.get(f"{self._path}/merge_requests/{number}"), logins)

    def _add_reviewers(self, number: int, found: Mapping[str, Any], logins: tuple[str, ...]) -> None:
        known = {str(person["username"]): int(person["id"]) for person in found.get("reviewers", ())}
        more = self._users(tuple(login for login in logins if not any(is_same(login, name) for name in known)))
        if more:
            wanted = {"reviewer_ids": [*known.values(), *more]}
            self._client.change("PUT", f"{self._path}/merge_requests/{number}", wanted)

    def _users(self, logins: tuple[str, ...]) -> list[int]:
        """The numbers of those accounts that are members of the project."""
        return [
            int(member["id"])
            for login in logins
            for member in self._client.pages(f"{self._path}/members/all", {"query": login})
            if is_same(str(member["username"]), login)
        ]

    def delete_branch(self, branch: str) -> None:
        """Again is a success."""
        try:
            self._client.change("DELETE", f"{self._path}/repository/branches/{quote(branch, safe='')}")
        except ForgeError as error:
            if error.code != "E_FORGE_GONE":
                raise


def _title(text: RequestText) -> str:
    return f"Draft: {text.title}" if text.draft else text.title
