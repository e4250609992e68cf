"""The bare copy of one upstream repository that every workstation borrows objects from.

It holds people's branches and the pinned bases of tasks, never a branch of ours and never a token; nothing
is ever pruned from it, for clones borrow its objects.
"""

import contextlib
import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from filelock import FileLock, Timeout

from supervisor.git.command import Credential, Limits, run_git
from supervisor.git.errors import GitError
from supervisor.git.names import check_branch, check_task_id, check_url, is_loopback, is_sha

_REFSPECS = ("+refs/heads/*:refs/heads/*", "^refs/heads/cloud-code/*")
_FETCH_SECONDS = 1_800
_LOOK_SECONDS = 60


@dataclass(frozen=True)
class Mirror:
    """A bare repository at this path; it need not exist before the first `fetch_mirror`."""

    path: Path


@dataclass(frozen=True, kw_only=True)
class StartBundle:
    """A file from which a workstation continues: the branch's tip, the file's size in bytes and its hash."""

    path: Path
    tip: str
    size: int
    sha256: str


def fetch_mirror(
    mirror: Mirror,
    url: str,
    credential: Credential | None = None,
    *,
    timeout_seconds: float = _FETCH_SECONDS,
    lock_seconds: float = _FETCH_SECONDS,
) -> None:
    """Bring the mirror up to date with the remote's branches, making it when it is missing.

    GitError: E_EMPTY_REPOSITORY, E_NO_REPOSITORY, E_AUTHENTICATION, E_UNREACHABLE, E_MIRROR_BUSY, E_URL,
    E_OBJECTS_DAMAGED (see `mirror_repair`).
    """
    check_url(url)
    with locked(mirror, lock_seconds):
        if mirror.path.exists():
            _fetch(mirror.path, url, credential, timeout_seconds)
        else:
            clone_beside(mirror, url, credential, timeout_seconds).rename(mirror.path)


def clone_beside(
    mirror: Mirror, url: str, credential: Credential | None, timeout_seconds: float = _FETCH_SECONDS
) -> Path:
    """A fresh mirror of the remote beside the place of this one, whose lock is held. GitError: nothing is left."""
    fresh = mirror.path.with_name(mirror.path.name + ".new")
    shutil.rmtree(fresh, ignore_errors=True)
    make_repository(fresh)
    with (fresh / "config").open("a") as file:
        file.write("[gc]\n\tauto = 0\n\tpruneExpire = never\n[maintenance]\n\tauto = false\n")
    try:
        _fetch(fresh, url, credential, timeout_seconds)
        if not run_git(["for-each-ref", "--count=1", "refs/heads/"], git_dir=fresh):
            raise GitError("E_EMPTY_REPOSITORY", "The repository has no commits yet; push a first one to it.")
    except GitError:
        shutil.rmtree(fresh, ignore_errors=True)
        raise
    return fresh


def _fetch(git_dir: Path, url: str, credential: Credential | None, timeout_seconds: float) -> None:
    fetch(git_dir, url, _REFSPECS, credential, prune=True, timeout_seconds=timeout_seconds)


def fetch(
    git_dir: Path,
    url: str,
    refspecs: tuple[str, ...],
    credential: Credential | None,
    *,
    prune: bool = False,
    timeout_seconds: float = _FETCH_SECONDS,
) -> None:
    """Fetch these refs from a checked address, no tags, no submodules, nothing tidied up."""
    options = ["--no-tags", "--no-write-fetch-head", "--no-auto-maintenance", "--quiet"]
    run_git(
        ["fetch", *options, *(["--prune"] if prune else []), "--", url, *refspecs],
        git_dir=git_dir,
        environment=header_for(url, credential),
        timeout_seconds=timeout_seconds,
    )


def header_for(url: str, credential: Credential | None) -> dict[str, str]:
    """The variables that carry a credential to its own host: none for others, whose programs would see them.

    Plain http is let through to this very machine alone, and then nothing else.
    """
    plain = (
        {"GIT_ALLOW_PROTOCOL": "http"} if url.startswith("http://") and is_loopback(urlsplit(url).netloc) else {}
    )
    if credential is None or not url.startswith(f"{credential.scheme}://"):
        return plain
    return plain | credential.environment()


