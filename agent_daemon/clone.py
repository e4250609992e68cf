"""A clone of a project: the workstation's hot one, or one task's own. Its refs are copied from the mirror.

Its objects are borrowed from the mirror, so that a branch is there as soon as its name is, and the mirror must
never lose one; or they are copied, for a task that is to be isolated. It knows no token and no remote but the
mirror, and fetches from none.
"""

import fcntl
import os
import shutil
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from loguru import logger

from agent_daemon.git import GitError, git, git_text

PROTOCOL_FOLDER = ".cloud-code"
# Aider keeps what it knows of a repository in there, and nowhere else.
_NO_WORK = (f"/{PROTOCOL_FOLDER}", "/.aider.tags.cache.*")

_REMOTE_REFS = "refs/remotes/origin/"
_LOCK_TIMEOUT_SECONDS = 900
_LOCK_RETRY_SECONDS = 0.02
_COPY_TIMEOUT_SECONDS = 3600
# The agent's git must not throw away what other worktrees borrow, nor push anywhere by mistake.
_CONFIGURATION = """\
[gc]
	auto = 0
[maintenance]
	auto = false
[remote "origin"]
	fetch = +refs/heads/*:refs/remotes/origin/*
	tagOpt = --no-tags
	pushurl = disabled:pushing-is-up-to-the-supervisor
"""


@contextmanager
def clone_lock(clone: Path) -> Iterator[int]:
    """Only one at a time changes a clone's list of worktrees; git itself fails when two do.

    Yields the lock's descriptor: a git that inherits it keeps the lock, should this process be killed.
    TimeoutError when it cannot be had within a quarter of an hour.
    """
    clone.parent.mkdir(parents=True, exist_ok=True)
    path = clone.parent / f".{clone.name}.lock"
    deadline = time.monotonic() + _LOCK_TIMEOUT_SECONDS
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    try:
        while not _locked(descriptor):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{path} has been locked for {_LOCK_TIMEOUT_SECONDS} s")
            time.sleep(_LOCK_RETRY_SECONDS)
        yield descriptor
    finally:
        os.close(descriptor)


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def ensure_clone(clone: Path, mirror: Path, *, borrow: bool = True, commits: Iterable[str] = ()) -> None:
    """Make the clone if there is none, and bring its remote branches to the mirror's state.

    Without `borrow` it gets objects of its own: those of the branches, and of these `commits` where the mirror
    has them.

    A clone is made under another name and renamed, so that one cut short by a crash is never taken for
    whole. One that git does not recognise any more is put aside as ``.<name>.broken-…`` and made anew.
    GitError when the mirror cannot be read.
    """
    with clone_lock(clone):
        for leftover in clone.parent.glob(f".{clone.name}.new-*"):
            shutil.rmtree(leftover, ignore_errors=True)
        if clone.exists() and not _is_sound(clone):
            aside = clone.parent / f".{clone.name}.broken-{uuid.uuid4().hex[:8]}"
            logger.error("the clone {} is damaged: moved to {}", clone, aside)
            clone.rename(aside)
        if not clone.exists():
            _make(clone, mirror)
        _remove_stale_locks(clone)
        branches = _refs(mirror, "refs/heads/", _REMOTE_REFS)
        if borrow:
            _borrow(clone, mirror)
        else:
            _copy_objects(clone, mirror, {*branches.values(), *commits})
        exclude_protocol_folder(clone)
        _set_branches(clone, branches)


def _is_sound(clone: Path) -> bool:
    try:
        return git_text("rev-parse", "--path-format=absolute", "--git-dir", folder=clone) == os.path.realpath(
            clone / ".git"
        )
    except GitError:
        return False


def _make(clone: Path, mirror: Path) -> None:
    new = clone.parent / f".{clone.name}.new-{uuid.uuid4().hex[:8]}"
    new.mkdir()
    object_format = git_text("rev-parse", "--show-object-format", folder=mirror)
    # No task's branch may have the name that is checked out here, so it is one that nobody uses.
    git(
        "init",
        "--quiet",
        "--template=",
        f"--object-format={object_format}",
        "--initial-branch=nothing-is-checked-out-here",
        folder=new,
    )
    with (new / ".git/config").open("a") as file:
        file.write(_CONFIGURATION)
    git("config", "remote.origin.url", str(mirror), folder=new)
    new.rename(clone)


