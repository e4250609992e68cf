"""The task's git worktree: made, looked at, put in order, and removed.

Submodules are not initialised, and files of git-lfs stay pointers (see `agent_daemon.external`).
"""

import contextlib
import glob
import os
import shutil
import stat
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from loguru import logger

from agent_daemon.clone import PROTOCOL_FOLDER, clone_lock, exclude_protocol_folder
from agent_daemon.git import GitError, commit_of, git, git_paths, git_text
from agent_daemon.protocol.errors import Problem, ProtocolError
from agent_daemon.protocol.files import read_file

SALVAGE_TRAILER = "Cloud-Code-Salvage"
SALVAGE_VALUE = "uncommitted"
# Where a `.gitignore` is removed, what it named is seen and removed by the next one.
_CLEANINGS = 10

# Git writes a path, or a sentence.
_REGISTRATION_BYTES = 16 * 1024


@dataclass(frozen=True, kw_only=True)
class WorktreeRequest:
    """What the worktree is to be: `branch` at `start_commit`, or at `base_commit` where there is none.

    `start_bundle` brings the objects of `start_commit` that the mirror lacks.
    """

    clone: Path
    worktree: Path
    branch: str
    base_commit: str
    start_commit: str | None = None
    start_bundle: Path | None = None


def ensure_worktree(request: WorktreeRequest) -> Literal["created", "existing"]:
    """Make the worktree, or leave the one that is there as it is, for work goes on in it.

    One that git had only begun to make is made anew. Where the start commit holds salvaged uncommitted
    work, its parent is the start and the rest lies in the worktree, uncommitted. ProtocolError when the
    start cannot be had (``E_START_COMMIT``) or something else stands in the place
    (``E_WORKTREE_OCCUPIED``).
    """
    with clone_lock(request.clone) as lock:
        _finish_removals(request.worktree)
        registration = registration_of(request.clone, request.worktree)
        if registration is not None and is_half_made(registration, request.worktree):
            _unregister(request.clone, request.worktree, registration)
            if request.worktree.exists():
                remove_folder(request.worktree)
            registration = None
        if registration is not None:
            repair(request.worktree, registration)
            _unpack_salvage(request.worktree)
            return "existing"
        refuse_occupied(request.worktree)
        start = start_commit(request)
        request.worktree.parent.mkdir(parents=True, exist_ok=True)
        git(
            "worktree",
            "add",
            "--quiet",
            "--no-track",
            "-B",
            request.branch,
            str(request.worktree.absolute()),
            start,
            folder=request.clone,
            keep_open=lock,
        )
        _unpack_salvage(request.worktree)
        return "created"


def remove_worktree(clone: Path, worktree: Path, branch: str) -> None:
    """Remove a worktree whose work is saved elsewhere, with its branch; one that is gone is no error."""
    with clone_lock(clone):
        # Renamed first: a removal cut short must never look like a worktree with files deleted in it.
        if worktree.is_symlink():
            worktree.unlink()
        elif worktree.exists():
            worktree.rename(_removal_name(worktree))
        registration = registration_of(clone, worktree)
        if registration is not None:
            _unregister(clone, worktree, registration)
        git("update-ref", "-d", f"refs/heads/{branch}", folder=clone, check=False)
        _finish_removals(worktree)


def remove_own_folder(own: Path) -> None:
    """Remove the folder that a task had for itself, with its clone, unless anything but that is left in it.

    A worktree that a later attempt works in, or one that holds unsaved work, keeps all of it.
    """
    _finish_removals(own)
    if not own.is_dir() or own.is_symlink():
        return
    left = [entry.name for entry in own.iterdir() if not _is_of_no_worth(entry.name)]
    if left:
        logger.info("{} stays, for there is {}", own, ", ".join(sorted(left)[:5]))
        return
    own.rename(_removal_name(own))
    _finish_removals(own)


def _is_of_no_worth(name: str) -> bool:
    """Whether an entry of a task's own folder may go with it: what the clone and our own notes are made of."""
    return name in (
        "repository",
        "home",
        ".repository.lock",
        ".worktree.owner",
        ".worktree.left",
    ) or name.startswith((".repository.new-", ".worktree.removed-"))


