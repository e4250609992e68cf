"""Standard streams that a shell has closed, or that cannot take what is written: told, never a traceback."""

import io
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


class OutputError(OSError):
    """Standard output does not take what is printed: its disk is full, or it is closed."""


class _Output(io.FileIO):
    """Standard output, whose errors are told from those of other files."""

    def write(self, data: "ReadableBuffer", /) -> int:
        try:
            return super().write(data)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise OutputError(error.errno, error.strerror) from None


class _Errors(io.FileIO):
    """Standard error: nobody can be told that it cannot be written."""

    def write(self, data: "ReadableBuffer", /) -> int:
        try:
            return super().write(data)
        except OSError:
            return memoryview(data).nbytes


def prepare() -> None:
    """Open what is closed, so that no other file gets its number, and make both streams fit for any text."""
    for number, flags in ((0, os.O_RDONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            # The lowest free number is this one. Closed output stays unwritable: printing to it is an error.
            os.open(os.devnull, flags)
    encoding = sys.stdout.encoding if sys.stdout is not None else "utf-8"
    for name, raw in (("stdout", _Output(1, "w", closefd=False)), ("stderr", _Errors(2, "w", closefd=False))):
        lines = name == "stderr" or raw.isatty()
        setattr(sys, name, io.TextIOWrapper(io.BufferedWriter(raw), encoding, "replace", line_buffering=lines))


def abandon_output() -> None:
    """Print what is still to be printed to nowhere: whoever wanted it is gone."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
