"""The real Claude Code against a scripted model on the loopback: adapter, execution and endpoint together.

The program is found by ``CLOUD_CODE_TEST_CLAUDE`` or on PATH. Each run has a home of its own, a bare
environment, a dummy key, and talks to 127.0.0.1 only.
"""

import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from agent_daemon import processes
from agent_daemon.clis.base import CliSettings, sum_of_usage
from tests.fakes.scripted_model import FINAL_TEXT, RESET_AT, ScriptedModel
from tests.real_clis import PATCH, Driver, need, program

CLAUDE = program("claude")


@pytest.fixture
def driver(tmp_path: Path) -> Driver:
    need(CLAUDE, "claude")
    return Driver.in_repository(tmp_path)


def settings_of(driver: Driver, endpoint: ScriptedModel, retries: int = 0) -> CliSettings:
    return CliSettings(
        name="claude-code",
        adapter="claude-code",
        argv=(str(CLAUDE),),
        model="sonnet",
        home=driver.home,
        environment={"DUMMY_KEY": "sk-dummy"},
        options={
            "base_url": endpoint.base_url.removesuffix("/v1"),
            "env_key": "DUMMY_KEY",
            "max_retries": str(retries),
        },
    )


def test_the_whole_way_and_going_on_in_the_same_session(driver: Driver) -> None:
    with ScriptedModel(steps=[{"patch": PATCH}, {"shell": "cat calc.py; exit 3"}]) as model:
        settings = settings_of(driver, model)
        first = driver.run(settings, prompt="Fix the bug: ünïcode $(x)\n" + "x" * 200_000)
        told, steps = driver.events, sum_of_usage(driver.events)
        second = driver.run(settings, prompt="Go on.\n", session_id=first.session_id, previous=first.usage)

    assert (first.outcome, first.message) == ("completed", FINAL_TEXT)
    assert driver.fixed()
    assert {event.kind for event in told} == {
        *("session", "tool_call", "file_edited", "command_run", "message", "usage", "result")
    }
    assert [event.path for event in told if event.path] == ["calc.py"]
    assert [event.exit_code for event in told if event.kind == "command_run"] == [3]
    assert first.usage == replace(steps, cost_usd=first.usage.cost_usd)
    assert first.usage.cost_usd
    assert model.requests[0].headers["x-api-key"] == "sk-dummy"
    assert "ünïcode $(x)" in str(model.requests[0].body["messages"])
    assert (second.outcome, second.session_id) == ("completed", first.session_id)
    assert "ünïcode" in str(model.requests[-1].body["messages"])
    assert second.usage.turns == 1
    assert second.usage.cost_usd is not None
    assert 0 < second.usage.cost_usd < first.usage.cost_usd


def test_saying_done_is_told_as_done_and_nothing_more(driver: Driver) -> None:
    with ScriptedModel("says-done-without-edit", steps=[{"patch": PATCH}]) as model:
        assert driver.run(settings_of(driver, model)).outcome == "completed"
    assert not driver.fixed()
    assert "file_edited" not in driver.kinds()


def test_a_session_that_is_gone(driver: Driver) -> None:
    with ScriptedModel() as model:
        verdict = driver.run(settings_of(driver, model), session_id="01a1f9ce-5eb2-78e2-baf8-000000000000")
    assert (verdict.outcome, verdict.session_id) == ("crashed", None)
    assert verdict.session_gone
    assert model.requests == []


@pytest.mark.parametrize(
    ("scenario", "outcome"),
    [
        ("unauthorized", "authentication"),
        ("rate_limited", "overloaded"),
        ("quota", "quota"),
        ("overloaded", "overloaded"),
        ("context-too-long", "context_too_long"),
    ],
)
def test_failures_are_told_apart(driver: Driver, scenario: str, outcome: str) -> None:
    with ScriptedModel(scenario, steps=[{"patch": PATCH}]) as model:
        assert driver.run(settings_of(driver, model)).outcome == outcome
    assert not driver.fixed()


def test_the_limit_of_a_subscription_tells_when_it_is_lifted(driver: Driver) -> None:
    with ScriptedModel("quota-with-reset") as model:
        settings = settings_of(driver, model)
        token = {"CLAUDE_CODE_OAUTH_TOKEN": "sk-dummy"}
        verdict = driver.run(replace(settings, environment=token))
    assert verdict.outcome == "quota"
    assert verdict.retry_at == datetime.fromtimestamp(RESET_AT, UTC)


def test_a_storm_of_refusals_is_waiting_and_no_progress(driver: Driver) -> None:
    with ScriptedModel("overloaded") as model:
        verdict = driver.run(settings_of(driver, model, retries=2))
    assert verdict.outcome == "overloaded"
    assert [event.kind for event in driver.events].count("retry") == 2
    assert driver.kinds() == {"session", "retry", "error", "result"}


def test_a_missing_key(driver: Driver) -> None:
    with ScriptedModel() as model:
        settings = replace(settings_of(driver, model), environment={})
        assert driver.run(settings).outcome == "authentication"
    assert model.requests == []


def test_its_own_limits(driver: Driver) -> None:
    with ScriptedModel("loop") as model:
        settings = settings_of(driver, model)
        assert driver.run(settings, max_turns=2).outcome == "turn_limit"
        asked = len(model.requests)
        assert driver.run(settings, cost_usd=0.0001).outcome == "budget"
    assert asked == 2
    assert len(model.requests) == 3


@pytest.mark.parametrize(("scenario", "reason"), [("hang", "hung"), ("loop", "budget")])
def test_a_stop_leaves_nothing_behind(driver: Driver, scenario: str, reason: str) -> None:
    """While it waits for the model, and in a loop; `test_stop_real` stops it in a tool."""
    with ScriptedModel(scenario) as model:

        def busy() -> bool:
            return len(model.requests) >= (5 if scenario == "loop" else 1)

        verdict, pids = driver.run_and_stop(settings_of(driver, model), busy, reason)
        seconds = time.monotonic() - driver.stopped_at
    assert verdict.outcome == reason
    assert verdict.session_id
    assert pids
    assert [pid for pid in pids if processes.identify(pid)] == []
    assert driver.running() == []
    assert driver.finished is not None
    assert driver.finished.signalled_by_us
    assert seconds < 30
