"""Real coding CLIs, driven as the daemon does it, in a small repository and against a scripted model."""

import contextlib
import json
import os
import shutil
import subprocess
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from agent_daemon import processes
from agent_daemon.activity import ActivityMeter
from agent_daemon.clis import ADAPTERS
from agent_daemon.clis.base import CliSettings, Progress, RunRequest, Usage, Verdict
from agent_daemon.execution import ATTEMPT_MARKER, Finished, ProcessLimits, StopRequest, run_process
from tests.fakes.scripted_model import ScriptedModel

PATCH = (
    "*** Begin Patch\n*** Update File: calc.py\n@@\n def add(a, b):\n"
    "-    return a - b\n+    return a + b\n*** End Patch\n"
)
_SLEEP = "python3 -c 'import time; time.sleep(300)'"


def program(name: str) -> str | None:
    """Where the program is: what ``CLOUD_CODE_TEST_<NAME>`` says, or on PATH."""
    return os.environ.get(f"CLOUD_CODE_TEST_{name.upper()}") or shutil.which(name)


def double_fork(tag: str) -> str:
    """A command for five minutes with two programs, one of them in a session of its own and nobody's child.

    `tag` is an argument of both, by which `tagged` finds them whatever became of their parents.
    """
    return f"(setsid {_SLEEP} {tag} &) ; {_SLEEP} {tag}"


def new_tag() -> str:
    """One that no other test has: several run at once, and their folders may have the same name."""
    return f"tag-{uuid.uuid4().hex}"


