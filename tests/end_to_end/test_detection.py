"""How soon the dead and the hung are noticed, and that the honest are left alone: a corpus of CLIs, real daemons.

The limits are shortened and everything runs at once, more programs than the machine has processors: whoever
takes a starved program for a hung one fails here.
"""

import os
import signal
import sys
import time
from collections.abc import Iterator
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from agent_daemon.processes import find_marked, process_table
from tests import reliability
from tests.fakes import corpus
from tests.site import FAKES, Pace, Site, wait_for

pytestmark = pytest.mark.timeout(400)

TIMING = {"suspect_after_seconds": 4, "restart_after_seconds": 8, "hang_after_seconds": 20}
# What a look may be late by: a beat, a sweep of the supervisor, and a machine that is busy with what runs here.
PATIENCE_SECONDS = 15

HONEST = {
    "quiet_build": "quiet build that burns processor time",
    "quiet_build_of_children": "quiet build of many short-lived children",
    "bursts": "work in bursts with pauses",
    "slow_printer": "a dot every 2 s, no end of line",
    "starved": "stopped by a signal for 2 s, again and again",
    "awaits_the_network": "child reads from a slow server, a shell open on a terminal",
    "double_forker": "leaves a double-forked process in a session of its own",
}
HUNG = {
    "asks_on_a_terminal": ("program asks a question on a terminal", "input"),
    "reads_standard_input": ("waits for more on its standard input", "input"),
    "sleeps": ("sleeps for ever", "quiet"),
    "deaf": ("sleeps for ever and ignores SIGTERM", "quiet"),
    "only_retries": ("only tells that it tries again", "quiet"),
    "ticks": ("waits for ever with a timer that uses 1 % of a processor", "quiet"),
    "stops": ("stopped by a signal for good", "quiet"),
}
reliability.declare("detection", [*HONEST.values(), *(name for name, _ in HUNG.values())])
DEAD = reliability.declare(
    "detection", ["CLI killed", "daemon killed", "daemon stopped by a signal", "supervisor and daemon stopped"]
)
(ENDLESS,) = reliability.declare("detection", ["busy for ever, deaf to signals, with a double-forked process"])


@pytest.fixture
def crowd(site: Site) -> Site:
    """A root whose CLI does what the description of its task says."""
    site.config["timing"] |= TIMING
    site.config["clis"]["scripted"] = {
        "adapter": "command",
        "argv": [sys.executable, str(FAKES / "corpus.py"), str(site.folder)],
    }
    return site


@pytest.fixture
def pace() -> Iterator[Pace]:
    """How much slower than alone everything is, where other tests run beside this one."""
    made = Pace()
    yield made
    made.stop()


def stem(behaviour: str) -> str:
    return behaviour.replace("_", "-")


def send(site: Site, behaviours: list[str]) -> None:
    site.config["workstations"]["backend"]["count"] = len(behaviours)
    site.write_config()
    site.start()
    for behaviour in behaviours:
        site.write_task(stem(behaviour), description=f"behaviour: {behaviour}")


def told(site: Site, task: str, *names: str) -> list[dict[str, Any]]:
    return [event for event in site.events(*names) if event["task"] == f"demo.{task}"]


def seconds_from(begin: float, event: dict[str, Any]) -> float:
    return datetime.fromisoformat(event["ts"]).timestamp() - begin


def test_the_corpus_is_whole() -> None:
    assert [one.__name__ for one in corpus.HONEST] == list(HONEST)
    assert [one.__name__ for one in corpus.HUNG] == list(HUNG)


def test_honest_programs_are_neither_reminded_nor_interrupted(crowd: Site) -> None:
    send(crowd, list(HONEST))
    for behaviour in HONEST:
        task = crowd.wait_state(f"demo.{stem(behaviour)}", "review", timeout_seconds=180)
        assert task.attempt == 1, crowd.story(task.id)
    alarms = {name: told(crowd, stem(name), "attempt.reminded", "attempt.interrupted") for name in HONEST}
    assert not any(alarms.values()), alarms
    assert not crowd.events("workstation.silent", "workstation.ignored", "workstation.died")
    left = Path(crowd.root.worktree("backend-1", "demo", "demo.double-forker"))
    outbox = crowd.root.mail.glob("*/out/*/*")
    assert not [pid for place in outbox for pid in find_marked("CLOUD_CODE_ATTEMPT", str(place))]
    assert not _left_behind(crowd), left
    for behaviour, name in HONEST.items():
        swept = "done at once; nothing is left behind" if behaviour == "double_forker" else "left alone"
        reliability.record("detection", name, swept, false_alarms=len(alarms[behaviour]))


def _left_behind(site: Site) -> list[int]:
    """What double-forked programs left running, by the pids that they wrote down."""
    files = site.root.path.glob("workspaces/*/*/*/left-behind.pid")
    pids = {int(file.read_text()) for file in files}
    assert pids, "the program was there"
    return [pid for pid, stat in process_table().items() if pid in pids and stat.alive and _double_forked(pid)]


