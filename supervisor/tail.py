"""The end of a file that another program, perhaps a hostile one, is writing: read as it grows, never followed."""

import os
import stat
from pathlib import Path

from agent_daemon.protocol.errors import Problem, ProtocolError
from agent_daemon.protocol.files import usual_opener

CHUNK_BYTES = 256 * 1024


class GrowingFile:
    """One plain file beneath a trusted folder; FileNotFoundError, or ProtocolError when it is anything else.

    Begins at most `last_bytes` before the end. Use as a context manager.
    """

    def __init__(self, folder: Path, relative: str, last_bytes: int | None = None) -> None:
        self._descriptor = _open(folder, relative)
        if last_bytes is not None:
            size = os.fstat(self._descriptor).st_size
            self._position = max(0, size - last_bytes)
        else:
            self._position = 0
        self.cut_bytes = self._position

    def __enter__(self) -> "GrowingFile":
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)

    def read(self) -> bytes:
        """What has been added since the last call, at most 256 KiB; a file cut short is read from its start."""
        if os.fstat(self._descriptor).st_size < self._position:
            self._position = 0
        data = os.pread(self._descriptor, CHUNK_BYTES, self._position)
        self._position += len(data)
        return data


def file_names(folder: Path, relative: str) -> list[str]:
    """The names in a folder beneath a trusted one, sorted; none when it is not there or is no plain folder."""
    try:
        above = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return []
    try:
        look = usual_opener()(above, relative)
    except OSError:
        return []
    finally:
        os.close(above)
    try:
        return sorted(os.listdir(f"/proc/self/fd/{look}"))
    except OSError:
        return []
    finally:
        os.close(look)


def _open(folder: Path, relative: str) -> int:
    """A descriptor for reading: looked at before it is opened, so that no pipe blocks and no link is followed."""
    shown = f"{folder}/{relative}"
    above = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        look = usual_opener()(above, relative)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise _refused("E_UNREADABLE", f"the file cannot be read: {error.strerror}", shown) from None
    finally:
        os.close(above)
    try:
        status = os.fstat(look)
        if not stat.S_ISREG(status.st_mode):
            raise _refused("E_NOT_REGULAR", "this is not a regular file", shown)
        if status.st_nlink > 1:
            raise _refused("E_HARD_LINK", f"the file has {status.st_nlink} names", shown)
        return os.open(f"/proc/self/fd/{look}", os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except PermissionError as error:
        raise _refused("E_UNREADABLE", f"the file cannot be read: {error.strerror}", shown) from None
    finally:
        os.close(look)


def _refused(code: str, message: str, file: str) -> ProtocolError:
    return ProtocolError(Problem(code=code, message=message, file=file, expected="a plain file"))
