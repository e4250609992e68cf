"""`run`, and the verbs that steer: with a supervisor running, and standing in for one."""

import contextlib
import json
import os
import pty
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from agent_daemon.protocol.codec import decode
from supervisor import spool
from supervisor.app import locked
from supervisor.control import give, new_command
from supervisor.core.commands import CommandAnswer
from supervisor.errors import CloudCodeError
from tests.site import PATIENCE_SECONDS, Site, git, wait_for
from tests.unit.conftest import make_task

FIX = "sed -i 's/a - b/a + b/' calc.py"
CHECK = {"name": "sum", "command": "python3 -c 'import calc; assert calc.add(1, 2) == 3'"}


@contextmanager
def following(site: Site, *arguments: str) -> Iterator["subprocess.Popen[str]"]:
    """A command that goes on until it is ended."""
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "supervisor", "--root", str(site.root.path), *arguments],
        env={"PATH": os.environ["PATH"], "HOME": str(site.folder), "LANG": "C.UTF-8"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def read_until(process: "subprocess.Popen[str]", pattern: str, timeout_seconds: float = PATIENCE_SECONDS) -> str:
    """The output up to the line that matches."""
    timer = threading.Timer(timeout_seconds, process.kill)
    timer.start()
    seen = []
    assert process.stdout is not None
    for line in process.stdout:
        seen.append(line)
        if re.search(pattern, line):
            timer.cancel()
            return "".join(seen)
    raise AssertionError(f"{pattern!r} does not come: {''.join(seen)}")


def test_once_does_everything_that_needs_no_person_and_leaves_nothing_running(site: Site) -> None:
    site.use_script(
        "cat > /dev/null", "echo '\x1b[31mworking\x1b[0m'", FIX, "mkdir -p deploy; date > deploy/$RANDOM"
    )
    site.config["projects"]["demo"]["protected_paths"] = ["deploy/**"]
    site.write_config()
    site.write_task("fix-add", verification=[CHECK], description="Mend it.")
    site.write_task("later", depends_on=[{"task": "fix-add", "until": "merged"}])
    (site.root.tasks / "bad.yaml").write_text("titel: x\n")
    done = site.cli("run", "--once")
    assert (
        "works on" in done.stderr and "WARNING task.blocked demo.fix-add: it waits for an approval" in done.stderr
    )
    assert "WARNING input.refused: tasks/bad.yaml:1: E_UNKNOWN_KEY" in done.stderr and "{'" not in done.stderr
    assert not site.daemons()
    held = site.cli("task", "diff", "fix-add")
    assert "+    return a + b" in held.stdout and "held for approval" in held.stderr

    approved = site.cli("task", "approve", "fix-add")
    assert "demo.fix-add is in progress" in approved.stdout and "No supervisor is running" in approved.stderr
    assert site.cli("task", "approve", "fix-add", check=False).returncode == 1
    lines = site.cli("run", "--once", "--log-format", "json").stderr.splitlines()
    assert {"branch.pushed", "supervisor.started"} <= {json.loads(line).get("event") for line in lines}
    task = site.wait_state("demo.fix-add", "review")
    assert task.delivery is not None
    assert git("rev-parse", task.branch, cwd=site.remote) == task.delivery.pushed_head
    pushed = site.cli("task", "diff", "demo.fix-add")
    assert "+    return a + b" in pushed.stdout and f"pushed to {task.branch}" in pushed.stderr
    found = json.loads(site.cli("task", "diff", "fix-add", "--json").stdout)
    assert found["head"] == task.delivery.pushed_head and not found["cut"]

    shown = site.cli("task", "show", "fix-add").stdout
    assert "What a pull request would say" in shown and "not re-run" in shown and "Mend it." in shown
    assert site.cli("task", "logs", "fix-add").stdout == "working\n"
    told = [
        json.loads(line) for line in site.cli("task", "logs", "fix-add", "--events", "--json").stdout.splitlines()
    ]
    assert [(event["category"], event.get("message", "")) for event in told] == [
        ("started", ""),
        ("message", "\x1b[31mworking\x1b[0m"),
        ("ended", "\x1b[31mworking\x1b[0m"),
    ]
    assert "1 message working" in site.cli("task", "logs", "fix-add", "--events").stdout
    assert site.cli("task", "logs", "fix-add", "--json", check=False).returncode == 2
    events = site.cli("events", "--task", "fix-add").stdout
    assert "task.created" in events and "branch.pushed" in events
    last = json.loads(site.cli("events", "--json").stdout.splitlines()[-1])
    assert site.cli("events", "--since", str(last["seq"])).stdout == ""
    status = json.loads(site.cli("status", "--json").stdout)
    assert [entry["task"] for entry in status["waiting"]] == ["demo.fix-add"]
    assert any("bad.yaml" in problem["file"] for problem in status["problems"])


@pytest.mark.skipif(os.geteuid() != 0, reason="needs to be root")
def test_root_writes_nothing_into_the_root_of_another_user(site: Site) -> None:
    site.write_config()
    site.cli("drain")
    site.cli("drain", "--undo")
    for path in (site.root.path, *site.root.path.rglob("*")):
        os.chown(path, 1234, 1234)
    before = sorted(site.root.path.rglob("*"))
    for words in (("drain",), ("run", "--once"), ("secret", "rotate"), ("init", str(site.root.path))):
        done = site.cli(*words, check=False)
        assert done.returncode == 1 and "E_OTHER_USER" in done.stderr and "sudo -u 1234" in done.stderr, words
    site.cli("status")
    assert sorted(site.root.path.rglob("*")) == before


def test_a_running_supervisor_carries_commands_out_and_shows_what_it_does(site: Site) -> None:
    go = site.folder / "go"
    site.use_script("cat > /dev/null", "echo waiting", f"while [ ! -e {go} ]; do sleep 0.05; done", FIX)
    site.write_config()
    process = site.start()
    wait_for(lambda: site.events("workstation.started"))
    site.write_task("slow", verification=[CHECK])
    site.wait_state("demo.slow", "in_progress")

    second = site.cli("run", check=False)
    assert second.returncode == 1 and "E_LOCKED" in second.stderr and f"process {process.pid}" in second.stderr
    assert f"process {process.pid}" in site.cli("status").stdout
    doctor = json.loads(site.cli("doctor", "--json", check=False).stdout)
    assert f"process {process.pid}" in next(c["detail"] for c in doctor if c["name"] == "supervisor")
    assert json.loads(site.cli("check", "--json").stdout)["notes"] == []
    site.config["projects"]["demo"]["bot"] = {"name": "Another"}
    site.write_config()
    checked = site.cli("check")
    assert "E_CONFIG_CHANGED" in checked.stderr and "no errors, 1 warning" in checked.stdout
    assert "E_CONFIG_CHANGED" in site.cli("status").stdout

    with following(site, "task", "logs", "slow", "--follow") as logs:
        read_until(logs, "waiting")
        with following(site, "status", "--watch", "--json") as watch:
            assert json.loads(read_until(watch, "demo.slow").splitlines()[-1])["running"]
            paused = site.cli("task", "pause", "slow")
            assert "demo.slow is paused" in paused.stdout and "No supervisor" not in paused.stderr
            read_until(watch, '"paused"')
        again = site.cli("task", "pause", "slow", check=False)
        assert again.returncode == 1 and "nothing to pause" in again.stderr
        assert "A person paused it" in site.cli("task", "explain", "slow").stdout
        site.cli("task", "resume", "slow")

        site.cli("workstation", "stop", "backend-1")
        wait_for(lambda: not site.daemons(), what="the daemon has stopped")
        wait_for(lambda: json.loads(site.cli("workstation", "list", "--json").stdout)[0]["state"] == "stopped")
        site.cli("workstation", "start", "backend-1")
        wait_for(site.daemons, what="the daemon runs again")
        (before,) = site.daemons()
        site.cli("workstation", "restart", "backend-1")
        wait_for(lambda: site.daemons() and site.daemons() != [before], what="another daemon runs")
        wait_for(lambda: json.loads(site.cli("workstation", "list", "--json").stdout)[0]["state"] == "working")
        assert "signal 15" in site.cli("workstation", "logs", "backend-1").stdout
        go.touch()
        site.wait_state("demo.slow", "review")
        assert logs.wait(timeout=PATIENCE_SECONDS) == 0, "the end of the attempt ends the following"
    assert list(site.root.commands.iterdir()) == []

    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=PATIENCE_SECONDS) == 130
    assert site.daemons(), "the agents go on"


