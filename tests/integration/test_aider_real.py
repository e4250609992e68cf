"""The real Aider against a scripted model on the loopback: adapter, execution and endpoint together.

The program is found by ``CLOUD_CODE_TEST_AIDER`` or on PATH. Each run has a home of its own, a bare environment,
a dummy key, and talks to 127.0.0.1 only.
"""

import subprocess
from pathlib import Path

import pytest

from agent_daemon import processes
from agent_daemon.clis.base import CliSettings
from tests.fakes.scripted_model import FINAL_TEXT, ScriptedModel
from tests.real_clis import PATCH, Driver, need, program
from tests.thorough import where_there_is_time

AIDER = program("aider")
CHECK = "python3 -c 'import calc; assert calc.add(1, 2) == 3'"


@pytest.fixture
def driver(tmp_path: Path) -> Driver:
    need(AIDER, "aider")
    return Driver.in_repository(tmp_path)


def settings_of(driver: Driver, endpoint: ScriptedModel) -> CliSettings:
    return CliSettings(
        name="aider",
        adapter="aider",
        argv=(str(AIDER),),
        model="openai/scripted",
        home=driver.home,
        environment={"DUMMY_KEY": "sk-dummy", "PYTHONDONTWRITEBYTECODE": "1"},
        options={"base_url": endpoint.base_url, "env_key": "DUMMY_KEY", "edit_format": "diff"},
    )


def test_the_whole_way_and_going_on_with_the_same_history(driver: Driver) -> None:
    """Of the second run nothing is edited, and it says that it is done: it is told so, and nothing more."""
    with ScriptedModel(steps=[{"patch": PATCH}]) as model:
        settings = settings_of(driver, model)
        first = driver.run(settings, prompt="Fix the bug in calc.py: ünïcode $(x)\n", test_command=CHECK)
        told = driver.events
        model.steps.clear()
        second = driver.run(settings, prompt="Go on.\n", session_id=first.session_id)

    assert (first.outcome, first.message) == ("completed", "Here is the change.")
    assert driver.fixed()
    assert [event.path for event in told if event.path] == ["calc.py"]
    assert (first.usage.input_tokens, first.usage.output_tokens, first.usage.turns) == (1000, 50, 1)
    assert model.requests[0].headers["authorization"] == "Bearer sk-dummy"
    assert "ünïcode $(x)" in str(model.requests[0].body["messages"])
    assert (second.outcome, second.message) == ("completed", FINAL_TEXT)
    assert "ünïcode" in str(model.requests[-1].body["messages"])
    assert "file_edited" not in driver.kinds()
    left = subprocess.run(
        ["git", "status", "--porcelain"], cwd=driver.tree, check=True, capture_output=True, text=True
    )
    assert {line for line in left.stdout.splitlines() if "aider.tags.cache" not in line} == {" M calc.py"}


@pytest.mark.parametrize(
    ("scenario", "outcome"),
    [
        ("unauthorized", "authentication"),
        *where_there_is_time(("context-too-long", "context_too_long")),
    ],
)
def test_failures_are_told_apart(driver: Driver, scenario: str, outcome: str) -> None:
    with ScriptedModel(scenario, steps=[{"patch": PATCH}]) as model:
        assert driver.run(settings_of(driver, model)).outcome == outcome
    assert driver.finished is not None
    assert driver.finished.exit_code == 0
    assert not driver.fixed()


@pytest.mark.parametrize(
    ("scenario", "reason"), [("overloaded", "interrupted"), *where_there_is_time(("hang", "hung"))]
)
def test_a_stop_leaves_nothing_behind(driver: Driver, scenario: str, reason: str) -> None:
    """While it waits for the model, and in a storm of refusals; `test_stop_real` stops it in its tests."""
    with ScriptedModel(scenario, steps=[{"patch": PATCH}]) as model:

        def busy() -> bool:
            return len(model.requests) >= (4 if scenario == "overloaded" else 1)

        verdict, pids = driver.run_and_stop(settings_of(driver, model), busy, reason)
    assert verdict.outcome == reason
    assert verdict.session_id
    assert pids
    assert [pid for pid in pids if processes.identify(pid)] == []
    assert driver.running() == []
    assert driver.finished is not None
    assert driver.finished.signalled_by_us
    if scenario == "overloaded":
        assert driver.kinds() == {"session", "message", "retry"}
