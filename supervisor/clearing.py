"""Clears `in/` of what has ended, so that no sweep, here or in a workstation, pays for it for ever."""

import contextlib
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from loguru import logger

from agent_daemon.failpoints import reach
from agent_daemon.protocol.errors import ProtocolError
from agent_daemon.protocol.paths import (
    CONFIG,
    CREDENTIALS,
    DESCRIPTION,
    FEEDBACK,
    NAME,
    START_BUNDLE,
    TASKING,
    Root,
    is_task_id,
)
from supervisor.core.record import Attempt, TaskRecord
from supervisor.core.tasking import HANDOVER
from supervisor.ledger import Ledger
from supervisor.mail import Box, Mail
from supervisor.records import RecordStore

# So that the first start on an old root is not held up: each look reads a record for every folder.
AT_ONCE = 20

_OURS = (TASKING, CONFIG, FEEDBACK, START_BUNDLE, DESCRIPTION, HANDOVER)
# Earlier work that was laid beside, and what a write or a copy that was cut short has left.
_ALSO_OURS = re.compile(r"earlier-[0-9]+\.bundle|\.[0-9a-f]{16}\.new|\.(start|earlier-[0-9]+)\.bundle\.new")
_SEALED = re.compile(r"cred-[0-9]{3}\.age|\.[0-9a-f]{16}\.new")
_ATTEMPT = re.compile(r"[1-9][0-9]{0,8}")
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW


@dataclass
class Clearing:
    """Removes the folders in `in/` of attempts that are released, abandoned by a task that has ended, or given to
    another workstation than they had been made ready for.

    Only what the supervisor wrote there; a person's refused edit, or anything else, stays with its folder.
    `clean` begins a clean-up: saved work that holds a secret does not wait for the next one.
    """

    root: Root
    store: RecordStore
    mail: Mail
    ledger: Ledger
    clean: Callable[[], object] = lambda: None

    def note_leftovers(self) -> None:
        """At the start: what an earlier run had no time to clear, or did not clear at all."""
        open_boxes = {box for boxes in self.ledger.boxes.values() for box in boxes}
        self.ledger.closed.extend(box for box in self._found() if box not in open_boxes)

    def _found(self) -> Iterator[Box]:
        for station in _names(self.root.mail):
            if NAME.fullmatch(station):
                folder = self.root.mail_in(station)
                for task_id in filter(is_task_id, _names(folder)):
                    for attempt in filter(_ATTEMPT.fullmatch, _names(folder / task_id)):
                        yield Box(station, task_id, int(attempt))

    def look(self) -> None:
        """Clear some of what has been closed meanwhile."""
        for _ in range(min(AT_ONCE, len(self.ledger.closed))):
            box = self.ledger.closed.popleft()
            try:
                task = self.ledger.tasks.get(box.task_id) or self.store.find(box.task_id)
                if self._is_undecided(box) and box not in self.ledger.closed:
                    self.ledger.closed.append(box)
                elif task is not None and self._is_over(box, task):
                    self._clear(box, task.attempt_number(box.attempt))
                    if _left_secrets(task):
                        self.clean()
            except (OSError, ProtocolError) as error:
                logger.warning("in/{} of {} is left for the next start: {}", box.relative, box.workstation, error)

    def _is_undecided(self, box: Box) -> bool:
        """Whether it was made ready for an attempt that may yet go there."""
        task = self.ledger.tasks.get(box.task_id)
        return task is not None and task.attempt < box.attempt

    def _is_over(self, box: Box, task: TaskRecord) -> bool:
        """Whether the record says that nobody works on this attempt any more."""
        archived = box.task_id not in self.ledger.tasks and self.store.is_archived(box.task_id)
        attempt = task.attempt_number(box.attempt)
        if attempt is None:
            return archived  # made ready, and then not given out
        if attempt.workstation != box.workstation:  # made ready here, and then given out there
            return not os.path.lexists(self.root.attempt_in(*box) / TASKING)
        return attempt.released or (attempt.abandoned and archived)

    def _clear(self, box: Box, attempt: Attempt | None) -> None:
        if attempt is not None:
            self.mail.keep_unseen_edit(box, (attempt.mail.digest, attempt.mail.previous_digest))
        with contextlib.ExitStack() as closing:

            def enter(name: str, folder: int | None = None) -> int:
                descriptor = os.open(name, _FOLDER, dir_fd=folder)
                closing.callback(os.close, descriptor)
                return descriptor

            try:
                inbox = enter(str(self.root.mail_in(box.workstation)))
                above = enter(box.task_id, inbox)
                folder = enter(str(box.attempt), above)
            except FileNotFoundError:
                return
            for name in os.listdir(folder):
                if name in _OURS or _ALSO_OURS.fullmatch(name):
                    os.unlink(name, dir_fd=folder)
            with contextlib.suppress(OSError):  # there is none, or something else is in it
                _clear_sealed(enter(CREDENTIALS, folder))
                os.rmdir(CREDENTIALS, dir_fd=folder)
            reach("clearing.emptied")
            with contextlib.suppress(OSError):  # something is left in it
                os.rmdir(str(box.attempt), dir_fd=above)
                os.rmdir(box.task_id, dir_fd=inbox)


def _left_secrets(task: TaskRecord) -> bool:
    """Whether the task is over, and what was saved of it is not to be kept."""
    over = task.ended and all(attempt.released for attempt in task.attempts)
    return over and any(attempt.holds_secret for attempt in task.attempts)


def _clear_sealed(folder: int) -> None:
    """What was encrypted for the workstation's daemon."""
    for name in os.listdir(folder):
        if _SEALED.fullmatch(name):
            os.unlink(name, dir_fd=folder)


def _names(folder: os.PathLike[str]) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return []
