"""What each side did since the last look, in words: read from the files that anyone may read."""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from agent_daemon.protocol.model import ProgressEntry, TaskReport
from agent_daemon.protocol.paths import Root
from supervisor.core.record import TaskRecord
from supervisor.core.sentences import sentence
from supervisor.events import read_events
from supervisor.mail import Box, Mail
from supervisor.records import RecordStore
from supervisor.terminal import plain_line

Side = Literal["supervisor", "workstation"]

_SENTENCES: dict[str, str] = {
    "supervisor.started": "started, process {pid}",
    "workstation.started": "started the agent daemon of {workstation}, process {pid}",
    "task.created": "read tasks/{stem}.yaml: task {task}, for the specialist {specialist}",
    "task.assigned": "wrote mail/{workstation}/in/{task}/{attempt}/tasking.yaml",
    "task.started": "read the first mail/{workstation}/out/{task}/{attempt}/reporting.yaml",
    "claim.accepted": "took result.bundle into a quarantine and checked it (files: {files}, commits: {commits})",
    "branch.pushed": "pushed {branch} to the remote",
    "request.opened": "wrote what a pull request would say: state/requests/{task}.md",
    "task.review": "the task is in review",
    "workstation.stopped": "stopped the agent daemon of {workstation}",
}


@dataclass(frozen=True)
class Line:
    """One thing that one side did."""

    side: Side
    text: str


@dataclass
class Follower:
    """Reads a root's events and the report of one task, again and again."""

    root: Root
    task_id: str
    task: TaskRecord | None = None
    report: TaskReport | None = None
    refused: str = ""
    _seq: int = 0
    _entries: tuple[ProgressEntry, ...] = ()
    _store: RecordStore = field(init=False)
    _mail: Mail = field(init=False)

    def __post_init__(self) -> None:
        self._store, self._mail = RecordStore(self.root), Mail(self.root)

    def look(self) -> list[Line]:
        """What is new on both sides since the last look."""
        lines = []
        for event in read_events(self.root.events, self._seq) if self.root.events.exists() else ():
            self._seq = event["seq"]
            lines.append(Line("supervisor", told(event)))
            if event["event"] in ("workstation.not_started", "input.refused"):
                self.refused = str(event["details"].get("message", ""))
        for read in (self._store.read, self._store.read_archived):
            with contextlib.suppress(FileNotFoundError):
                self.task = read(self.task_id)
                break
        if self.task is not None and self.task.attempts:
            newest = self.task.attempts[-1]
            for taken in self._mail.sweep([Box(newest.workstation, self.task_id, newest.number)]):
                lines += self._news_of(taken.report) if taken.report else []
        return lines

    def _news_of(self, report: TaskReport) -> list[Line]:
        if self.report is not None and self.report.attempt != report.attempt:
            self._entries = ()
        fresh = newer(self._entries, report.progress)
        self.report, self._entries = report, report.progress
        return [Line("workstation", plain_line(entry.message)) for entry in fresh]


def newer(known: Sequence[ProgressEntry], now: Sequence[ProgressEntry]) -> Sequence[ProgressEntry]:
    """The entries of a list that keeps its last 50 which were not in it at the last look."""
    for gone in range(len(known) + 1):
        kept = list(known[gone:])
        if list(now[: len(kept)]) == kept:
            return now[len(kept) :]
    return now


def told(event: dict[str, Any]) -> str:
    """An event in plain words, with the files that it is about where this demo knows them."""
    details = event.get("details", {})
    values = {**details, **{key: value for key, value in event.items() if key != "details"}}
    values["stem"] = str(values.get("task", "")).partition(".")[2]
    form = _SENTENCES.get(event["event"])
    try:
        return plain_line(form.format_map(values) if form else _unworded(event))
    except KeyError:
        return plain_line(_unworded(event))


def _unworded(event: dict[str, Any]) -> str:
    said = sentence(event)
    return f"{event['event']}: {said}" if said else str(event["event"])
