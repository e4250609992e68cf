"""The push of delivered work."""

import shutil
from pathlib import Path

from agent_daemon.protocol.paths import Root
from supervisor.core.record import Attempt, Delivery, TaskRecord
from supervisor.errors import CloudCodeError
from supervisor.git.mirror import make_repository
from supervisor.jobs.inspection import claimed_result, import_into_quarantine, take_bundle
from supervisor.jobs.project import Project, quarantine_path


def push(root: Root, project: Project, task: TaskRecord) -> None:
    """Push a delivered head to the task's branch; raises GitError. A head that is there already is a success.

    The quarantine that the import left is used; after a restart it is made anew from the bundle, and the
    rewriting being a pure function of the commits, it yields the same head.
    """
    delivery = task.delivery
    attempt = task.attempt_number(delivery.attempt) if delivery else None
    if delivery is None or attempt is None:
        raise ValueError(f"task {task.id} has nothing delivered to push")
    quarantine = quarantine_path(root, task.id, delivery.attempt)
    if not quarantine.is_dir():
        if project.host.remote_tip(task.branch) == delivery.pushed_head:
            return
        quarantine = _import_again(root, project, task, attempt, delivery)
    project.host.push(quarantine, delivery.pushed_head, task.branch, task.remote_head)
    shutil.rmtree(quarantine, ignore_errors=True)


def look_for_push(root: Root, project: Project, task_id: str, branch: str, sha: str) -> str | None:
    """The commit, where the remote's branch has it (somebody may have gone on from it since); else the tip."""
    tip = project.host.remote_tip(branch)
    if tip is None or tip == sha:
        return tip
    scratch = root.quarantine / f"{task_id}.look.git"
    shutil.rmtree(scratch, ignore_errors=True)
    try:
        make_repository(scratch, borrow_from=project.mirror)
        return sha if project.host.holds(scratch, branch, sha) else tip
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _import_again(root: Root, project: Project, task: TaskRecord, attempt: Attempt, delivery: Delivery) -> Path:
    approved = any(a.status == "approved" and a.subject_hash == delivery.bundle_sha256 for a in task.approvals)
    result = claimed_result(attempt, None)
    if result is None:
        raise CloudCodeError(
            "E_NO_BUNDLE", f"The work of {task.id}, attempt {attempt.number}, is not there any more."
        )
    bundle = take_bundle(root, task, attempt, result, approved=approved)
    imported = import_into_quarantine(root, project, task, attempt, bundle, result, approved=approved)
    bundle.unlink(missing_ok=True)
    if imported.pushed_head != delivery.pushed_head:
        raise CloudCodeError(
            "E_HEAD_MISMATCH", f"The work of {task.id} is not what was inspected: {imported.pushed_head}."
        )
    return imported.quarantine
