"""One workstation's gate: a listener on its unix socket, its policy, and its connections within their bounds.

HTTP is read by h11 and never by guessing: what that refuses is refused here. A connection carries one request,
either CONNECT or a plain one with an absolute `http://` address (`forward`).
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import h11
from loguru import logger

from agent_daemon.relay import close, part, relay
from supervisor.core.egress import BUSY, REQUEST, Policy, RefusedError, Target, authority, shown
from supervisor.core.refusals import Refusal
from supervisor.core.tls import TlsError, server_name
from supervisor.egress.dial import Dialer, Streams, UnreachableError
from supervisor.egress.forward import forward

HEAD_BYTES = 16 * 1024
HEAD_SECONDS = 15.0
MAX_CONNECTIONS = 256
# Names that are being resolved and hosts that are being connected to at the same time.
MAX_DIALS = 8
# A mistake of ours that an agent can provoke fills no disk.
BUG_SECONDS = 60.0
PLAIN_PORT, TLS_PORT = 80, 443
_HELLO_BYTES = 32 * 1024
_UNRECOGNIZED_NAME = bytes.fromhex("15030100020270")  # TLS alert: fatal, unrecognized_name


@dataclass(frozen=True)
class Head:
    """A request that was read to the end of its head, and the connection that it came by."""

    request: h11.Request
    connection: h11.Connection

    @property
    def method(self) -> str:
        return self.request.method.decode("ascii", "replace")

    @property
    def target(self) -> str:
        return self.request.target.decode("latin-1")


@dataclass
class Gate:
    """What one workstation's connections go through. `refuse` is told of each that is refused."""

    dialer: Dialer
    refuse: Callable[[Refusal], None]
    policy: Policy = field(default_factory=Policy)
    max_connections: int = MAX_CONNECTIONS
    head_seconds: float = HEAD_SECONDS
    _open: dict["asyncio.Task[None]", Target | None] = field(default_factory=dict, init=False)
    _bug_told: float = field(default=-BUG_SECONDS, init=False)
    _dials: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(MAX_DIALS), init=False)

    def change(self, policy: Policy) -> None:
        """Connect by this policy from now on; connections to what is allowed no longer are cut.

        With other networks all are: which of them lead where is not kept.
        """
        before, self.policy = self.policy, policy
        for task, target in list(self._open.items()):
            if target is not None and (policy.networks != before.networks or not policy.allows(target)):
                task.cancel()

    async def shut(self) -> None:
        """Cut every connection."""
        for task in list(self._open):
            task.cancel()
        await asyncio.gather(*list(self._open), return_exceptions=True)

    def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take a connection; the callback of the listener."""
        if len(self._open) > 2 * self.max_connections:  # they do not even wait for the words that say so
            writer.transport.abort()
            return
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._open[task] = None
        task.add_done_callback(lambda ended: self._open.pop(ended, None))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._answer((reader, writer))
        except (OSError, UnreachableError, h11.LocalProtocolError):
            pass  # whoever asked has gone, or the host it was connected to
        except Exception:
            if time.monotonic() - self._bug_told >= BUG_SECONDS:
                self._bug_told = time.monotonic()
                logger.exception("E_BUG in a connection")
        finally:
            await close(writer)

    async def _answer(self, client: Streams) -> None:
        host = ""
        try:
            if len(self._open) > self.max_connections:
                raise RefusedError(BUSY, f"more than {self.max_connections} connections at once")
            head = await self._read_head(client[0])
            if head is None:
                return
            host = head.target
            if head.method == "CONNECT":
                await self._tunnel(head, client)
            else:
                await forward(head.request, head.connection, client, self._dial)
        except RefusedError as error:
            self._note(error, host)
            _say(client[1], 503 if error.code == BUSY else 403, f"{error.code} {error.message}")
            await part(client)
        except UnreachableError as error:
            _say(client[1], 502, str(error))
            await part(client)

    def _note(self, error: RefusedError, asked: str) -> None:
        where = asked.removeprefix("http://").partition("/")[0]  # (its path would make each request another one)
        try:
            target = authority(where, 80)
        except RefusedError:
            target = Target(shown(where), 0)
        self.refuse(Refusal(error.code, target.host, target.port, error.message))

    async def _read_head(self, reader: asyncio.StreamReader) -> Head | None:
        """The request; None when none comes or the connection ends without one. RefusedError E_EGRESS_REQUEST."""
        connection, begun = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_BYTES), False
        try:
            async with asyncio.timeout(self.head_seconds):
                while (event := connection.next_event()) is h11.NEED_DATA:
                    data = await reader.read(HEAD_BYTES)
                    connection.receive_data(data)
                    begun = begun or bool(data)
        except h11.RemoteProtocolError as error:
            raise RefusedError(REQUEST, f"this is no request to a proxy: {shown(str(error))}") from None
        except TimeoutError:
            if not begun:  # browsers open some in store
                return None
            raise RefusedError(REQUEST, f"no whole request within {self.head_seconds:g} s") from None
        return Head(event, connection) if isinstance(event, h11.Request) else None

    async def _dial(self, target: Target) -> Streams:
        """Connect to what the policy allows; the connection is cut when it does no longer."""
        task = asyncio.current_task()
        self.policy.check(target)
        async with self._dials:
            made = await self.dialer.connect(target, self.policy)
        if not self.policy.allows(target):  # it changed meanwhile
            made[1].transport.abort()
            self.policy.check(target)
        if task in self._open:
            self._open[task] = target
        return made

    async def _tunnel(self, head: Head, client: Streams) -> None:
        names = {name for name, _ in head.request.headers}
        if names & {b"content-length", b"transfer-encoding"}:
            raise RefusedError(REQUEST, "a CONNECT with a body")
        target = authority(head.target)
        if target.port == PLAIN_PORT:  # in a tunnel nobody sees which host behind an address is spoken to
            raise RefusedError(
                REQUEST, f"a tunnel to {target}: plain HTTP is asked for as such, by http:// addresses"
            )
        upstream = await self._dial(target)
        try:
            client[1].write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            await client[1].drain()
            first, _ = head.connection.trailing_data
            if target.port == TLS_PORT:
                first = await self._checked_hello(first, client, target)
            upstream[1].write(first)
            await relay(client, upstream)
        finally:
            await close(upstream[1])

    async def _checked_hello(self, first: bytes, client: Streams, target: Target) -> bytes:
        """The beginning of a tunnel to port 443, once it is seen to be TLS to the very host that was asked for.

        Behind one address of a large network stand thousands of hosts, and the name in here chooses among them.
        """
        try:
            async with asyncio.timeout(self.head_seconds):
                while (name := server_name(first)) is None:
                    more = await client[0].read(_HELLO_BYTES)
                    if not more or len(first) > _HELLO_BYTES:
                        raise TlsError("it ends too early, or not at all")
                    first += more
        except (TlsError, TimeoutError) as error:
            why = str(error) or "nothing came"
            refused = RefusedError(REQUEST, f"what is sent to {target} does not begin as TLS to it: {why}")
        else:
            if name == target.host:
                return first
            refused = RefusedError(REQUEST, f"a tunnel to {target} is used for TLS to {shown(name) or 'no name'}")
        self._note(refused, str(target))
        client[1].write(_UNRECOGNIZED_NAME)
        raise ConnectionError(refused.message)


def _say(writer: asyncio.StreamWriter, status: int, message: str) -> None:
    """An answer of our own. The reason stands in the first line, too, which is what most programs show."""
    words = shown(message, 300)
    reason = {403: words, 502: "Bad Gateway", 503: words}[status]
    body = f"{words}\n".encode()
    head = f"HTTP/1.1 {status} {reason}\r\nContent-Type: text/plain\r\nContent-Length: {len(body)}\r\n"
    writer.write(head.encode() + b"Connection: close\r\n\r\n" + body)
