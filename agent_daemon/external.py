"""What belongs to a project and does not travel with its commits: submodules, and the content of git-lfs.

Neither is fetched here: both lie on servers of their own, need credentials, and work on them could not be
handed in. The agent and the people are told instead.
"""

import os
import stat
from pathlib import Path

from agent_daemon.git import git_paths, git_text
from agent_daemon.protocol.model import MAX_EXTERNAL, External

_MAX_SHOWN_CHARACTERS = 300


def look_for_external(worktree: Path) -> External | None:
    """The submodules and git-lfs files of HEAD; None when there are none."""
    submodules = list(gitlinks(worktree, "HEAD"))
    lfs = git_paths("ls-files", "-z", "--cached", "--", ":(top,attr:filter=lfs)", folder=worktree)
    if not submodules and not lfs:
        return None
    changed = [path for path, sha in gitlinks(worktree, "HEAD").items() if _is_changed(worktree, path, sha)]
    return External(
        submodules=_shown(submodules),
        submodules_total=len(submodules),
        submodules_changed=_shown(changed),
        lfs_files=_shown(list(dict.fromkeys(lfs))),
        lfs_files_total=len(set(lfs)),
    )


def gitlinks(worktree: Path, commit: str) -> dict[bytes, str]:
    """The submodules of a commit: each path, and the commit of the other repository that it stands for."""
    listed = git_paths("ls-tree", "-r", "-z", "--full-tree", commit, folder=worktree)
    entries = (entry.split(b"\t", 1) for entry in listed if entry.startswith(b"160000 "))
    return {path: words.split(b" ")[2].decode("ascii") for words, path in entries}


def changed_files(worktree: Path, commit: str) -> list[bytes]:
    """The files that differ inside submodules which somebody filled: work that no commit of ours can hold."""
    found = []
    for path, sha in gitlinks(worktree, commit).items():
        if _is_filled(worktree, path):
            found += [path + b"/" + inner for inner in _differing(worktree / os.fsdecode(path), sha)]
    return found


def _is_changed(worktree: Path, path: bytes, sha: str) -> bool:
    return _is_filled(worktree, path) and bool(_differing(worktree / os.fsdecode(path), sha))


def _is_filled(worktree: Path, path: bytes) -> bool:
    """Whether there is a repository of its own: in an empty folder git would find that of the worktree."""
    folder = os.path.join(os.fsencode(worktree), path)
    try:
        return stat.S_ISDIR(os.lstat(folder).st_mode) and os.path.lexists(os.path.join(folder, b".git"))
    except OSError:
        return False


def _differing(folder: Path, sha: str) -> list[bytes]:
    """What is not as in the recorded commit; everything, where the repository does not know that commit."""
    known = git_text("rev-parse", "--verify", "--quiet", f"{sha}^{{commit}}", folder=folder, check=False)
    new = git_paths("ls-files", "-z", "--others", "--exclude-standard", folder=folder, check=False)
    if not known:
        return [*git_paths("ls-files", "-z", "--cached", folder=folder, check=False), *new]
    options = ("-z", "--name-only", "--no-renames", "--no-ext-diff", "--ignore-submodules=all", sha)
    return [*git_paths("diff", *options, folder=folder, check=False), *new]


def _shown(paths: list[bytes]) -> tuple[str, ...]:
    return tuple(path.decode("utf-8", "replace")[:_MAX_SHOWN_CHARACTERS] for path in paths[:MAX_EXTERNAL])
