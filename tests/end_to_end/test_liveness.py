"""Agents and programs that stop, with the real supervisor and daemons under shortened limits."""

import os
import shutil
import signal
import time

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
    task = site.wait_state("demo.fix-add", "review")
    assert task.attempt == 1
    assert not is_alive(daemon)
    told = ",".join(
        name.partition(".")[2] for name in names(site, "workstation.s", "workstation.l", "workstation.r")
    )
    # (On a busy machine one may be suspected for a moment that only comes late.)
    assert told.replace("suspect,recovered,", "") == "started,suspect,silent,started"


def test_a_supervisor_that_was_stopped_holds_nothing_against_anyone(site: Site) -> None:
    """It sleeps for twice the limit, and its daemon with it: neither has seen the other."""
    begin(site, "for i in $(seq 20); do echo $i; sleep 1; done", FIX)
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
    task = site.wait_state("demo.fix-add", "review")
    assert task.attempt == 1
    assert is_alive(daemon)
    assert not site.events("workstation.silent")


def test_an_attempt_lost_with_its_daemon_goes_on_elsewhere(site: Site) -> None:
    site.config["retry"] = {"first_seconds": 0.2}
    # It hangs on the workstation that has it first, whichever that is.
    first = f"{site.folder}/first"
    hang = f'[ "$(cat {first})" != "$PWD" ] || {{ touch {site.folder}/begun; sleep 300; }}'
    begin(site, f"[ -e {first} ] || echo $PWD > {first}", hang, FIX, count=2)
    site.write_task("fix-add")
    wait_for((site.folder / "begun").exists)
    began = site.wait_state("demo.fix-add", "in_progress").attempts[0].workstation

    def stop_and_lose() -> bool:
        site.signal_daemons(signal.SIGSTOP, began)
        return bool(site.events("workstation.lost"))

    wait_for(stop_and_lose, 120, "the attempt is given up")
    task = site.wait_state("demo.fix-add", "review")
    (other,) = {"backend-1", "backend-2"} - {began}
    assert [attempt.workstation for attempt in task.attempts] == [began, other]
    assert task.attempts[0].verdict == "workstation lost"


def test_a_hung_cli_is_reminded_interrupted_saved_resumed_and_at_last_another_cli_does_it(site: Site) -> None:
    """The whole ladder: the first CLI hangs whenever it is started, the second one does the work."""
    site.config["workstations"]["backend"]["clis"] = ["scripted", "second"]
    site.config["projects"]["demo"]["limits"] = {"max_failures": 2}
    sessions, prompts = site.folder / "sessions", site.folder / "prompts"
    fixing = site.folder / "fix.sh"
    fixing.write_text(f"cat > /dev/null; cat half.txt > {site.folder}/found.txt; {FIX}\n")
    site.config["clis"]["second"] = {"adapter": "command", "argv": ["bash", str(fixing)]}
    hanging = site.folder / "hang.sh"
    hanging.write_text(
        f'cat >> {prompts}; echo "$1" >> {sessions}; echo half >> half.txt\n'
        """echo '{"type": "progress", "message": "begun", "session_id": "s-1"}'\nsleep 300\n"""
    )
    site.config["clis"]["scripted"]["argv"] = ["bash", str(hanging), "--session={session_id}"]
    site.config["timing"] |= QUICK | {"hang_after_seconds": 10}
    site.write_config()
    site.start()
    site.write_task("fix-add")

    def explained() -> str:
        return site.cli("task", "explain", "demo.fix-add", check=False).stdout

    assert wait_for(lambda: "Without a sign of life it is interrupted at" in (text := explained()) and text)
    wait_for(lambda: site.events("attempt.resumed"))
    assert wait_for(lambda: "It was interrupted" in (text := explained()) and text)
    task = site.wait_state("demo.fix-add", "review", timeout_seconds=180)
    rungs = [
        event["event"].partition(".")[2] + (f" then {then}" if (then := event["details"].get("then")) else "")
        for event in site.events("attempt.reminded", "attempt.interrupted", "attempt.resumed", "task.cli_changed")
    ]
    once = ["reminded", "interrupted then resume", "resumed", "reminded", "interrupted then end"]
    assert rungs == [*once, "cli_changed"], "one that is stuck is not tried again where another can go on"
    assert [(a.cli, a.verdict) for a in task.attempts] == [
        ("scripted", "failed"),
        ("second", "completed"),
    ]
    assert sessions.read_text().split("\n")[:2] == ["", "--session=s-1"], "the session was resumed"
    assert "E_CLI_QUIET" in prompts.read_text(), "the agent was told why it had been interrupted"
    assert (site.folder / "found.txt").read_text() == "half\n" * 2, "no work was lost on the way"
    said = {event["details"]["rule"] for event in site.events("attempt.interrupted")}
    assert said == {"quiet"}


def test_a_cli_that_hangs_for_good_asks_a_person_in_the_end(site: Site) -> None:
    site.config["projects"]["demo"]["limits"] = {"max_failures": 1}
    begin(site, "echo half > half.txt; trap '' TERM", "sleep 300")
    site.write_task("fix-add")
    task = site.wait_state("demo.fix-add", "blocked", timeout_seconds=120)
    assert "showed no sign of life again" in task.waits_for[0].message
    assert task.attempts[0].bundle == "salvage.bundle"
    wait_for(lambda: (found := site.record("demo.fix-add")) and found.attempts[0].saved)


def test_an_interruption_outlives_the_daemon_that_was_to_carry_it_out(site: Site) -> None:
    """The daemon is killed in the moment in which it is asked: the next one heeds it without a CLI to end."""
    begin(site, f"if [ ! -e {site.folder}/once ]; then touch {site.folder}/once; sleep 300; fi", FIX)
    site.write_task("fix-add")
    wait_for((site.folder / "once").exists)
    wait_for(lambda: site.events("attempt.interrupted"))
    site.signal_daemons(signal.SIGKILL)
    task = site.wait_state("demo.fix-add", "review")
    assert task.attempt == 1
    report = site.root.attempt_out("backend-1", "demo.fix-add", 1) / "reporting.yaml"
    assert "interruptions: 1" in report.read_text()


def test_a_daemon_that_beats_and_gets_nowhere_is_restarted_then_its_attempt_is_given_up(site: Site) -> None:
    """Its git waits for ever, as on a file system that is gone: nothing of the CLI is there to be watched."""
    programs, stuck = site.folder / "bin", site.folder / "stuck"
    programs.mkdir()
    (programs / "git").write_text(
        f'#!/bin/sh\ncase "$PWD $*" in *worktree*add*)\n  echo >> {stuck}\n'
        f'  [ $(wc -l < {stuck}) -gt 2 ] || sleep 300;;\nesac\nexec {shutil.which("git")} "$@"\n'
    )
    (programs / "git").chmod(0o755)
    site.config["workstations"]["backend"]["environment"] = {"PATH": f"{programs}:{os.environ['PATH']}"}
    site.config["projects"]["demo"]["limits"] = {"max_failures": 3, "timeout_minutes": 0.2}
    site.config["timing"] |= {"overdue_after_seconds": 3}
    site.config["retry"] = {"first_seconds": 0.2}
    begin(site, FIX)
    site.write_task("fix-add")
    task = site.wait_state("demo.fix-add", "review")
    assert [event["details"]["rule"] for event in site.events("workstation.overdue")] == ["overdue"] * 2
    assert [attempt.verdict for attempt in task.attempts] == ["workstation lost", "completed"]
