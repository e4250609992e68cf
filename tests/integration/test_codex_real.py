"""The real Codex CLI against a scripted model on the loopback: adapter, execution and endpoint together.

The program is found by ``CLOUD_CODE_TEST_CODEX`` or on PATH. Each run has a home of its own, a bare
environment, a dummy key, and talks to 127.0.0.1 only.
"""

import os
import shutil
import subprocess
import threading
import time
import uuid
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path

import pytest

from agent_daemon import processes
from agent_daemon.activity import ActivityMeter
from agent_daemon.clis import ADAPTERS
from agent_daemon.clis.base import CliSettings, Progress, RunRequest, Usage, Verdict
from agent_daemon.execution import Finished, ProcessLimits, StopRequest, run_process
from agent_daemon.protocol.model import Activity
from supervisor.core.liveness import acted
from tests.fakes.scripted_model import FINAL_TEXT, ScriptedModel

CODEX = os.environ.get("CLOUD_CODE_TEST_CODEX") or shutil.which("codex")
REQUIRED = "codex" in os.environ.get("CLOUD_CODE_TEST_REQUIRE", "").split(",")

PATCH = (
    "*** Begin Patch\n*** Update File: calc.py\n@@\n def add(a, b):\n"
    "-    return a - b\n+    return a + b\n*** End Patch\n"
)
SHOW_KEYS = "env | grep -c -e DUMMY_KEY -e NPM_TOKEN > keys; true"


@pytest.fixture(autouse=True)
def codex_is_there() -> None:
    if CODEX is None and REQUIRED:
        pytest.fail("CLOUD_CODE_TEST_REQUIRE names codex, but there is none")
    if CODEX is None:
        pytest.skip("no codex on PATH nor in CLOUD_CODE_TEST_CODEX")


@dataclass
class Driver:
    """Runs codex in a small repository, as the daemon would."""

    folder: Path
    marker: str = field(default_factory=lambda: f"{uuid.uuid4().hex}/1")
    stop: StopRequest = field(default_factory=StopRequest)
    events: list[Progress] = field(default_factory=list)
    finished: Finished | None = None
    meter: ActivityMeter = field(default_factory=ActivityMeter)

    @property
    def tree(self) -> Path:
        return self.folder / "tree"

    def settings(self, endpoint: ScriptedModel) -> CliSettings:
        return CliSettings(
            name="codex",
            adapter="codex",
            argv=(str(CODEX),),
            model="gpt-5.5",
            home=self.folder / "home",
            environment={"DUMMY_KEY": "sk-dummy", "NPM_TOKEN": "dummy"},
            options={
                "base_url": endpoint.base_url,
                "env_key": "DUMMY_KEY",
                "request_max_retries": "0",
                "stream_max_retries": "0",
            },
        )

    def run(
        self,
        endpoint: ScriptedModel,
        prompt: str = "Fix the bug.\n",
        *,
        settings: CliSettings | None = None,
        session_id: str | None = None,
        previous: Usage | None = None,
        wall_seconds: float = 100,
    ) -> Verdict:
        adapter = ADAPTERS["codex"]
        request = RunRequest(
            prompt=prompt,
            prompt_file=self.folder / "prompt.md",
            worktree=self.tree,
            settings=settings or self.settings(endpoint),
            session_id=session_id,
            marker=self.marker,
        )
        self.events = []
        self.meter.begin()
        self.finished = run_process(
            adapter.invocation(request),
            limits=ProcessLimits(wall_seconds=wall_seconds),
            on_line=lambda stream, line: self.events.extend(adapter.parse(stream, line)),
            stop=self.stop,
            log=self.folder / "cli.log",
            on_tick=self.meter.tick,
        )
        return adapter.verdict(self.finished, self.events, previous=previous)

    def kinds(self) -> set[str]:
        return {event.kind for event in self.events}

    def fixed(self) -> bool:
        return "a + b" in (self.tree / "calc.py").read_text()


@pytest.fixture
def driver(tmp_path: Path) -> Driver:
    driver = Driver(tmp_path)
    driver.tree.mkdir()
    (driver.tree / "calc.py").write_text("def add(a, b):\n    return a - b\n")
    subprocess.run(["git", "init", "-q", str(driver.tree)], check=True, capture_output=True)
    return driver


def test_the_whole_way(driver: Driver) -> None:
    with ScriptedModel(steps=[{"patch": PATCH}, {"shell": SHOW_KEYS}]) as model:
        verdict = driver.run(model, prompt="Fix the bug: ünïcode $(x)\n" + "x" * 200_000)

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
        settings = replace(driver.settings(model), model="unheard-of")
        assert driver.run(model, settings=settings).outcome == "completed"
    assert driver.fixed()


def test_saying_done_is_told_as_done_and_nothing_more(driver: Driver) -> None:
    with ScriptedModel("says-done-without-edit", steps=[{"patch": PATCH}]) as model:
        assert driver.run(model).outcome == "completed"
    assert not driver.fixed()
    assert "file_edited" not in driver.kinds()


def test_a_resumed_session_counts_its_own_usage_only(driver: Driver) -> None:
    with ScriptedModel(steps=[{"patch": PATCH}]) as model:
        first = driver.run(model)
        assert first.session_id
        second = driver.run(model, prompt="Go on.\n", session_id=first.session_id, previous=first.usage)

    assert second.outcome == "completed"
    assert second.session_id == first.session_id
    assert "Fix the bug." in str(model.requests[-1].body["input"])
    assert second.usage == Usage(input_tokens=1100, cached_input_tokens=200, output_tokens=51, turns=1)


def test_a_session_that_is_gone(driver: Driver) -> None:
    with ScriptedModel() as model:
        verdict = driver.run(model, session_id="01a1f9ce-5eb2-78e2-baf8-000000000000")
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
        assert driver.run(model).outcome == outcome
    assert not driver.fixed()


def test_a_missing_key(driver: Driver) -> None:
    with ScriptedModel() as model:
        settings = replace(driver.settings(model), environment={})
        assert driver.run(model, settings=settings).outcome == "authentication"
    assert model.requests == []


@pytest.mark.parametrize("scenario", ["slow_command", "hang", "loop"])
def test_a_stop_leaves_nothing_behind(driver: Driver, scenario: str) -> None:
    """While it waits for the model, while a command of the model runs in a session of its own, in a loop."""
    pids: list[int] = []

    def stop_when_busy() -> None:
        deadline = time.monotonic() + 80
        needed = {"slow_command": 2, "hang": 1, "loop": 5}[scenario]
        while len(model.requests) < needed and time.monotonic() < deadline:
            time.sleep(0.01)
        while scenario == "slow_command" and len(marked()) < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
        pids.extend(marked())
        driver.stop.set("budget")

    def marked() -> list[int]:
        return processes.find_marked("CLOUD_CODE_ATTEMPT", driver.marker)

    with ScriptedModel(scenario, steps=[{"patch": PATCH}]) as model:
        thread = threading.Thread(target=stop_when_busy)
        thread.start()
        verdict = driver.run(model)
        thread.join()

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
        verdict = driver.run(model, wall_seconds=120)
        thread.join()

    assert verdict.outcome == "hung"
    assert len(quiet()) == 5 and sum(quiet()) >= 4, looks
    assert not any(found.waits_for_input for found in looks)