def _borrow(clone: Path, mirror: Path) -> None:
    alternates = clone / ".git/objects/info/alternates"
    borrowed = f"{(mirror / 'objects').absolute()}\n"
    if not alternates.is_file() or alternates.read_text(errors="replace") != borrowed:
        alternates.parent.mkdir(parents=True, exist_ok=True)
        alternates.write_text(borrowed)


def _copy_objects(clone: Path, mirror: Path, commits: set[str]) -> None:
    """Put everything that these commits reach, and the clone lacks, into a pack of the clone's own."""
    quoted = str((mirror / "objects").absolute()).replace("\\", "\\\\").replace('"', '\\"')
    seeing_both = {"GIT_ALTERNATE_OBJECT_DIRECTORIES": f'"{quoted}"'}
    missing = commits - _present(clone, commits)
    wanted = _present(clone, missing, seeing_both)
    if wanted:
        known = _present(clone, set(_refs(clone, _REMOTE_REFS, _REMOTE_REFS).values()))
        revisions = [*sorted(wanted), *(f"^{sha}" for sha in sorted(known))]
        git(
            "pack-objects",
            "--quiet",
            "--revs",
            "--delta-base-offset",
            str((clone / ".git/objects/pack/pack").absolute()),
            folder=clone,
            environment=seeing_both,
            stdin="".join(f"{revision}\n" for revision in revisions).encode(),
            timeout_seconds=_COPY_TIMEOUT_SECONDS,
        )


def _present(clone: Path, commits: set[str], environment: Mapping[str, str] | None = None) -> set[str]:
    """Those of the commits that can be read here."""
    asked = "".join(f"{sha}\n" for sha in sorted(commits)).encode()
    listing = git("cat-file", "--batch-check=%(objectname)", folder=clone, stdin=asked, environment=environment)
    return commits.intersection(listing.decode().splitlines())


def exclude_protocol_folder(clone: Path) -> None:
    """Keep ``.cloud-code`` and a CLI's cache out of what git takes for untracked, in all worktrees of a clone."""
    exclude = clone / ".git/info/exclude"
    present = exclude.read_text(errors="replace") if exclude.is_file() else ""
    missing = [line for line in _NO_WORK if line not in present.splitlines()]
    if missing:
        exclude.parent.mkdir(parents=True, exist_ok=True)
        exclude.write_text("\n".join([present.rstrip(), *missing, ""]).lstrip())


def _remove_stale_locks(clone: Path) -> None:
    """What a killed git left: here nobody else changes these, for the clone's own lock is held."""
    repository = clone / ".git"
    for lock in [*repository.glob("*.lock"), *repository.glob("refs/remotes/**/*.lock")]:
        logger.warning("removed the stale lock {}", lock)
        lock.unlink(missing_ok=True)


def _set_branches(clone: Path, wanted: Mapping[str, str]) -> None:
    present = _refs(clone, _REMOTE_REFS, _REMOTE_REFS)
    gone = [f"delete {name}\0\0".encode() for name in present if name not in wanted]
    new = [f"update {name}\0{sha}\0\0".encode() for name, sha in wanted.items() if present.get(name) != sha]
    # Removed first, in a change of its own: the branch `a` stands in the way of `a/b`.
    for changes in (gone, new):
        if changes:
            git("update-ref", "--stdin", "-z", folder=clone, stdin=b"".join(changes))


def _refs(repository: Path, prefix: str, renamed: str) -> dict[str, str]:
    listing = git_text("for-each-ref", "--format=%(objectname) %(refname)", prefix, folder=repository)
    pairs = (line.split(" ", 1) for line in listing.splitlines())
    return {renamed + name.removeprefix(prefix): sha for sha, name in pairs}