def test_the_live_page_is_drawn_until_ctrl_c(site: Site) -> None:
    site.write_config()
    site.write_task("new")
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "supervisor", "--root", str(site.root.path), "status", "--watch"],
        env={"PATH": os.environ["PATH"], "HOME": str(site.folder), "LANG": "C.UTF-8", "TERM": "xterm"},
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
    )
    os.close(slave)
    seen = b""
    while b"tasks/new.yaml" not in seen:
        seen += os.read(master, 65536)
    process.send_signal(signal.SIGINT)
    with contextlib.suppress(OSError):  # EIO: the other side is gone
        while os.read(master, 65536):
            continue
    assert process.wait(timeout=PATIENCE_SECONDS) == 130
    os.close(master)


def test_a_supervisor_that_is_asked_to_end_ends_well(site: Site) -> None:
    site.write_config()
    process = site.start()
    wait_for(lambda: site.events("workstation.started"))
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=PATIENCE_SECONDS) == 0
    assert site.events("supervisor.stopped")


def test_commands_without_a_supervisor_are_carried_out_at_once(site: Site) -> None:
    site.use_script("cat > /dev/null", "exit 3")
    site.config["projects"]["demo"]["limits"]["max_failures"] = 1
    site.write_config()
    site.write_task("broken")
    site.cli("run", "--once")
    assert site.cli("task", "list", "--state", "blocked").stdout.count("demo.broken") == 1
    retried = site.cli("task", "retry", "broken", "--note", "try harder")
    assert "demo.broken is pending" in retried.stdout and "No supervisor is running" in retried.stderr
    task = site.record("demo.broken")
    assert task is not None and any("try harder" in item.message for item in task.feedback)
    site.cli("task", "cancel", "broken", "--reason", "never mind")
    refused = site.cli("task", "cancel", "broken", check=False)
    assert (
        refused.returncode == 1
        and "E_REFUSED" in refused.stderr
        and "there is nothing to cancel" in refused.stderr
    )
    assert "never mind" in site.cli("task", "explain", "broken").stdout
    assert "task.cancelled" in site.cli("events").stdout
    assert not site.daemons() and list(site.root.commands.iterdir()) == []


