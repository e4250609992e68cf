"""The daemon's own log: its standard error, kept bounded where whoever started it has put that into a file."""

import contextlib
import fcntl
import os
import shutil
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

LIMIT_BYTES = 10 * 1024 * 1024


class OwnLog:
    """A sink for log lines. A full file is copied to ``NAME.1`` and emptied, by the descriptor that all share.

    So what the interpreter or a crash writes there lands in the same file. A pipe, a terminal, and a file that
    is not open for appending are somebody else's to bound. `hide` takes out what attempts were given in secret.
    """

    def __init__(self, stream: TextIO | None = None, limit_bytes: int = LIMIT_BYTES) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._limit_bytes = limit_bytes
        self.hide: Callable[[str], str] = str

    def __call__(self, line: str) -> None:
        self._stream.write(self.hide(line))
        self._stream.flush()
        with contextlib.suppress(OSError, ValueError):
            self._keep_bounded(self._stream.fileno())

    def _keep_bounded(self, descriptor: int) -> None:
        status = os.fstat(descriptor)
        appending = fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_APPEND
        if not stat.S_ISREG(status.st_mode) or not appending or status.st_size < self._limit_bytes:
            return
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        with contextlib.suppress(OSError):  # a disk that is full is no reason to fill it further
            if os.path.samestat(os.lstat(path), status):
                fresh = path.with_name(f".{path.name}.1.new")
                shutil.copyfile(path, fresh)
                fresh.replace(path.with_name(f"{path.name}.1"))
        os.ftruncate(descriptor, 0)