def _double_forked(pid: int) -> bool:
    """Whether it is one of these: its number may be another's by now."""
    try:
        return b"sum(range(100_000))" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def test_hung_programs_are_reminded_and_interrupted_within_their_limit(crowd: Site, pace: Pace) -> None:
    send(crowd, list(HUNG))
    limits = {
        "input": (TIMING["suspect_after_seconds"], TIMING["restart_after_seconds"]),
        "quiet": (TIMING["hang_after_seconds"] / 2, TIMING["hang_after_seconds"]),
    }
    for behaviour, (name, rule) in HUNG.items():
        task = stem(behaviour)
        wait_for(partial(told, crowd, task, "attempt.resumed"), 120, f"{task}: {crowd.events()[-10:]}")
        begin = float((crowd.folder / behaviour).read_text())
        reminded = told(crowd, task, "attempt.reminded")[0]
        interrupted = told(crowd, task, "attempt.interrupted")[0]
        assert (reminded["details"]["rule"], interrupted["details"]["rule"]) == (rule, rule)
        after = seconds_from(begin, reminded), seconds_from(begin, interrupted)
        for seconds, limit in zip(after, limits[rule], strict=True):
            assert limit - 0.5 <= seconds <= limit + PATIENCE_SECONDS * pace.slowest, (name, after)
        outcome = (
            f"rule {rule}: reminded (limit {limits[rule][0]:g} s), interrupted ({limits[rule][1]:g} s), resumed"
        )
        figures = {"reminded_after_seconds": after[0], "interrupted_after_seconds": after[1]}
        reliability.record("detection", name, outcome, **figures)


def test_one_that_is_busy_for_ever_runs_into_its_limit_of_time_and_leaves_nothing_behind(
    crowd: Site, pace: Pace
) -> None:
    crowd.config["retry"] = {"first_seconds": 600}
    crowd.config["workstations"]["backend"]["count"] = 1
    crowd.write_config()
    crowd.start()
    crowd.write_task("hides", description="behaviour: hides_and_hangs", limits={"timeout_minutes": 0.1})
    task = crowd.wait_state("demo.hides", "failed")
    assert "its time limit" in task.history[-1].reason
    assert not told(crowd, "hides", "attempt.reminded", "attempt.interrupted"), "it works"
    assert not _left_behind(crowd)
    (ended,), (given,) = wait_for(partial(crowd.events, "attempt.ended")), crowd.events("task.assigned")
    seconds = seconds_from(datetime.fromisoformat(given["ts"]).timestamp(), ended)
    assert 6 <= seconds < 60 * pace.slowest
    outcome = "ended at its limit of time (6 s) with all that it started; another attempt follows"
    reliability.record("detection", ENDLESS, outcome, ended_after_seconds=seconds)


def _cli_of(site: Site) -> list[int]:
    """The CLI itself: of the attempt's processes the one whose parent is a daemon."""
    daemons = {daemon.pid for daemon in site.daemons()}
    table = process_table()
    marked = find_marked("CLOUD_CODE_ATTEMPT", str(site.root.attempt_out("backend-1", "demo.sleeps", 1)))
    return [pid for pid in marked if pid in table and table[pid].parent in daemons]


def test_the_dead_are_noticed_at_once(crowd: Site, pace: Pace) -> None:
    crowd.config["timing"] |= {"hang_after_seconds": 600}
    crowd.config["retry"] = {"first_seconds": 0.1}
    send(crowd, ["sleeps"])
    for what, event, outcome in (
        (DEAD[1], "workstation.died", "started again; its attempt goes on"),
        (DEAD[0], "attempt.ended", "the attempt ends, another one follows"),
    ):
        (cli,) = wait_for(partial(_cli_of, crowd))
        (daemon,) = crowd.daemons()
        begin = time.time()
        os.kill(cli if what.startswith("CLI") else daemon.pid, signal.SIGKILL)
        found = wait_for(partial(crowd.events, event), what=event)
        seconds = seconds_from(begin, found[0])
        assert seconds < 30 * pace.slowest, "a dead agent is noticed within 30 s"
        reliability.record("detection", what, outcome, noticed_after_seconds=seconds)


def _beats(site: Site) -> int:
    sign = yaml.safe_load((site.root.mail_out("backend-1") / "workstation.yaml").read_text())
    return int(sign["heartbeat"])


def test_a_stopped_daemon_is_noticed_and_a_stopped_supervisor_blames_nobody(crowd: Site, pace: Pace) -> None:
    crowd.config["timing"] |= {"hang_after_seconds": 600}
    send(crowd, ["sleeps"])
    wait_for(lambda: _cli_of(crowd))
    (daemon,), (supervisor,) = crowd.daemons(), crowd.supervisors
    for pid in (supervisor.pid, daemon.pid):
        os.kill(pid, signal.SIGSTOP)
    time.sleep(2 * TIMING["restart_after_seconds"])
    os.kill(supervisor.pid, signal.SIGCONT)
    time.sleep(1)
    os.kill(daemon.pid, signal.SIGCONT)
    time.sleep(TIMING["suspect_after_seconds"])
    alarms = crowd.events("workstation.silent", "attempt.interrupted")
    assert not alarms
    reliability.record("detection", DEAD[3], "nobody is restarted when they go on", false_alarms=len(alarms))
    doubts = ("workstation.suspect", "workstation.recovered")
    wait_for(lambda: not crowd.events(*doubts) or crowd.events(*doubts)[-1]["event"] == doubts[1])
    beaten = _beats(crowd)
    wait_for(lambda: _beats(crowd) > beaten, what="a sign of life right before it is stopped")
    begin = time.time()
    os.kill(daemon.pid, signal.SIGSTOP)
    restarted = wait_for(lambda: crowd.events("workstation.silent"))[0]
    suspect = next(event for event in crowd.events("workstation.suspect") if seconds_from(begin, event) > 0)
    after = seconds_from(begin, suspect), seconds_from(begin, restarted)
    for seconds, limit in zip(after, (4, 8), strict=True):
        assert limit - 2 <= seconds <= limit + PATIENCE_SECONDS * pace.slowest, after
    wait_for(lambda: len(crowd.events("workstation.started")) == 2)
    reliability.record(
        "detection",
        DEAD[2],
        "suspect (limit 4 s), killed and started again (8 s); its attempt goes on",
        suspect_after_seconds=after[0],
        restarted_after_seconds=after[1],
    )
