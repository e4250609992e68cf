"""Saved work as a person gets it: what is in it, and how it comes into a repository of theirs.

The person's repository is opened with our own environment and settings: no hooks, no monitors, no filters but
its own. Nothing in it is changed but for one new branch, and one new folder where that is asked for.
"""

from dataclasses import dataclass
from pathlib import Path

from supervisor.errors import CloudCodeError
from supervisor.git.command import Limits, run_git
from supervisor.git.errors import GitError
from supervisor.git.names import check_branch
from supervisor.git.objects import ABSENT, TooManyChangesError, changes_between, kinds_and_sizes
from supervisor.git.path_policy import SUBMODULE

# As the daemon marks the commit of everything that was uncommitted (docs/protocol.md, "Salvage and release").
TRAILER, TRAILER_VALUE = "Cloud-Code-Salvage", "uncommitted"
RESULT = "refs/heads/result"
MAX_FILES = 2000
MAX_CHECKED_OUT_BYTES = 4 * 1024**3
_LIMITS = Limits()
_DIFF = ("diff-tree", "-r", "-z", "--no-renames", "--no-ext-diff", "--no-textconv")
_KINDS = {"A": "created", "D": "deleted", "T": "type_changed"}


@dataclass(frozen=True, kw_only=True)
class SavedFile:
    """A changed file; lines are None for binary files. `uncommitted`: it was so when the work was saved."""

    path: str
    change_type: str
    lines_added: int | None
    lines_removed: int | None
    uncommitted: bool = False


def uncommitted_parent(git_dir: Path, head: str) -> str | None:
    """The commit below the one that holds the uncommitted work; None where there is no such."""
    form = f"--format=%P%x00%(trailers:key={TRAILER},valueonly)"
    shown = run_git(["log", "-1", form, head], git_dir=git_dir, limits=_LIMITS).decode("utf-8", "replace")
    parents, _, value = shown.partition("\0")
    return parents.split()[0] if value.strip() == TRAILER_VALUE and parents.split() else None


def changed_files(git_dir: Path, base: str, head: str) -> tuple[tuple[SavedFile, ...], int]:
    """The files that differ between two commits, at most 2,000, and how many they are."""
    kinds = _parts(run_git([*_DIFF, "--name-status", base, head], git_dir=git_dir, limits=_LIMITS))
    numbers = _parts(run_git([*_DIFF, "--numstat", base, head], git_dir=git_dir, limits=_LIMITS))
    lines = {path: (added, removed) for added, removed, path in (entry.split("\t", 2) for entry in numbers)}
    parent = uncommitted_parent(git_dir, head)
    last = [*_DIFF, "--name-only", parent, head] if parent else []
    loose = set(_parts(run_git(last, git_dir=git_dir, limits=_LIMITS))) if last else set()
    pairs = list(zip(kinds[::2], kinds[1::2], strict=True))
    files = tuple(
        SavedFile(
            path=path,
            change_type=_KINDS.get(kind[:1], "modified"),
            lines_added=_count(lines.get(path, ("-", "-"))[0]),
            lines_removed=_count(lines.get(path, ("-", "-"))[1]),
            uncommitted=path in loose,
        )
        for kind, path in pairs[:MAX_FILES]
    )
    return files, len(pairs)


def is_too_large(git_dir: Path, base: str, head: str) -> bool:
    """Whether laying out what the work changed would write more files or bytes than any work of an agent has.

    A tree of a few hundred bytes can stand for millions of files.
    """
    try:
        changes = changes_between(git_dir, base, head, _LIMITS)
    except TooManyChangesError:
        return True
    except GitError as error:
        if error.code in ("E_GIT_LIMIT", "E_GIT_TIMEOUT", "E_GIT_OUTPUT"):
            return True
        raise
    blobs = [change.sha for change in changes if change.mode not in (ABSENT, SUBMODULE)]
    found = kinds_and_sizes(git_dir, blobs, _LIMITS)
    return sum(found[sha][1] for sha in blobs if sha in found) > MAX_CHECKED_OUT_BYTES


def _parts(output: bytes) -> list[str]:
    return [part.decode("utf-8", "replace") for part in output.split(b"\0") if part]


def _count(number: str) -> int | None:
    return int(number) if number.isdecimal() else None


def repository_of(folder: Path) -> Path:
    """The git folder of the repository that a person's folder belongs to; CloudCodeError when there is none."""
    try:
        found = run_git(["-C", str(folder.absolute()), "rev-parse", "--absolute-git-dir"])
    except GitError as error:
        raise CloudCodeError(error.code, f"{folder}: {error.message}", "Name a clone of the project.") from None
    return Path(found.decode().rstrip("\n"))


def fetch_branch(repository: Path, quarantine: Path, branch: str) -> None:
    """Bring the work that was checked in `quarantine` into a new branch of a repository; else E_RESTORE."""
    check_branch(branch)
    target = f"refs/heads/{branch}"
    if run_git(["for-each-ref", "--count=1", target], git_dir=repository):
        raise CloudCodeError(
            "E_RESTORE", f"{repository} has a branch {branch} already.", "Choose another name with --branch."
        )
    options = ["--no-tags", "--no-write-fetch-head", "--no-auto-maintenance", "--no-recurse-submodules", "--quiet"]
    run_git(["fetch", *options, "--", str(quarantine.absolute()), f"{RESULT}:{target}"], git_dir=repository)


def make_clone(folder: Path, url: str) -> Path:
    """A new repository in a new folder, whose remote is the project's; nothing is checked out yet."""
    run_git(["init", "--quiet", "--template=", "--initial-branch=nothing-yet", "--", str(folder.absolute())])
    git_dir = folder.absolute() / ".git"
    run_git(["remote", "add", "origin", url], git_dir=git_dir)
    return git_dir


def check_out(repository: Path, branch: str, folder: Path) -> None:
    """Lay the branch out: in `folder` as a worktree, or as the repository's own files if it lies in there.

    What was uncommitted when it was saved lies there uncommitted again.
    """
    place = ["-C", str(folder.absolute())]
    if repository == folder.absolute() / ".git":
        run_git([*place, "checkout", "--quiet", branch, "--"])
    else:
        run_git(["worktree", "add", "--quiet", str(folder.absolute()), branch], git_dir=repository)
    parent = uncommitted_parent(repository, f"refs/heads/{branch}")
    if parent is not None:
        run_git([*place, "reset", "--quiet", "--mixed", parent])