def test_a_workstation_that_still_runs_is_stopped_without_a_supervisor_too(site: Site) -> None:
    site.write_config()
    site.start()
    wait_for(site.daemons)
    site.stop_supervisors()
    assert site.daemons()
    site.cli("workstation", "stop", "backend-1")
    assert not site.daemons()
    (row,) = json.loads(site.cli("workstation", "list", "--json").stdout)
    assert row["state"] == "stopped"
    assert site.cli("workstation", "stop", check=False).returncode == 2
    assert site.cli("workstation", "stop", "backend-1", "--all", check=False).returncode == 2
    unknown = site.cli("workstation", "stop", "backend-9", check=False)
    assert unknown.returncode == 1 and "There are backend-1." in unknown.stderr


def test_every_workstation_is_stopped_and_started_at_once(site: Site) -> None:
    site.config["workstations"]["backend"]["count"] = 3
    site.write_config()
    site.start()
    wait_for(lambda: len(site.daemons()) == 3)
    stopped = site.cli("workstation", "stop", "--all")
    assert len(stopped.stdout.splitlines()) == 3 and stopped.stderr == ""
    wait_for(lambda: not site.daemons())
    assert "backend-3 is being started" in site.cli("workstation", "start", "--all").stdout
    wait_for(lambda: len(site.daemons()) == 3)
    site.stop_supervisors()
    site.config["workstations"]["backend"]["count"] = 1  # the other two go on until somebody stops them
    site.write_config()
    assert len(json.loads(site.cli("workstation", "list", "--json").stdout)) == 3
    site.cli("workstation", "stop", "--all")
    assert not site.daemons()


