"""The real Codex CLI against a scripted model on the loopback: adapter, execution and endpoint together.

The program is found by ``CLOUD_CODE_TEST_CODEX`` or on PATH. Each run has a home of its own, a bare
environment, a dummy key, and talks to 127.0.0.1 only.
"""

import socket
import threading
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from agent_daemon import processes
from agent_daemon.clis.base import CliSettings, Usage
from agent_daemon.protocol.model import Activity
from supervisor.core.liveness import acted
from tests.fakes.scripted_model import FINAL_TEXT, ScriptedModel
from tests.real_clis import PATCH, Driver, settings_of

SHOW_KEYS = "env | grep -c -e DUMMY_KEY -e NPM_TOKEN > keys; true"


@pytest.fixture
def driver(tmp_path: Path) -> Driver:
    return Driver.in_repository(tmp_path)


def codex(driver: Driver, model: ScriptedModel) -> CliSettings:
    """With a second secret that is not its own."""
    settings = settings_of("codex", driver.home, model)
    return replace(settings, environment={**settings.environment, "NPM_TOKEN": "dummy"})


def test_the_whole_way(driver: Driver) -> None:
    with ScriptedModel(steps=[{"patch": PATCH}, {"shell": SHOW_KEYS}]) as model:
        verdict = driver.run(codex(driver, model), prompt="Fix the bug: ünïcode $(x)\n" + "x" * 200_000)

    assert (verdict.outcome, verdict.message) == ("completed", FINAL_TEXT)
    assert driver.fixed()
    assert {"session", "file_edited", "command_run", "message", "result"} <= driver.kinds()
    assert [event.path for event in driver.events if event.path] == [str(driver.tree / "calc.py")]
    assert verdict.usage == Usage(input_tokens=3300, cached_input_tokens=600, output_tokens=153, turns=3)
    assert len(model.requests) == 3
    assert model.requests[0].headers["authorization"] == "Bearer sk-dummy"
    assert "ünïcode $(x)" in str(model.requests[0].body["input"])
    assert (driver.tree / "keys").read_text() == "0\n"  # the commands of the model see no key


@pytest.mark.parametrize("step", [{"patch": PATCH}, {"shell": "sed -i 's/a - b/a + b/' calc.py"}])
def test_a_model_that_the_program_gives_no_edit_tool(driver: Driver, step: dict[str, str]) -> None:
    with ScriptedModel(steps=[step]) as model:
        settings = replace(codex(driver, model), model="unheard-of")
        assert driver.run(settings).outcome == "completed"
    assert driver.fixed()


def test_saying_done_is_told_as_done_and_nothing_more(driver: Driver) -> None:
    """And nobody but its model is connected to: what goes elsewhere would be asked of the proxy."""
    with (
        ScriptedModel("says-done-without-edit", steps=[{"patch": PATCH}]) as model,
        socket.create_server(("127.0.0.1", 0)) as proxy,
    ):
        settings = codex(driver, model)
        way_out = {"HTTPS_PROXY": f"http://127.0.0.1:{proxy.getsockname()[1]}", "NO_PROXY": "127.0.0.1"}
        settings = replace(settings, environment={**settings.environment, **way_out})
        assert driver.run(settings).outcome == "completed"
        proxy.setblocking(False)
        with pytest.raises(BlockingIOError):
            proxy.accept()
    assert not driver.fixed()
    assert "file_edited" not in driver.kinds()


def test_a_resumed_session_counts_its_own_usage_only(driver: Driver) -> None:
    with ScriptedModel(steps=[{"patch": PATCH}]) as model:
        first = driver.run(codex(driver, model), prompt="Fix the bug.\n")
        assert first.session_id
        second = driver.run(
            codex(driver, model), prompt="Go on.\n", session_id=first.session_id, previous=first.usage
        )

    assert second.outcome == "completed"
    assert second.session_id == first.session_id
    assert "Fix the bug." in str(model.requests[-1].body["input"])
    assert second.usage == Usage(input_tokens=1100, cached_input_tokens=200, output_tokens=51, turns=1)


def test_a_session_that_is_gone(driver: Driver) -> None:
    with ScriptedModel() as model:
        verdict = driver.run(codex(driver, model), session_id="01a1f9ce-5eb2-78e2-baf8-000000000000")
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
        ("cut", "overloaded"),
    ],
)
def test_failures_are_told_apart(driver: Driver, scenario: str, outcome: str) -> None:
    with ScriptedModel(scenario, steps=[{"patch": PATCH}]) as model:
        assert driver.run(codex(driver, model)).outcome == outcome
    assert not driver.fixed()


def test_a_missing_key(driver: Driver) -> None:
    with ScriptedModel() as model:
        settings = replace(codex(driver, model), environment={})
        assert driver.run(settings).outcome == "authentication"
    assert model.requests == []


@pytest.mark.parametrize("scenario", ["slow_command", "hang", "loop"])
def test_a_stop_leaves_nothing_behind(driver: Driver, scenario: str) -> None:
    """While it waits for the model, while a command of the model runs in a session of its own, in a loop."""
    needed = {"slow_command": 2, "hang": 1, "loop": 5}[scenario]

    def is_busy() -> bool:
        return len(model.requests) >= needed and (scenario != "slow_command" or len(driver.running()) >= 2)

    with ScriptedModel(scenario, steps=[{"patch": PATCH}]) as model:
        verdict, pids = driver.run_and_stop(codex(driver, model), is_busy, "budget")

    assert verdict.outcome == "budget"
    assert verdict.session_id
    assert pids
    assert [pid for pid in pids if processes.identify(pid)] == []
    assert driver.finished is not None
    assert driver.finished.signalled_by_us


@pytest.mark.timeout(240)
def test_while_it_waits_for_a_model_that_never_answers_it_does_nothing(driver: Driver) -> None:
    """Its timers use a little processor time for ever, which must not be taken for work."""
    looks: list[Activity] = []

    def quiet() -> list[bool]:
        """Whether nothing was done from each of the last looks to the next."""
        return [not acted(before, after, 3) for before, after in pairwise(looks[-6:])]

    def look() -> None:
        deadline = time.monotonic() + 90
        while not model.requests and time.monotonic() < deadline:
            time.sleep(0.01)
        # What it does after its request takes long on a busy machine: it has to come to rest, and to stay so.
        while time.monotonic() < deadline and not (len(quiet()) == 5 and sum(quiet()) >= 4):
            found = driver.meter.look()
            if found is not None:
                looks.append(Activity(task="a.b", attempt=1, **vars(found)))
            time.sleep(3)
        driver.stop.set("hung")

    with ScriptedModel("hang") as model:
        thread = threading.Thread(target=look)
        thread.start()
        verdict = driver.run(codex(driver, model), wall_seconds=120)
        thread.join()

    assert verdict.outcome == "hung"
    assert len(quiet()) == 5 and sum(quiet()) >= 4, looks
    assert not any(found.waits_for_input for found in looks)
