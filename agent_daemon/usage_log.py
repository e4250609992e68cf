"""A CLI's own record of its session, read while it grows: usage that its output tells only at the end."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from agent_daemon.clis.base import Adapter, CliSettings, Progress, Usage
from agent_daemon.meter import Meter

_READ_BYTES = 4 * 1024 * 1024
_LINE_BYTES = 64 * 1024 * 1024


@dataclass
class UsageLog:
    """Reads what has been added since the last look. An agent may bend the file: what is odd is passed over."""

    adapter: Adapter
    settings: CliSettings
    _path: Path | None = field(default=None, init=False)
    _offset: int = field(default=0, init=False)
    _rest: bytes = field(default=b"", init=False)

    def skip(self, session_id: str) -> Usage:
        """Pass over what earlier runs of the session have left; the sum that stands there."""
        before = Meter()
        self.read(session_id, lambda event: event.usage and before.step(event.usage, of_session=event.of_session))
        return before.session

    def read(self, session_id: str, take: Callable[[Progress], object]) -> None:
        """Pass on the events of the lines that are new."""
        try:
            self._path = self._path or self.adapter.usage_log(self.settings, session_id)
            if self._path is None:
                return
            for line in self._new_lines(self._path):
                for event in self.adapter.parse("usage", line):
                    take(event)
        except OSError:
            return

    def _new_lines(self, path: Path) -> list[str]:
        lines: list[str] = []
        with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            file.seek(self._offset)
            while data := file.read(_READ_BYTES):
                self._offset += len(data)
                *whole, self._rest = (self._rest + data).split(b"\n")
                self._rest = self._rest[-_LINE_BYTES:]
                lines += [line.decode("utf-8", "replace") for line in whole]
        return lines
