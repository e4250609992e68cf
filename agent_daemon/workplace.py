"""The place of an attempt's work: made ready, salvaged, released."""

import contextlib
from pathlib import Path

from loguru import logger

from agent_daemon import artifacts, checkout, handover, ownership, parting
from agent_daemon.attempt import Attempt
from agent_daemon.clone import ensure_clone
from agent_daemon.execution import ATTEMPT_MARKER
from agent_daemon.failpoints import reach
from agent_daemon.git import commit_of, git, merge_base
from agent_daemon.places import AttemptPlaces
from agent_daemon.processes import find_marked, find_marked_below, sweep
from agent_daemon.protocol.files import make_folder
from agent_daemon.protocol.model import Salvage, TaskingTask
from agent_daemon.protocol.paths import NOTES
from agent_daemon.rebase import finish_switch
from agent_daemon.reclaiming import reclaim

# Of a worktree that somebody touched after its work had been bundled.
SALVAGE_AGAIN = "salvage-again.bundle"


def prepare(attempt: Attempt) -> None:
    """Make the attempt's worktree, or find it as it was left; nothing of an earlier run lives on beside it."""
    task, places = attempt.task, attempt.places
    end_processes(places)
    refresh_branches(attempt)
    bundle = places.inbox / "start.bundle"
    request = checkout.WorktreeRequest(
        clone=places.clone,
        worktree=places.worktree,
        branch=task.branch,
        base_commit=task.base_commit,
        start_commit=task.start_commit,
        start_bundle=bundle if task.start_commit and bundle.exists() else None,
    )
    aside = ownership.take_possession(request, _owner(task), begun=attempt.resumed)
    if aside is not None:
        attempt.tell({}, f"Work of an earlier attempt that is not saved lies in {aside} now")
    if checkout.ensure_worktree(request) == "existing":
        checkout.remove_stale_locks(places.worktree)
        finish_switch(places.worktree)
    if task.start_squashed and not attempt.resumed:
        # Never onto a commit that the work does not stand on: that would undo what others did meanwhile. And not
        # below the newest one of theirs: what is between would look like the task's own.
        base = handover.result_base(places.worktree, task.base_branch, task.base_commit)
        below = merge_base(places.worktree, "HEAD", base) or base
        git("reset", "--quiet", "--mixed", below, folder=places.worktree)
    link_files(places)
    attempt.begun = True


def refresh_branches(attempt: Attempt) -> None:
    """Bring the clone, made if there is none, to what the mirror is now. GitError."""
    task, places = attempt.task, attempt.places
    commits = tuple(commit for commit in (task.base_commit, task.start_commit) if commit)
    ensure_clone(places.clone, Path(task.workspace_source), borrow=places.borrows, commits=commits)


def link_files(places: AttemptPlaces) -> None:
    """Make or restore the links in the worktree to what is told and reported."""
    targets = {name: places.inbox / name for name in ("tasking.yaml", "config.yaml")}
    targets |= {"reporting.yaml": places.outbox / "reporting.yaml", "logs": places.logs, NOTES: places.notes}
    checkout.link_protocol_files(places.worktree, targets)
    with contextlib.suppress(OSError):  # the agent may have put something else there
        make_folder(places.notes)
        (places.worktree / artifacts.PLACE).mkdir(exist_ok=True)


def salvage(task: TaskingTask, places: AttemptPlaces, *, begun: bool) -> Salvage | None:
    """Bundle everything that an attempt left behind; None when that is nothing.

    `begun`: it had a worktree. Where that is gone, its branch in the clone is bundled; where neither is there,
    FileNotFoundError says so: a folder that is not mounted must not look like one that holds nothing.
    """
    target = places.outbox / "salvage.bundle"
    worktree = ownership.worktree_of(places.worktree, _owner(task), begun=begun)
    if worktree is not None:
        end_processes(places)
        checkout.find_again(places.clone, worktree)
        checkout.remove_stale_locks(worktree)
        finish_switch(worktree)
        base = handover.result_base(worktree, task.base_branch, task.base_commit)
        return as_salvage(handover.make_salvage(worktree, base, target))
    if places.worktree.exists():
        return None  # a later attempt has gone on with it
    if (places.clone / ".git").exists() and commit_of(places.clone, f"refs/heads/{task.branch}") is not None:
        return as_salvage(handover.make_bundle(places.clone, task.base_commit, task.branch, target))
    if begun:
        raise FileNotFoundError(f"{places.worktree} is not there, and nothing of its branch in {places.clone}")
    return None