def make_repository(path: Path, borrow_from: Mirror | None = None) -> None:
    """A fresh bare repository without template; with `borrow_from` it sees the mirror's objects too."""
    path.parent.mkdir(parents=True, exist_ok=True)
    run_git(["init", "--bare", "--quiet", "--template=", "--", str(path.absolute())], owner=path)
    if borrow_from is None:
        return
    objects = str(borrow_from.path.resolve() / "objects")
    if "\n" in objects or objects.startswith('"'):
        raise GitError("E_MIRROR_PATH", "The mirror's path holds a line break.")
    information = path / "objects" / "info"
    information.mkdir(exist_ok=True)
    (information / "alternates").write_text(objects + "\n")


@contextlib.contextmanager
def locked(mirror: Mirror, timeout_seconds: float) -> Iterator[None]:
    """Hold the mirror for oneself. GitError E_MIRROR_BUSY when it cannot be had in time."""
    mirror.path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(f"{mirror.path}.lock", timeout=timeout_seconds):
            yield
    except Timeout:
        message = f"The mirror {mirror.path.name} is in use by another fetch."
        raise GitError("E_MIRROR_BUSY", message, retryable=True) from None


def resolve(mirror: Mirror, ref: str) -> str | None:
    """The commit that a whole ref, a branch's name or a hash stands for in the mirror; None when it lacks it."""
    if not is_sha(ref) and not ref.startswith("refs/"):
        ref = f"refs/heads/{ref}"
    if not is_sha(ref):
        check_branch(ref)
    try:
        found = run_git(["rev-parse", "--verify", "--quiet", f"{ref}^{{commit}}"], git_dir=mirror.path)
    except GitError as error:
        if error.exit_code == 1:
            return None
        raise
    return found.decode().strip()


def branch_tip(mirror: Mirror, branch: str) -> str:
    """The commit at the tip of a branch in the mirror; E_NO_BRANCH when there is no such branch."""
    check_branch(branch)
    tip = resolve(mirror, f"refs/heads/{branch}")
    if tip is None:
        raise GitError("E_NO_BRANCH", f"The repository has no branch {branch}.")
    return tip


def pin(mirror: Mirror, task_id: str, sha: str) -> None:
    """Keep this commit for a task, whatever happens to the branches; again is no change."""
    check_task_id(task_id)
    if resolve(mirror, sha) is None:
        raise GitError("E_NO_COMMIT", f"The mirror has no commit {sha}.")
    run_git(["update-ref", f"refs/pins/{task_id}", sha], git_dir=mirror.path)


def pins(mirror: Mirror) -> tuple[str, ...]:
    """The tasks that commits are kept for."""
    listing = run_git(["for-each-ref", "--format=%(refname)", "refs/pins/"], git_dir=mirror.path)
    return tuple(line.removeprefix("refs/pins/") for line in listing.decode().splitlines())


def unpin(mirror: Mirror, task_id: str) -> None:
    """Forget a task's pin; no error when there is none."""
    check_task_id(task_id)
    run_git(["update-ref", "-d", f"refs/pins/{task_id}"], git_dir=mirror.path)


def is_ancestor(mirror: Mirror, sha: str, branch: str) -> bool:
    """Whether the branch contains the commit; False when the mirror lacks either."""
    tip = resolve(mirror, f"refs/heads/{branch}")
    if tip is None or resolve(mirror, sha) is None:
        return False
    return descends(mirror.path, sha, tip)


def contained(mirror: Mirror, shas: Iterable[str], branch: str) -> set[str]:
    """Those of the commits that the branch contains; empty when the mirror lacks the branch.

    One look tells which of them the mirror has at all: before they are merged, commits of ours are not there.
    """
    asked = "".join(f"{sha}\n" for sha in set(shas)).encode()
    listing = run_git(["cat-file", "--batch-check=%(objectname)"], git_dir=mirror.path, stdin=asked).decode()
    present = [line for line in listing.splitlines() if is_sha(line)]
    return {sha for sha in present if is_ancestor(mirror, sha, branch)}


def descends(git_dir: Path, ancestor: str, commit: str, limits: Limits | None = None) -> bool:
    """Whether `commit` is `ancestor` or comes after it; both exist."""
    try:
        run_git(["merge-base", "--is-ancestor", ancestor, commit], git_dir=git_dir, limits=limits)
    except GitError as error:
        if error.exit_code == 1:
            return False
        raise
    return True


