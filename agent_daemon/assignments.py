"""What lies in `in/`: the taskings of this workstation, read again when they change."""

import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from loguru import logger

from agent_daemon.protocol.codec import decode
from agent_daemon.protocol.errors import Problem, ProtocolError
from agent_daemon.protocol.files import Signature, read_file, signature
from agent_daemon.protocol.model import AgentConfig, FeedbackFile, Tasking, TaskingTask
from agent_daemon.protocol.paths import is_task_id

FRESH_SECONDS = 0.05


@dataclass(frozen=True, kw_only=True)
class Assignment:
    """One tasking with its configuration."""

    tasking: Tasking
    config: AgentConfig
    seen_at: float

    @property
    def task(self) -> TaskingTask:
        return self.tasking.task


@dataclass
class Inbox:
    """Finds the taskings in `in/<task>/<attempt>/`. The supervisor alone writes there, and people over SSH."""

    folder: Path
    _looks: dict[tuple[str, int], Signature | None] = field(default_factory=dict, init=False)
    _known: dict[tuple[str, int], Assignment] = field(default_factory=dict, init=False)
    _feedback: dict[tuple[str, int], Signature] = field(default_factory=dict, init=False)

    def read_changed(self) -> Iterator[Assignment]:
        """Assignments that are new or differ from when they were last read; unreadable ones are passed over."""
        for task_id, attempt in self._listed():
            path = self.folder / task_id / str(attempt) / "tasking.yaml"
            look = signature(path)
            if look is None or look == self._looks.get((task_id, attempt)):
                continue
            fresh = time.time_ns() - look.modified_ns < FRESH_SECONDS * 1e9
            self._looks[(task_id, attempt)] = None if fresh else look
            try:
                found = self._read(task_id, attempt)
            except (ProtocolError, FileNotFoundError) as error:
                logger.warning("{} is not read: {}", path, error)
                continue
            self._known[(task_id, attempt)] = found
            yield found

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
            Tasking, read_file(self.folder, f"{place}/tasking.yaml").data, file=f"in/{place}/tasking.yaml"
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

    def _listed(self) -> Iterator[tuple[str, int]]:
        try:
            names = sorted(os.listdir(self.folder))
        except FileNotFoundError:
            return
        for task_id in names:
            if not is_task_id(task_id):
                continue
            try:
                attempts = sorted(os.listdir(self.folder / task_id))
            except (FileNotFoundError, NotADirectoryError):  # cleared in this moment
                continue
            for attempt in attempts:
                if attempt.isdecimal():
                    yield task_id, int(attempt)

    def vanished(self, known: Iterable[tuple[str, int]]) -> list[tuple[str, int]]:
        """Of these, the ones whose folder is gone."""
        gone = [key for key in known if not (self.folder / key[0] / str(key[1])).is_dir()]
        for key in gone:
            self._looks.pop(key, None)
            self._known.pop(key, None)
        return gone
