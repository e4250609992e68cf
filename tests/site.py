"""A whole installation in a temporary folder: a remote, a root, and the real programs run against it."""

import atexit
import contextlib
import fnmatch
import functools
import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import yaml

from agent_daemon.processes import ProcessIdentity, is_alive, sweep
from agent_daemon.protocol.paths import Root
from supervisor.core.record import TaskRecord
from supervisor.records import RecordStore
from tests import preloaded
from tests.janitor import processes_of

Supervisor = subprocess.Popen[bytes] | preloaded.Started
T = TypeVar("T")

# For what comes within a second or two where nothing else runs. It costs nothing where all goes well.
PATIENCE_SECONDS = 100

FAKES = Path(__file__).parent / "fakes"
GIT_ENVIRONMENT = {
    "PATH": os.environ["PATH"],
    "HOME": "/nonexistent",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_AUTHOR_NAME": "Ada",
    "GIT_AUTHOR_EMAIL": "ada@example.org",
    "GIT_COMMITTER_NAME": "Ada",
    "GIT_COMMITTER_EMAIL": "ada@example.org",
}


def git(*arguments: str, cwd: Path) -> str:
    """Run git as a person would, outside of everything that is tested."""
    done = subprocess.run(
        ["git", *arguments], cwd=cwd, env=GIT_ENVIRONMENT, check=True, capture_output=True, text=True, timeout=60
    )
    return done.stdout.strip()


def make_remote(path: Path, files: dict[str, str]) -> Path:
    """A bare repository whose branch `main` has one commit with these files."""
    path.parent.mkdir(parents=True, exist_ok=True)
    made = _made_remote(tuple(sorted(files.items())))
    shutil.copytree(made, path)
    shutil.copytree(made.with_name("work"), path.with_name(path.name + ".work"))
    return path


