"""What an attempt was given in secret, taken out of what it leaves behind in its workstation.

Coding CLIs keep what commands print in their homes, programs keep what they sign in with in files that git
ignores, and git keeps what was committed, whether or not it was pushed: another attempt's agent could read any.
"""

import os
import re
import stat
import time
import zlib
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path

from loguru import logger

from agent_daemon.clone import clone_lock
from agent_daemon.credentials import Given
from agent_daemon.git import GitError, git_paths, git_text
from agent_daemon.hiding import Mask
from agent_daemon.ownership import owned_since
from agent_daemon.parting import put_away, refuse_if_used
from agent_daemon.places import AttemptPlaces
from agent_daemon.protocol.paths import REPORTING
from agent_daemon.stage import STAGE

# What is larger is left, and what was not come to in this time: that is told in the log.
_MAX_BYTES = 64 * 1024 * 1024
_LONGEST_SECONDS = 120
_OF_CONTAINER = ("/tmp", "/var/tmp", "/tools")  # noqa: S108
_LOOSE = re.compile(r"objects/[0-9a-f]{2}/[0-9a-f]+$")


def folders_of_container() -> tuple[Path, ...]:
    """Where else the agents of a workstation's container write, one after the other; nothing on a host.

    The driver of containers sets the variable (`container_options`).
    """
    return tuple(map(Path, _OF_CONTAINER)) if os.environ.get("CLOUD_CODE_SIGN") else ()


def remove_traces(was_given: Given, places: AttemptPlaces, also: Iterable[Path] = ()) -> None:
    """At an attempt's end: blank what it was given in its CLIs' homes, in what git ignores in its worktree, and in
    its notes and logs; in files, in their names, and where links lead.

    A shared clone that holds it is marked. `also` are folders that are looked through as homes are. What is handed
    in stays as it is.
    """
    given = was_given.everything
    if not given:
        return
    # (to a daemon that was killed meanwhile it was given before)
    since = min(was_given.since, owned_since(places.worktree) or was_given.since)
    kept = (path for folder in (places.homes, *also) for path in _entries_in(folder))
    for path, data in _written_since(chain(kept, _ignored_in(places.worktree), _told_in(places.outbox)), since):
        if given.hides(data) or given.hides(os.fsencode(path.name)):
            _take_out(path, data, given)
    if places.own is None and _holds(places.clone, given, since):
        _mark(places.clone).touch()


def renew_marked(clone: Path, branch: str) -> None:
    """Remove a clone that holds secrets once nothing is in it that anybody needs: it is made anew from the mirror.

    `branch` is that of a task: while others of its kind are there, or a worktree, it stays. So it does where that
    fails, as while somebody works in it, and the next release tries again.
    """
    if not _mark(clone).exists():
        return
    try:
        _renew(clone, branch)
    except (OSError, GitError) as error:
        logger.warning("{} holds what an attempt was given in secret, and stays for now: {}", clone, error)


def _renew(clone: Path, branch: str) -> None:
    with clone_lock(clone):
        if clone.is_dir():
            kind = f"refs/heads/{branch.rpartition('/')[0]}"
            if any((clone / ".git/worktrees").glob("*")) or git_text("for-each-ref", kind, folder=clone):
                return
            refuse_if_used(clone)
            put_away(clone)
            logger.info("{} held what an attempt was given in secret, and is made anew", clone)
        _mark(clone).unlink(missing_ok=True)


def _mark(clone: Path) -> Path:
    return clone.with_name(f".{clone.name}.holds-secrets")


def _holds(clone: Path, given: Mask, since: int) -> bool:
    """Whether a value stands in what git has kept there since then, or in a name; packs are not looked into."""
    repository = clone / ".git"
    for path, data in _written_since(_entries_in(repository), since):
        name = str(path.relative_to(repository))
        if path.suffix == ".pack" or given.hides(os.fsencode(name)) or given.hides(data):
            return True
        if _LOOSE.search(name) and given.hides(_unpacked(data)):
            return True
    return False


def _unpacked(data: bytes) -> bytes:
    try:
        return zlib.decompressobj().decompress(data, _MAX_BYTES)
    except zlib.error:
        return b""


def _entries_in(folder: Path) -> Iterator[Path]:
    """Everything in it, folders after what is in them: they can be renamed."""
    return (
        Path(place, name) for place, within, names in os.walk(folder, topdown=False) for name in (*names, *within)
    )


def _told_in(outbox: Path) -> Iterator[Path]:
    """What is told of an attempt, or was put there by its agent, but for bundles and what its daemon goes by."""
    return (
        path
        for path in _entries_in(outbox)
        if path.parent != outbox or (path.suffix != ".bundle" and path.name not in (REPORTING, STAGE))
    )


def _ignored_in(worktree: Path) -> Iterator[Path]:
    """What git ignores in a worktree, and all of the repositories that were made or cloned into it."""
    listed = ("ls-files", "-z", "--others", "--exclude-standard")
    try:
        ignored = git_paths(*listed, "--ignored", folder=worktree)
        within = [name for name in git_paths(*listed, folder=worktree) if name.endswith(b"/")]
    except (GitError, OSError) as error:
        logger.warning("what git ignores in {} is not searched: {}", worktree, error)
        return
    for name in (*ignored, *within):
        path = worktree / os.fsdecode(name)
        yield from _entries_in(path) if name.endswith(b"/") else (path,)


def _written_since(files: Iterable[Path], since: int) -> Iterator[tuple[Path, bytes]]:
    """Files, links and folders that were made or changed since then, with their content: that of a link is where
    it leads, and a folder has none.
    """
    deadline = time.monotonic() + _LONGEST_SECONDS
    for path in files:
        if time.monotonic() > deadline:
            logger.warning("{} and the rest is not searched for what the attempt was given: it is too much", path)
            return
        try:
            found = path.lstat()
            if found.st_ctime_ns < since:
                continue
            if stat.S_ISLNK(found.st_mode):
                yield path, os.fsencode(path.readlink())
            elif stat.S_ISREG(found.st_mode) and found.st_size > _MAX_BYTES:
                logger.warning("{} is too large to be searched for what the attempt was given", path)
                yield path, b""
            else:
                yield path, path.read_bytes() if stat.S_ISREG(found.st_mode) else b""
        except OSError:  # it is gone, or not ours to read
            continue


def _take_out(path: Path, data: bytes, given: Mask) -> None:
    """In place: a database's other pages stay where they are. A link that leads there goes."""
    logger.info("what the attempt was given is taken out of {}", given.hide(str(path)))
    try:
        if given.hides(data):
            if path.is_symlink():
                path.unlink()
                return
            descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
            with os.fdopen(descriptor, "r+b") as file:
                file.write(given.blank(data))
        name = os.fsdecode(given.blank(os.fsencode(path.name)))
        if name != path.name:
            names = (name, *(f"{name}.{number}" for number in range(1, 1000)))
            path.rename(next(new for one in names if not os.path.lexists(new := path.with_name(one))))
    except (OSError, StopIteration) as error:
        logger.warning(
            "{} still holds what the attempt was given: {}", given.hide(str(path)), given.hide(str(error))
        )