def test_a_supervisor_that_does_not_answer_is_told_and_the_command_withdrawn(site: Site) -> None:
    site.write_config()
    site.root.state.mkdir()
    command = new_command("cancel", "demo.x", "ada", {})
    with locked(site.root), pytest.raises(CloudCodeError, match="E_NO_ANSWER"):
        give(site.root, command, wait_seconds=0.6)
    assert list(site.root.commands.iterdir()) == []


def test_an_answer_that_comes_late_still_counts(site: Site) -> None:
    site.write_config()
    site.root.state.mkdir()
    command = new_command("cancel", "demo.x", "ada", {})

    def answer() -> None:
        (name,) = wait_for(lambda: [n for n, _ in spool.pending(site.root.commands)])
        data = (site.root.commands / name).read_bytes()
        assert decode(type(command), data, file=name).target == "demo.x"
        spool.answer(site.root.commands, name, CommandAnswer(id=command.id, done=True, message="well"))

    site.root.commands.mkdir()
    with locked(site.root):
        thread = threading.Thread(target=answer)
        thread.start()
        assert give(site.root, command, wait_seconds=PATIENCE_SECONDS).message == "well"
        thread.join()


def test_a_supervisor_that_ends_meanwhile_is_stood_in_for(site: Site) -> None:
    site.write_config()
    site.write_task("any")
    site.cli("run", "--once")
    command = new_command("retry", "demo.any", "ada", {})
    release = threading.Event()

    def hold() -> None:
        with locked(site.root):
            release.set()
            wait_for(lambda: list(spool.pending(site.root.commands)))

    thread = threading.Thread(target=hold)
    thread.start()
    release.wait(PATIENCE_SECONDS)
    answer = give(site.root, command, wait_seconds=PATIENCE_SECONDS)
    thread.join()
    assert "demo.any" in answer.message


@pytest.mark.parametrize("verb", ["retry", "cancel", "pause"])
def test_a_command_on_condition_is_refused_when_the_task_has_changed(site: Site, verb: str) -> None:
    site.write_config()
    site.root.records.mkdir(parents=True)
    task = site.store.save(make_task(id="demo.held", project="demo", depends_on=({"task": "demo.none"},)))
    shown = json.loads(site.cli("task", "show", "held", "--json").stdout)
    assert shown["task"]["revision"] == task.revision
    site.store.save(task.evolve(title="Changed meanwhile"))
    refused = site.cli("task", verb, "held", "--if-revision", str(task.revision), check=False)
    assert refused.returncode == 1 and "has changed meanwhile" in refused.stderr
    site.cli("task", verb, "held", "--if-revision", str(task.revision + 1))


def test_a_person_takes_an_agents_place_in_a_shell(site: Site) -> None:
    site.use_script("true")
    site.write_config()
    before = site.cli("workstation", "shell", "backend-1", "--", "pwd", check=False)
    assert before.returncode == 1 and "E_NO_WORKSPACE" in before.stderr
    site.start()
    wait_for(site.daemons)
    workspace = site.root.workspace("backend-1")
    wait_for(workspace.is_dir)
    inside = site.cli(
        "workstation", "shell", "backend-1", "--", "sh", "-c", "pwd; echo $HOME; exit 7", check=False
    )
    assert inside.returncode == 7
    assert inside.stdout.split() == [str(workspace), str(site.root.run / "backend-1" / "home")]
    missing = site.cli("workstation", "shell", "backend-1", "--", "/no/such", check=False)
    assert missing.returncode == 1 and "E_NO_PROGRAM" in missing.stderr
