"""The coding CLI has ended, its work is being verified: what crosses that costs no attempt and no second run."""

import os
import signal
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from supervisor import spool
from supervisor.core.commands import Actor, Command
from tests.site import Site, git, wait_for

FIX = "sed -i 's/a - b/a + b/' calc.py"


def prepare(site: Site) -> Path:
    """A CLI that counts its runs."""
    starts = site.folder / "starts"
    site.use_script("cat > /dev/null", f"echo x >> {starts}", FIX, "echo new > new.txt")
    site.config["projects"]["demo"]["limits"] = {"max_failures": 1}
    site.write_config()
    return starts


def runs(file: Path) -> int:
    return len(file.read_text().split()) if file.exists() else 0


def waits_for_go(site: Site, *before: str) -> dict[str, str]:
    """A command that counts its runs, and goes on once there is a file."""
    steps = [f"echo x >> {site.folder}/checks", *before, f"while [ ! -e {site.folder}/go ]; do sleep 0.1; done"]
    return {"name": "tests", "command": "; ".join(steps)}


def wait_verifying(site: Site) -> None:
    wait_for(lambda: runs(site.folder / "checks") == 1, what="the verification")
    site.wait_state("demo.fix-add", "in_progress")


def report_path(site: Site) -> Path:
    return site.root.attempt_out("backend-1", "demo.fix-add", 1) / "reporting.yaml"


def wait_completed(site: Site) -> None:
    wait_for(lambda: report_path(site).exists() and "status: completed" in report_path(site).read_text())


def post_edit(site: Site, **fields: Any) -> None:
    """A command that a supervisor finds when it starts, before it has looked at anything else."""
    made = Command(
        id="edit-1",
        at=datetime.now(UTC),
        actor=Actor(id="operator"),
        channel="cli",
        kind="edit",
        target="demo.fix-add",
        args=fields,
    )
    spool.post(site.root.commands, made)


# --- the commands are edited ----------------------------------------------------------------------------


def test_commands_that_are_edited_while_they_run_are_run_anew(site: Site) -> None:
    starts = prepare(site)
    site.start()
    site.write_task("fix-add", verification=[waits_for_go(site)])
    wait_verifying(site)
    site.write_task("fix-add", verification=[{"name": "tests", "command": "grep -q 'a + b' calc.py"}])
    task = site.wait_state("demo.fix-add", "review", "blocked", "failed")
    assert (task.state, task.attempt, runs(starts)) == ("review", 1, 1), task.waits_for
    assert task.delivery is not None
    assert [run.command for run in task.delivery.verification] == ["grep -q 'a + b' calc.py"]


@pytest.mark.parametrize(("command", "state"), [("test -e new.txt", "review"), ("test -e absent", "blocked")])
def test_commands_that_are_edited_after_the_claim_are_run_for_it(site: Site, command: str, state: str) -> None:
    starts = prepare(site)
    site.start()
    site.write_task("fix-add", verification=[waits_for_go(site)])
    wait_verifying(site)
    site.stop_supervisors()
    (site.folder / "go").touch()
    wait_completed(site)
    post_edit(site, verification=[{"name": "tests", "command": command}])
    site.start()
    task = site.wait_state("demo.fix-add", "review", "blocked", "failed")
    assert (task.state, task.attempt, runs(starts)) == (state, 1, 1), task.waits_for
    if state == "blocked":
        assert "exit code 1" in str(task.feedback), "it was run, and failed"
        wait_for(lambda: (r := site.record("demo.fix-add")) and r.attempts[0].saved)


def test_commands_that_a_person_edits_in_the_tasking_after_the_claim_are_run_for_it(site: Site) -> None:
    starts = prepare(site)
    site.start()
    site.write_task("fix-add", verification=[waits_for_go(site)])
    wait_verifying(site)
    site.stop_supervisors()
    (site.folder / "go").touch()
    wait_completed(site)
    tasking = site.root.attempt_in("backend-1", "demo.fix-add", 1) / "tasking.yaml"
    edited = yaml.safe_load(tasking.read_text())
    edited["tasks"][0]["verification"] = [{"name": "tests", "command": "test -e new.txt"}]
    fresh = tasking.with_name(".tasking.new")
    fresh.write_text(yaml.safe_dump(edited, sort_keys=False))
    fresh.replace(tasking)
    wait_for(lambda: "test -e new.txt" in report_path(site).read_text(), what="the new command was run")
    wait_completed(site)
    site.start()
    task = site.wait_state("demo.fix-add", "review", "blocked", "failed")
    assert (task.state, task.attempt, runs(starts)) == ("review", 1, 1), task.waits_for
    assert [check.command for check in task.verification] == ["test -e new.txt"]


