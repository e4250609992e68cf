"""Before an attempt: the mirror fetched, the commits chosen, `start.bundle` laid ready."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from agent_daemon.protocol.files import make_folder
from agent_daemon.protocol.paths import Root
from supervisor.core.assign import Prepared
from supervisor.core.decision import Failed, Prepare
from supervisor.core.record import TaskRecord
from supervisor.errors import CloudCodeError
from supervisor.git import mirror as mirrors
from supervisor.git.errors import GitError, looks_damaged
from supervisor.git.mirror_repair import find_damage
from supervisor.jobs.project import Project, shared_path

_MISSING_OBJECTS = frozenset({"E_START_COMMIT", "E_NOT_CLOSED"})


def prepare(
    root: Root, project: Project, task: TaskRecord, job: Prepare, dependency: TaskRecord | None
) -> Prepared | Failed:
    """Fetch the mirror, choose the commits, and lay `start.bundle` ready in the attempt's mail."""
    host, mirror = project.host, project.mirror
    damage = find_damage(mirror) if mirror.path.exists() and _hints_at_damage(task) else None
    if damage is not None:
        return Failed(code="E_OBJECTS_DAMAGED", message=f"the mirror is damaged: {damage}", retryable=True)
    try:
        host.fetch_mirror(mirror)
    except GitError as error:
        return Failed(code=error.code, message=f"{host.url()}: {error.message}", retryable=error.retryable)
    base_branch = task.base_branch or host.default_branch()
    base = task.base_commit or mirrors.resolve(mirror, f"refs/heads/{base_branch}")
    if base is None:
        return Failed(code="E_NO_BRANCH", message=f"{host.url()} has no branch '{base_branch}'.")
    mirrors.pin(mirror, task.id, base)
    tip = host.remote_tip(task.branch)
    if tip is not None and task.remote_head is None and not _is_own_push(task, tip):
        return Failed(
            code="E_BRANCH_EXISTS",
            message=f"the branch {task.branch} exists on the remote already and is not this task's work.",
        )
    start = _choose_start(root, task, tip, dependency, project, base_branch)
    if start is not None and start.base is not None:
        base = start.base
        mirrors.pin(mirror, task.id, base)
    target = root.attempt_in(job.workstation, task.id, job.attempt) / "start.bundle"
    if start is not None:
        make_folder(target.parent)
    if start is not None and start.file is not None:
        _copy_whole(start.file, target)
        commit = start.commit
    elif start is not None and start.branch is not None:
        scratch = root.quarantine / f"{task.id}.{job.attempt}.start.git"
        kept = shared_path(root, task.id, job.attempt)
        make_folder(kept.parent)
        made = mirrors.make_start_bundle(mirror, host.url(), start.branch, base, scratch=scratch, target=kept)
        commit = made.tip if made else None
        if made is not None:
            _copy_whole(kept, target)
    else:
        commit = None
    from_branch = start is not None and start.file is None
    return Prepared(
        base_branch=base_branch,
        base_commit=base,
        start_commit=commit,
        remote_head=tip,
        shared_branch=start.branch if start else None,
        shared_tip=(commit if from_branch else start.shared_tip) if start and start.branch else None,
    )


def _hints_at_damage(task: TaskRecord) -> bool:
    """Whether the attempt before failed as it would if objects that it borrowed from the mirror were not whole."""
    return any(item.code in _MISSING_OBJECTS or looks_damaged(item.message) for item in task.feedback)


@dataclass(frozen=True, kw_only=True)
class _Start:
    """Where an attempt starts when not at the base: saved work in `file`, or the tip of a remote branch.

    `base` is the upstream commit below it where that is not the task's own; `shared_tip` where `branch` was
    when the saved work began.
    """

    branch: str | None
    file: Path | None = None
    commit: str | None = None
    base: str | None = None
    shared_tip: str | None = None


def _choose_start(
    root: Root,
    task: TaskRecord,
    tip: str | None,
    dependency: TaskRecord | None,
    project: Project,
    base_branch: str,
) -> _Start | None:
    """The task's own branch if it has moved or nothing newer is saved; saved work; the dependency's branch.

    What a person has asked for comes before all of these.
    """
    if task.start_from is not None:
        return _asked_for(root, task, task.start_from, tip)
    saved = _saved_work(root, task)
    delivered = task.delivery.attempt if task.delivery else 0
    if tip is not None and (tip != task.remote_head or saved is None or saved[0] <= delivered):
        return _Start(branch=task.branch)
    if saved is not None:
        branch, shared_tip = _shared(task)
        return _Start(branch=branch, commit=saved[1], file=saved[2], shared_tip=shared_tip)
    if dependency is not None and dependency.delivery is not None:
        merged = mirrors.is_ancestor(project.mirror, dependency.delivery.pushed_head, base_branch)
        # Its work stands on the base of its time: what came to the base branch since is not under it.
        return None if merged else _Start(branch=dependency.branch, base=dependency.delivery.base)
    return None


def _asked_for(root: Root, task: TaskRecord, number: int, tip: str | None) -> _Start:
    """The saved work of one attempt, be it of an earlier run. CloudCodeError E_NO_SALVAGE, E_BRANCH_MOVED."""
    attempt, path = task.attempt_number(number), root.salvaged(task.id, number)
    if attempt is None or attempt.bundle_head is None or not path.is_file():
        raise CloudCodeError("E_NO_SALVAGE", f"the saved work of attempt {number} is not in {path}")
    if tip is not None and tip != attempt.shared_tip:
        raise CloudCodeError(
            "E_BRANCH_MOVED",
            f"the branch {task.branch} has commits that the work of attempt {number} does not contain; "
            f"bring the two together by hand (`cloud-code task salvage restore {task.id} --attempt {number}`), "
            "or retry without --from-salvage",
        )
    return _Start(
        branch=attempt.shared_branch,
        commit=attempt.bundle_head,
        file=path,
        base=attempt.base_commit,
        shared_tip=attempt.shared_tip,
    )


def _is_own_push(task: TaskRecord, tip: str) -> bool:
    """A push whose record was lost in a crash still carries the head that was recorded before it."""
    return task.delivery is not None and task.delivery.pushed_head == tip


def _shared(task: TaskRecord) -> tuple[str | None, str | None]:
    """The remote branch whose commits the newest attempt of this run contains, and that branch's tip then."""
    newest = next((a for a in reversed(task.attempts) if a.rerun == task.rerun), None)
    return (newest.shared_branch, newest.shared_tip) if newest else (None, None)


def _saved_work(root: Root, task: TaskRecord) -> tuple[int, str, Path] | None:
    """Number, head and file of the newest saved attempt of this run of the task."""
    for attempt in reversed(task.attempts):
        path = root.salvaged(task.id, attempt.number)
        if attempt.saved and attempt.bundle_head and attempt.rerun == task.rerun and path.exists():
            return attempt.number, attempt.bundle_head, path
    return None


def _copy_whole(source: Path, target: Path) -> None:
    """Copy so that the target is there whole or not at all."""
    temporary = target.with_name(f".{target.name}.new")
    temporary.unlink(missing_ok=True)
    shutil.copyfile(source, temporary)
    os.replace(temporary, target)
