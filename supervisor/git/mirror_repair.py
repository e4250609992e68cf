"""A damaged mirror: what is wrong with it, and a sound one put in its place while clones go on borrowing."""

import contextlib
import ctypes
import errno
import hashlib
import os
import re
import shutil
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from agent_daemon.protocol.files import make_folder
from supervisor.git.command import Credential, run_git
from supervisor.git.errors import GitError
from supervisor.git.mirror import Mirror, clone_beside, locked, pin
from supervisor.git.names import check_url

_CHECK_SECONDS = 3_600
_LOCK_SECONDS = 60
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2
_LOOSE = re.compile(r"^[0-9a-f]{2}/[0-9a-f]{38}$")


@dataclass(frozen=True, kw_only=True)
class Renewed:
    """A damaged mirror lies in `aside` now; `reason` says what was wrong with it. Nothing removes it."""

    aside: Path
    reason: str


def find_damage(mirror: Mirror) -> str | None:
    """What is wrong with the mirror, in words; None when every object that it has and needs is whole.

    All of its objects are read, which takes as long as a fresh clone. How upstream's old commits were written
    is not judged. GitError when it could not be looked at.
    """
    packs = sorted((mirror.path / "objects/pack").glob("*.pack"))
    try:
        run_git(["for-each-ref", "--count=1"], git_dir=mirror.path)
        for pack in packs:
            arguments = ["verify-pack", "--", str(pack.with_suffix(".idx").absolute())]
            run_git(arguments, git_dir=mirror.path, timeout_seconds=_CHECK_SECONDS)
        broken = next((name for name, sound in _loose_objects(mirror) if not sound), None)
        if broken is not None:
            return f"the object {broken} is damaged"
        arguments = ["rev-list", "--objects", "--all", "--quiet"]
        run_git(arguments, git_dir=mirror.path, timeout_seconds=_CHECK_SECONDS)
    except GitError as error:
        if error.exit_code is None or error.code == "E_STATE_DISK":
            raise
        return error.stderr_tail.strip().split("\n", 1)[0][:300] or error.message
    return None


def renew_mirror(mirror: Mirror, url: str, credential: Credential | None = None) -> Renewed | None:
    """Put a sound mirror in the place of a damaged one; None, and nothing done, when it is not damaged.

    The new one is fetched from upstream and gets every whole object of the old one, for clones may borrow
    commits that upstream has thrown away. It takes the old one's path in one step; the old one is kept.
    GitError as `fetch_mirror`; then all is as before.
    """
    check_url(url)
    with locked(mirror, _LOCK_SECONDS):
        reason = find_damage(mirror)
        if reason is None:
            return None
        fresh = Mirror(clone_beside(mirror, url, credential))
        _keep_objects(mirror, fresh)
        _keep_pins(mirror, fresh)
        aside = fresh.path.rename(_free_name(mirror.path))  # (before the swap: what stands there is never cleared)
        _exchange(aside, mirror.path)
        return Renewed(aside=aside, reason=reason)


def _loose_objects(mirror: Mirror) -> Iterator[tuple[str, bool]]:
    """The objects that lie in files of their own, and whether their content is what their name says."""
    folder = mirror.path / "objects"
    for path in sorted(folder.glob("[0-9a-f][0-9a-f]/*")):
        name = str(path.relative_to(folder))
        if _LOOSE.match(name):
            yield name.replace("/", ""), _is_whole(path, name.replace("/", ""))


def _is_whole(path: Path, name: str) -> bool:
    digest = hashlib.sha1(usedforsecurity=False)
    unpacked = zlib.decompressobj()
    try:
        with path.open("rb") as file:
            while chunk := file.read(64 * 1024):
                digest.update(unpacked.decompress(chunk, 1024 * 1024))
                while unpacked.unconsumed_tail:
                    digest.update(unpacked.decompress(unpacked.unconsumed_tail, 1024 * 1024))
    except (zlib.error, OSError):
        return False
    return unpacked.eof and digest.hexdigest() == name


def _keep_objects(old: Mirror, fresh: Mirror) -> None:
    """Give the fresh mirror what only the old one has, as far as it is whole."""
    for name, sound in _loose_objects(old):
        target = fresh.path / "objects" / name[:2] / name[2:]
        if sound and not target.exists():
            make_folder(target.parent)
            shutil.copyfile(old.path / "objects" / name[:2] / name[2:], target)
            target.chmod(0o444)
    for pack in sorted((old.path / "objects/pack").glob("*.pack")):
        with pack.open("rb") as file:
            try:
                run_git(
                    ["unpack-objects", "-r", "-q"],  # (-r: go on after what cannot be read)
                    git_dir=fresh.path,
                    stdin=file,
                    timeout_seconds=_CHECK_SECONDS,
                )
            except GitError as error:
                if error.exit_code is None or error.code == "E_STATE_DISK":
                    raise


def _keep_pins(old: Mirror, fresh: Mirror) -> None:
    """Read from the files, for git may not take the old one for a repository any more."""
    pins: dict[str, str] = {}
    with contextlib.suppress(OSError):
        for line in (old.path / "packed-refs").read_text(errors="replace").splitlines():
            sha, _, task_id = line.partition(" refs/pins/")
            pins[task_id] = sha
    for path in (old.path / "refs/pins").glob("*"):
        with contextlib.suppress(OSError):
            pins[path.name] = path.read_text(errors="replace").strip()
    for task_id, sha in pins.items():
        with contextlib.suppress(GitError):  # no pin; or lost for good, for upstream too has thrown it away
            pin(fresh, task_id, sha)


def _free_name(path: Path) -> Path:
    number = 1
    while (found := path.with_name(f"{path.name}.damaged-{number}")).exists():
        number += 1
    return found


def _exchange(one: Path, other: Path) -> None:
    """Swap two folders in one step, so that a git that runs at this moment finds one or the other."""
    libc = ctypes.CDLL(None, use_errno=True)
    names = (_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other))
    if libc.renameat2(*names, _RENAME_EXCHANGE) == 0:
        return
    number = ctypes.get_errno()
    if number not in (errno.EINVAL, errno.ENOSYS):
        raise OSError(number, os.strerror(number), str(other))
    between = one.with_name(one.name + ".swap")  # a file system that cannot swap: two steps, one after the other
    other.rename(between)
    one.rename(other)
    between.rename(one)
