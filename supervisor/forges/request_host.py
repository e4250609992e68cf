"""The code host of a project on GitHub or GitLab: git carries the commits, the API the requests."""

import re
from collections.abc import Callable

from loguru import logger

from supervisor.core.forge import ForgeRequest, RequestText
from supervisor.core.record import Request, TaskRecord
from supervisor.core.render import clipped, is_verified, render_body
from supervisor.core.settings import RequestSettings
from supervisor.forges.errors import ForgeError
from supervisor.forges.git_remote import GitRemote
from supervisor.git.credential import Credential
from supervisor.git.messages import neutralise
from supervisor.ports import Forge

# Both forges refuse longer ones; GitLab's mark of a draft is a part of its title.
_MAX_TITLE_CHARACTERS, _MAX_BODY_CHARACTERS = 240, 60_000
_DRAFT = re.compile(r"^\s*(?:(?:draft:|\[draft\]|\(draft\)|wip:)\s*)+", re.IGNORECASE)


def _title(title: str) -> str:
    """A title that marks no draft, closes nothing and skips nothing when it becomes a commit's."""
    return neutralise(_DRAFT.sub("", title))[:_MAX_TITLE_CHARACTERS] or "Untitled task"


def _body(task: TaskRecord) -> str:
    """It closes the issue that the task came from, and no other that anybody's words in it name.

    GitLab heeds such words in code, too, and both forges can make the message of a squashed commit of it.
    """
    closing = f"Closes #{task.source.ref}\n\n" if task.source.kind == "issue" else ""
    return clipped(closing + neutralise(render_body(task)), _MAX_BODY_CHARACTERS)


class RequestHost(GitRemote):
    """Pushes over https with the forge's token, and opens one request for each branch."""

    def __init__(
        self, forge: Forge, settings: RequestSettings, address: str, credential: Callable[[], Credential]
    ) -> None:
        super().__init__(address, credential)
        self._forge, self._settings = forge, settings

    def open_request(self, task: TaskRecord) -> Request:
        """Open it, a draft unless verified, or bring the one there is to what was delivered last. ForgeError.

        What people did to it meanwhile stays: its title, its base, that it is a draft, that it is closed (which
        the next look at it will tell).
        """
        found, known = self._forge.find_request(task.branch), task.request
        ours = known is not None and found is not None and found.number == known.number
        if found is not None and (found.state == "open" or ours):
            if found.state == "open":
                self._forge.edit_request(found.number, self._text(task, draft=found.draft))
            opened = found
        else:
            draft = self._settings.draft and not is_verified(task)
            opened = self._forge.open_request(self._text(task, draft=draft))
        if opened.draft and not ours and is_verified(task):
            opened = opened.evolve(draft=not self._made_ready(opened.number))
        return _request(task, opened, draft=opened.draft)

    def _made_ready(self, number: int) -> bool:
        """Whether a draft is none any more; where the forge refuses that for good, a person marks it ready."""
        try:
            self._forge.mark_ready(number)
        except ForgeError as error:
            if error.retryable:
                raise
            logger.warning("request {} stays a draft: {}", number, error)
            return False
        return True

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
            title=_title(task.title),
            body=_body(task),
            draft=draft,
            reviewers=tuple(reviewers),
            labels=self._settings.labels,
        )


def _request(task: TaskRecord, found: ForgeRequest, *, draft: bool) -> Request:
    """What the record keeps; the head is what was pushed, whatever the forge has noticed of that yet."""
    if task.delivery is None:
        raise ForgeError("E_FORGE_ANSWER", f"{task.id} has nothing delivered.")
    return Request(number=found.number, url=found.url, head=task.delivery.pushed_head, draft=draft)
