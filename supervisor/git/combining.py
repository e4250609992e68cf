"""Saved work put on top of what somebody pushed to its branch meanwhile, where the two do not conflict."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from supervisor.git.command import GitError, Limits, run_git
from supervisor.git.merging import try_merge
from supervisor.git.mirror import descends
from supervisor.git.objects import TooManyChangesError, changes_between
from supervisor.git.path_policy import display

# The daemon takes such a commit apart: what it holds lies uncommitted in the worktree then.
_MESSAGE = b"Uncommitted work\n\nCloud-Code-Salvage: uncommitted\n"
_IDENTITY = {
    "GIT_AUTHOR_NAME": "Cloud Code",
    "GIT_AUTHOR_EMAIL": "cloud-code@localhost",
    "GIT_COMMITTER_NAME": "Cloud Code",
    "GIT_COMMITTER_EMAIL": "cloud-code@localhost",
}
_MAX_LISTED = 30


@dataclass(frozen=True, kw_only=True)
class Combined:
    """`commit` has both; None where that cannot be, for this `reason`. `files` are what the work changed."""

    commit: str | None
    reason: str = ""
    files: tuple[str, ...] = ()


def combine(
    git_dir: Path, onto: str, work: str, began_at: str | None, *, squash: bool, limits: Limits
) -> Combined:
    """A commit on `onto` that holds the changes of `work`, uncommitted by its message; both are in `git_dir`.

    `began_at` is where the branch was when the work began. Where that is no more in the branch, somebody took
    commits away on purpose, and the work would bring them back. `squash`: its own commits must not come along.
    """
    if descends(git_dir, work, onto, limits):
        return Combined(commit=onto)
    files = _files(git_dir, onto, work, limits)
    if began_at is not None and not descends(git_dir, began_at, onto, limits):
        return Combined(commit=None, reason="commits that it builds on were taken off the branch", files=files)
    if not squash and descends(git_dir, onto, work, limits):
        return Combined(commit=work, files=files)
    try:
        merge = try_merge(git_dir, onto, work, limits)
    except GitError as error:
        return Combined(commit=None, reason=f"it cannot be merged: {error.message}", files=files)
    if not merge.clean:
        places = f", in {', '.join(_listed(merge.conflicts))}" if merge.conflicts else ""
        return Combined(commit=None, reason=f"it conflicts with what was pushed{places}", files=files)
    return Combined(commit=_commit(git_dir, merge.tree, onto, work), files=files)


def _files(git_dir: Path, onto: str, work: str, limits: Limits) -> tuple[str, ...]:
    try:
        base = run_git(["merge-base", onto, work], git_dir=git_dir, limits=limits).decode().strip()
        changes = changes_between(git_dir, base, work, limits)
    except TooManyChangesError:
        return ("too many to be listed",)
    except GitError:
        return ()
    return _listed([display(change.path) for change in changes])


def _listed(paths: Sequence[str]) -> tuple[str, ...]:
    """As many paths as a person or an agent wants to read of, none too long."""
    more = (f"and {len(paths) - _MAX_LISTED} more",) if len(paths) > _MAX_LISTED else ()
    return (*(path[:200] for path in paths[:_MAX_LISTED]), *more)


def _commit(git_dir: Path, tree: str, onto: str, work: str) -> str:
    """The same input gives the same commit: its time is that of the work."""
    seconds = run_git(["log", "-1", "--format=%ct", work], git_dir=git_dir).decode().strip()
    when = f"{int(seconds) if seconds.isdecimal() else 0} +0000"
    environment = _IDENTITY | {"GIT_AUTHOR_DATE": when, "GIT_COMMITTER_DATE": when}
    made = run_git(["commit-tree", "-p", onto, tree], git_dir=git_dir, environment=environment, stdin=_MESSAGE)
    return made.decode().strip()


def write_bundle(git_dir: Path, commit: str, branch: str, base: str, target: Path) -> None:
    """`base`..`commit` as a bundle of that branch."""
    ref = f"refs/heads/{branch}"
    run_git(["update-ref", ref, commit], git_dir=git_dir)
    arguments = ["bundle", "create", "--quiet", "--version=2", str(target.absolute()), ref, f"^{base}"]
    run_git(arguments, git_dir=git_dir)
