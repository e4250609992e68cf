"""The bridge to the Agent Client Protocol, driven as the daemon does it, with a program that speaks it badly."""

import sys
from pathlib import Path

import pytest

from agent_daemon import processes
from agent_daemon.clis.base import CliSettings, Usage
from tests.fakes import acp_agent
from tests.real_clis import Driver


@pytest.fixture
def driver(tmp_path: Path) -> Driver:
    return Driver.in_repository(tmp_path)


def settings_of(driver: Driver, how: str) -> CliSettings:
    argv = (sys.executable, str(acp_agent.__file__))
    return CliSettings(name="gemini", adapter="gemini", argv=argv, arguments=(how,), home=driver.home)


def test_a_conversation(driver: Driver) -> None:
    (driver.tree / "json.py").write_text("raise SystemExit('of the worktree')")
    verdict = driver.run(settings_of(driver, "fixes"))
    assert (verdict.outcome, verdict.message, verdict.session_id) == ("completed", "Done.", "s1")
    assert verdict.usage == Usage(input_tokens=10, output_tokens=2, turns=2)
    assert driver.fixed()
    assert [event.kind for event in driver.events] == [
        *("session", "usage", "tool_call", "file_edited", "usage", "message", "result")
    ]
    assert (driver.home / "mode").read_text() == "yolo"
    assert "a kind of the future" in (driver.folder / "cli.log").read_text()


def test_one_that_dies_tells_why(driver: Driver) -> None:
    verdict = driver.run(settings_of(driver, "dies"))
    assert verdict.outcome == "crashed"
    assert "exit code 1" in verdict.message
    assert any("newer Node" in event.message for event in driver.events)


@pytest.mark.parametrize("how", ["deaf", "hangs"])
def test_a_stop_leaves_nothing_behind(driver: Driver, how: str) -> None:
    def busy() -> bool:
        return len(driver.running()) >= (3 if how == "hangs" else 2)

    verdict, pids = driver.run_and_stop(settings_of(driver, how), busy, "budget")
    assert verdict.outcome == "budget"
    assert verdict.usage.input_tokens == (10 if how == "hangs" else 0)  # told after it was cancelled
    assert [pid for pid in pids if processes.identify(pid)] == []
    assert driver.running() == []
