"""Whose worktree it is: a note beside it, and what becomes of one that holds the work of another attempt.

Agents can write anywhere in the workspace, so the note may be missing or wrong at any time. Then the branch
that is checked out tells; and where that tells nothing either, the worktree is taken for somebody else's:
set aside with all that is in it, never built upon, never removed.
"""

import uuid
from pathlib import Path

from loguru import logger

from agent_daemon import checkout
from agent_daemon.checkout import WorktreeRequest
from agent_daemon.clone import clone_lock
from agent_daemon.git import commit_of, git, git_text, is_ancestor
from agent_daemon.protocol.codec import decode, encode
from agent_daemon.protocol.errors import ProtocolError
from agent_daemon.protocol.files import read_file, write_file
from agent_daemon.protocol.model import Line, Wire

KEPT_REFS = "refs/heads/kept/"


class Owner(Wire):
    """The attempt that works in a worktree. Every run of a task has a branch of its own."""

    task: Line
    attempt: int
    branch: Line


def read_owner(worktree: Path) -> Owner | None:
    """Who was written down as the owner; None when there is no note that can be read."""
    note = _note(worktree)
    try:
        return decode(Owner, read_file(note.parent, note.name).data, file=str(note))
    except FileNotFoundError:
        return None
    except (ProtocolError, OSError) as error:
        logger.warning("the note of who owns {} is not read: {}", worktree, error)
        return None


def owned_since(worktree: Path) -> int | None:
    """When its owner's work began, in nanoseconds as files tell times; None where nobody has noted it."""
    try:
        return _note(worktree).lstat().st_mtime_ns
    except OSError:
        return None


def belongs_to(worktree: Path, owner: Owner, *, begun: bool) -> bool:
    """Whether the worktree is this attempt's; without a note, whether the attempt has `begun` or its branch is
    checked out."""
    known = read_owner(worktree)
    if known is not None:
        return known == owner
    return begun or _branch(worktree) == owner.branch


def worktree_of(worktree: Path, owner: Owner, *, begun: bool) -> Path | None:
    """Where this attempt's worktree is: in its place, or where it was set aside; None when it is nowhere."""
    if worktree.exists() and belongs_to(worktree, owner, begun=begun):
        return worktree
    return next((kept for kept in _kept(worktree) if kept.exists() and read_owner(kept) == owner), None)


def _kept(worktree: Path) -> list[Path]:
    """Worktrees that were set aside from this place, by their notes."""
    notes = worktree.parent.glob(f".{worktree.name}.kept-before-*.owner")
    return [note.with_name(note.name.removeprefix(".").removesuffix(".owner")) for note in notes]


def take_possession(request: WorktreeRequest, owner: Owner, *, begun: bool) -> Path | None:
    """Make the place of the worktree this attempt's; returns where unsaved work of others lies now, if any did.

    An attempt that has `begun` finds its own worktree. What an earlier attempt of the same run left unsaved is
    gone on with, if it stands on the commit that this attempt starts from. Everything else is set aside.
    ProtocolError as for `ensure_worktree`, before anything is touched.
    """
    aside = None
    with clone_lock(request.clone):
        registration = checkout.registration_of(request.clone, request.worktree)
        if registration is None:
            checkout.set_cut_off_aside(request.clone, request.worktree)
            checkout.refuse_occupied(request.worktree)
        elif not checkout.is_half_made(registration, request.worktree):
            checkout.repair(request.worktree, registration)
            if not _may_go_on(request, owner, begun=begun):
                aside = _set_aside(request.worktree, registration, owner)
        _write_owner(request.worktree, owner)
    return aside


def remove_owned(clone: Path, worktree: Path, owner: Owner, *, in_use: bool) -> None:
    """Remove an attempt's worktree, whose work is saved elsewhere, also one that was set aside meanwhile.

    `in_use`: a newer attempt of the task has begun; without a note, the worktree is that one's.
    """
    known = read_owner(worktree)
    unclaimed = known is None and not in_use and (not worktree.exists() or _branch(worktree) == owner.branch)
    if known == owner or unclaimed:
        checkout.remove_worktree(clone, worktree, owner.branch)
        _make_way(_note(worktree))
        _note(worktree).unlink(missing_ok=True)
    elif worktree.exists():
        logger.info("{} is not removed: it is not that of attempt {}", worktree, owner.attempt)
    for kept in _kept(worktree):
        if read_owner(kept) == owner:
            checkout.remove_worktree(clone, kept, f"kept/{kept.name}")
            _note(kept).unlink(missing_ok=True)
            if known is not None and known.branch != owner.branch:
                git("update-ref", "-d", f"refs/heads/{owner.branch}", folder=clone, check=False)


def _note(worktree: Path) -> Path:
    return worktree.with_name(f".{worktree.name}.owner")


def _write_owner(worktree: Path, owner: Owner) -> None:
    if read_owner(worktree) != owner:
        worktree.parent.mkdir(parents=True, exist_ok=True)
        _make_way(_note(worktree))
        write_file(_note(worktree), encode(owner))


def _make_way(note: Path) -> None:
    if note.is_dir() and not note.is_symlink():
        note.rename(note.with_name(f"{note.name}-{uuid.uuid4().hex[:8]}"))


def _may_go_on(request: WorktreeRequest, owner: Owner, *, begun: bool) -> bool:
    known = read_owner(request.worktree)
    if known == owner or (known is None and begun):
        return True
    run = (known.task, known.branch) if known is not None else (owner.task, _branch(request.worktree))
    start = checkout.start_commit(request)
    if run != (owner.task, owner.branch):
        return False
    stands_on = checkout.below_salvage(request.clone, start) or start
    head = commit_of(request.worktree, "HEAD")
    return head is not None and is_ancestor(request.worktree, stands_on, head)


def _set_aside(worktree: Path, registration: Path, owner: Owner) -> Path:
    """Move the worktree away, still a worktree of the clone, on a branch that is in nobody's way."""
    target = worktree.with_name(f"{worktree.name}.kept-before-{owner.attempt}")
    if target.exists() or target.is_symlink():
        target = worktree.with_name(f"{target.name}-{uuid.uuid4().hex[:8]}")
    head = commit_of(worktree, "HEAD")
    if head is not None:
        git("update-ref", f"{KEPT_REFS}{target.name}", head, folder=worktree)
    git("symbolic-ref", "HEAD", f"{KEPT_REFS}{target.name}", folder=worktree)
    worktree.rename(target)
    (registration / "gitdir").write_text(f"{target.absolute()}/.git\n")
    if _note(worktree).is_file():
        _note(worktree).rename(_note(target))
    logger.warning("{} held work of an earlier attempt that is not saved: it lies in {} now", worktree, target)
    return target


def _branch(worktree: Path) -> str:
    return git_text("symbolic-ref", "--quiet", "--short", "HEAD", folder=worktree, check=False)
