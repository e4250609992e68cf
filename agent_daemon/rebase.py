"""The task's commits on top of what the base branch has become meanwhile, where that goes without a conflict.

All of it is worked out in the object store, and the worktree is switched once, at the end. What comes out is
never anything but what a merge of both would give: where the commits cannot be put there one by one, or the
history has merges, the work stays as it is.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from loguru import logger

from agent_daemon.checkout import head
from agent_daemon.failpoints import reach
from agent_daemon.git import GitError, commit_of, git, git_text, identity_environment, is_ancestor
from agent_daemon.protocol.model import Identity

# Where the new head is noted before the worktree is switched to it; each worktree has one of its own.
_SWITCHING = "refs/worktree/cloud-code-switching"
_CONFLICT_EXIT = 1
_NOBODY = identity_environment(Identity()) | {
    "GIT_AUTHOR_DATE": "@0 +0000",
    "GIT_COMMITTER_DATE": "@0 +0000",
}
# Headers of a commit that say something of the commit that it was, not of the one that it becomes.
_DROPPED = (b"tree ", b"parent ", b"gpgsig", b"mergetag ")


@dataclass(frozen=True, kw_only=True)
class Followed:
    """What came of it. ``current``: the work stands on the newest base; ``rebased``: now it does; ``conflict``:
    a merge would conflict in `files`; ``kept``: it stays on its old base, for this `reason`, but would merge.
    """

    outcome: Literal["current", "rebased", "conflict", "kept"]
    files: tuple[str, ...] = ()
    reason: str = ""


def follow_base(worktree: Path, *, base: str, onto: str) -> Followed:
    """Put ``base..HEAD`` on `onto`, with everything committed and the task's branch checked out.

    `base` is where the task's own commits begin. Only where the outcome is ``rebased`` has anything changed.
    GitError when the worktree could not be switched; `finish_switch` then completes it.
    """
    old = head(worktree)
    try:
        if old == base or is_ancestor(worktree, onto, old):
            return Followed(outcome="current")
        if not is_ancestor(worktree, base, onto):
            return Followed(outcome="kept", reason="the base branch was rewritten: it does not have the old base")
        merged, files = _merge(worktree, onto, old)
        if files is not None:
            return Followed(outcome="conflict", files=files)
        new = _replay(worktree, base, old, onto)
        if isinstance(new, Followed):
            return new
        if _tree(worktree, new) != merged:
            return Followed(outcome="kept", reason="its commits, one by one, do not give what a merge would")
        if new == onto:
            return Followed(outcome="kept", reason="the base branch has everything that it changes")
        git("reset", "--quiet", "--mixed", folder=worktree)
        git("update-index", "-q", "--refresh", folder=worktree, check=False)
        git("read-tree", "--dry-run", "-m", "-u", old, new, folder=worktree)
    except GitError as error:
        logger.warning("the work in {} stays on its base: {}", worktree, error)
        return Followed(outcome="kept", reason=f"git could not put it there: {error.reason[:300]}")
    git("update-ref", _SWITCHING, new, folder=worktree)
    reach("daemon.switching_base")
    finish_switch(worktree)
    return Followed(outcome="rebased")


def finish_switch(worktree: Path) -> None:
    """Complete a switch to a new base that was begun and cut short; nothing where there is none."""
    new = commit_of(worktree, _SWITCHING)
    if new is not None:
        git("reset", "--quiet", "--hard", new, folder=worktree)
        git("update-ref", "-d", _SWITCHING, folder=worktree)


def _merge(worktree: Path, ours: str, theirs: str) -> tuple[str, tuple[str, ...] | None]:
    """The tree that a merge gives, and None; or, with conflicts, the paths to be settled (perhaps no one)."""
    arguments = ("merge-tree", "--write-tree", "-z", "--name-only", "--no-messages", ours, theirs)
    try:
        printed, clean = git(*arguments, folder=worktree), True
    except GitError as error:
        if error.exit_code != _CONFLICT_EXIT or not error.output:
            raise
        printed, clean = error.output, False
    tree, *paths = printed.split(b"\0")[:-1]
    return tree.decode("ascii"), None if clean else tuple(path.decode("utf-8", "replace") for path in paths)


def _replay(worktree: Path, base: str, old: str, onto: str) -> str | Followed:
    """The new head; or why there is none. A commit that changes nothing any more is left out."""
    listing = git_text("log", "--reverse", "--topo-order", "--format=%H %T %P", f"{base}..{old}", folder=worktree)
    new, new_tree = onto, _tree(worktree, onto)
    for line in listing.splitlines():
        commit, tree, *parents = line.split(" ")
        if len(parents) != 1:
            return Followed(outcome="kept", reason="its history has merges")
        parent_tree = _tree(worktree, parents[0])
        picked, files = _merge_on(worktree, parent_tree, new_tree, tree)
        if files is not None:
            return Followed(
                outcome="kept", reason=f"commit {commit[:12]} conflicts, though all of it together does not"
            )
        if picked == new_tree and tree != parent_tree:
            continue
        new, new_tree = _commit_anew(worktree, commit, picked, new), picked
    return new


def _merge_on(worktree: Path, base: str, ours: str, theirs: str) -> tuple[str, tuple[str, ...] | None]:
    """`_merge` of two trees on a third one: by commits that stand in for them, for git takes no base here."""
    below = _stand_in(worktree, base)
    return _merge(worktree, _stand_in(worktree, ours, below), _stand_in(worktree, theirs, below))


def _stand_in(worktree: Path, tree: str, *parents: str) -> str:
    options = [word for parent in parents for word in ("-p", parent)]
    made = git("commit-tree", *options, "-m", "stand-in", tree, folder=worktree, environment=_NOBODY)
    return made.decode().strip()


def _commit_anew(worktree: Path, commit: str, tree: str, parent: str) -> str:
    """The same author, dates and message with another tree and parent; a signature would not hold any more."""
    header, _, message = git("cat-file", "commit", commit, folder=worktree).partition(b"\n\n")
    kept: list[bytes] = []
    dropped = False
    for line in header.split(b"\n"):
        dropped = dropped if line.startswith(b" ") else line.startswith(_DROPPED)
        if not dropped:
            kept.append(line)
    lines = [b"tree " + tree.encode(), b"parent " + parent.encode(), *kept]
    content = b"\n".join(lines) + b"\n\n" + message
    written = git("hash-object", "-t", "commit", "-w", "--stdin", folder=worktree, stdin=content)
    return written.decode().strip()


def _tree(worktree: Path, commit: str) -> str:
    return git_text("rev-parse", "--verify", f"{commit}^{{tree}}", folder=worktree)
