"""The streams of a running program: what goes in, what comes out, and the bounded log of it."""

import contextlib
import os
import selectors
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

from loguru import logger

from agent_daemon.hiding import Mask

OnLine = Callable[[str, str], None]

_CHUNK_BYTES = 64 * 1024


def put_aside_full(path: Path, limit_bytes: int) -> None:
    """Rename a log that has reached its limit to ``NAME.1``, in place of the one before it; raises OSError."""
    with contextlib.suppress(FileNotFoundError):
        if os.lstat(path).st_size >= limit_bytes:
            path.replace(path.with_name(f"{path.name}.1"))


class BoundedLog:
    """Appends raw output to a file up to a size; a file that cannot be written does not end the work.

    One that is full from earlier runs is put aside as ``NAME.1``, so that the newest run is always told.
    """

    def __init__(self, path: Path, limit_bytes: int) -> None:
        self._path = path
        self._limit_bytes = limit_bytes
        self._descriptor: int | None = None
        self._size = 0

    def __enter__(self) -> "BoundedLog":
        # Beside the agent: no link may lead elsewhere, and no FIFO may hold the daemon up.
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            put_aside_full(self._path, self._limit_bytes)
            self._descriptor = os.open(self._path, flags, 0o640)
            self._size = os.fstat(self._descriptor).st_size
        except OSError as error:
            logger.warning("no log: {}", error)
        return self

    def __exit__(self, *_: object) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def write(self, chunk: bytes) -> None:
        if self._descriptor is None or self._size > self._limit_bytes:
            return
        kept = chunk[: self._limit_bytes - self._size]
        if len(kept) < len(chunk):
            kept += f"\n[the log was cut here, at {self._limit_bytes} bytes]\n".encode()
            self._size = self._limit_bytes + 1
        else:
            self._size += len(kept)
        try:
            while kept:
                kept = kept[os.write(self._descriptor, kept) :]
        except OSError as error:
            logger.warning("the log {} ends here: {}", self._path, error)
            self._size = self._limit_bytes + 1


class _Lines:
    """Cuts a stream into lines, of which never more than `line_bytes` are kept in memory or passed on."""

    def __init__(self, stream: str, on_line: OnLine, line_bytes: int, mask: Mask) -> None:
        self.masked = mask.stream()
        self._stream = stream
        self._on_line = on_line
        self._line_bytes = line_bytes
        self._line = bytearray()

    def feed(self, chunk: bytes) -> None:
        *ended, rest = chunk.split(b"\n")
        for part in ended:
            self._keep(part)
            self._pass_on()
        self._keep(rest)

    def finish(self) -> None:
        if self._line:
            self._pass_on()

    def _keep(self, part: bytes) -> None:
        self._line += part[: self._line_bytes - len(self._line)]

    def _pass_on(self) -> None:
        text = self._line.decode("utf-8", "replace").removesuffix("\r")
        self._line.clear()
        self._on_line(self._stream, text)


class Pump:
    """Moves bytes: the prompt into a program, its two streams into the log and, by lines, to a callback.

    What the mask hides stands in neither of them.
    What the callback raises is kept in `error`, and nothing is passed on after it: a program must be ended
    properly whatever becomes of its lines.
    """

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        stdin: bytes | None,
        log: BoundedLog,
        on_line: OnLine,
        line_bytes: int,
        mask: Mask,
    ) -> None:
        self.output_bytes = 0
        self.error: Exception | None = None
        self._log = log
        self._on_line = on_line
        self._selector = selectors.DefaultSelector()
        self._readers: dict[int, _Lines] = {}
        for name, pipe in (("stdout", process.stdout), ("stderr", process.stderr)):
            descriptor = self._register(pipe, selectors.EVENT_READ)
            self._readers[descriptor] = _Lines(name, self._pass_on, line_bytes, mask)
        self._unsent = memoryview(stdin or b"")
        if process.stdin is not None:
            self._register(process.stdin, selectors.EVENT_WRITE)
        # Readable once the program has ended; where the kernel has no such thing, the next look sees it.
        with contextlib.suppress(OSError):
            self._register(os.fdopen(os.pidfd_open(process.pid), "rb", 0), selectors.EVENT_READ)

    def _pass_on(self, stream: str, line: str) -> None:
        if self.error is None:
            try:
                self._on_line(stream, line)
            except Exception as error:
                self.error = error

    def _register(self, pipe: IO[bytes] | None, events: int) -> int:
        if pipe is None:
            raise ValueError("the program was started without a pipe")
        os.set_blocking(pipe.fileno(), False)
        self._selector.register(pipe, events, pipe)
        return pipe.fileno()

    def turn(self, wait_seconds: float) -> int:
        """Move what can be moved now, after waiting for it at most so long; returns the bytes read."""
        moved = 0
        for key, _ in self._selector.select(wait_seconds):
            if reader := self._readers.get(key.fd):
                moved += self._read(key, reader)
            elif key.events & selectors.EVENT_WRITE:
                self._write(key)
            else:
                self._close(key)  # the program has ended
        return moved

    def drain(self, limit_seconds: float) -> None:
        """Read what lies in the pipes; a background process that goes on writing cannot hold this up."""
        deadline = time.monotonic() + limit_seconds
        while self.turn(0) and time.monotonic() < deadline:
            pass

    def finish(self) -> None:
        """Pass on the last unfinished lines and close the pipes."""
        for key in list(self._selector.get_map().values()):
            self._close(key)
        self._selector.close()
        for reader in self._readers.values():
            self._take(reader.masked.finish(), reader)
            reader.finish()

    def _read(self, key: selectors.SelectorKey, reader: "_Lines") -> int:
        try:
            chunk = os.read(key.fd, _CHUNK_BYTES)
        except BlockingIOError:
            return 0
        if not chunk:
            self._close(key)
            return 0
        self.output_bytes += len(chunk)
        self._take(reader.masked.feed(chunk), reader)
        return len(chunk)

    def _take(self, told: bytes, reader: "_Lines") -> None:
        self._log.write(told)
        reader.feed(told)

    def _write(self, key: selectors.SelectorKey) -> None:
        try:
            sent = os.write(key.fd, self._unsent[:_CHUNK_BYTES])
            self._unsent = self._unsent[sent:]
        except BlockingIOError:
            return
        except BrokenPipeError:  # the program does not want the rest
            self._unsent = self._unsent[:0]
        if not self._unsent:
            self._close(key)

    def _close(self, key: selectors.SelectorKey) -> None:
        self._selector.unregister(key.fileobj)
        with contextlib.suppress(BrokenPipeError):
            key.data.close()