@functools.cache
def _made_remote(files: tuple[tuple[str, str], ...]) -> Path:
    """One to copy: most tests begin with the same."""
    folder = Path(tempfile.mkdtemp(prefix="cloud-code-remote-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    work, bare = folder / "work", folder / "bare"
    work.mkdir()
    git("init", "--quiet", "--initial-branch=main", "--template=", cwd=work)
    for name, text in files:
        (work / name).parent.mkdir(parents=True, exist_ok=True)
        (work / name).write_text(text)
    git("add", "--all", cwd=work)
    git("commit", "--quiet", "--message=Start", cwd=work)
    git("clone", "--quiet", "--bare", "--template=", str(work), str(bare), cwd=work)
    git("remote", "remove", "origin", cwd=bare)
    (bare / "hooks").mkdir()
    (bare / "info").mkdir()
    return bare


def wait_for(condition: Callable[[], T], timeout_seconds: float = PATIENCE_SECONDS, what: str = "") -> T:
    """The first true value of `condition`; fails the test when it does not come in time."""
    deadline, pause = time.monotonic() + timeout_seconds, 0.01
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(pause)
        pause = min(pause * 1.1, 0.05)  # to look costs time of those that are waited for
    raise AssertionError(f"not within {timeout_seconds} s: {what or condition}")


def free_port() -> int:
    """A port of this machine that nobody listens on, and that is given to nobody who asks for any.

    Those are above 32767: such a one, let go again, may be another test's in the next moment.
    """
    for number in range(2000):
        port = 20_000 + (os.getpid() * 7 + next(_PORTS) + number) % 12_000
        with contextlib.suppress(OSError), socket.socket() as tried:
            tried.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no port is free")


_PORTS = itertools.count()


def at_best(take: Callable[[], float], limit: float, tries: int = 5) -> float:
    """The shortest of the times that it takes: other work on the machine may disturb any of the tries."""
    best = take()
    while best >= limit and (tries := tries - 1):
        best = min(best, take())
    return best


def files_below(folder: Path, name: str = "*") -> list[Path]:
    """Every regular file of such a name, also while others come and go there, which `Path.rglob` does not bear."""
    found = [Path(place, each) for place, _, files in os.walk(folder) for each in fnmatch.filter(files, name)]
    return [path for path in found if path.is_file() and not path.is_symlink()]


def bytes_below(folder: Path) -> Iterator[tuple[Path, bytes]]:
    """Every regular file with what is in it; one that goes in this moment is passed over."""
    for path in files_below(folder):
        with contextlib.suppress(FileNotFoundError):
            yield path, path.read_bytes()


class Pace:
    """How many times longer than alone a program takes meanwhile, at the worst: a little is computed and timed."""

    def __init__(self) -> None:
        self.slowest, self._over = 1.0, threading.Event()
        self._thread = threading.Thread(target=self._measure, daemon=True)
        self._thread.start()

    def _measure(self) -> None:
        while not self._over.wait(1):
            began, used = time.monotonic(), time.thread_time()
            while time.thread_time() - used < 0.03:
                continue
            self.slowest = max(self.slowest, (time.monotonic() - began) / 0.03)

    def stop(self) -> None:
        self._over.set()
        self._thread.join()


@dataclass
class Site:
    """One root with its remote. `close` ends every process that was started for it."""

    folder: Path
    files: dict[str, str] = field(default_factory=lambda: {"calc.py": "def add(a, b):\n    return a - b\n"})
    environment: dict[str, str] = field(default_factory=dict)
    supervisors: list[Supervisor] = field(default_factory=list)
    _records: dict[str, tuple[tuple[int, ...], TaskRecord]] = field(default_factory=dict)
    _events: tuple[tuple[tuple[int, int], ...], list[dict[str, Any]]] = ((), [])

    def __post_init__(self) -> None:
        self.remote = make_remote(self.folder / "remote.git", self.files)
        self.root = Root(self.folder / "root")
        self.root.path.mkdir()
        self.root.tasks.mkdir()
        self.store = RecordStore(self.root)
        self.config: dict[str, Any] = {
            "version": 1,
            "projects": {
                "demo": {
                    "repository": str(self.remote),
                    "base_branch": "main",
                    "poll_interval_seconds": 1,
                    "limits": {"max_failures": 2},
                }
            },
            "workstations": {"backend": {"driver": "local", "count": 1, "clis": ["scripted"]}},
            "clis": {"scripted": {"adapter": "command", "argv": ["true"]}},
            "retry": {"first_seconds": 0.2, "factor": 1, "cap_seconds": 1},
            "cleanup": {"worktree_days": 0},
            "timing": {
                "report_interval_seconds": 0.2,
                "deletion_grace_seconds": 2,
                "revive_after_seconds": [0, 0.2, 1, 3],
            },
        }

    def write_config(self) -> None:
        plain = json.loads(json.dumps(self.config))  # (nothing in it twice, which YAML would write as an alias)
        self.root.config.write_text(yaml.safe_dump(plain, sort_keys=False))

    def use_script(self, *steps: str) -> None:
        """The coding CLI is a shell script with these lines, run in the worktree, its prompt on stdin."""
        script = self.folder / "agent.sh"
        script.write_text("set -e\n" + "\n".join(steps) + "\n")
        self.config["clis"]["scripted"]["argv"] = ["bash", str(script)]

    def write_task(self, stem: str, **fields: Any) -> Path:
        path = self.root.tasks / f"{stem}.yaml"
        fresh = path.with_name(f".{stem}.new")
        fresh.write_text(yaml.safe_dump({"title": f"Task {stem}"} | fields, sort_keys=False))
        fresh.replace(path)
        return path

    def cli(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """The real command line."""
        words = ["--root", str(self.root.path), *arguments]
        done = preloaded.run(words, self._environment(), Path.cwd(), PATIENCE_SECONDS)
        assert not check or done.returncode == 0, f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def _environment(self) -> dict[str, str]:
        home = self.folder / "home"
        home.mkdir(exist_ok=True)
        return {"PATH": os.environ["PATH"], "HOME": str(home), "LANG": "C.UTF-8", **self.environment}

    def start(self, *, through: Sequence[str] = (), **environment: str) -> Supervisor:
        """Start `cloud-code run`, `through` another program if wanted; its output goes to `supervisor.log`."""
        words = ["--root", str(self.root.path), "run"]
        wanted = self._environment() | environment
        process: Supervisor
        with (self.folder / "supervisor.log").open("ab") as log:
            if through or any(name.startswith("PYTHON") for name in environment):
                command = [*through, sys.executable, "-m", "supervisor", *words]
                process = subprocess.Popen(command, env=wanted, stdout=log, stderr=log, start_new_session=True)
            else:
                process = preloaded.start(words, wanted, log, log, new_session=True)
        self.supervisors.append(process)
        return process

    def record(self, task_id: str) -> TaskRecord | None:
        """The record, live or archived, as it lies on disk now; read again only when it is another file."""
        for folder, read in (
            (self.root.records, self.store.read),
            (self.root.archive, self.store.read_archived),
        ):
            try:
                found = os.stat(folder / f"{task_id}.yaml")
                mark = (found.st_ino, found.st_mtime_ns, found.st_size)
                known = self._records.get(task_id)
                if known is None or known[0] != mark:
                    known = self._records[task_id] = (mark, read(task_id))
                return known[1]
            except FileNotFoundError:
                continue
        return None

    def wait_state(self, task_id: str, *states: str, timeout_seconds: float = PATIENCE_SECONDS) -> TaskRecord:
        def reached() -> TaskRecord | None:
            task = self.record(task_id)
            return task if task is not None and task.state.value in states else None

        try:
            return wait_for(reached, timeout_seconds, f"{task_id} in {states}")
        except AssertionError:
            raise AssertionError(f"{task_id} is not in {states}:\n{self.story(task_id)}") from None

    def story(self, task_id: str) -> str:
        """What one wants to see when a test fails."""
        task = self.record(task_id)
        parts = [task.model_dump_json(indent=1, exclude_defaults=True) if task else "no record"]
        for path in (self.folder / "supervisor.log", *self.root.workstations.glob("*.log")):
            if path.exists():
                parts.append(f"--- {path.name}\n" + "\n".join(path.read_text(errors="replace").splitlines()[-60:]))
        return "\n".join(parts)

    def events(self, *names: str) -> list[dict[str, Any]]:
        from supervisor.events import event_files, read_events

        mark = tuple((found.st_ino, found.st_size) for found in map(os.stat, event_files(self.root.events)))
        if self._events[0] != mark:
            self._events = (mark, list(read_events(self.root.events)))
        return [e for e in self._events[1] if not names or e["event"] in names]

    def daemons(self) -> list[ProcessIdentity]:
        """The daemons that the supervisor has written down and that live."""
        found = []
        for path in self.root.workstations.glob("*.yaml"):
            try:
                data = yaml.safe_load(path.read_text())
            except FileNotFoundError:  # it has gone in this moment
                continue
            if data.get("pid"):
                identity = ProcessIdentity(
                    pid=int(data["pid"]), start_ticks=int(data["start_ticks"]), boot_id=str(data["boot_id"])
                )
                if is_alive(identity):
                    found.append(identity)
        return found

    def signal_daemons(self, number: signal.Signals, workstation: str = "") -> None:
        """To each daemon that lives, of this workstation only if one is named; one may end in this moment."""
        for daemon in self.daemons():
            with contextlib.suppress(ProcessLookupError, FileNotFoundError):
                if workstation.encode() in Path(f"/proc/{daemon.pid}/cmdline").read_bytes():
                    os.kill(daemon.pid, number)

    def stop_supervisors(self, number: signal.Signals = signal.SIGTERM) -> None:
        for process in self.supervisors:
            if process.poll() is None:
                process.send_signal(number)
                process.wait(timeout=PATIENCE_SECONDS)
        self.supervisors.clear()

    def close(self) -> None:
        """End the supervisors, then the daemons with all they started."""
        self.stop_supervisors(signal.SIGKILL)
        sweep(lambda: processes_of(self.folder), grace_seconds=3)
