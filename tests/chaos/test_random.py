"""Thirty tasks while everything goes wrong, at times that a seed decides; at the end each is done exactly once.

Both programs are killed, stopped for a while (as by a disk or host that hangs), run out of disk, and the wall
clock jumps by an hour. `make chaos` runs longer and with other seeds:
``CLOUD_CODE_CHAOS_SEED``, ``CLOUD_CODE_CHAOS_SECONDS``.
"""

import contextlib
import os
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests import reliability
from tests.site import Site, git, wait_for

SEED = int(os.environ.get("CLOUD_CODE_CHAOS_SEED", "1"))
FAULT_SECONDS = float(os.environ.get("CLOUD_CODE_CHAOS_SECONDS", "15"))
TASKS = 30
STATIONS = 4
DISK_BYTES = 400 * 1024 * 1024
CLOCK = Path(__file__).parents[1] / "fakes" / "clock"
CHECK = {"name": "there", "command": "test -s work.txt"}
(WHAT,) = reliability.declare("random-faults", [f"{TASKS} tasks on {STATIONS} workstations"])

# What the agent does: a file that names the task's own branch, and some time in which it can be hit.
AGENT = (
    "sleep 0.$((RANDOM % 9))",
    'git symbolic-ref --short HEAD > work.txt || echo "$PWD" > work.txt',
    "sleep 0.$((RANDOM % 9))",
)


@dataclass
class Trouble:
    """Makes trouble for a site, one thing after another, and counts what it did."""

    site: Site
    dice: random.Random
    clock: Path
    supervisor: subprocess.Popen[bytes] | None = None
    done: Counter[str] = field(default_factory=Counter)

    def environment(self) -> dict[str, str]:
        """A wall clock that jumps when the file says so; the monotonic one goes on as it is."""
        return {"PYTHONPATH": str(CLOCK), "FAKE_CLOCK": str(self.clock)}

    def keep_running(self) -> None:
        """Start the supervisor where it is not there; it dies of our kills and of a full disk only."""
        if self.supervisor is None or self.supervisor.poll() is not None:
            self.supervisor = self.site.start(**self.environment())

    def make(self) -> None:
        """One fault, chosen by the dice."""
        kinds = [self.kill_supervisor, self.kill_daemon, self.stall, self.fill_disk, self.jump_clock]
        kind = self.dice.choice(kinds)
        kind()
        self.done[kind.__name__] += 1

    def kill_supervisor(self) -> None:
        if self.supervisor is not None:
            self.supervisor.kill()
            self.supervisor.wait(timeout=30)

    def kill_daemon(self) -> None:
        for pid in self._a_daemon():
            with contextlib.suppress(ProcessLookupError):  # it may end in this moment
                os.kill(pid, signal.SIGKILL)

    def _a_daemon(self) -> list[int]:
        found = self.site.daemons()
        return [self.dice.choice(found).pid] if found else []

    def stall(self) -> None:
        """One of the programs stands still for a while, as on a disk that does not answer."""
        pids = self._a_daemon()
        if self.supervisor is not None and self.dice.random() < 0.5:
            pids = [self.supervisor.pid]
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
                time.sleep(self.dice.uniform(0.3, 2))
                os.kill(pid, signal.SIGCONT)

    def fill_disk(self) -> None:
        """Not a byte is left on the file system of the root for a moment."""
        balloon = self.site.root.path / "balloon"
        if not os.path.ismount(self.site.root.path):
            return
        with balloon.open("wb", buffering=0) as file:
            try:
                while file.write(b"\0" * 1024 * 1024):
                    pass
            except OSError:
                pass
        time.sleep(self.dice.uniform(0.3, 1.5))
        balloon.unlink()

    def jump_clock(self) -> None:
        self.clock.write_text(f"{self.dice.choice([-3600, 0, 3600])}\n")


@pytest.fixture
def small(site: Site) -> Iterator[Site]:
    """The root on a small file system of its own, where one can be mounted."""
    site.root.tasks.rmdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES},mode=755", "tmpfs", str(site.root.path)]
    mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
    site.root.tasks.mkdir(exist_ok=True)
    yield site
    site.close()
    if mounted:
        subprocess.run(["umount", "--lazy", str(site.root.path)], check=True)


def prepare(site: Site) -> list[str]:
    """The tasks; some come first for others."""
    site.use_script(*AGENT)
    site.config["workstations"]["backend"]["count"] = STATIONS
    site.config["projects"]["demo"]["limits"] = {"max_failures": 50}
    site.config["timing"] |= {"assign_timeout_seconds": 60, "deletion_grace_seconds": 30}
    site.config["retry"] = {"first_seconds": 0.2, "factor": 1, "cap_seconds": 1}
    marks = ("stop_below_bytes", "stop_below_share", "resume_above_bytes", "resume_above_share")
    site.config["disk"] = dict.fromkeys(marks, 0)
    git("config", "core.logAllRefUpdates", "always", cwd=site.remote)
    site.write_config()
    names = [f"t{number}" for number in range(TASKS)]
    for number, name in enumerate(names):
        first = [{"task": names[number - 7], "use": "none"}] if number % 5 == 0 and number > 7 else []
        site.write_task(name, verification=[CHECK], depends_on=first)
    return names


def pushes(site: Site, branch: str) -> int:
    """How often the branch was moved on the remote."""
    log = site.remote / "logs" / "refs" / "heads" / branch
    return len(log.read_text().splitlines()) if log.exists() else 0


@pytest.mark.timeout(FAULT_SECONDS * 4 + 600)
def test_every_task_ends_right_exactly_once(small: Site, tmp_path: Path) -> None:
    site = small
    names = prepare(site)
    clock = tmp_path / "clock"
    clock.write_text("0\n")
    trouble = Trouble(site, random.Random(SEED), clock)
    deadline = time.monotonic() + FAULT_SECONDS
    while time.monotonic() < deadline:
        trouble.keep_running()
        trouble.make()
        time.sleep(trouble.dice.uniform(0.2, 1.5))
    clock.write_text("0\n")
    trouble.keep_running()

    def undone() -> list[str]:
        trouble.keep_running()
        found = [(name, site.record(f"demo.{name}")) for name in names]
        return [
            f"{name}: {task.state if task else None}"
            for name, task in found
            if task is None or task.state != "review"
        ]

    try:
        wait_for(lambda: not undone(), 300, "every task is in review")
    except AssertionError:
        left = undone()
        raise AssertionError(f"seed {SEED}: {left}\n{site.story('demo.' + left[0].split(':')[0])}") from None

    for name in names:
        task = site.record(f"demo.{name}")
        assert task is not None and task.delivery is not None
        assert git("rev-parse", task.branch, cwd=site.remote) == task.delivery.pushed_head, name
        assert pushes(site, task.branch) == 1, f"seed {SEED}: {name} was pushed again"
        assert git("show", f"{task.branch}:work.txt", cwd=site.remote) == task.branch, name
        assert git("rev-list", "--count", f"main..{task.branch}", cwd=site.remote) == "1", name
        assert (site.root.requests / f"demo.{name}.md").exists(), name
    branches = git("for-each-ref", "--format=%(refname:short)", "refs/heads", cwd=site.remote).split()
    assert len(branches) == TASKS + 1
    wait_for(lambda: not list(site.root.quarantine.iterdir()), what="no look at the branches is under way")
    reliability.record(
        "random-faults",
        WHAT,
        "each is in review, pushed exactly once, with its own work",
        lost=0,
        doubled=0,
        faults=sum(trouble.done.values()),
        fault_seconds=FAULT_SECONDS,
    )