def tagged(tag: str) -> list[int]:
    """The living processes that have this argument."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and tag.encode() in (entry / "cmdline").read_bytes().split(b"\0"):
                found.append(int(entry.name))
    return [pid for pid in found if processes.identify(pid) is not None]


def _codex(home: Path, endpoint: ScriptedModel, argv: tuple[str, ...]) -> CliSettings:
    patience = {"request_max_retries": "0", "stream_max_retries": "0"}
    options = {"base_url": endpoint.base_url, "env_key": "DUMMY_KEY"} | patience
    return CliSettings(
        name="codex",
        adapter="codex",
        argv=argv,
        model="gpt-5.5",
        home=home,
        environment={"DUMMY_KEY": "sk-dummy"},
        options=options,
    )


def _claude(home: Path, endpoint: ScriptedModel, argv: tuple[str, ...]) -> CliSettings:
    base_url = endpoint.base_url.removesuffix("/v1")
    return CliSettings(
        name="claude-code",
        adapter="claude-code",
        argv=argv,
        model="sonnet",
        home=home,
        environment={"DUMMY_KEY": "sk-dummy"},
        options={"base_url": base_url, "env_key": "DUMMY_KEY", "max_retries": "0"},
    )


def _aider(home: Path, endpoint: ScriptedModel, argv: tuple[str, ...]) -> CliSettings:
    return CliSettings(
        name="aider",
        adapter="aider",
        argv=argv,
        model="openai/scripted",
        home=home,
        environment={"DUMMY_KEY": "sk-dummy", "PYTHONDONTWRITEBYTECODE": "1"},
        options={"base_url": endpoint.base_url, "env_key": "DUMMY_KEY", "edit_format": "diff"},
    )


def _gemini(home: Path, endpoint: ScriptedModel, argv: tuple[str, ...]) -> CliSettings:
    settings = home / ".gemini" / "settings.json"
    settings.parent.mkdir(parents=True, exist_ok=True)
    quiet = {"privacy": {"usageStatisticsEnabled": False}, "telemetry": {"enabled": False}}
    settings.write_text(json.dumps({"general": {"enableAutoUpdate": False, "maxAttempts": 1}, **quiet}))
    return CliSettings(
        name="gemini",
        adapter="gemini",
        argv=argv,
        model="gemini-2.5-pro",
        home=home,
        environment={"DUMMY_KEY": "sk-dummy"},
        options={"base_url": endpoint.base_url.removesuffix("/v1"), "env_key": "DUMMY_KEY"},
    )


def _opencode(home: Path, endpoint: ScriptedModel, argv: tuple[str, ...]) -> CliSettings:
    # In a new home it would fetch a package, in the background.
    offline = {"npm_config_registry": "http://127.0.0.1:9", "npm_config_fetch_retries": "0"}
    return CliSettings(
        name="opencode",
        adapter="opencode",
        argv=argv,
        model="scripted",
        home=home,
        environment={"DUMMY_KEY": "sk-dummy", **offline},
        options={"base_url": endpoint.base_url, "env_key": "DUMMY_KEY"},
    )


# How each of them is run against a scripted model, by the name of its program.
REAL: dict[str, Callable[[Path, ScriptedModel, tuple[str, ...]], CliSettings]] = {
    "codex": _codex,
    "claude": _claude,
    "aider": _aider,
    "gemini": _gemini,
    "opencode": _opencode,
}


def settings_of(name: str, home: Path, endpoint: ScriptedModel) -> CliSettings:
    """The settings of a real CLI, by the name of its program; it skips or fails where that is not there."""
    found = program(name)
    need(found, name)
    return REAL[name](home, endpoint, (str(found),))


@dataclass(frozen=True, kw_only=True)
class Stopped:
    """A run that was stopped in the middle of a tool: `seconds` from then until `run_process` had returned.

    `before` and `after` are the processes of the run, then and afterwards; `after` is to be empty.
    """

    verdict: Verdict
    before: tuple[int, ...]
    after: tuple[int, ...]
    seconds: float


def stop_in_a_tool(name: str, folder: Path, reason: str = "interrupted") -> Stopped:
    """Run a real CLI into a tool that double-forks with setsid, and stop it there; benchmarks call it, too."""
    driver, tag = Driver.in_repository(folder), new_tag()
    command = double_fork(tag)
    runs_tools = name != "aider"  # it only runs the tests, after an edit
    steps = [{"shell": command}] if runs_tools else [{"patch": PATCH}]
    with ScriptedModel(steps=steps) as model:
        settings = settings_of(name, driver.home, model)
        verdict, before = driver.run_and_stop(
            settings,
            lambda: len(tagged(tag)) >= 2 and len(driver.running()) >= 3,
            reason,
            test_command="" if runs_tools else command,
        )
        seconds = time.monotonic() - driver.stopped_at
    after = (*tagged(tag), *driver.running())
    return Stopped(verdict=verdict, before=tuple(before), after=after, seconds=seconds)


def need(found: str | None, name: str) -> None:
    """Skip without the program, or fail where ``CLOUD_CODE_TEST_REQUIRE`` names it."""
    if found is None and name in os.environ.get("CLOUD_CODE_TEST_REQUIRE", "").split(","):
        pytest.fail(f"CLOUD_CODE_TEST_REQUIRE names {name}, but there is none")
    if found is None:
        pytest.skip(f"no {name} on PATH nor in CLOUD_CODE_TEST_{name.upper()}")


@dataclass
class Driver:
    """Runs a CLI in a repository whose one function is wrong."""

    folder: Path
    marker: str = field(default_factory=lambda: f"{uuid.uuid4().hex}/1")
    stop: StopRequest = field(default_factory=StopRequest)
    events: list[Progress] = field(default_factory=list)
    finished: Finished | None = None
    meter: ActivityMeter = field(default_factory=ActivityMeter)
    stopped_at: float = 0.0

    @classmethod
    def in_repository(cls, folder: Path) -> "Driver":
        driver = cls(folder)
        driver.tree.mkdir(parents=True)
        (driver.tree / "calc.py").write_text("def add(a, b):\n    return a - b\n")
        for arguments in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "Add"]):
            identity = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
            subprocess.run(["git", *identity, *arguments], cwd=driver.tree, check=True, capture_output=True)
        return driver

    @property
    def tree(self) -> Path:
        return self.folder / "tree"

    @property
    def home(self) -> Path:
        return self.folder / "home"

    def run(
        self,
        settings: CliSettings,
        prompt: str = "Fix the bug in calc.py.\n",
        *,
        session_id: str | None = None,
        previous: Usage | None = None,
        wall_seconds: float = 200,
        **limits: object,
    ) -> Verdict:
        adapter = ADAPTERS[settings.adapter]
        prompt_file = self.folder / "prompt.md"
        prompt_file.write_text(prompt)
        request = RunRequest(
            prompt=prompt,
            prompt_file=prompt_file,
            worktree=self.tree,
            settings=settings,
            session_id=session_id,
            marker=self.marker,
            **limits,  # type: ignore[arg-type]
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

    def run_and_stop(
        self, settings: CliSettings, when: Callable[[], bool], reason: str, **more: object
    ) -> tuple[Verdict, list[int]]:
        """Stop the run once something is so; also the processes that there were at that moment."""
        pids: list[int] = []

        def stop_when_so() -> None:
            deadline = time.monotonic() + 150
            while not when() and time.monotonic() < deadline:
                time.sleep(0.02)
            pids.extend(self.running())
            self.stopped_at = time.monotonic()
            self.stop.set(reason)

        thread = threading.Thread(target=stop_when_so)
        thread.start()
        verdict = self.run(settings, **more)  # type: ignore[arg-type]
        thread.join()
        return verdict, pids

    def running(self) -> list[int]:
        return processes.find_marked(ATTEMPT_MARKER, self.marker)

    def kinds(self) -> set[str]:
        return {event.kind for event in self.events}

    def fixed(self) -> bool:
        return "a + b" in (self.tree / "calc.py").read_text()
