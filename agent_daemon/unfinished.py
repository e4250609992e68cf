"""What an agent left half-done in git: a rebase in the middle of its way, conflicts that nobody settled."""

import os
import re
import stat
from pathlib import Path

from agent_daemon.git import commit_of, git_paths, git_text

_MAX_BYTES = 4 * 1024 * 1024
_MAX_SHOWN = 5


def rebase_began_at(worktree: Path) -> str | None:
    """Where the branch was before a rebase that is under way; HEAD has only a part of its commits."""
    if git_text("symbolic-ref", "--quiet", "HEAD", folder=worktree, check=False):
        return None  # a rebase detaches HEAD: whoever checked a branch out since has given it up
    folder = Path(git_text("rev-parse", "--path-format=absolute", "--git-dir", folder=worktree))
    for name in ("rebase-merge", "rebase-apply"):
        try:
            noted = (folder / name / "orig-head").read_text(errors="replace").strip()
        except OSError:
            continue
        if re.fullmatch("[0-9a-f]{40}([0-9a-f]{24})?", noted):
            return commit_of(worktree, noted)
    return None


def what_is_unfinished(worktree: Path) -> str | None:
    """A sentence on what keeps the worktree from being handed in as it is; None when nothing does.

    Conflicts that were settled and not yet added are fine: what lies there is committed.
    """
    began = rebase_began_at(worktree)
    if began is not None:
        return (
            f"a rebase was left in the middle: the branch was at {began} before it, "
            f"and `git log HEAD..{began}` shows what is not there yet"
        )
    conflicts = _unsettled(worktree)
    if conflicts:
        shown = ", ".join(path.decode("utf-8", "replace") for path in conflicts[:_MAX_SHOWN])
        more = f" and {len(conflicts) - _MAX_SHOWN} more" if len(conflicts) > _MAX_SHOWN else ""
        return f"conflicts of a merge were left unsettled in {shown}{more}"
    return None


def _unsettled(worktree: Path) -> list[bytes]:
    """The files that git has as conflicting and that still hold the marks of it."""
    listed = git_paths("ls-files", "-z", "--unmerged", folder=worktree)
    paths = dict.fromkeys(entry.split(b"\t", 1)[1] for entry in listed)
    return [path for path in paths if _holds_marks(os.path.join(os.fsencode(worktree), path))]


def _holds_marks(path: bytes) -> bool:
    try:
        if not stat.S_ISREG(os.lstat(path).st_mode):
            return False
        with open(path, "rb") as file:
            content = b"\n" + file.read(_MAX_BYTES)
    except OSError:
        return False
    return b"\n<<<<<<< " in content and b"\n>>>>>>> " in content
