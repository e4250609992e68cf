"""The code host of a project on GitHub or GitLab: git carries the commits, the API the requests."""

from collections.abc import Callable

from supervisor.core.forge import ForgeRequest, RequestText
from supervisor.core.record import Request, TaskRecord
from supervisor.core.render import is_verified, render_body
from supervisor.core.settings import RequestSettings
from supervisor.forges.errors import ForgeError
from supervisor.forges.git_remote import GitRemote
from supervisor.git.credential import Credential
from supervisor.ports import Forge


class RequestHost(GitRemote):
    """Pushes over https with the forge's token, and opens one request for each branch."""

    def __init__(
        self, forge: Forge, settings: RequestSettings, address: str, credential: Callable[[], Credential]
    ) -> None:
        super().__init__(address, credential)
        self._forge, self._settings = forge, settings

    def open_request(self, task: TaskRecord) -> Request:
        """Open it, as a draft first, or bring the one there is to what was delivered last. ForgeError."""
        found = self._forge.find_request(task.branch)
        known = found if found is not None and found.state == "open" else None
        draft = known.draft if known is not None else self._settings.draft
        if known is None:
            known = self._forge.open_request(self._text(task, draft=draft))
        ready = not draft or is_verified(task)
        if found is not None or draft == ready:
            self._forge.edit_request(known.number, self._text(task, draft=not ready))
        return _request(task, known, draft=not ready)

    def find_request(self, task: TaskRecord) -> Request | None:
        found = self._forge.find_request(task.branch)
        if found is None or task.delivery is None or found.head != task.delivery.pushed_head:
            return None
        return _request(task, found, draft=found.draft)

    def _text(self, task: TaskRecord, *, draft: bool) -> RequestText:
        asker = task.source.requested_by
        by_person = task.source.kind in ("issue", "request") and asker != self._forge.login
        reviewers = dict.fromkeys((*self._settings.reviewers, *((asker,) if by_person else ())))
        return RequestText(
            branch=task.branch,
            base=task.base_branch,
            title=task.title,
            body=render_body(task),
            draft=draft,
            reviewers=tuple(reviewers),
            labels=self._settings.labels,
        )


def _request(task: TaskRecord, found: ForgeRequest, *, draft: bool) -> Request:
    """What the record keeps; the head is what was pushed, whatever the forge has noticed of that yet."""
    if task.delivery is None:
        raise ForgeError("E_FORGE_ANSWER", f"{task.id} has nothing delivered.")
    return Request(number=found.number, url=found.url, head=task.delivery.pushed_head, draft=draft)