def owns(task: TaskingTask, places: AttemptPlaces) -> bool:
    """Whether the worktree in the place of an attempt that has begun is still its own."""
    return places.worktree.exists() and ownership.belongs_to(places.worktree, _owner(task), begun=True)


def leave(task: TaskingTask, places: AttemptPlaces) -> dict[str, int]:
    """Note that the attempt's worktree has been bundled as it lies there; its size, for the report."""
    worktree = ownership.worktree_of(places.worktree, _owner(task), begun=True)
    if worktree is None:
        return {}
    try:
        return {"worktree_bytes": parting.leave(worktree)}
    except OSError as error:
        logger.warning("{} is not noted as bundled: {}", worktree, error)
        return {}


def bundle_again(
    task: TaskingTask, places: AttemptPlaces, handed_in: str | None, *, given_up: bool = False
) -> Salvage | None:
    """What the worktree holds beside what was handed in (that commit), if anybody touched it since; else None.

    `given_up`: nobody wants what it holds.
    StillUsedError while a process works in it; NotThereError where it may not be mounted.
    """
    worktree = ownership.worktree_of(places.worktree, _owner(task), begun=True)
    if worktree is None:
        around = places.own.parent if places.own is not None else places.worktree.parent
        if not places.worktree.exists() and not around.exists() and not places.clone.exists():
            raise parting.NotThereError(f"neither {places.worktree} nor {around} is there: is it not mounted?")
        return None
    parting.refuse_if_used(worktree)
    if given_up or not parting.is_touched(worktree):
        return None
    base = handover.result_base(worktree, task.base_branch, task.base_commit)
    made = handover.make_salvage(worktree, base, places.outbox / SALVAGE_AGAIN)
    parting.leave(worktree)
    if made is None or (handed_in and handover.same_tree(worktree, made.head, handed_in)):
        (places.outbox / SALVAGE_AGAIN).unlink(missing_ok=True)
        return None
    return as_salvage(made)


def release(task: TaskingTask, places: AttemptPlaces, *, in_use: bool) -> None:
    """Remove the worktree and the bundles of an attempt whose work the supervisor has saved.

    `in_use`: a newer attempt of the task has begun.
    """
    worktree = ownership.worktree_of(places.worktree, _owner(task), begun=True)
    if places.clone.exists():
        ownership.remove_owned(places.clone, places.worktree, _owner(task), in_use=in_use)
    reach("daemon.worktree_removed")
    for gone in (place for place in (worktree, places.worktree) if place is not None and not place.exists()):
        parting.forget(gone)
    if places.own is not None:
        checkout.remove_own_folder(places.own)
    for name in ("result.bundle", "salvage.bundle", SALVAGE_AGAIN, "document.md"):
        with contextlib.suppress(FileNotFoundError, IsADirectoryError):
            (places.outbox / name).unlink()
    reach("daemon.released_before_report")


def end_processes(places: AttemptPlaces) -> None:
    """End whatever of this attempt an earlier run or a crashed daemon left running, and take back its files."""
    sweep(lambda: find_marked(ATTEMPT_MARKER, places.marker), grace_seconds=1.0)
    reclaim(*places.written)


def end_all_processes(outbox: Path) -> None:
    """The same for all attempts that have their place in `outbox`: a daemon that starts has started none."""
    sweep(lambda: find_marked_below(ATTEMPT_MARKER, f"{outbox}/"), grace_seconds=1.0)


def as_salvage(made: handover.BundleMade | None) -> Salvage | None:
    """A bundle as the report names it."""
    return Salvage(bundle=made.path.name, sha256=made.sha256, head=made.head, base=made.base) if made else None


def _owner(task: TaskingTask) -> ownership.Owner:
    return ownership.Owner(task=task.id, attempt=task.attempt, branch=task.branch)
