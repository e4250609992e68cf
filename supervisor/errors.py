"""Errors that reach a person: one sentence, and what to do next."""

import contextlib
import errno
import os
import pwd
from collections.abc import Iterator
from pathlib import Path

from agent_daemon.protocol.errors import Problem


class CloudCodeError(Exception):
    """A mistake or lack that a person can mend; `code` is stable, `mend` says how. Exit code 1."""

    def __init__(self, code: str, message: str, mend: str = "", problems: tuple[Problem, ...] = ()) -> None:
        self.code, self.message, self.mend, self.problems = code, message, mend, problems
        super().__init__(f"{code}: {message}" + (f" {mend}" if mend else ""))


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """For what is written at or below `path`: CloudCodeError E_NOT_WRITABLE when that cannot be done."""
    try:
        yield
    except OSError as error:
        if error.errno not in _NOT_ALLOWED:
            raise
        error.filename = str(path)
        message = f"{path} cannot be written: {error.strerror}."
        raise CloudCodeError("E_NOT_WRITABLE", message, mend_of(error)) from None


def refuse_root_in(folder: Path) -> None:
    """CloudCodeError E_OTHER_USER for root in somebody else's folder, whose owner could not read the new."""
    try:
        owner = folder.stat().st_uid
    except OSError:
        return
    if os.geteuid() == 0 and owner != 0:
        raise CloudCodeError(
            "E_OTHER_USER",
            f"{folder} belongs to {user_name(owner)}, who could not read what root writes there.",
            f"Give the same command as that user: sudo -u {user_name(owner)} cloud-code …",
        )


_NOT_ALLOWED = (errno.EACCES, errno.EPERM, errno.EROFS)


def mend_of(error: OSError) -> str:
    """What to do about a file that cannot be used; empty where nothing is known."""
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"You are {user_name(os.geteuid())}. {_owner(Path(os.fsdecode(error.filename)))}"
    if error.errno == errno.EROFS:
        return "Its file system is mounted read-only."
    if error.errno in (errno.EEXIST, errno.ENOTDIR):
        return "A folder belongs there: move away what stands in its place."
    if error.errno == errno.EISDIR:
        return "A file belongs there: move the folder away."
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "Make room on its disk."
    return ""


def _owner(path: Path) -> str:
    for place in (path, *path.absolute().parents):
        with contextlib.suppress(OSError):
            owner = place.stat().st_uid
            return f"{place} belongs to {user_name(owner)}: run this as that user, or give yours the right to."
    return "Give this user the right to."


def user_name(number: int) -> str:
    """The login name of a user, or the number where it has none."""
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)
