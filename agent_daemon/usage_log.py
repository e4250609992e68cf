"""A CLI's own record of its session, read while it grows: usage that its output tells only at the end.

It is read in the loop that holds limits and stops, and an agent may bend it: no look at it takes long.
"""

import os
import stat
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from agent_daemon.clis.base import Adapter, CliSettings, Progress, Usage
from agent_daemon.meter import Meter

_READ_BYTES = 1024 * 1024
# Of more that is new at once only the end is read: that is far more than a CLI writes between two looks.
_BEHIND_BYTES = 16 * 1024 * 1024
_LINE_BYTES = 4 * 1024 * 1024
# After a look that took longer than this, the next one waits for as long as it took.
_LONG_SECONDS = 0.05


@dataclass
class UsageLog:
    """Reads what has been added since the last look. What is odd is passed over."""

    adapter: Adapter
    settings: CliSettings
    _path: Path | None = field(default=None, init=False)
    _offset: int = field(default=0, init=False)
    _rest: bytes = field(default=b"", init=False)
    _in_passed_line: bool = field(default=False, init=False)
    _next_at: float = field(default=0.0, init=False)

    def skip(self, session_id: str) -> Usage:
        """Pass over what earlier runs of the session have left; the sum that stands at its end."""
        before = Meter()
        self.read_all(
            session_id, lambda event: event.usage and before.step(event.usage, of_session=event.of_session)
        )
        return replace(before.session, model=before.model)

    def read_all(self, session_id: str, take: Callable[[Progress], object]) -> None:
        """Pass on the events of all lines that are new, or of the last ones where that is very much."""
        for _ in range(_BEHIND_BYTES // _READ_BYTES + 1):
            before, self._next_at = self._offset, 0.0
            self.read(session_id, take)
            if self._offset == before:
                return

    def read(self, session_id: str, take: Callable[[Progress], object]) -> None:
        """Pass on the events of lines that are new, of some of them where there are many."""
        began = time.monotonic()
        if began < self._next_at:
            return
        try:
            self._path = self._path or self.adapter.usage_log(self.settings, session_id)
            for line in self._new_lines(self._path) if self._path is not None else ():
                for event in self.adapter.parse("usage", line):
                    take(event)
        except OSError:
            pass
        now = time.monotonic()
        if now - began > _LONG_SECONDS:
            self._next_at = now + (now - began)

    def _new_lines(self, path: Path) -> list[str]:
        *whole, rest = (self._rest + self._new_bytes(path)).split(b"\n")
        if self._in_passed_line and whole:
            whole, self._in_passed_line = whole[1:], False
        self._in_passed_line = self._in_passed_line or len(rest) > _LINE_BYTES
        self._rest = b"" if self._in_passed_line else rest
        return [line.decode("utf-8", "replace") for line in whole if line]

    def _new_bytes(self, path: Path) -> bytes:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            there = os.fstat(descriptor)
            if not stat.S_ISREG(there.st_mode):
                return b""
            if there.st_size - self._offset > _BEHIND_BYTES:
                self._offset, self._rest, self._in_passed_line = there.st_size - _BEHIND_BYTES, b"", True
            data = os.pread(descriptor, _READ_BYTES, self._offset)
        finally:
            os.close(descriptor)
        self._offset += len(data)
        return data
