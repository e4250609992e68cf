"""Agents and programs that stop, with the real supervisor and daemons under shortened limits."""

import os
import signal
import time
from pathlib import Path

from agent_daemon.processes import is_alive
from tests.site import Site, wait_for

FIX = "sed -i 's/a - b/a + b/' calc.py"
QUICK = {"suspect_after_seconds": 3, "restart_after_seconds": 6, "hang_after_seconds": 6}


def begin(site: Site, *steps: str, count: int = 1) -> None:
    site.config["timing"] |= QUICK
    site.config["workstations"]["backend"]["count"] = count
    site.use_script("cat > /dev/null", *steps)
    site.write_config()
    site.start()


def names(site: Site, *prefixes: str) -> list[str]:
    return [event["event"] for event in site.events() if event["event"].startswith(prefixes)]


def test_a_stopped_daemon_is_suspected_then_killed_and_its_attempt_goes_on(site: Site) -> None:
    runs = site.folder / "runs"
    begin(site, f"echo $$ >> {runs}", f"[ $(wc -l < {runs}) = 2 ] || sleep 300", FIX)
    site.write_task("fix-add")
    wait_for(runs.exists)
    (daemon,) = site.daemons()
    os.kill(daemon.pid, signal.SIGSTOP)
    task = site.wait_state("demo.fix-add", "review", timeout_seconds=90)
    assert task.attempt == 1
    assert not is_alive(daemon)
    assert names(site, "workstation.s", "workstation.r", "workstation.l") == [
        "workstation.started",
        "workstation.suspect",
        "workstation.silent",
        "workstation.started",
    ]


def test_a_supervisor_that_was_stopped_holds_nothing_against_anyone(site: Site) -> None:
    """It sleeps for twice the limit, and its daemon with it: neither has seen the other."""
    begin(site, "sleep 20", FIX)
    site.write_task("fix-add")
    site.wait_state("demo.fix-add", "in_progress")
    (daemon,) = site.daemons()
    supervisor = site.supervisors[-1]
    for pid in (supervisor.pid, daemon.pid):
        os.kill(pid, signal.SIGSTOP)
    time.sleep(2 * QUICK["restart_after_seconds"])
    os.kill(supervisor.pid, signal.SIGCONT)
    time.sleep(1)
    os.kill(daemon.pid, signal.SIGCONT)
    task = site.wait_state("demo.fix-add", "review", timeout_seconds=60)
    assert task.attempt == 1
    assert is_alive(daemon)
    assert not site.events("workstation.silent")


def test_an_attempt_lost_with_its_daemon_goes_on_elsewhere(site: Site) -> None:
    site.config["retry"] = {"first_seconds": 0.2}
    begin(site, f"case $PWD in */backend-1/*) touch {site.folder}/begun; sleep 300;; esac", FIX, count=2)
    site.write_task("fix-add")
    wait_for((site.folder / "begun").exists)

    def stop_and_lose() -> bool:
        for daemon in site.daemons():
            if b"backend-1" in Path(f"/proc/{daemon.pid}/cmdline").read_bytes():
                os.kill(daemon.pid, signal.SIGSTOP)
        return bool(site.events("workstation.lost"))

    wait_for(stop_and_lose, 120, "the attempt is given up")
    task = site.wait_state("demo.fix-add", "review", timeout_seconds=60)
    assert [attempt.workstation for attempt in task.attempts] == ["backend-1", "backend-2"]
    assert task.attempts[0].verdict == "workstation lost"
