"""The process of the egress proxy: a gate for each policy, opened, changed and shut as the files say."""

import asyncio
import contextlib
import os
import signal
import socket
import stat
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

from loguru import logger

from agent_daemon.processes import allow_many_files
from agent_daemon.protocol.errors import ProtocolError
from agent_daemon.protocol.files import Signature, make_folder, signature
from agent_daemon.protocol.paths import Root
from supervisor.core.egress import Policy
from supervisor.core.refusals import Refusals
from supervisor.egress.dial import Dialer
from supervisor.egress.files import SOCKET, RefusalLog, policy_names, read_policy
from supervisor.egress.proxy import MAX_CONNECTIONS, Gate

LOOK_SECONDS = 0.3
# Without a workstation that needs it a proxy that nobody looks after ends itself.
IDLE_SECONDS = 30.0
_BACKLOG = 256
# For names that are being resolved: no workstation can keep all of them busy (MAX_DIALS).
_RESOLVERS = 64


class _Open:
    """A gate that is open: its listener, which policy it goes by, and what it has refused."""

    def __init__(self, gate: Gate, server: asyncio.Server, log: RefusalLog, refused: Refusals) -> None:
        self.gate, self.server, self.log, self.refused = gate, server, log, refused
        self.seen: Signature | None = None


class Egress:
    """Serves the workstations of one root until stopped. `stays`: also while there is none."""

    def __init__(self, root: Root, dialer: Dialer | None = None, *, stays: bool = False) -> None:
        self._root, self._dialer, self._stays = root, dialer or Dialer(), stays
        self._open: dict[str, _Open] = {}
        self._needed_at = time.monotonic()
        self._failing: dict[str, str] = {}
        self._stop = asyncio.Event()

    async def run(self) -> None:
        """Until SIGTERM or SIGINT, or there is nothing left to do."""
        loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(_RESOLVERS, "resolver"))
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        try:
            while not self._stop.is_set() and self._has_work():
                await self.look()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._stop.wait(), LOOK_SECONDS)
        finally:
            for name in list(self._open):
                await self._shut(name)

    def _has_work(self) -> bool:
        if not self._root.egress.is_dir():
            return False  # the root is gone
        return self._stays or time.monotonic() - self._needed_at < IDLE_SECONDS

    async def look(self) -> None:
        """Bring the gates to what the files say now, and write down what was refused."""
        wanted = policy_names(self._root)
        for name in wanted:
            with self._told(f"the gate of {name}"):
                if name not in self._open:
                    self._open[name] = await self._make(name)
                self._read(name, self._open[name])
        for name in [name for name in self._open if name not in wanted]:
            await self._shut(name)
        if wanted:
            self._needed_at = time.monotonic()
        for name, opened in self._open.items():
            with self._told(f"what was refused to {name}"):
                self._write_refused(opened)

    async def _make(self, name: str) -> _Open:
        refused = Refusals()
        most = min(MAX_CONNECTIONS, max(16, allow_many_files() // (4 * (len(self._open) + 1))))
        gate = Gate(self._dialer, lambda one: refused.note(one, time.monotonic()), max_connections=most)
        folder = self._root.gate(name)
        make_folder(folder, 0o700)
        server = await asyncio.start_unix_server(gate.serve, sock=_listener(folder), backlog=_BACKLOG)
        logger.info("the gate of {} is open", name)
        return _Open(gate, server, RefusalLog(self._root.egress_refused(name)), refused)

    def _read(self, name: str, opened: _Open) -> None:
        """The policy, if it is not as it was; one that cannot be read allows nothing."""
        found = signature(self._root.egress_policy(name))
        if found is None or found == opened.seen:
            return
        try:
            policy = read_policy(self._root, name)
            logger.info("{} may connect to {}", name, ", ".join(sorted(map(str, policy.allow))) or "nothing")
        except (ProtocolError, ValueError) as error:
            policy = Policy()
            logger.error("the policy of {} cannot be used, it connects to nothing: {}", name, error)
        opened.seen = found
        opened.gate.change(policy)

    async def _shut(self, name: str) -> None:
        opened = self._open.pop(name)
        opened.server.close()
        await opened.gate.shut()
        with contextlib.suppress(OSError):
            self._write_refused(opened)
        logger.info("the gate of {} is shut", name)

    @contextlib.contextmanager
    def _told(self, what: str) -> Iterator[None]:
        """A disk that refuses, or a folder that cannot be used, keeps no other workstation from its gate.

        Each is looked at three times a second: the same error is told once, until it is over.
        """
        try:
            yield
            self._failing.pop(what, None)
        except OSError as error:
            if self._failing.get(what) != str(error):
                self._failing[what] = str(error)
                logger.error("{}: {}", what, error)

    @staticmethod
    def _write_refused(opened: _Open) -> None:
        for told in opened.refused.due(time.monotonic()):
            opened.log.write(told, datetime.now(UTC) - timedelta(seconds=told.age_seconds))


def _listener(folder: Path) -> socket.socket:
    """The socket in a folder, in the place of one that an earlier process left there.

    Bound by the folder's descriptor: the kernel takes 107 bytes for the path of a socket.
    """
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    descriptor = os.open(folder, os.O_DIRECTORY)
    try:
        with contextlib.suppress(FileNotFoundError):
            if stat.S_ISSOCK(os.lstat(SOCKET, dir_fd=descriptor).st_mode):
                os.unlink(SOCKET, dir_fd=descriptor)
        made.bind(f"/proc/self/fd/{descriptor}/{SOCKET}")
        (folder / SOCKET).chmod(0o600)
    except BaseException:
        made.close()
        raise
    finally:
        os.close(descriptor)
    return made
