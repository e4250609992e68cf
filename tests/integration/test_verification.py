"""Verification commands: real shells, real exit codes, and none that passes without having passed."""

import os
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from agent_daemon.processes import identify
from agent_daemon.protocol.model import VerificationCommand, VerificationResult
from agent_daemon.verification import VerificationPlace, run_verification


@pytest.fixture
def place(tmp_path: Path) -> VerificationPlace:
    worktree = tmp_path / "tree"
    worktree.mkdir()
    return VerificationPlace(
        worktree=worktree,
        commit="c" * 40,
        logs=tmp_path / "out" / "logs",
        environment={"PATH": os.environ["PATH"], "GIVEN": "yes"},
    )


def verified(
    place: VerificationPlace, *commands: str, stop: threading.Event | None = None, seconds: int = 60
) -> tuple[VerificationResult, ...]:
    named = [
        VerificationCommand(name=f"check {number}", command=command, timeout_seconds=seconds)
        for number, command in enumerate(commands)
    ]
    return run_verification(named, place, stop=stop or threading.Event())


def test_each_command_is_run_and_told(place: VerificationPlace) -> None:
    results = verified(place, "echo one; pwd", "echo two >&2; exit 3", "test $GIVEN = yes && set -o pipefail")

    assert [(result.name, result.exit_code, result.command) for result in results] == [
        ("check 0", 0, "echo one; pwd"),
        ("check 1", 3, "echo two >&2; exit 3"),
        (
            "check 2",
            0,
            "test $GIVEN = yes && set -o pipefail",
        ),  # a failure does not keep the next from being run; and it is bash
    ]
    assert [result.log for result in results] == ["logs/verify-1.log", "logs/verify-2.log", "logs/verify-3.log"]
    assert (place.logs / "verify-1.log").read_text() == f"one\n{place.worktree}\n"
    assert results[1].output_tail == "two"
    assert {result.commit for result in results} == {"c" * 40}
    assert all(0 <= result.duration_seconds < 30 for result in results)


def test_a_log_shows_the_last_run_only(place: VerificationPlace) -> None:
    verified(place, "echo first")
    verified(place, "echo second")
    assert (place.logs / "verify-1.log").read_text() == "second\n"


def test_the_tail_is_short(place: VerificationPlace) -> None:
    (result,) = verified(place, "seq 1 10000")
    assert result.output_tail.endswith("9999\n10000")
    assert len(result.output_tail) <= 2000


def test_one_that_takes_too_long_has_not_passed(place: VerificationPlace) -> None:
    """Not even if it says so when it is told to end."""
    (result,) = verified(place, "trap 'exit 0' TERM; sleep 60 & wait", seconds=1)
    assert result.exit_code == 124


def test_a_stop_ends_the_running_one_and_leaves_out_the_rest(place: VerificationPlace) -> None:
    stop = threading.Event()

    def stop_when_running() -> None:
        deadline = time.monotonic() + 100
        while not (place.worktree / "pid").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        stop.set()

    thread = threading.Thread(target=stop_when_running)
    thread.start()
    results = verified(place, "echo $$ > pid.new; mv pid.new pid; sleep 60", "touch never", stop=stop)
    thread.join()

    assert [result.exit_code for result in results] == [130]
    assert not (place.worktree / "never").exists()
    assert identify(int((place.worktree / "pid").read_text())) is None


def test_nothing_is_left_running(place: VerificationPlace) -> None:
    (result,) = verified(place, "setsid sleep 300 & echo $! > pid; exit 0")
    assert result.exit_code == 0
    assert identify(int((place.worktree / "pid").read_text())) is None


def test_a_machine_without_bash(place: VerificationPlace, tmp_path: Path) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "sh").symlink_to("/bin/sh")
    (result,) = verified(replace(place, environment={"PATH": str(programs)}), "echo $0")
    assert (result.exit_code, result.output_tail) == (0, "sh")


def test_a_machine_without_any_shell(place: VerificationPlace, tmp_path: Path) -> None:
    (result,) = verified(replace(place, environment={"PATH": str(tmp_path)}), "true")
    assert result.exit_code == 127
    assert "could not start" in result.output_tail
