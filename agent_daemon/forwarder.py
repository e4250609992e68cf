"""The inner end of a workstation's way out: a port on loopback, passed on to the socket of the egress proxy.

Programs know proxies by a host and a port, and not by a socket in a folder. What is refused is decided outside;
here it is only overheard, so that it stands in the daemon's log and in the report.
"""

import asyncio
import threading
import time
from collections.abc import Callable
from pathlib import Path

from loguru import logger

from agent_daemon.egress import PORT
from agent_daemon.relay import Streams, close, part, relay

MAX_CONNECTIONS = 512
_HEAD_BYTES = 400
_MARK = b"E_EGRESS_"
# The same thing is told again after this many seconds; so many different ones are kept in mind.
REPEAT_SECONDS = 60.0
KEPT = 200


class Forwarder:
    """Listens on 127.0.0.1 in a thread of its own until the process ends. `on_refused` is called in that thread.

    The socket is opened anew for each connection: the proxy outside may come and go.
    """

    def __init__(self, path: Path, on_refused: Callable[[str], None], port: int = PORT) -> None:
        self._path, self._on_refused, self._port = path, on_refused, port
        self._told: dict[str, float] = {}
        self._open = 0
        self._ready = threading.Event()

    def start(self) -> int:
        """Begin; the port that it listens on, or 0, and a line in the log, where that is taken."""
        threading.Thread(target=self._run, name="egress", daemon=True).start()
        self._ready.wait(10)
        return self._port

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except OSError as error:
            logger.error("nothing can be passed on from 127.0.0.1, port {}: {}", self._port, error)
            self._port = 0
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._pass_on, "127.0.0.1", self._port, backlog=256)
        self._port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await server.serve_forever()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open += 1
        try:
            if self._open <= MAX_CONNECTIONS and not await self._to_socket((reader, writer)):
                await part((reader, writer))
        except OSError as error:
            logger.debug("a connection of the forwarder broke off: {}", error)
        finally:
            self._open -= 1
            await close(writer)

    async def _to_socket(self, client: Streams) -> bool:
        """Pass a connection on to its end; False when there was nobody to pass it on to, which was answered."""
        try:
            reader, writer = await asyncio.open_unix_connection(str(self._path))
        except OSError as error:
            message = f"E_EGRESS_AWAY the egress proxy does not answer: {error.strerror}"
            self._tell(message)
            client[1].write(f"HTTP/1.1 502 {message}\r\nConnection: close\r\n\r\n".encode())
            return False
        try:
            await relay(client, (_Overheard(reader, self._hear), writer))
            return True
        finally:
            await close(writer)

    def _hear(self, first: bytes) -> None:
        """The beginning of an answer: a refusal stands in its first line."""
        line = first[:_HEAD_BYTES].partition(b"\r\n")[0]
        _, _, reason = line.partition(b" ")[2].partition(b" ")
        if line.startswith(b"HTTP/1.1 ") and reason.startswith(_MARK):
            self._tell(reason.decode("ascii", "replace"))

    def _tell(self, message: str) -> None:
        now = time.monotonic()
        if now - self._told.get(message, -REPEAT_SECONDS) < REPEAT_SECONDS:
            return
        if len(self._told) >= KEPT:
            old = [said for said, at in self._told.items() if now - at >= REPEAT_SECONDS]
            if not old:
                return
            for said in old:
                del self._told[said]
        self._told[message] = now
        self._on_refused(message)


class _Overheard:
    """A reader whose first bytes somebody else hears, too."""

    def __init__(self, reader: asyncio.StreamReader, hear: Callable[[bytes], None]) -> None:
        self._reader, self._hear = reader, hear
        self._begun = False

    async def read(self, count: int) -> bytes:
        data = await self._reader.read(count)
        if not self._begun:
            self._begun = True
            self._hear(data)
        return data
