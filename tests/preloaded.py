"""Both programs without the time that a start takes: a process that has imported everything forks for each run.

Most tests run the programs many times, and a start costs a hundred times what a fork does. What is run is the
same: `main`, in a process of its own, with its own streams, environment and end, and its own words in `/proc`. The
start itself is tested where the programs are run by their names: `test_cli_program`, `test_demo`,
`test_local_driver`, wherever a site starts `cloud-code` `through` another program.
"""

import atexit
import contextlib
import ctypes
import functools
import gc
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, NoReturn

EVERYTHING = (
    "agent_daemon.cli",
    "supervisor.app",
    "supervisor.forges.github.app",
    "supervisor.forges.github.forge",
    "supervisor.forges.gitlab.forge",
    "supervisor.forges.gitlab.push_token",
    "supervisor.forges.webhooks",
    "supervisor.survey",
    "supervisor.view",
    "rich.live",
    "rich.table",
)
PROGRAMS = {"cloud-code": "supervisor.cli.main", "agent-daemon": "agent_daemon.cli"}
# As long as any command line, which is written in its place.
ROOM = "-" * 4096
_READY = b"ready"


class Started:
    """A program that was started, to be handled as a `subprocess.Popen` is."""

    def __init__(self, arguments: Sequence[str], answers: socket.socket) -> None:
        self.args, self._answers = arguments, answers
        self.returncode: int | None = None
        self.pid = self._receive()

    def _receive(self) -> int:
        data = self._answers.recv(64)
        assert data, "the process that forks has died"
        return int(data)

    def poll(self) -> int | None:
        if self.returncode is None and select.select([self._answers], [], [], 0)[0]:
            self.returncode = self._receive()
            self._answers.close()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None and not select.select([self._answers], [], [], timeout)[0]:
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        code = self.poll()
        assert code is not None
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):  # it has ended in this moment
                os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def run(
    arguments: Sequence[str],
    environment: Mapping[str, str],
    folder: Path,
    timeout_seconds: float,
    *,
    program: str = "cloud-code",
    stdin: str = "",
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end, with all that it says."""
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        given.write(stdin.encode())
        given.seek(0)
        started = start(arguments, environment, output, errors, folder=folder, program=program, given=given)
        try:
            code = started.wait(timeout=timeout_seconds)
        finally:
            started.kill()
        for file in (output, errors):
            file.seek(0)
        texts = [file.read().decode() for file in (output, errors)]
    return subprocess.CompletedProcess(arguments, code, *texts)


def start(
    arguments: Sequence[str],
    environment: Mapping[str, str],
    output: IO[bytes] | int,
    errors: IO[bytes] | int,
    *,
    folder: Path | None = None,
    new_session: bool = False,
    program: str = "cloud-code",
    given: IO[bytes] | None = None,
) -> Started:
    """Run a program with these arguments in a folder, with `given`, or nothing, on its standard input."""
    # By these words the janitor finds what a killed test left.
    shown = [sys.executable, "-m", PROGRAMS[program].partition(".")[0], *arguments]
    request = {"program": program, "arguments": arguments, "shown": shown, "new": new_session}
    files = [file if isinstance(file, int) else file.fileno() for file in (output, errors)]
    place = {"folder": str(folder or Path.cwd()), "environment": dict(environment)}
    return _ask(_server(), request | place, files, given)


def _ask(
    server: socket.socket, request: dict[str, Any], files: Sequence[int], given: IO[bytes] | None = None
) -> Started:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs, open(os.devnull, "rb") as nothing:
        all_files = [(given or nothing).fileno(), *files, theirs.fileno()]
        socket.send_fds(server, [json.dumps(request).encode()], all_files)
        return Started(request["arguments"], ours)


@functools.cache
def _server() -> socket.socket:
    """The process that forks: one for each process of pytest, with which it ends."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    atexit.register(ours.close)
    with theirs:
        command = [sys.executable, "-m", __name__, str(theirs.fileno()), ROOM]
        server = subprocess.Popen(command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL)
        server.returncode = 0  # nobody awaits it
    assert ours.recv(16) == _READY, "the process that forks has died at its start"
    return ours


# --- the process that forks -----------------------------------------------------------------------------------


def serve(requests: socket.socket) -> str:
    """Fork for each request and tell how it ended. Returns in those that are forked, only: the program to be."""
    daemons, asked = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    _start_daemons_by(daemons)
    waker, woken = socket.socketpair()
    for end in (waker, woken):
        end.setblocking(False)
    signal.set_wakeup_fd(waker.fileno())
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    running: dict[int, socket.socket] = {}
    requests.send(_READY)
    while True:
        ready, _, _ = select.select([woken, requests, asked], [], [])
        if ready[0] is woken:
            _tell_ends(woken, running)
            continue
        data, files, _, _ = socket.recv_fds(ready[0], 1024 * 1024, 4)
        if not data:
            os._exit(0)
        pid = os.fork()
        if pid == 0:
            request = json.loads(data)
            _become(request, files, [requests, asked, waker, woken, *running.values()])
            return str(request["program"])
        answers = running[pid] = socket.socket(fileno=files[3])
        answers.send(str(pid).encode())
        for file in files[:3]:
            os.close(file)


def _tell_ends(woken: socket.socket, running: dict[int, socket.socket]) -> None:
    with contextlib.suppress(BlockingIOError):
        while woken.recv(64):
            continue
    with contextlib.suppress(ChildProcessError):
        while (found := os.waitpid(-1, os.WNOHANG))[0]:
            with running.pop(found[0]) as answers, contextlib.suppress(OSError):
                answers.send(str(os.waitstatus_to_exitcode(found[1])).encode())


def _become(request: dict[str, Any], files: list[int], foreign: list[socket.socket]) -> None:
    """Be as if started by itself."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for end in foreign:
        end.close()
    if request["new"]:
        os.setsid()
    for number, file in enumerate(files[:3]):
        os.dup2(file, number)
    for file in files:
        os.close(file)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.argv = [request["program"], *request["arguments"]]
    _show_words(request["shown"])


def _start_daemons_by(server: socket.socket) -> None:
    """What this process forks starts daemons by asking it for another fork."""
    from supervisor.workstations import local

    really = local.start_process

    def start_process(
        argv: list[str], folder: Path, environment: Mapping[str, str], output: IO[bytes]
    ) -> subprocess.Popen[bytes] | Started:
        if argv[1:3] != ["-m", "agent_daemon"]:
            return really(argv, folder, environment, output)
        request = {"program": "agent-daemon", "arguments": argv[3:], "shown": argv, "new": True}
        place = {"folder": str(folder), "environment": dict(environment)}
        return _ask(server, request | place, [output.fileno()] * 2)

    local.start_process = start_process  # type: ignore[assignment]


def _show_words(words: list[str]) -> None:
    """Have /proc/PID/cmdline show these; those of this process, where they lie, are the longer ones."""
    begin, end = (int(field) for field in Path("/proc/self/stat").read_text().rpartition(")")[2].split()[45:47])
    line = "\0".join(words).encode()
    assert len(line) < end - begin
    ctypes.memmove(begin, line.ljust(end - begin, b"\0"), end - begin)


def _run(program: Callable[[], object]) -> NoReturn:
    """To its end, without the time that it takes Python to clear all that was imported."""
    code = 1
    try:
        program()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except Exception:
        sys.excepthook(*sys.exc_info())
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.flush()
    os._exit(code)


def main() -> None:
    from agent_daemon.prompt import own_templates
    from supervisor.cli.main import COMMANDS

    for module in (*EVERYTHING, *(entry.place.partition(":")[0] for entry in COMMANDS.values())):
        importlib.import_module(module)
    for name in own_templates().list_templates(extensions=["j2"]):
        own_templates().get_template(name)
    gc.freeze()
    gc.set_threshold(50_000)  # as the programs do
    program = PROGRAMS[serve(socket.socket(fileno=int(sys.argv[1])))]
    _run(importlib.import_module(program).main)


if __name__ == "__main__":
    main()
