"""What lies in `in/`: the taskings of this workstation, read again when they change."""

import contextlib
import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from loguru import logger

from agent_daemon.protocol.codec import decode
from agent_daemon.protocol.errors import Problem, ProtocolError
from agent_daemon.protocol.files import Signature, read_file, signature
from agent_daemon.protocol.model import UNDERSTOOD, AgentConfig, FeedbackFile, Tasking, TaskingTask
from agent_daemon.protocol.paths import is_task_id

FRESH_SECONDS = 0.05
_ATTEMPT = re.compile("[1-9][0-9]{0,8}")


@dataclass(frozen=True, kw_only=True)
class Assignment:
    """One tasking with its configuration."""

    tasking: Tasking
    config: AgentConfig
    seen_at: float

    @property
    def task(self) -> TaskingTask:
        return self.tasking.task


Key = tuple[str, int]


@dataclass
class Inbox:
    """Finds the taskings in `in/<task>/<attempt>/`. The supervisor alone writes there, and people over SSH.

    Where `in/` itself cannot be listed nothing has changed: that is no order to stop everything.
    """

    folder: Path
    _looks: dict[Key, Signature | None] = field(default_factory=dict, init=False)
    _known: dict[Key, Assignment] = field(default_factory=dict, init=False)
    _feedback: dict[Key, Signature] = field(default_factory=dict, init=False)
    _folders: set[Key] | None = field(default=None, init=False)
    _taskings: set[Key] = field(default_factory=set, init=False)

    def read_changed(self) -> Iterator[Assignment]:
        """Assignments that are new or differ from when they were last read; unreadable ones are passed over."""
        self._folders, self._taskings = self._listed(), set()
        for key in sorted(self._folders or ()):
            path = self.folder / key[0] / str(key[1]) / "tasking.yaml"
            look = signature(path)
            if look is None:
                continue
            self._taskings.add(key)
            if look == self._looks.get(key):
                continue
            fresh = time.time_ns() - look.modified_ns < FRESH_SECONDS * 1e9
            self._looks[key] = None if fresh else look
            try:
                found = self._read(*key)
            except (ProtocolError, FileNotFoundError) as error:
                logger.warning("{} is not read: {}", path, error)
                continue
            self._known[key] = found
            yield found

    def has_folder(self, key: Key) -> bool:
        """Whether the attempt's folder was there when last looked."""
        return self._folders is None or key in self._folders

    def has_tasking(self, key: Key) -> bool:
        """Whether its tasking was."""
        return self._folders is None or key in self._taskings

    def forget(self, key: Key) -> None:
        """Read it as new, should it be there again."""
        for memory in (self._looks, self._known, self._feedback):
            memory.pop(key, None)

    def told_wanting(self) -> list[tuple[tuple[str, int], str]]:
        """Attempts whose `feedback.yaml` is new, with its first sentence: the supervisor misses something."""
        told = []
        for key in self._known:
            place = f"{key[0]}/{key[1]}/feedback.yaml"
            look = signature(self.folder / place)
            if look is not None and look != self._feedback.get(key):
                self._feedback[key] = look
                told.append((key, self._first_sentence(place)))
        return told

    def _first_sentence(self, place: str) -> str:
        try:
            found = decode(FeedbackFile, read_file(self.folder, place).data, file=f"in/{place}")
        except (ProtocolError, FileNotFoundError) as error:
            return str(error)
        return next((item.message for item in found.items if item.message), "something is missing")

    def _read(self, task_id: str, attempt: int) -> Assignment:
        place = f"{task_id}/{attempt}"
        tasking = decode(
            Tasking,
            read_file(self.folder, f"{place}/tasking.yaml").data,
            file=f"in/{place}/tasking.yaml",
            understood=UNDERSTOOD,
        )
        config = decode(
            AgentConfig, read_file(self.folder, f"{place}/config.yaml").data, file=f"in/{place}/config.yaml"
        )
        if [(task.id, task.attempt) for task in tasking.tasks] != [(task_id, attempt)]:
            problem = Problem(
                code="E_WRONG_TASK",
                message="the tasking is not that of its folder",
                file=f"in/{place}/tasking.yaml",
                place="tasks",
                expected=f"exactly one entry: {task_id}, attempt {attempt}",
            )
            raise ProtocolError(problem)
        before = self._known.get((task_id, attempt))
        seen_at = before.seen_at if before else time.monotonic()
        return Assignment(tasking=tasking, config=config, seen_at=seen_at)

    def _listed(self) -> set[Key] | None:
        try:
            names = [name for name in os.listdir(self.folder) if is_task_id(name)]
        except OSError as error:
            logger.error("{} cannot be listed: {}", self.folder, error)
            return None
        found = set()
        for task_id in names:
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):  # cleared in this moment
                attempts = filter(_ATTEMPT.fullmatch, os.listdir(self.folder / task_id))
                found |= {(task_id, int(attempt)) for attempt in attempts}
        return found
