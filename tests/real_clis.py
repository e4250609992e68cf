"""Real coding CLIs, driven as the daemon does it, in a small repository and against a scripted model."""

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

PATCH = (
    "*** Begin Patch\n*** Update File: calc.py\n@@\n def add(a, b):\n"
    "-    return a - b\n+    return a + b\n*** End Patch\n"
)
# One that leaves its session and is nobody's child any more, and one that stays.
DOUBLE_FORK = "(setsid python3 -c 'import time; time.sleep(301)' &) ; python3 -c 'import time; time.sleep(300)'"


def program(name: str) -> str | None:
    """Where the program is: what ``CLOUD_CODE_TEST_<NAME>`` says, or on PATH."""
    return os.environ.get(f"CLOUD_CODE_TEST_{name.upper()}") or shutil.which(name)


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

    @classmethod
    def in_repository(cls, folder: Path) -> "Driver":
        driver = cls(folder)
        driver.tree.mkdir()
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
        wall_seconds: float = 60,
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
            deadline = time.monotonic() + 30
            while not when() and time.monotonic() < deadline:
                time.sleep(0.02)
            pids.extend(self.running())
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
