"""What we say and do on GitHub: comments, reactions, labels, pull requests. Each method is one thing done."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from supervisor.core.forge import ForgeRequest, RequestText
from supervisor.forges.client import is_same
from supervisor.forges.errors import ForgeError
from supervisor.forges.github.client import GitHubClient
from supervisor.forges.github.values import login_of, request_of
from supervisor.ports import Place

_REACTIONS = {"eyes": "eyes", "+1": "+1", "confused": "confused"}
_READY = """
mutation($id: ID!) { markPullRequestReadyForReview(input: {pullRequestId: $id}) { pullRequest { isDraft } } }
"""


class Writer:
    """The writing half of `Forge` for one repository."""

    def __init__(self, client: GitHubClient, repository: str) -> None:
        self._client = client
        self._owner, self._full_name = repository.partition("/")[0], repository
        self._path = f"/repos/{repository}"

    # --- comments -----------------------------------------------------------------------------------------

    def find_comment(self, place: Place, marker: str) -> str | None:
        """Our own comment with this first line; one by anybody else does not count."""
        path = f"{self._path}/issues/{place.number}/comments"
        return self._ours(self._client.pages(path, {}), marker)

    def _ours(self, comments: Any, marker: str) -> str | None:
        for comment in comments:
            first = str(comment.get("body") or "").partition("\n")[0].rstrip("\r")
            if is_same(login_of(comment), self._client.login) and first == marker:
                return str(comment["id"])
        return None

    def post_comment(self, place: Place, body: str) -> str:
        path = f"{self._path}/issues/{place.number}/comments"
        try:
            return str(self._client.create(path, {"body": body})["id"])
        except ForgeError as error:
            raise self._gone_if_transferred(error, place) from None

    def _gone_if_transferred(self, error: ForgeError, place: Place) -> ForgeError:
        """An issue that went to another repository is answered as a renamed repository is, whose name is right."""
        if error.code != "E_FORGE_MOVED":
            return error
        try:
            name = str(self._client.get(self._path).get("full_name"))
        except ForgeError:
            return error
        if not is_same(name, self._full_name):
            return error
        return ForgeError("E_FORGE_GONE", f"issue {place.number} was transferred to another repository.")

    def edit_comment(self, place: Place, body: str) -> None:
        self._client.change("PATCH", f"{self._path}/issues/comments/{place.comment}", {"body": body})

    def react(self, place: Place, emoji: str) -> None:
        subject = f"comments/{place.comment}" if place.comment else place.number
        try:
            self._client.change("POST", f"{self._path}/issues/{subject}/reactions", {"content": _REACTIONS[emoji]})
        except ForgeError as error:
            raise self._gone_if_transferred(error, place) from None

    def reply(self, request: int, thread: str, body: str) -> str:
        path = f"{self._path}/pulls/{request}/comments/{thread}/replies"
        return str(self._client.create(path, {"body": body})["id"])

    def find_reply(self, request: int, thread: str, marker: str) -> str | None:
        comments = self._client.pages(f"{self._path}/pulls/{request}/comments", {})
        return self._ours((c for c in comments if str(c.get("in_reply_to_id")) == thread), marker)

    # --- labels -------------------------------------------------------------------------------------------

    def ensure_labels(self, colours: Mapping[str, str]) -> None:
        known = {str(label["name"]).lower() for label in self._client.pages(f"{self._path}/labels", {})}
        for name, colour in colours.items():
            if name.lower() in known:
                continue
            try:
                self._client.create(f"{self._path}/labels", {"name": name, "color": colour})
            except ForgeError as error:
                if "already_exists" not in error.message:  # (somebody else was faster)
                    raise

    def change_labels(self, place: Place, add: tuple[str, ...], remove: tuple[str, ...]) -> None:
        path = f"{self._path}/issues/{place.number}/labels"
        for name in remove:
            try:
                self._client.change("DELETE", f"{path}/{quote(name, safe='')}")
            except ForgeError as error:
                if error.code != "E_FORGE_GONE":
                    raise self._gone_if_transferred(error, place) from None
        if add:
            try:
                self._client.change("POST", path, {"labels": list(add)})
            except ForgeError as error:
                raise self._gone_if_transferred(error, place) from None

    # --- pull requests ------------------------------------------------------------------------------------

    def find_request(self, branch: str) -> ForgeRequest | None:
        """The newest pull request from this branch of the repository itself, in any state."""
        parameters = {"head": f"{self._owner}:{branch}", "state": "all", "sort": "created", "direction": "desc"}
        listed = self._client.pages(f"{self._path}/pulls", parameters)
        return next((request_of(found) for found in listed if self._is_from(found, branch)), None)

    def _is_from(self, found: Mapping[str, Any], branch: str) -> bool:
        """A fork may have a branch of the same name, in the same organisation, too."""
        home = str((found["head"].get("repo") or {}).get("full_name") or "")
        return found["head"]["ref"] == branch and is_same(home, self._full_name)

    def open_request(self, text: RequestText) -> ForgeRequest:
        body = {"head": text.branch, "base": text.base, "title": text.title, "body": text.body}
        try:
            made = self._client.create(f"{self._path}/pulls", {**body, "draft": text.draft})
        except ForgeError as error:
            known = self.find_request(text.branch) if error.code == "E_FORGE_REFUSED" else None
            if known is None and "draft" in error.message.lower() and text.draft:
                made = self._client.create(f"{self._path}/pulls", body)  # (some plans have no drafts)
            elif known is None or known.state != "open":
                raise
            else:
                self.edit_request(known.number, text)
                return known
        self._add(made, text)
        return request_of(made)

    def edit_request(self, number: int, text: RequestText) -> None:
        found = self._client.change("PATCH", f"{self._path}/pulls/{number}", {"body": text.body})
        self._add(found, text)

    def mark_ready(self, number: int) -> None:
        found = self._client.get(f"{self._path}/pulls/{number}")
        if found.get("draft"):
            self._client.graphql(_READY, {"id": found["node_id"]})

    def _add(self, found: Mapping[str, Any], text: RequestText) -> None:
        """Labels, and those reviewers whose review is not awaited already."""
        number = int(found["number"])
        if text.labels:
            self.change_labels(Place(kind="request", number=str(number)), text.labels, ())
        asked = {str(person.get("login")) for person in found.get("requested_reviewers") or ()}
        self.request_review(number, tuple(login for login in text.reviewers if login not in asked))

    def request_review(self, number: int, logins: tuple[str, ...]) -> None:
        """One after another, for GitHub refuses all where one may not review."""
        for login in logins:
            try:
                self._client.create(f"{self._path}/pulls/{number}/requested_reviewers", {"reviewers": [login]})
            except ForgeError as error:
                if error.code != "E_FORGE_REFUSED":
                    raise

    def delete_branch(self, branch: str) -> None:
        """Again is a success."""
        try:
            self._client.change("DELETE", f"{self._path}/git/refs/heads/{quote(branch)}")
        except ForgeError as error:
            if error.code not in ("E_FORGE_GONE", "E_FORGE_REFUSED"):
                raise
            if error.code == "E_FORGE_REFUSED" and "does not exist" not in error.message:
                raise