def default_branch(url: str, credential: Credential | None = None, *, owner: Path | None = None) -> str:
    """The branch that the remote's HEAD names. GitError: E_EMPTY_REPOSITORY, E_NO_BRANCH, as `fetch_mirror`."""
    lines = _look(url, ["--symref"], "HEAD", credential, owner)
    for line in lines:
        target, _, name = line.partition("\t")
        if name == "HEAD" and target.startswith("ref: refs/heads/"):
            return target.removeprefix("ref: refs/heads/")
    if not lines:
        raise GitError("E_EMPTY_REPOSITORY", "The repository has no commits yet; push a first one to it.")
    raise GitError("E_NO_BRANCH", "The remote's HEAD names no branch; configure base_branch.")


def remote_tip(
    url: str, branch: str, credential: Credential | None = None, *, owner: Path | None = None
) -> str | None:
    """The commit that the remote's branch is at now; None when it has no such branch."""
    check_branch(branch)
    for line in _look(url, ["--heads"], f"refs/heads/{branch}", credential, owner):
        sha, _, name = line.partition("\t")
        if name == f"refs/heads/{branch}" and is_sha(sha):
            return sha
    return None


def branch_tips(
    url: str, pattern: str, credential: Credential | None = None, *, owner: Path | None = None
) -> dict[str, str]:
    """The remote's branches that fit the pattern, such as ``cloud-code/*``, and their commits now."""
    prefix, tips = "refs/heads/", {}
    for line in _look(url, ["--heads"], f"{prefix}{pattern}", credential, owner):
        sha, _, name = line.partition("\t")
        if name.startswith(prefix) and is_sha(sha):
            tips[name.removeprefix(prefix)] = sha
    return tips


def _look(
    url: str, options: list[str], pattern: str, credential: Credential | None, owner: Path | None
) -> list[str]:
    check_url(url)
    listing = run_git(
        ["ls-remote", *options, "--", url, pattern],
        environment=header_for(url, credential),
        timeout_seconds=_LOOK_SECONDS,
        owner=owner,
    )
    return listing.decode("utf-8", "replace").splitlines()


def make_start_bundle(
    mirror: Mirror,
    url: str,
    branch: str,
    base_commit: str,
    *,
    scratch: Path,
    target: Path,
    credential: Credential | None = None,
) -> StartBundle | None:
    """Write base_commit..tip of the remote's branch to `target`; None when the tip brings nothing new.

    People's commits are included. They pass through a throw-away repository at `scratch`, not the mirror.
    GitError: E_NO_BRANCH, and as `fetch_mirror`.
    """
    check_url(url)
    check_branch(branch)
    shutil.rmtree(scratch, ignore_errors=True)
    make_repository(scratch, mirror)
    ref = f"refs/heads/{branch}"
    try:
        fetch(scratch, url, (f"+{ref}:{ref}",), credential)
        tip = run_git(["rev-parse", "--verify", ref], git_dir=scratch).decode().strip()
        if descends(scratch, tip, base_commit):
            return None
        arguments = ["bundle", "create", "--quiet", "--version=2", str(target.absolute()), ref, f"^{base_commit}"]
        run_git(arguments, git_dir=scratch)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    with target.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return StartBundle(path=target, tip=tip, size=target.stat().st_size, sha256=digest)


def maintain(mirror: Mirror, *, timeout_seconds: float = _FETCH_SECONDS) -> None:
    """Pack what has accumulated, for speed; keeps every object, reachable or not. E_MIRROR_BUSY."""
    with locked(mirror, 0):
        arguments = ["repack", "-a", "-d", "--keep-unreachable", "--no-write-bitmap-index", "--quiet"]
        run_git(arguments, git_dir=mirror.path, timeout_seconds=timeout_seconds)
        run_git(["pack-refs", "--all"], git_dir=mirror.path)


def remove_stale_locks(mirror: Mirror) -> tuple[Path, ...]:
    """Remove what a killed git left: locks, and halves of packs. Call it when no git runs there. E_MIRROR_BUSY."""
    removed = []
    with locked(mirror, 0):
        for folder, _, names in os.walk(mirror.path):
            for name in names:
                # A branch's name cannot end in ".lock", and objects are never called "tmp_…".
                if name.endswith(".lock") or name.startswith(("tmp_", ".tmp-")):
                    removed.append(Path(folder, name))
                    removed[-1].unlink(missing_ok=True)
    return tuple(removed)
