"""Bytes in both directions between two connections: for the egress proxy and its forwarder."""

import asyncio
import contextlib
from typing import Protocol

CHUNK_BYTES = 64 * 1024
CLOSE_SECONDS = 5.0
LINGER_SECONDS = 1.0
# How long one direction may go on alone: whoever has gone for good looks the same as one that only listens.
HALF_OPEN_SECONDS = 600.0


Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Source(Protocol):
    """What bytes are read from, until there are none."""

    async def read(self, count: int, /) -> bytes: ...


async def relay(one: Streams, other: tuple[Source, asyncio.StreamWriter]) -> None:
    """Pass on what comes, at the pace of whoever is slower; an end of one direction leaves the other open.

    Returns when both have ended, one has broken, or one has gone on alone for long. The caller closes them.
    """
    ways = [asyncio.ensure_future(copy(one[0], other[1])), asyncio.ensure_future(copy(other[0], one[1]))]
    try:
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        if not any(way.done() and way.exception() for way in ways):
            await asyncio.wait(ways, timeout=HALF_OPEN_SECONDS)
    finally:
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)


async def copy(reader: Source, writer: asyncio.StreamWriter) -> None:
    """One direction, to its end; OSError when it breaks."""
    while data := await reader.read(CHUNK_BYTES):
        writer.write(data)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()


async def part(streams: Streams) -> None:
    """Close after a last word: what still comes is read away for a moment, or the word might not be heard."""
    reader, writer = streams
    with contextlib.suppress(OSError, TimeoutError):
        await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
        async with asyncio.timeout(LINGER_SECONDS):
            while await reader.read(CHUNK_BYTES):
                pass
    await close(writer)


async def close(writer: asyncio.StreamWriter) -> None:
    """Send what is left to send, for a while, and close; what is still there then is thrown away."""
    with contextlib.suppress(OSError, TimeoutError):
        writer.close()
        await asyncio.wait_for(writer.wait_closed(), CLOSE_SECONDS)
    writer.transport.abort()