def link_protocol_files(worktree: Path, targets: Mapping[str, Path]) -> None:
    """Make or restore ``.cloud-code/NAME`` as links to the attempt's files, and keep them out of commits."""
    folder = worktree / PROTOCOL_FOLDER
    if folder.is_symlink() or folder.is_file():
        folder.unlink()
    folder.mkdir(exist_ok=True)
    for name, target in targets.items():
        link = folder / name
        if link.is_symlink() and link.readlink() == target:
            continue
        fresh = folder / f".{name}.{uuid.uuid4().hex[:8]}"
        fresh.symlink_to(target)
        try:
            fresh.replace(link)
        except IsADirectoryError:
            fresh.unlink()
            logger.warning("{} is a folder and stays", link)
    common = git_text("rev-parse", "--path-format=absolute", "--git-common-dir", folder=worktree)
    exclude_protocol_folder(Path(common).parent)


def head(worktree: Path) -> str:
    """The commit that is checked out; GitError when HEAD stands for none."""
    return git_text("rev-parse", "--verify", "HEAD^{commit}", folder=worktree)


def dirt(worktree: Path) -> list[str]:
    """The paths that differ from HEAD: changed, staged, deleted, or untracked and not ignored."""
    listed = git_paths("status", "--porcelain=v1", "-z", "--untracked-files=all", "--no-renames", folder=worktree)
    paths = (entry[3:].decode("utf-8", "replace") for entry in listed)
    return [path for path in paths if path.split("/", 1)[0] != PROTOCOL_FOLDER]


def put_on_branch(worktree: Path, branch: str) -> None:
    """Make the task's branch name stand for HEAD and check it out, wherever the agent left HEAD."""
    name = f"refs/heads/{branch}"
    commit = head(worktree)
    if git_text("symbolic-ref", "--quiet", "HEAD", folder=worktree, check=False) != name:
        git("update-ref", "-m", "cloud-code: the task's result", name, commit, folder=worktree)
        git("symbolic-ref", "HEAD", name, folder=worktree)


def put_back(worktree: Path, branch: str, commit: str, tree: str) -> None:
    """Bring the worktree to `commit` on `branch`, with the files of `tree`, and beside them ignored ones."""
    for begun in ("rebase", "merge", "cherry-pick"):
        git(begun, "--quit", folder=worktree, check=False)
    name = f"refs/heads/{branch}"
    git("update-ref", "-m", "cloud-code: put back", name, commit, folder=worktree)
    git("symbolic-ref", "HEAD", name, folder=worktree)
    git("read-tree", "--reset", "-u", tree, folder=worktree)
    for _ in range(_CLEANINGS):
        if not git("clean", "-ffd", folder=worktree):
            break
    git("reset", "--quiet", "--mixed", commit, folder=worktree)


def restore_tracked(worktree: Path) -> None:
    """Give the files of HEAD their content back; what git does not track stays."""
    git("reset", "--quiet", "--hard", "HEAD", folder=worktree)


def remove_stale_locks(worktree: Path) -> None:
    """Remove the index and HEAD locks of a git that was killed; only when no process of the task is left."""
    folder = Path(git_text("rev-parse", "--path-format=absolute", "--git-dir", folder=worktree))
    for name in ("index.lock", "HEAD.lock"):
        if (folder / name).exists():
            logger.warning("removed the stale lock {}", folder / name)
            (folder / name).unlink(missing_ok=True)


def start_commit(request: WorktreeRequest) -> str:
    """The commit to start from, its objects brought into the clone; ProtocolError (E_START_COMMIT) without it."""
    if request.start_bundle is not None:
        try:
            git("bundle", "unbundle", str(request.start_bundle.absolute()), folder=request.clone)
        except GitError as error:
            raise _start_problem(f"its bundle cannot be read: {error.reason}") from error
    wanted = request.start_commit or request.base_commit
    if commit_of(request.clone, wanted) is None:
        raise _start_problem(f"{wanted} is neither in the mirror nor in the start bundle")
    return wanted


def _start_problem(reason: str) -> ProtocolError:
    return ProtocolError(
        Problem(
            code="E_START_COMMIT",
            message=f"the commit to start from is missing: {reason}",
            place="tasks[0].start_commit",
            mend="fetch the mirror, or write the tasking with a commit that it has",
        )
    )


def refuse_occupied(worktree: Path) -> None:
    """ProtocolError (E_WORKTREE_OCCUPIED) when something stands where no worktree of the clone is known."""
    if worktree.is_symlink() or (worktree.exists() and (not worktree.is_dir() or any(worktree.iterdir()))):
        raise ProtocolError(
            Problem(
                code="E_WORKTREE_OCCUPIED",
                message="something that is no worktree of the clone stands where the worktree should be",
                file=str(worktree),
                mend="look at it and move it away",
            )
        )


