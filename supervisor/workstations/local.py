"""The driver `local`: the agent daemon as a process of this machine. It isolates nothing: for trying out.

The daemon is started in a session of its own, so that it outlives the supervisor; it is found again by
process id *and* start time, or by its command line when the supervisor died before it could write those down.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, ClassVar

from agent_daemon.processes import ProcessIdentity, descendants, identify, is_alive, process_table, sweep
from agent_daemon.protocol.paths import Root
from agent_daemon.streams import put_aside_full
from supervisor.core.chores import Chore, Condition
from supervisor.core.decision import Event
from supervisor.core.settings import MaintenanceSettings
from supervisor.errors import CloudCodeError
from supervisor.ports import DaemonHandle, Entry, Use
from supervisor.workstations.tending import TEND_SECONDS, not_tended, tend_arguments, tended
from supervisor.workstations.usage import use_of_family

# What a daemon needs of the supervisor's environment; everything else stays outside.
PASSED_ENVIRONMENT = (
    "PATH",
    "LANG",
    "LC_ALL",
    "TZ",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "CLOUD_CODE_FAILPOINT",
)
# A daemon's log is put aside at its next start once it is this large.
LOG_BYTES = 10 * 1024 * 1024
# The daemon needs up to ten seconds to be sure that nothing of its coding CLI is left.
STOP_SECONDS = 12
SALVAGE_SECONDS = 900


class NotDoneError(CloudCodeError):
    """What a one-shot could not do now; the next one may: a daemon has ended, there is room on the disk again."""

    retryable = True


class LocalWorkstations:
    """Starts, finds and stops agent daemons as plain processes."""

    # Those of this process, whichever configuration started them.
    _children: ClassVar[dict[int, subprocess.Popen[bytes]]] = {}

    def __init__(self, root: Root) -> None:
        self._root = root
        self._stand_ins: set[subprocess.Popen[bytes]] = set()
        self._interrupted = False

    def start(self, name: str, kind: str, environment: Mapping[str, str]) -> DaemonHandle:
        """Start the daemon; raises CloudCodeError under systemd, whose control group would end it."""
        refuse_under_service(os.environ, own_cgroup())
        argv = daemon_argv(self._root, name, kind)
        log = self._root.workstations / f"{name}.log"
        put_aside_full(log, LOG_BYTES)
        with log.open("ab") as output:
            process = start_process(argv, self._root.path, self._environment(name) | dict(environment), output)
        self._children[process.pid] = process
        identity = identify(process.pid)
        if identity is None:
            raise CloudCodeError(
                "E_DAEMON_START", f"The daemon of {name} ended at once.", f"Its output is in {log}."
            )
        return DaemonHandle(pid=identity.pid, start_ticks=identity.start_ticks, boot_id=identity.boot_id)

    def find(self, name: str) -> DaemonHandle | None:
        wanted = daemon_argv(self._root, name, "")[1:-1]
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and _argv(entry)[1 : len(wanted) + 1] == wanted:
                identity = identify(int(entry.name))
                if identity is not None:
                    return DaemonHandle(
                        pid=identity.pid, start_ticks=identity.start_ticks, boot_id=identity.boot_id
                    )
        return None

    def alive(self, handle: DaemonHandle) -> bool:
        living = is_alive(_identity(handle))  # a zombie is not
        if not living:
            self._reap()
        return living

    def stop(self, handle: DaemonHandle) -> None:
        """Ask the daemon to end, which ends its coding CLI first; then make sure of both."""
        daemon = _identity(handle)
        if not is_alive(daemon):
            self._reap()
            return
        family = _Family(daemon)
        family.look()
        with contextlib.suppress(ProcessLookupError):
            os.kill(daemon.pid, signal.SIGTERM)
            os.kill(daemon.pid, signal.SIGCONT)  # one that was stopped can end in order
        deadline = time.monotonic() + STOP_SECONDS
        while self.alive(handle) and time.monotonic() < deadline:
            time.sleep(0.05)
        sweep(family.look, grace_seconds=0.5)
        self._reap()

    def salvage(self, name: str, task_id: str, attempt: int) -> str:
        """Bundle and report what an attempt left behind; should this process be killed, that one ends too."""
        argv = [sys.executable, "-m", "agent_daemon", "salvage", "--tied", "--workstation", name]
        argv += ["--root", str(self._root.path), "--task", task_id, "--attempt", str(attempt)]
        try:
            return _outcome(*self._stand_in(name, argv, SALVAGE_SECONDS))
        except subprocess.TimeoutExpired:
            message = f"bundling took more than {SALVAGE_SECONDS} s"
            raise NotDoneError("E_NOT_BUNDLED", message) from None

    def _stand_in(self, name: str, argv: list[str], seconds: float) -> tuple[int, bytes, bytes]:
        """How it ended, and what it said; E_INTERRUPTED, and TimeoutExpired once it is ended."""
        if self._interrupted:
            raise NotDoneError("E_INTERRUPTED", "the supervisor ends; this is begun anew after its next start")
        read_end, write_end = os.pipe()  # (a salvage ends with this process)
        try:
            process = subprocess.Popen(
                argv,
                cwd=self._root.path,
                env=self._environment(name),
                stdin=read_end,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
            self._stand_ins.add(process)
            try:
                output, errors = process.communicate(timeout=seconds)
            except subprocess.TimeoutExpired:
                family = [process.pid, *descendants(process.pid)]
                known = [identity for pid in family if (identity := identify(pid)) is not None]
                sweep(lambda: [one.pid for one in known if is_alive(one)], grace_seconds=0.5)
                process.communicate()
                raise
            finally:
                self._stand_ins.discard(process)
            return process.returncode, output, errors
        finally:
            os.close(read_end)
            os.close(write_end)

    def upkeep(
        self, name: str, kind: str, chore: Chore, settings: MaintenanceSettings, say: Callable[[str], None]
    ) -> Mapping[str, object]:
        """Its caches are kept within their limit; its tools are those of this machine. E_NOT_TENDED."""
        argv = [sys.executable, "-m", "agent_daemon", *tend_arguments(self._root, name, settings.cache_bytes)]
        try:
            code, output, errors = self._stand_in(name, argv, TEND_SECONDS)
        except subprocess.TimeoutExpired:
            raise CloudCodeError("E_NOT_TENDED", f"It took more than {TEND_SECONDS} s.") from None
        if code != 0:
            raise not_tended(errors.decode(errors="replace"))
        return tended(output.decode(errors="replace"))

    def use(self, name: str) -> Use | None:
        found = self.find(name)
        return use_of_family(found.pid) if found is not None else None

    def condition(self, name: str, kind: str, handle: DaemonHandle) -> Condition | None:
        """It is made of nothing but this machine."""
        return None

    def away(self) -> CloudCodeError | None:
        """Processes of this machine can always be seen."""
        return None

    def place(self) -> Path | None:
        """They have none but the root."""
        return None

    def interrupt(self) -> None:
        """They are ended as if killed; what they do is safe against that."""
        self._interrupted = True
        for process in list(self._stand_ins):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)

    def close(self) -> None:
        """They are not followed."""

    def look(self) -> Event | None:
        """There is nothing beside them."""
        return None

    def log(self, name: str, follow: bool) -> Entry | None:
        """It is a file."""
        return None

    def enter(self, name: str, command: tuple[str, ...], *, terminal: bool = True) -> Entry:
        """As the agent sees it: the workstation's own home, the daemon's environment; nothing is isolated."""
        environment = self._environment(name) | {"TERM": os.environ.get("TERM", "dumb")}
        shell = (os.environ.get("SHELL") or "/bin/sh",)
        return Entry(argv=command or shell, cwd=self._root.workspace(name), environment=environment)

    def variables(self, name: str) -> Mapping[str, str] | None:
        """What the running daemon was started with, which may be another environment than ours."""
        handle = self.find(name)
        try:
            data = Path(f"/proc/{handle.pid}/environ").read_bytes() if handle is not None else b""
        except OSError:
            return None
        pairs = (entry.partition("=") for entry in data.decode(errors="surrogateescape").split("\0"))
        return {key: value for key, _, value in pairs if key} or None

    def _environment(self, name: str) -> dict[str, str]:
        home = self._root.run / name / "home"
        home.mkdir(parents=True, exist_ok=True)
        return {key: os.environ[key] for key in PASSED_ENVIRONMENT if key in os.environ} | {"HOME": str(home)}

    def _reap(self) -> None:
        """Collect ended children of this supervisor, which would stay zombies otherwise."""
        for pid, child in list(self._children.items()):
            if child.poll() is not None:
                self._children.pop(pid, None)


def start_process(
    argv: list[str], folder: Path, environment: Mapping[str, str], output: IO[bytes]
) -> "subprocess.Popen[bytes]":
    """In a session of its own, without input; what it says goes to `output`."""
    return subprocess.Popen(
        argv,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        start_new_session=True,
    )


class _Family:
    """A daemon and everything that it or its programs start, also while they are being ended.

    Noted at each look, because what is orphaned can no longer be traced to its parent.
    """

    def __init__(self, daemon: ProcessIdentity) -> None:
        self._known = {daemon}

    def look(self) -> list[int]:
        table = process_table()
        for one in [one for one in self._known if is_alive(one)]:
            found = (identify(pid) for pid in descendants(one.pid, table))
            self._known.update(identity for identity in found if identity is not None)
        return [one.pid for one in self._known if is_alive(one)]


def daemon_argv(root: Root, name: str, kind: str) -> list[str]:
    return [
        sys.executable,
        "-m",
        "agent_daemon",
        "--workstation",
        name,
        "--root",
        str(root.path),
        "--type",
        kind,
    ]


def _outcome(code: int, output: bytes, errors: bytes) -> str:
    """The sentence that a one-shot ended with; CloudCodeError where it could not do what was asked."""
    if code == 0:
        return output.decode(errors="replace").strip()[:1000]
    raise not_done(code, errors.decode(errors="replace"))


def not_done(exit_code: int | None, errors: str) -> NotDoneError:
    """Why a one-shot could not do what was asked, by what it ended with and said last."""
    said = errors.strip().rpartition("\n")[2].removeprefix("agent-daemon: ").removeprefix("E_NOT_BUNDLED: ")
    code = "E_DAEMON_RUNS" if exit_code == os.EX_TEMPFAIL else "E_NOT_BUNDLED"
    return NotDoneError(code, said[:1000] or "it ended without a word")


def _identity(handle: DaemonHandle) -> ProcessIdentity:
    return ProcessIdentity(pid=handle.pid, start_ticks=handle.start_ticks, boot_id=handle.boot_id)


def _argv(process: Path) -> list[str]:
    try:
        return process.joinpath("cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return []


def own_cgroup() -> str:
    """What the kernel says of the control groups of this process; empty where it says nothing."""
    try:
        return Path("/proc/self/cgroup").read_text()
    except OSError:
        return ""


def is_service(environment: Mapping[str, str], cgroup: str) -> bool:
    """Whether this process is part of a systemd *service* (a login session's scope is none)."""
    if "INVOCATION_ID" not in environment:
        return False
    leaves = (line.rsplit("/", 1)[-1] for line in cgroup.splitlines())
    return any(leaf.endswith(".service") and not leaf.startswith("user@") for leaf in leaves)


def refuse_under_service(environment: Mapping[str, str], cgroup: str) -> None:
    if is_service(environment, cgroup):
        raise CloudCodeError(
            "E_LOCAL_UNDER_SERVICE",
            "The workstation driver `local` cannot be used by a systemd service: every stop of the service "
            "would end the agents with it.",
            "Use `driver: docker`, or run `cloud-code run` in a terminal (tmux, screen).",
        )
