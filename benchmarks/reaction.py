"""From a report renamed into place to the decision on it recorded on disk."""

import contextlib
import json
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent_daemon.protocol.model import ReportStatus
from benchmarks.crowd import Crowd, make_report, ring_for, write_report
from benchmarks.figure import Figure, Size, percentile
from supervisor.core.record import TaskRecord
from supervisor.core.states import State
from supervisor.records import RecordStore

LOOK_SECONDS = 0.0003
TIMEOUT_SECONDS = 20


class EventTail:
    """New lines of `events.jsonl`, as they come."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        self._file.seek(0, 2)
        self._rest = b""

    def new(self) -> Iterator[dict[str, Any]]:
        *lines, self._rest = (self._rest + self._file.read()).split(b"\n")
        for line in lines:
            yield json.loads(line)

    def close(self) -> None:
        self._file.close()


@dataclass
class Daemons:
    """The other side: each workstation takes up what it is given, works for a moment, and asks for help."""

    crowd: Crowd
    tail: EventTail
    store: RecordStore
    at_work: dict[str, str] = field(default_factory=dict)
    assigned: dict[str, str] = field(default_factory=dict)
    revision: int = field(default_factory=lambda: time.time_ns() // 1_000_000)

    @classmethod
    def as_recorded(cls, crowd: Crowd, tail: EventTail) -> "Daemons":
        """With what each workstation has now."""
        daemons = cls(crowd, tail, RecordStore(crowd.root))
        for task in map(daemons.store.read, daemons.store.live_ids()):
            if task.live is not None and task.state is State.IN_PROGRESS:
                daemons.at_work[task.live.workstation] = task.id
            elif task.live is not None and task.state is State.ASSIGNED:
                daemons.assigned[task.live.workstation] = task.id
        return daemons

    def notice(self, events: list[dict[str, Any]]) -> None:
        """Note which workstations have been given a task."""
        for event in events:
            if event["event"] == "task.assigned":
                self.assigned[event["workstation"]] = event["task"]

    def report(self, station: str, *, bell: bool) -> "Reaction":
        """Write the next report of a workstation's task: from assigned to working, from working to blocked."""
        starts = station in self.assigned
        task_id = self.assigned.pop(station) if starts else self.at_work.pop(station)
        if starts:
            self.at_work[station] = task_id
        status = ReportStatus.IN_PROGRESS if starts else ReportStatus.BLOCKED
        attempt = self.store.read(task_id).attempt
        self.revision += 1
        write_report(self.crowd.root, station, task_id, make_report(attempt, status), self.revision)
        reaction = Reaction(
            task_id=task_id,
            event="task.started" if starts else "task.blocked",
            state=State.IN_PROGRESS if starts else State.BLOCKED,
            written=time.perf_counter(),
        )
        if bell:
            ring_for(self.crowd.root, station)
        return reaction


@dataclass
class Reaction:
    """What has to follow from a report: this event, and before it this state in the record."""

    task_id: str
    event: str
    state: State
    written: float
    seconds: float | None = None

    def check(self, event: dict[str, Any], store: RecordStore) -> None:
        """Stop the clock when this is the event; the record must be on disk by then."""
        if self.seconds is None and event.get("task") == self.task_id and event["event"] == self.event:
            self.seconds = time.perf_counter() - self.written
            record: TaskRecord = store.read(self.task_id)
            assert record.state is self.state, f"{self.task_id} is {record.state} on disk"


def measure(crowd: Crowd, size: Size) -> list[Figure]:
    """First with the bell, then without it: what the sweep alone finds."""
    with contextlib.closing(EventTail(crowd.root.events)) as tail:
        daemons = Daemons.as_recorded(crowd, tail)
        rung = [1000 * seconds for seconds in _reactions(daemons, size.reactions, bell=True)]
        swept = [1000 * seconds for seconds in _reactions(daemons, size.reactions // 10, bell=False)]
    return [
        Figure(
            name="reaction: half of the reports",
            measured=percentile(rung, 50),
            unit="ms",
            bar=20,
            note=f"{len(rung)} reports, a few a second",
        ),
        Figure(
            name="reaction: 99 % of the reports",
            measured=percentile(rung, 99),
            unit="ms",
            bar=100,
            note=f"the slowest: {max(rung):.0f} ms",
        ),
        Figure(
            name="reaction without the bell: slowest",
            measured=max(swept),
            unit="ms",
            bar=1200,
            note=f"{len(swept)} reports, half within {percentile(swept, 50):.0f} ms",
        ),
    ]


def measure_busy(crowd: Crowd, size: Size) -> Figure:
    """The same with the bell, while containers take all the time of the processors that they get."""
    with contextlib.closing(EventTail(crowd.root.events)) as tail:
        daemons = Daemons.as_recorded(crowd, tail)
        rung = [1000 * seconds for seconds in _reactions(daemons, size.reactions // 4, bell=True)]
    return Figure(
        name="reaction beside four busy containers: 99 %",
        measured=percentile(rung, 99),
        unit="ms",
        note=f"{len(rung)} reports, half within {percentile(rung, 50):.0f} ms",
    )


def _reactions(daemons: Daemons, count: int, *, bell: bool) -> list[float]:
    """Reports one after the other at random moments; the supervisor hands out the next tasks meanwhile."""
    chance = random.Random(1)
    found: list[float] = []
    deadline = time.monotonic() + count * 2 + TIMEOUT_SECONDS
    while len(found) < count:
        assert time.monotonic() < deadline, "the workstations are given no tasks"
        daemons.notice(list(daemons.tail.new()))
        ready = sorted({*daemons.assigned, *daemons.at_work})
        if ready:
            reaction = daemons.report(ready[len(found) % len(ready)], bell=bell)
            found.append(_wait_for(reaction, daemons))
        time.sleep(chance.uniform(0.02, 0.25 if bell else 1.2))  # without it: at any moment between two sweeps
    return found


def _wait_for(reaction: Reaction, daemons: Daemons) -> float:
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while reaction.seconds is None:
        events = list(daemons.tail.new())
        for event in events:
            reaction.check(event, daemons.store)
        daemons.notice(events)
        assert time.monotonic() < deadline, f"no reaction: {reaction}"
        time.sleep(LOOK_SECONDS)
    return reaction.seconds