def set_cut_off_aside(clone: Path, worktree: Path) -> None:
    """Move away what a power cut left of a worktree just made: git itself writes neither file empty.

    Only for one that the clone does not know. Its files may be empty, too; whoever misses something finds them.
    """
    mark = worktree / ".git"
    if worktree.is_symlink() or mark.is_symlink() or not mark.is_file() or mark.stat().st_size:
        return
    for entry in (clone / ".git/worktrees").glob(f"{glob.escape(worktree.name)}*/gitdir"):
        if not entry.stat().st_size:
            shutil.rmtree(entry.parent, ignore_errors=True)
    target = worktree.with_name(f"{worktree.name}.cut-off-{uuid.uuid4().hex[:8]}")
    worktree.rename(target)
    logger.warning("{} was cut off while it was written: what is left of it lies in {}", worktree, target)


def registration_of(clone: Path, worktree: Path) -> Path | None:
    """The folder in which the clone keeps this worktree's HEAD and index, whether or not its files exist."""
    wanted = os.path.join(os.path.realpath(worktree.parent), worktree.name, ".git")
    entries = (clone / ".git/worktrees").glob("*")
    found = [entry for entry in entries if _written_in(entry, "gitdir").strip() == wanted]  # (each is looked at)
    return found[0] if found else None


def _written_in(entry: Path, name: str) -> str:
    """What stands in a file of a registration. What git never writes goes: git would wait for a pipe's writer."""
    try:
        found = read_file(entry.parent, f"{entry.name}/{name}", max_bytes=_REGISTRATION_BYTES)
        return found.data.decode(errors="replace")
    except ProtocolError as error:
        logger.warning("{} of the registration {} goes, for git wrote no such thing: {}", name, entry, error)
        with contextlib.suppress(OSError):
            (entry if entry.is_symlink() else entry / name).unlink()
    except OSError:  # it is gone, or a folder
        pass
    return ""


def is_half_made(registration: Path, worktree: Path) -> bool:
    """Git marks a worktree while it makes it and writes the index last: such a one was never given out."""
    if not worktree.is_dir():
        return True
    return "initializing" in _written_in(registration, "locked") and not (registration / "index").exists()


def _unregister(clone: Path, worktree: Path, registration: Path) -> None:
    with contextlib.suppress(GitError):
        git("worktree", "unlock", str(worktree), folder=clone)
    shutil.rmtree(registration, ignore_errors=True)


def find_again(clone: Path, worktree: Path) -> None:
    """Should the agent have bent how a worktree finds its clone: put it right, so that no work is out of reach."""
    registration = registration_of(clone, worktree)
    if registration is not None and worktree.is_dir():
        repair(worktree, registration)


def repair(worktree: Path, registration: Path) -> None:
    """Restore the two files by which a worktree and its clone find each other."""
    pointer = worktree / ".git"
    wanted = f"gitdir: {registration.resolve()}\n"
    if pointer.is_symlink() or not pointer.is_file() or pointer.read_text(errors="replace") != wanted:
        logger.warning("restored {}", pointer)
        if pointer.is_dir() and not pointer.is_symlink():
            pointer.rename(worktree.parent / f".{worktree.name}.git-{uuid.uuid4().hex[:8]}")
        pointer.unlink(missing_ok=True)
        pointer.write_text(wanted)
    (registration / "locked").unlink(missing_ok=True)


def _unpack_salvage(worktree: Path) -> None:
    """Safe to repeat: afterwards HEAD is no salvage commit any more."""
    below = below_salvage(worktree, "HEAD")
    if below is not None:
        git("reset", "--quiet", "--mixed", below, folder=worktree)


def below_salvage(folder: Path, commit: str) -> str | None:
    """The parent of a commit that holds salvaged uncommitted work; None for every other commit."""
    form = f"--format=%P%n%(trailers:key={SALVAGE_TRAILER},valueonly)"
    parents, _, trailer = git_text("log", "-1", form, commit, folder=folder, check=False).partition("\n")
    return parents.split()[0] if trailer.strip() == SALVAGE_VALUE and parents else None


def _removal_name(worktree: Path) -> Path:
    return worktree.parent / f".{worktree.name}.removed-{uuid.uuid4().hex[:8]}"


def _finish_removals(worktree: Path) -> None:
    for leftover in worktree.parent.glob(f".{worktree.name}.removed-*"):
        remove_folder(leftover)


def remove_folder(folder: Path) -> None:
    """Remove a folder with all that is in it."""
    try:
        shutil.rmtree(folder)
    except PermissionError:  # tests and build tools leave folders that their owner may not write in
        pending = [folder]
        while pending:
            opened = pending.pop()
            opened.chmod(stat.S_IRWXU)
            pending += [entry for entry in opened.iterdir() if entry.is_dir() and not entry.is_symlink()]
        shutil.rmtree(folder)
