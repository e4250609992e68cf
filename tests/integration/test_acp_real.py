"""The real Gemini CLI and OpenCode over the Agent Client Protocol, against a scripted model on the loopback.

The programs are found by ``CLOUD_CODE_TEST_GEMINI`` and ``CLOUD_CODE_TEST_OPENCODE`` or on PATH. Each run has a
home of its own, a bare environment and a dummy key. How they are stopped in a tool is in `test_stop_real`.
"""

from pathlib import Path

import pytest

from agent_daemon import processes
from agent_daemon.clis import ADAPTERS
from agent_daemon.clis.base import Usage, sum_of_usage
from tests.fakes.scripted_model import FINAL_TEXT, ScriptedModel
from tests.real_clis import PATCH, Driver, settings_of
from tests.thorough import where_there_is_time

CLIS = ["gemini", "opencode"]
SHELL = {"shell": "cat calc.py; exit 3"}


@pytest.fixture
def driver(tmp_path: Path) -> Driver:
    return Driver.in_repository(tmp_path)


@pytest.mark.parametrize("name", CLIS)
def test_the_whole_way_and_going_on_in_the_same_session(driver: Driver, name: str) -> None:
    with ScriptedModel(steps=[{"patch": PATCH}, SHELL]) as model:
        settings = settings_of(name, driver.home, model)
        first = driver.run(settings, prompt="Fix the bug: ünïcode $(x)\n" + "x" * 200_000)
        told = driver.events
        if name == "gemini":
            kept = recorded(driver, first.session_id or "")
            assert (kept.input_tokens, kept.cached_input_tokens, kept.output_tokens) == (3300, 600, 153)
        # Gemini CLI names its record by the minute, and spoils one that is resumed within it.
        for record in driver.home.glob(".gemini/tmp/*/chats/session-*.jsonl"):
            record.rename(record.with_name(f"session-2026-01-01T00-00-{record.stem[-8:]}.jsonl"))
        second = driver.run(settings, prompt="Go on.\n", session_id=first.session_id, previous=first.usage)

    assert (first.outcome, first.message) == ("completed", FINAL_TEXT)
    assert driver.fixed()
    assert {event.kind for event in told} == {
        *("session", "tool_call", "file_edited", "command_run", "message", "usage", "result")
    }
    assert [Path(event.path).name for event in told if event.path] == ["calc.py"]
    ran = [(event.command, event.exit_code) for event in told if event.kind == "command_run"]
    assert ran == [(SHELL["shell"], 3 if name == "opencode" else None)]
    assert first.usage.turns == (4 if name == "opencode" else 3)  # it reads before it edits
    assert first.usage.input_tokens == (4600 if name == "opencode" else 3300)
    asked = [request for request in model.requests if "ünïcode $(x)" in str(request.body)]
    assert "sk-dummy" in asked[0].headers.get("authorization", "") + asked[0].headers.get("x-goog-api-key", "")
    assert (second.outcome, second.session_id) == ("completed", first.session_id)
    assert "ünïcode" in str(model.requests[-1].body)
    assert second.usage.turns == 1
    assert 1000 <= second.usage.input_tokens < 2000
    assert not {"tool_call", "file_edited"} & driver.kinds()  # what the session had done before is not told again


def recorded(driver: Driver, session_id: str) -> Usage:
    """The sum of what Gemini CLI's own record of a session tells of each reply."""
    adapter, record = (
        ADAPTERS["gemini"],
        next(driver.home.glob(f".gemini/tmp/*/chats/session-*-{session_id[:8]}.jsonl")),
    )
    lines = record.read_text().splitlines()
    return sum_of_usage([event for line in lines for event in adapter.parse("usage", line)])


def test_saying_done_is_told_as_done_and_nothing_more(driver: Driver) -> None:
    with ScriptedModel("says-done-without-edit", steps=[{"patch": PATCH}]) as model:
        assert driver.run(settings_of("gemini", driver.home, model)).outcome == "completed"
    assert not driver.fixed()
    assert "file_edited" not in driver.kinds()


@pytest.mark.parametrize(
    ("name", "scenario", "outcome"),
    [
        ("gemini", "unauthorized", "authentication"),
        ("gemini", "quota-with-reset", "quota"),
        ("gemini", "context-too-long", "context_too_long"),
        ("opencode", "cut", "hung"),  # it asks again and again, and gets the same words
        *where_there_is_time(  # (OpenCode takes five seconds of a processor to start)
            ("opencode", "unauthorized", "authentication"),
            ("gemini", "rate-limited", "overloaded"),
            ("gemini", "overloaded", "overloaded"),
            ("opencode", "context-too-long", "context_too_long"),
            ("opencode", "refuses", "refused"),
        ),
    ],
)
def test_failures_are_told_apart(driver: Driver, name: str, scenario: str, outcome: str) -> None:
    with ScriptedModel(scenario) as model:
        assert driver.run(settings_of(name, driver.home, model)).outcome == outcome
    assert len(model.requests) < 20
    assert not driver.fixed()


def test_what_opencode_waits_for_is_known(driver: Driver) -> None:
    """It tells it nowhere but in its log, waits for minutes or hours, and shows no progress."""
    with ScriptedModel("quota-with-reset") as model:
        settings = settings_of("opencode", driver.home, model)
        verdict, _ = driver.run_and_stop(settings, lambda: "retry" in driver.kinds(), "hung")
    assert (verdict.outcome, verdict.retry_after_seconds) == ("quota", 9000)
    assert not {"message", "tool_call"} & driver.kinds()


@pytest.mark.parametrize("name", CLIS)
def test_a_session_that_is_gone(driver: Driver, name: str) -> None:
    gone = {"gemini": "01a1f9ce-5eb2-78e2-baf8-000000000000", "opencode": "ses_e0606dbf7ffefDeeGoiER4nwC5"}
    with ScriptedModel() as model:
        verdict = driver.run(settings_of(name, driver.home, model), session_id=gone[name])
    assert (verdict.outcome, verdict.session_id, verdict.session_gone) == ("crashed", None, True)
    assert model.requests == []


@pytest.mark.parametrize(
    ("name", "scenario", "reason", "requests"),
    [
        ("gemini", "hang", "hung", 1),
        ("opencode", "loop", "turn_limit", 5),
        *where_there_is_time(("gemini", "loop", "turn_limit", 5), ("opencode", "hang", "hung", 1)),
    ],
)
def test_a_stop_leaves_nothing_behind(
    driver: Driver, name: str, scenario: str, reason: str, requests: int
) -> None:
    """While it waits for the model, and in a loop whose turns are counted."""
    with ScriptedModel(scenario) as model:
        settings = settings_of(name, driver.home, model)
        verdict, pids = driver.run_and_stop(settings, lambda: len(model.requests) >= requests, reason)
    assert verdict.outcome == reason
    assert verdict.session_id
    assert verdict.usage.turns >= requests - 1  # one may be on its way
    assert len(pids) >= 2  # the bridge, and the program
    assert [pid for pid in pids if processes.identify(pid)] == []
    assert driver.running() == []
