"""From the start of the process to the first decision, with everything that an old root holds."""

import contextlib
import os
import time

from agent_daemon.protocol.model import ReportStatus
from benchmarks.crowd import Crowd, make_report, write_report
from benchmarks.figure import Figure, Size
from benchmarks.processes import running_supervisor
from benchmarks.reaction import EventTail
from supervisor.core.states import State
from supervisor.records import RecordStore

TIMEOUT_SECONDS = 60
RUNS = 5


def measure(crowd: Crowd, size: Size) -> list[Figure]:
    """While no supervisor runs, an agent asks for help; the clock stops when that is recorded and told."""
    store = RecordStore(crowd.root)
    waiting = [task for task in store.load().tasks.values() if task.state is State.IN_PROGRESS]
    seconds = []
    for number, task in enumerate(waiting[: min(RUNS, size.runs)]):
        report = make_report(task.attempt, ReportStatus.BLOCKED)
        write_report(crowd.root, str(task.workstation), task.id, report, revision=100_000 + number)
        started = time.perf_counter()
        with contextlib.closing(EventTail(crowd.root.events)) as tail, running_supervisor(crowd.root):
            _wait_for(task.id, tail)
            seconds.append(time.perf_counter() - started)
            assert store.read(task.id).state is State.BLOCKED
    ended = len(os.listdir(crowd.root.archive))
    live = len(os.listdir(crowd.root.records))
    note = f"slowest of {len(seconds)}; {live} live and {ended} ended records"
    return [Figure(name="start: first decision", measured=max(seconds), unit="s", bar=3, note=note)]


def _wait_for(task_id: str, tail: EventTail) -> None:
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while not any(event["event"] == "task.blocked" and event.get("task") == task_id for event in tail.new()):
        assert time.monotonic() < deadline, f"the report of {task_id} is not taken in"
        time.sleep(0.005)