def test_an_edit_after_the_claim_was_taken_is_for_the_next_attempt(site: Site) -> None:
    starts = prepare(site)
    checks = site.folder / "checks"
    site.start()
    site.write_task("fix-add", verification=[{"name": "tests", "command": f"echo x >> {checks}"}])
    site.wait_state("demo.fix-add", "review")
    site.write_task("fix-add", verification=[{"name": "tests", "command": f"echo y >> {checks}"}])
    tasking = site.root.attempt_in("backend-1", "demo.fix-add", 1) / "tasking.yaml"
    wait_for(lambda: "echo y" in tasking.read_text())
    site.write_task("other")
    site.wait_state("demo.other", "review")
    assert checks.read_text().split() == ["x"] and runs(starts) == 2


# --- the verification is interrupted ----------------------------------------------------------------------


def pause_and_resume(site: Site) -> None:
    site.cli("task", "pause", "fix-add")
    wait_for(lambda: "status: paused" in report_path(site).read_text())
    site.cli("task", "resume", "fix-add")


def kill(site: Site) -> None:
    (daemon,) = site.daemons()
    os.kill(daemon.pid, signal.SIGKILL)


def restart(site: Site) -> None:
    site.cli("workstation", "restart", "backend-1")


@pytest.mark.parametrize("interrupt", [pause_and_resume, kill, restart])
def test_only_the_verification_is_run_again(site: Site, interrupt: object) -> None:
    """What it has made of the files until then is neither handed in nor verified."""
    starts = prepare(site)
    site.start()
    dirt = ("echo junk >> calc.py; echo junk > junk.txt", "sleep 0.2")
    check = waits_for_go(site, "! grep -q junk calc.py || exit 3", *dirt)
    site.write_task("fix-add", verification=[check])
    wait_verifying(site)
    wait_for((site.root.worktree("backend-1", "demo", "demo.fix-add") / "junk.txt").exists)
    interrupt(site)  # type: ignore[operator]
    wait_for(lambda: runs(site.folder / "checks") == 2, what="the verification is run again")
    (site.folder / "go").touch()
    task = site.wait_state("demo.fix-add", "review", "blocked", "failed")
    assert (task.state, task.attempt, runs(starts)) == ("review", 1, 1), task.waits_for
    listed = git("ls-tree", "-r", "--name-only", task.branch, cwd=site.remote).split()
    assert listed == ["calc.py", "new.txt"]
    assert "junk" not in git("show", f"{task.branch}:calc.py", cwd=site.remote)


def test_another_text_is_told_to_the_cli_all_the_same(site: Site) -> None:
    starts = prepare(site)
    site.start()
    site.write_task("fix-add", verification=[waits_for_go(site)])
    wait_verifying(site)
    site.cli("task", "pause", "fix-add")
    wait_for(lambda: "status: paused" in report_path(site).read_text())
    site.write_task("fix-add", description="Another text", verification=[waits_for_go(site)])
    wait_for(lambda: (r := site.record("demo.fix-add")) and r.description == "Another text")
    site.cli("workstation", "restart", "backend-1")
    (site.folder / "go").touch()
    site.cli("task", "resume", "fix-add")
    task = site.wait_state("demo.fix-add", "review", "blocked", "failed")
    assert (task.state, task.attempt, runs(starts)) == ("review", 1, 2)
    prompt = report_path(site).with_name("logs") / "prompt.md"
    assert "Another text" in prompt.read_text() and "The task's text was changed" in prompt.read_text()


def test_what_a_person_changed_during_a_pause_is_looked_at_by_the_agent_and_handed_in(site: Site) -> None:
    starts = prepare(site)
    site.start()
    site.write_task("fix-add", verification=[waits_for_go(site)])
    wait_verifying(site)
    site.cli("task", "pause", "fix-add")
    wait_for(lambda: "status: paused" in report_path(site).read_text())
    worktree = site.root.worktree("backend-1", "demo", "demo.fix-add")
    (worktree / "by-hand.txt").write_text("mine\n")
    (site.folder / "go").touch()
    site.cli("task", "resume", "fix-add")
    task = site.wait_state("demo.fix-add", "review", "blocked", "failed")
    assert (task.state, task.attempt, runs(starts)) == ("review", 1, 2)
    assert git("show", f"{task.branch}:by-hand.txt", cwd=site.remote) == "mine"


@pytest.mark.parametrize("damage", ["", "revision: 3\ntext_sha256: 1\nend: 3\n", "not: [yaml"])
def test_a_damaged_note_of_the_stage_only_costs_a_run_of_the_cli(site: Site, damage: str) -> None:
    starts = prepare(site)
    site.start()
    site.write_task("fix-add", verification=[waits_for_go(site)])
    wait_verifying(site)
    (daemon,) = site.daemons()
    os.kill(daemon.pid, signal.SIGSTOP)
    report_path(site).with_name("stage.yaml").write_text(damage)
    (site.folder / "go").touch()
    os.kill(daemon.pid, signal.SIGKILL)
    task = site.wait_state("demo.fix-add", "review", "blocked", "failed")
    assert (task.state, task.attempt, runs(starts)) == ("review", 1, 2)
