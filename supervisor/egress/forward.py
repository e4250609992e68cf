"""A plain HTTP request, passed on to the host in its address, and the answer: each written anew by h11.

Nothing is passed on as it came: a head that two programs could read differently is one that both read alike here.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable

import h11

from agent_daemon.relay import close
from supervisor.core.egress import REQUEST, RefusedError, Target, authority, shown
from supervisor.egress.dial import Streams, UnreachableError

# A model that answers at once with everything may think for long.
ANSWER_SECONDS = 1800.0
CHUNK_BYTES = 64 * 1024
_SCHEME = "http://"
# Of one connection only (RFC 9110, 7.6.1), and what speaks to a proxy.
_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"upgrade",
        b"expect",
        b"http2-settings",
    }
    | {b"proxy-authorization", b"proxy-authenticate", b"proxy-authentication-info"}
)
Headers = list[tuple[bytes, bytes]]


async def forward(
    request: h11.Request,
    connection: h11.Connection,
    client: Streams,
    dial: Callable[[Target], Awaitable[Streams]],
) -> None:
    """Carry one request out; the connection is at its end afterwards. RefusedError, UnreachableError, OSError."""
    if {b"content-length", b"transfer-encoding"} <= {name for name, _ in request.headers}:
        raise RefusedError(REQUEST, "a request that tells its length in two ways")
    target, path = address_of(request.target.decode("latin-1"))
    reader, writer = await dial(target)
    server = h11.Connection(h11.CLIENT)
    try:
        writer.write(server.send(_request(request, target, path)) or b"")
        sending = asyncio.ensure_future(_send_body(connection, client, server, writer))
        try:
            await _pass_answer(server, reader, connection, client[1])
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
    finally:
        await close(writer)


def address_of(text: str) -> tuple[Target, str]:
    """Host, port and path of a request's ``http://host[:port]/path``. RefusedError."""
    if not text.lower().startswith(_SCHEME):
        raise RefusedError(REQUEST, f"{shown(text)} is no address that begins with http://, and no CONNECT")
    rest = text[len(_SCHEME) :]
    end = next((place for place, character in enumerate(rest) if character in "/?#"), len(rest))
    path = rest[end:]
    if "#" in path:
        raise RefusedError(REQUEST, f"{shown(text)} has a fragment")
    return authority(rest[:end], usual_port=80), path if path.startswith("/") else f"/{path}"


def _request(request: h11.Request, target: Target, path: str) -> h11.Request:
    """The same for the host itself. Host is what the address says, whatever was sent as such (RFC 9112, 3.2.2)."""
    host = target.host if target.port == 80 else str(target)
    kept = [(name, value) for name, value in _end_to_end(request.headers.raw_items()) if name.lower() != b"host"]
    headers = [(b"Host", host.encode()), *kept, (b"Connection", b"close")]
    try:
        return h11.Request(method=request.method, target=path.encode("latin-1"), headers=headers)
    except h11.LocalProtocolError as error:
        raise RefusedError(REQUEST, f"this cannot be passed on: {shown(str(error))}") from None


def _end_to_end(headers: Iterable[tuple[bytes, bytes]]) -> Headers:
    """The headers that are not for one connection alone."""
    listed = list(headers)
    named = {
        word.strip().lower()
        for name, value in listed
        if name.lower() == b"connection"
        for word in value.split(b",")
    }
    # How long the body is must be said on the next connection, too, whatever this one calls its own.
    named -= {b"content-length", b"transfer-encoding", b"host"}
    return [(name, value) for name, value in listed if name.lower() not in _HOP | named]


async def _send_body(
    connection: h11.Connection, client: Streams, server: h11.Connection, writer: asyncio.StreamWriter
) -> None:
    """The request's body as it comes; one that breaks off breaks the other connection off."""
    if connection.they_are_waiting_for_100_continue:
        go_on = connection.send(h11.InformationalResponse(status_code=100, headers=[]))
        client[1].write(go_on or b"")
    try:
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                connection.receive_data(await client[0].read(CHUNK_BYTES))
            elif isinstance(event, h11.Data | h11.EndOfMessage):
                whole = isinstance(event, h11.EndOfMessage)
                writer.write(server.send(h11.EndOfMessage() if whole else event) or b"")
                await writer.drain()
                if whole:
                    return
            else:
                raise ConnectionError("the request broke off")
    except (OSError, h11.ProtocolError):
        writer.transport.abort()
        raise


async def _pass_answer(
    server: h11.Connection, reader: asyncio.StreamReader, connection: h11.Connection, writer: asyncio.StreamWriter
) -> None:
    """The answer as it comes. UnreachableError where it is no HTTP, OSError where it breaks off later."""
    begun = False
    try:
        while True:
            event = server.next_event()
            if event is h11.NEED_DATA:
                server.receive_data(await asyncio.wait_for(reader.read(CHUNK_BYTES), ANSWER_SECONDS))
            elif isinstance(event, h11.Response):
                begun = True
                headers = [*_end_to_end(event.headers.raw_items()), (b"Connection", b"close")]
                answer = h11.Response(status_code=event.status_code, headers=headers, reason=event.reason)
                writer.write(connection.send(answer) or b"")
            elif isinstance(event, h11.Data):
                writer.write(connection.send(event) or b"")
            elif isinstance(event, h11.EndOfMessage):
                writer.write(connection.send(h11.EndOfMessage()) or b"")
                await writer.drain()
                return
            elif not isinstance(event, h11.InformationalResponse):
                raise ConnectionError("it ended too early")
            await writer.drain()
    except (OSError, TimeoutError, h11.ProtocolError) as error:
        if begun:
            writer.transport.abort()  # whoever asked must not take half an answer for a whole one
            raise ConnectionError("the answer broke off") from None
        raise UnreachableError(f"its answer cannot be passed on: {shown(str(error))}") from None
