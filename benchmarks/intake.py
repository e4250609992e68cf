"""How many report updates are taken in, none lost, when no decision changes and so no record is written."""

import os
import time
from pathlib import Path

from agent_daemon.protocol.model import ReportStatus
from benchmarks.crowd import Crowd, encode_report, make_report, ring_for
from benchmarks.figure import Figure, Size
from benchmarks.processes import RunningSupervisor
from supervisor.core.states import State
from supervisor.records import RecordStore

STEP = "step 0000000"
CATCH_UP_SECONDS = 5


def measure(crowd: Crowd, supervisor: RunningSupervisor, size: Size) -> list[Figure]:
    """Reports of all tasks in turn, written as fast as one process can, the bell touched for each.

    What is read is counted in the supervisor; an update that a newer one replaces before it is read does
    not count. At the end each task must be known as it was reported last.
    """
    templates = _templates(crowd)
    records = _contents(crowd.root.records)
    read_before, started = supervisor.ask("count"), time.monotonic()
    last: dict[str, str] = {}
    written = 0
    while time.monotonic() - started < size.intake_seconds:
        for (station, task_id, path), data in templates.items():
            written += 1
            last[task_id] = f"step {written:07d}"
            fresh = path.with_name(".fresh")
            fresh.write_bytes(data.replace(STEP.encode(), last[task_id].encode()))
            os.replace(fresh, path)
            ring_for(crowd.root, station)
    seconds = time.monotonic() - started
    read = supervisor.ask("count") - read_before
    lost = _lost(supervisor, last)
    changed = sum(records.get(name) != content for name, content in _contents(crowd.root.records).items())
    size_bytes = len(next(iter(templates.values())))
    note = f"{written / seconds:.0f} written a second, {size_bytes} bytes each, {len(templates)} tasks"
    return [
        Figure(name="reports: taken in", measured=read / seconds, unit="/s", bar=500, at_least=True, note=note),
        Figure(name="reports: lost", measured=lost, unit="tasks", bar=0),
        Figure(name="reports: changed by them", measured=changed, unit="records", bar=0),
    ]


def _templates(crowd: Crowd) -> dict[tuple[str, str, Path], bytes]:
    """Of each task that has an attempt, a report that says what the one before it said."""
    store, templates = RecordStore(crowd.root), {}
    for task in store.load().tasks.values():
        if task.state is State.PENDING or task.workstation is None:
            continue
        status = {State.BLOCKED: ReportStatus.BLOCKED, State.REVIEW: ReportStatus.COMPLETED}
        report = make_report(task.attempt, status.get(task.state, ReportStatus.IN_PROGRESS), STEP)
        path = crowd.root.attempt_out(task.workstation, task.id, task.attempt) / "reporting.yaml"
        templates[task.workstation, task.id, path] = encode_report(task.workstation, task.id, report, 5)
    return templates


def _lost(supervisor: RunningSupervisor, last: dict[str, str]) -> int:
    """Tasks whose last report is not known soon after it was written."""
    deadline = time.monotonic() + CATCH_UP_SECONDS
    while True:
        known = supervisor.ask("known")
        missing = [task for task, step in last.items() if known.get(task) != step]
        if not missing or time.monotonic() > deadline:
            return len(missing)
        time.sleep(0.2)


def _contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}
