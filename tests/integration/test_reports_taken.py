"""Reports through the supervisor's own objects: what is told of bad ones, and whose turn it is."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from agent_daemon.protocol.codec import encode
from agent_daemon.protocol.files import write_file
from agent_daemon.protocol.model import ProgressEntry, Reporting, ReportStatus, TaskReport
from benchmarks.crowd import make_crowd
from benchmarks.figure import Size
from supervisor.app import Supervisor, locked
from supervisor.clock import Clock
from supervisor.mail import Box
from supervisor.reports import PASSING_PROBLEM_SECONDS, QUIET_SECONDS, TURN_SECONDS


class HandClock(Clock):
    """Goes on when told to; each look takes `look_seconds`."""

    seconds, look_seconds = 1000.0, 0.0

    def monotonic(self) -> float:
        self.seconds += self.look_seconds
        return self.seconds


class Place:
    """A supervisor that does not run, with one task in progress."""

    def __init__(self, supervisor: Supervisor, box: Box) -> None:
        self.supervisor, self.box, self.clock = supervisor, box, HandClock()
        self.reports = supervisor.loop.reports
        self.reports.clock = self.clock
        self.folder = supervisor.root.attempt_out(*box)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.take()
        self.told()

    def good(self, revision: int = 1, **fields: object) -> None:
        report = TaskReport(attempt=self.box.attempt, status=ReportStatus.IN_PROGRESS, **fields)  # type: ignore[arg-type]
        document = Reporting(revision=revision, tasks={self.box.task_id: report})
        write_file(self.folder / "reporting.yaml", encode(document, end=True))
        self.take()

    def bad(self, text: str = "revision: 1\na: !x b\nend: 1\n") -> None:
        write_file(self.folder / "reporting.yaml", text.encode())
        self.take()

    def take(self) -> None:
        self.reports.take([self.box.workstation], full=False)

    def wait(self, seconds: float) -> None:
        self.clock.seconds += seconds
        self.take()
        self.reports.look_after_troubles()

    def told(self) -> list[str]:
        """The events since the last time one asked."""
        log = self.supervisor.root.events
        names = [line.split('"event": "')[1].split('"')[0] for line in log.read_text().splitlines()]
        new, self.known = names[getattr(self, "known", 0) :], len(names)
        return [name.removeprefix("report.") for name in new if name.startswith("report.")]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    crowd = make_crowd(tmp_path, Size(live=20, archived=0, workstations=2, runs=1))
    with locked(crowd.root):
        supervisor = Supervisor(crowd.root)
        supervisor.ledger.load(supervisor.store.load().tasks)
        workstation, task = next(iter(crowd.at_work.items()))
        record = supervisor.ledger.tasks[str(task)]
        yield Place(supervisor, Box(workstation, record.id, record.attempt))
        supervisor.close()


def test_a_bad_report_is_told_at_once_and_its_mending_too(place: Place) -> None:
    place.bad()
    assert place.told() == ["refused"]
    place.wait(1)
    assert place.told() == []
    place.good()
    assert place.told() == ["readable"]


def test_what_comes_and_goes_fills_no_log(place: Place) -> None:
    for number in range(100):
        place.bad(f"revision: {number}\na: !x b\nend: {number}\n")
        place.good()
        place.wait(0.2)
    assert place.told() == ["refused", "readable"]
    for number in range(100):
        place.bad("\n" * number + "revision: 1\na: !x b\nend: 1\n")
        place.wait(0.2)
    assert place.told() == []
    place.wait(PASSING_PROBLEM_SECONDS)
    assert place.told() == ["refused"], "what stays is told"
    place.good()
    place.wait(QUIET_SECONDS)
    place.bad()
    assert place.told() == ["readable", "refused"]


def test_a_report_that_is_being_written_is_nobodys_business(place: Place) -> None:
    place.bad("revision: 1\n")
    place.wait(1)
    place.good()
    assert place.told() == []
    place.bad("revision: 1\n")
    place.wait(PASSING_PROBLEM_SECONDS)
    assert place.told() == ["refused"]


def test_an_unfinished_report_is_told_before_its_task_is_blocked(place: Place) -> None:
    timing = place.supervisor.config.timing.model_copy(update={"problem_grace_seconds": 1.0})
    place.supervisor.ledger.config = place.supervisor.config.model_copy(update={"timing": timing})
    place.bad("revision: 1\n")
    place.wait(1.5)
    assert place.told() == ["refused"]
    task = place.supervisor.ledger.tasks[place.box.task_id]
    assert task.state.value == "blocked"
    assert "E_UNFINISHED" in task.waits_for[0].message


def test_a_revision_that_goes_back_is_told_once(place: Place) -> None:
    place.good(7)
    assert place.told() == []
    place.good(3)
    assert place.told() == ["revision_fell"]
    for revision in (9, 2, 10, 1):
        place.good(revision)
    assert place.told() == []


def test_only_what_decides_and_what_a_story_tells_is_kept(place: Place) -> None:
    entries = tuple(
        ProgressEntry(
            timestamp=place.clock.now(), status="x", message=f"{number} {'y' * 999}", details={"k": number}
        )
        for number in range(20)
    )
    place.good(progress=entries, current_step="at it", summary="Done so far")
    kept = place.supervisor.ledger.reports[place.box.task_id][place.box.attempt]
    assert (kept.current_step, kept.summary) == ("at it", "Done so far")
    assert [(entry.message[:3], len(entry.message), entry.details) for entry in kept.progress] == [
        (f"{number} ", 300, {}) for number in range(12, 20)
    ]


def test_each_workstation_has_its_turn_and_each_report_too(place: Place) -> None:
    """Every report changes all the time and takes long: none is passed over for ever."""
    boxes = place.supervisor.ledger.boxes[place.box.workstation]
    assert len(boxes) > 5
    for box in boxes:
        folder = place.supervisor.root.attempt_out(*box)
        folder.mkdir(parents=True, exist_ok=True)
    place.clock.look_seconds = TURN_SECONDS / 2
    taken: list[Box] = []
    for number in range(len(boxes)):
        for box in boxes:
            report = TaskReport(attempt=box.attempt, status=ReportStatus.IN_PROGRESS, current_step=f"{number}")
            document = Reporting(revision=number + 2, tasks={box.task_id: report})
            path = place.supervisor.root.attempt_out(*box) / "reporting.yaml"
            path.write_bytes(encode(document, end=True))
        place.take()
        kept = place.supervisor.ledger.reports
        now = [box for box in boxes if kept[box.task_id][box.attempt].current_step == f"{number}"]
        assert len(now) < len(boxes)
        taken += now
    assert set(taken) == set(boxes)
