"""`cloud-code` without the time that its start takes: a process that has imported everything forks for each run.

Most tests run the program many times, and a start costs a hundred times what a fork does. What is run is the
same: `main`, in a process of its own, with its own streams, environment and end. The start itself is tested where
the program is run by its name: `test_cli_program`, `test_demo`, wherever a site starts it `through` another one.
"""

import atexit
import contextlib
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
from collections.abc import Mapping, Sequence
from typing import IO, Any

EVERYTHING = ("supervisor.app", "supervisor.view", "supervisor.survey", "rich.live", "rich.table")


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
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def start(
    arguments: Sequence[str],
    environment: Mapping[str, str],
    output: IO[bytes] | int,
    errors: IO[bytes] | int,
    *,
    new_session: bool = False,
) -> Started:
    """Run `cloud-code` with these arguments in this folder; nothing stands on its standard input."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    request = {"arguments": arguments, "environment": dict(environment), "folder": os.getcwd(), "new": new_session}
    files = [file if isinstance(file, int) else file.fileno() for file in (output, errors)]
    with theirs, open(os.devnull, "rb") as nothing:
        socket.send_fds(_server(), [json.dumps(request).encode()], [nothing.fileno(), *files, theirs.fileno()])
        return Started(arguments, ours)


@functools.cache
def _server() -> socket.socket:
    """The process that forks: one for each process of pytest, with which it ends."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    atexit.register(ours.close)
    with theirs:
        command = [sys.executable, "-m", __name__, str(theirs.fileno())]
        server = subprocess.Popen(command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL)
        server.returncode = 0  # nobody awaits it
    return ours


# --- the process that forks -----------------------------------------------------------------------------------


def serve(requests: socket.socket) -> None:
    """Fork for each request and tell how it ended. Returns in those that are forked, only."""
    waker, woken = socket.socketpair()
    for end in (waker, woken):
        end.setblocking(False)
    signal.set_wakeup_fd(waker.fileno())
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    running: dict[int, socket.socket] = {}
    while True:
        ready, _, _ = select.select([requests, woken], [], [])
        if woken in ready:
            _tell_ends(woken, running)
        if requests not in ready:
            continue
        data, files, _, _ = socket.recv_fds(requests, 1024 * 1024, 4)
        if not data:
            os._exit(0)
        pid = os.fork()
        if pid == 0:
            _become(json.loads(data), files, [requests, waker, woken, *running.values()])
            return
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
    sys.argv = ["cloud-code", *request["arguments"]]


def main() -> None:
    from supervisor.cli.main import COMMANDS
    from supervisor.cli.main import main as program

    for module in (*EVERYTHING, *(entry.place.partition(":")[0] for entry in COMMANDS.values())):
        importlib.import_module(module)
    gc.freeze()
    serve(socket.socket(fileno=int(sys.argv[1])))
    program()


if __name__ == "__main__":
    main()
