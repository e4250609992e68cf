"""Before a worktree goes: is it there at all, does somebody use it, has anything been touched since it was saved?

People look into the worktrees of ended tasks, and some of them edit there. Nothing tells us but the files.
"""

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

from agent_daemon.checkout import remove_folder
from agent_daemon.clone import PROTOCOL_FOLDER
from agent_daemon.failpoints import reach
from agent_daemon.processes import working_in
from agent_daemon.protocol.files import write_file

# Stands in the name of what is being removed.
REMOVED = ".removed-"
_BLOCK_BYTES = 512  # the unit of st_blocks, whatever the file system's own is


class StillUsedError(OSError):
    """A process works in the worktree, which therefore stays for now."""


class NotThereError(OSError):
    """Neither the worktree nor the folder around it is there: perhaps it is not mounted."""


def leave(worktree: Path) -> int:
    """Note that the worktree's work is bundled as it lies here now; its size in bytes. Raises OSError."""
    size = size_bytes(worktree)
    write_file(_note(worktree), b"")
    return size


def forget(worktree: Path) -> None:
    """The worktree is gone."""
    _note(worktree).unlink(missing_ok=True)


def is_touched(worktree: Path) -> bool:
    """Whether anything was written, made, moved or removed in it since `leave`, or that was never noted."""
    try:
        noted = _note(worktree).lstat().st_mtime_ns
    except FileNotFoundError:
        return True
    return any(entry.st_ctime_ns > noted for entry in _walk(worktree))


def refuse_if_used(worktree: Path) -> None:
    """StillUsedError when a process has its working directory in there."""
    users = working_in(worktree)
    if users:
        pid, name = users[0]
        raise StillUsedError(f"process {pid} ({name}) works in {worktree}")


def put_away(folder: Path) -> None:
    """Remove a folder, renamed first: a removal cut short never looks like something whole. Raises OSError."""
    aside = folder.with_name(f".{folder.name}{REMOVED}{uuid.uuid4().hex[:8]}")
    folder.rename(aside)
    reach("daemon.cleanup_renamed")
    remove_folder(aside)
    reach("daemon.cleanup_removed")


def size_bytes(folder: Path) -> int:
    """The room that a folder takes, links not followed; what vanishes meanwhile counts nothing."""
    return sum(entry.st_blocks * _BLOCK_BYTES for entry in _walk(folder))


def _walk(folder: Path) -> Iterator[os.stat_result]:
    """Everything in a folder and the folder itself, but for our own links in a worktree."""
    pending = [folder]
    while pending:
        current = pending.pop()
        try:
            yield current.lstat()
            entries = list(os.scandir(current))
        except OSError:
            continue
        for entry in entries:
            if current == folder and entry.name == PROTOCOL_FOLDER:
                continue
            if entry.is_dir(follow_symlinks=False):
                pending.append(Path(entry.path))
                continue
            try:
                yield entry.stat(follow_symlinks=False)
            except OSError:  # gone meanwhile, or in a folder that nobody may enter
                continue


def _note(worktree: Path) -> Path:
    return worktree.with_name(f".{worktree.name}.left")
