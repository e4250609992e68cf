"""Play the demo: the real supervisor, the real daemon, one task; then look whether everything really happened."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from agent_daemon.protocol.paths import Root
from supervisor import spool
from supervisor.core.commands import Actor, Command
from supervisor.core.record import TaskRecord
from supervisor.core.states import State
from supervisor.demo import stage as stages
from supervisor.demo.agents import DemoAgent
from supervisor.demo.follow import Follower
from supervisor.demo.stage import STATION, TASK_ID, Stage, SuiteRun
from supervisor.demo.view import View
from supervisor.errors import CloudCodeError
from supervisor.git.mirror import remote_tip
from supervisor.stations import load_station
from supervisor.workstations.local import LocalWorkstations

LOOK_SECONDS = 0.1
START_SECONDS = 60
STOP_SECONDS = 30


@dataclass(frozen=True, kw_only=True)
class Played:
    """What was found when the task was in review: all of it seen, nothing of it taken from a report."""

    branch: str
    head: str
    request: str
    difference: str
    before: SuiteRun
    after: SuiteRun
    seconds: float


def play(stage: Stage, agent: DemoAgent, view: View) -> Played:
    """Run the task and check the result; CloudCodeError E_DEMO with the reason when something is missing."""
    before = stages.run_tests(stage.before)
    if before.exit_code == 0:
        raise _failed(stage, "the tests pass before anything was done")
    started = time.monotonic()
    with _supervisor(stage) as process:
        task = _watch(stage, agent, view, process)
    return _check(stage, task, before, time.monotonic() - started)


# --- the supervisor, started and stopped ----------------------------------------------------------------


@contextmanager
def _supervisor(stage: Stage) -> Iterator[subprocess.Popen[bytes]]:
    """`cloud-code run` as a process of its own; it and its workstation are ended afterwards, come what may."""
    with stage.log.open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "supervisor", "--root", str(stage.root.path), "run"],
            cwd=stage.folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # Ctrl-C is for the demo, which then stops the supervisor in order
        )
    try:
        with _ended_by_sigterm():
            yield process
    finally:
        _stop(stage.root, process)


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """SIGTERM ends the demo as Ctrl-C does, so that nothing is left running."""

    def end(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _stop(root: Root, process: subprocess.Popen[bytes]) -> None:
    """Have the supervisor stop its workstation, then stop the supervisor, then make sure of the daemon."""
    if process.poll() is None and root.commands.is_dir():
        _stop_workstation(root, process)
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(timeout=STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    driver = LocalWorkstations(root)
    left = driver.find(STATION)
    if left is not None:
        driver.stop(left)


def _stop_workstation(root: Root, process: subprocess.Popen[bytes]) -> None:
    command = Command(
        id=spool.new_command_id(),
        at=datetime.now(UTC),
        actor=Actor(id="demo"),
        channel="cli",
        kind="workstation-stop",
        target=STATION,
    )
    spool.post(root.commands, command)
    if spool.wait_for_answer(root.commands, command.id, 10) is None:
        spool.withdraw(root.commands, command.id)
        return
    deadline = time.monotonic() + STOP_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        station = load_station(root, STATION)
        if station is None or station.pid is None:
            return
        time.sleep(LOOK_SECONDS)


# --- the task --------------------------------------------------------------------------------------------


def _watch(stage: Stage, agent: DemoAgent, view: View, process: subprocess.Popen[bytes]) -> TaskRecord:
    """Save the task file once the supervisor runs, then show both sides until the task is in review."""
    follower = Follower(stage.root, TASK_ID)
    deadline = time.monotonic() + START_SECONDS
    saved = False
    with view:
        while True:
            view.show(follower.look(), follower)
            if not saved and load_station(stage.root, STATION) is not None:
                stages.write_task(stage)
                saved, deadline = True, time.monotonic() + agent.patience_seconds
            task = follower.task
            if task is not None and task.state is State.REVIEW:
                view.show(follower.look(), follower)
                return task
            reason = _hopeless(follower, process)
            if reason is None and time.monotonic() > deadline:
                reason = "it took too long: " + (
                    f"the task is {task.state.value}" if task else "the task was never taken in"
                )
            if reason is not None:
                raise _failed(stage, reason)
            time.sleep(LOOK_SECONDS)


def _hopeless(follower: Follower, process: subprocess.Popen[bytes]) -> str | None:
    """Why waiting any longer is of no use; None while it is."""
    if process.poll() is not None:
        return f"the supervisor ended with exit code {process.returncode}"
    if follower.refused:
        return follower.refused
    task = follower.task
    if task is not None and (task.state is State.BLOCKED or task.ended):
        said = "; ".join(wait.message for wait in task.waits_for)
        return f"the task is {task.state.value}" + (f": {said}" if said else "")
    return None


# --- the result ------------------------------------------------------------------------------------------


def _check(stage: Stage, task: TaskRecord, before: SuiteRun, seconds: float) -> Played:
    """Look at the remote, a fresh clone and the processes: what the record says has to be true."""
    delivery = task.delivery
    if delivery is None or task.request is None:
        raise _failed(stage, "the record of the task names no delivery or no request")
    if remote_tip(str(stage.remote), task.branch) != delivery.pushed_head:
        raise _failed(stage, f"the remote's branch {task.branch} is not what was pushed")
    if LocalWorkstations(stage.root).find(STATION) is not None:
        raise _failed(stage, f"the daemon of {STATION} still runs")
    stages.clone(stage.remote, task.branch, stage.after)
    difference = stages.difference(stage.after)
    if not difference.strip():
        raise _failed(stage, f"the branch {task.branch} changes nothing")
    after = stages.run_tests(stage.after)
    if after.exit_code != 0:
        raise _failed(stage, f"the tests fail on a fresh clone of {task.branch}:\n{after.output}")
    return Played(
        branch=task.branch,
        head=delivery.pushed_head,
        request=stage.root.request(TASK_ID).read_text(errors="replace"),
        difference=difference,
        before=before,
        after=after,
        seconds=seconds,
    )


def _failed(stage: Stage, reason: str) -> CloudCodeError:
    return CloudCodeError("E_DEMO", f"The demo did not come to its end: {reason}.", f"The log is {stage.log}.")
