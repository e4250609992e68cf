"""The slow work: what a pool thread does for the loop. Each function returns an outcome; none writes a record."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent_daemon.protocol.errors import Problem, ProtocolError
from agent_daemon.protocol.files import copy_file, make_folder, write_file
from agent_daemon.protocol.model import CommitMade, Feedback, FileModified, Result, TaskReport
from agent_daemon.protocol.paths import Root
from supervisor.core.assign import Prepared
from supervisor.core.decision import Inspect, Prepare, Save
from supervisor.core.delivery import Failed, Inspected
from supervisor.core.record import Attempt, Delivery, TaskRecord
from supervisor.core.settings import ProjectSettings
from supervisor.errors import CloudCodeError
from supervisor.git import mirror as mirrors
from supervisor.git.bundle import Rejected
from supervisor.git.mirror import Mirror
from supervisor.git.quarantine import import_bundle
from supervisor.git.request import SALVAGE_LIMITS, Imported, ImportLimits, ImportRequest
from supervisor.git.rewrite import Identity
from supervisor.ports import CodeHost

MAX_BUNDLE_BYTES = ImportLimits().bundle_bytes
MAX_SALVAGE_BYTES = SALVAGE_LIMITS.bundle_bytes


@dataclass(frozen=True, kw_only=True)
class Project:
    """What the jobs need to know of a task's project."""

    settings: ProjectSettings
    host: CodeHost
    mirror: Mirror


@dataclass(frozen=True, kw_only=True)
class Saved:
    """An ended attempt's work lies in `state/salvage/`."""

    attempt: int


def prepare(
    root: Root, project: Project, task: TaskRecord, job: Prepare, dependency: TaskRecord | None
) -> Prepared | Failed:
    """Fetch the mirror, choose the commits, and lay `start.bundle` ready in the attempt's mail."""
    host, mirror = project.host, project.mirror
    host.fetch_mirror(mirror)
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
    target = root.attempt_in(job.workstation, task.id, job.attempt) / "start.bundle"
    if start is not None:
        make_folder(target.parent)
    if start is not None and start.file is not None:
        _copy_whole(start.file, target)
        commit = start.commit
    elif start is not None and start.branch is not None:
        scratch = root.quarantine / f"{task.id}.{job.attempt}.start.git"
        made = mirrors.make_start_bundle(mirror, host.url(), start.branch, base, scratch=scratch, target=target)
        commit = made.tip if made else None
    else:
        commit = None
    from_branch = start is not None and start.file is None
    return Prepared(
        base_branch=base_branch,
        base_commit=base,
        start_commit=commit,
        remote_head=tip,
        shared_branch=start.branch if start else None,
        shared_tip=(commit if from_branch else _shared(task)[1]) if start and start.branch else None,
    )


@dataclass(frozen=True, kw_only=True)
class _Start:
    """Where an attempt starts when not at the base: saved work in `file`, or the tip of a remote branch."""

    branch: str | None
    file: Path | None = None
    commit: str | None = None


def _choose_start(
    root: Root,
    task: TaskRecord,
    tip: str | None,
    dependency: TaskRecord | None,
    project: Project,
    base_branch: str,
) -> _Start | None:
    """The task's own branch if it has moved or nothing newer is saved; saved work; the dependency's branch."""
    saved = _saved_work(root, task)
    delivered = task.delivery.attempt if task.delivery else 0
    if tip is not None and (tip != task.remote_head or saved is None or saved[0] <= delivered):
        return _Start(branch=task.branch)
    if saved is not None:
        return _Start(branch=_shared(task)[0], commit=saved[1], file=saved[2])
    if dependency is not None and dependency.delivery is not None:
        merged = mirrors.is_ancestor(project.mirror, dependency.delivery.pushed_head, base_branch)
        return None if merged else _Start(branch=dependency.branch)
    return None


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
        path = salvage_path(root, task.id, attempt.number)
        if attempt.saved and attempt.bundle_head and attempt.rerun == task.rerun and path.exists():
            return attempt.number, attempt.bundle_head, path
    return None


def _copy_whole(source: Path, target: Path) -> None:
    """Copy so that the target is there whole or not at all."""
    temporary = target.with_name(f".{target.name}.new")
    temporary.unlink(missing_ok=True)
    shutil.copyfile(source, temporary)
    os.replace(temporary, target)


def salvage_path(root: Root, task_id: str, attempt: int) -> Path:
    return root.salvage / task_id / f"{attempt}.bundle"


def held_path(root: Root, task_id: str, attempt: int) -> Path:
    return root.held / task_id / f"{attempt}.bundle"


def quarantine_path(root: Root, task_id: str, attempt: int) -> Path:
    return root.quarantine / f"{task_id}.{attempt}.git"


def inspect(
    root: Root, project: Project, task: TaskRecord, attempt: Attempt, report: TaskReport | None, job: Inspect
) -> Inspected:
    """Take the claim's bundle out safely and import it into a quarantine by the recipe."""
    result = _claimed(attempt, report)
    if result is None:
        return Inspected(attempt=attempt.number)
    try:
        if result.kind == "document":
            return _take_document(root, task, attempt, result)
        bundle = _take_bundle(root, task, attempt, result, approved=job.approved)
        imported = import_into_quarantine(root, project, task, attempt, bundle, result, approved=job.approved)
    except FileNotFoundError:
        missing = Problem(code="E_NO_BUNDLE", message="the claimed bundle is not there", file=result.bundle or "")
        return Inspected(attempt=attempt.number, problems=(feedback(missing),))
    except ProtocolError as error:
        return Inspected(attempt=attempt.number, problems=tuple(feedback(p) for p in error.problems))
    except Rejected as error:
        return Inspected(attempt=attempt.number, problems=tuple(feedback(p) for p in error.problems))
    if imported.held:
        target = held_path(root, task.id, attempt.number)
        make_folder(target.parent)
        os.replace(bundle, target)
        shutil.rmtree(imported.quarantine, ignore_errors=True)
        return Inspected(attempt=attempt.number, held=imported.held, bundle_sha256=result.sha256)
    bundle.unlink(missing_ok=True)
    return Inspected(attempt=attempt.number, delivery=_delivery(attempt, imported, result, report))


def _claimed(attempt: Attempt, report: TaskReport | None) -> Result | None:
    """What is claimed: by the report, or for an attempt that ended held by what its record kept."""
    if report is not None and report.result is not None:
        return report.result
    if attempt.bundle and attempt.bundle_sha256 and attempt.bundle_head:
        return Result(
            kind="commits",
            bundle=attempt.bundle,
            sha256=attempt.bundle_sha256,
            head=attempt.bundle_head,
            base=attempt.bundle_base,
        )
    return None


def _take_bundle(root: Root, task: TaskRecord, attempt: Attempt, result: Result, *, approved: bool) -> Path:
    """The bundle's bytes, copied once to a place of ours, and found to be those that were claimed."""
    target = root.quarantine / f"{task.id}.{attempt.number}.bundle"
    target.unlink(missing_ok=True)
    if approved:
        held = held_path(root, task.id, attempt.number)
        copied = copy_file(root.path, str(held.relative_to(root.path)), target, max_bytes=MAX_BUNDLE_BYTES)
    else:
        relative = f"{task.id}/{attempt.number}/{result.bundle}"
        copied = copy_file(root.mail_out(attempt.workstation), relative, target, max_bytes=MAX_BUNDLE_BYTES)
    if copied.sha256 != result.sha256:
        target.unlink(missing_ok=True)
        raise ProtocolError(
            Problem(
                code="E_DIGEST",
                message="the bundle is not the one that was claimed",
                file=result.bundle or "",
                expected=f"sha256 {result.sha256}",
                mend="write the bundle first, then the report that names it",
            )
        )
    return target


def import_into_quarantine(
    root: Root,
    project: Project,
    task: TaskRecord,
    attempt: Attempt,
    bundle: Path,
    result: Result,
    *,
    approved: bool,
) -> Imported:
    """Run the import recipe for one claim; raises Rejected."""
    return import_bundle(
        ImportRequest(
            quarantine=quarantine_path(root, task.id, attempt.number),
            bundle=bundle,
            claimed_head=result.head or "",
            claimed_base=result.base,
            protected_paths=project.settings.protected_paths,
            approved=approved,
            allow_empty=task.allow_empty,
            **_import_grounds(project, task, attempt),
        )
    )


def _import_grounds(project: Project, task: TaskRecord, attempt: Attempt) -> dict[str, Any]:
    """What any bundle of this attempt is held against."""
    bot, requester = project.settings.bot, task.source.requested_by
    return {
        "mirror": project.mirror.path,
        "base_branch": attempt.base_branch,
        "base_commit": attempt.base_commit,
        "branch_url": project.host.url() if attempt.shared_tip else None,
        "branch": attempt.shared_branch if attempt.shared_tip else None,
        "remote_tip": attempt.shared_tip,
        "identity": Identity(
            bot_name=bot.name, bot_email=bot.email, coauthors=(requester,) if "<" in requester else ()
        ),
    }


def _take_document(root: Root, task: TaskRecord, attempt: Attempt, result: Result) -> Inspected:
    target = root.requests / f"{task.id}.md"
    staged = root.quarantine / f"{task.id}.{attempt.number}.md"
    staged.unlink(missing_ok=True)
    relative = f"{task.id}/{attempt.number}/{result.document}"
    copied = copy_file(root.mail_out(attempt.workstation), relative, staged, max_bytes=1024 * 1024)
    if copied.sha256 != result.sha256:
        problem = Problem(
            code="E_DIGEST", message="the document is not the one that was claimed", file="document.md"
        )
        raise ProtocolError(problem)
    write_file(target, staged.read_bytes(), mode=0o640)
    staged.unlink()
    return Inspected(attempt=attempt.number, document=True)


def _delivery(attempt: Attempt, imported: Imported, result: Result, report: TaskReport | None) -> Delivery:
    return Delivery(
        attempt=attempt.number,
        claimed_head=imported.head,
        pushed_head=imported.pushed_head,
        base=imported.base,
        bundle_sha256=result.sha256,
        commits=tuple(CommitMade(sha=c.sha, message=c.subject[:500]) for c in imported.commits[:200]),
        commits_total=len(imported.commits),
        files=tuple(
            FileModified(
                path=f.path[:1000],
                change_type=f.change_type,
                lines_added=f.lines_added,
                lines_removed=f.lines_removed,
            )
            for f in imported.files[:200]
        ),
        files_total=len(imported.files),
        diff_stat=imported.diff_stat[:8000],
        verification=report.verification if report else (),
        summary=report.summary if report else "",
    )


def save(root: Root, project: Project, task: TaskRecord, attempt: Attempt, job: Save) -> Saved | Failed:
    """Copy an ended attempt's bundle to `state/salvage/`, checked in a throw-away quarantine."""
    target = salvage_path(root, task.id, attempt.number)
    make_folder(target.parent)
    staged = target.with_suffix(".new")
    staged.unlink(missing_ok=True)
    quarantine = root.quarantine / f"{task.id}.{attempt.number}.salvage.git"
    try:
        relative = f"{task.id}/{attempt.number}/{attempt.bundle}"
        copied = copy_file(root.mail_out(attempt.workstation), relative, staged, max_bytes=MAX_SALVAGE_BYTES)
        if copied.sha256 != attempt.bundle_sha256:
            return Failed(code="E_DIGEST", message="the bundle is not the one that was reported")
        import_bundle(
            ImportRequest(
                quarantine=quarantine,
                bundle=staged,
                claimed_head=attempt.bundle_head or "",
                claimed_base=attempt.bundle_base,
                purpose="salvage",
                limits=SALVAGE_LIMITS,
                **_import_grounds(project, task, attempt),
            )
        )
        os.replace(staged, target)
        return Saved(attempt=attempt.number)
    except FileNotFoundError:
        return Failed(code="E_NO_BUNDLE", message=f"{attempt.bundle} is not there")
    except ProtocolError as error:
        return Failed(code=error.problem.code, message=error.problem.message)
    except Rejected as error:
        return Failed(code=error.problems[0].code, message=error.problems[0].message)
    finally:
        staged.unlink(missing_ok=True)
        shutil.rmtree(quarantine, ignore_errors=True)


def feedback(problem: Problem) -> Feedback:
    return Feedback(
        code=problem.code,
        message=problem.message,
        file=problem.place or problem.file,
        line=problem.line,
        expected=problem.expected,
        mend=problem.mend,
    )


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


def _import_again(root: Root, project: Project, task: TaskRecord, attempt: Attempt, delivery: Delivery) -> Path:
    approved = any(a.status == "approved" and a.subject_hash == delivery.bundle_sha256 for a in task.approvals)
    result = _claimed(attempt, None)
    if result is None:
        raise CloudCodeError(
            "E_NO_BUNDLE", f"The work of {task.id}, attempt {attempt.number}, is not there any more."
        )
    bundle = _take_bundle(root, task, attempt, result, approved=approved)
    imported = import_into_quarantine(root, project, task, attempt, bundle, result, approved=approved)
    bundle.unlink(missing_ok=True)
    if imported.pushed_head != delivery.pushed_head:
        raise CloudCodeError(
            "E_HEAD_MISMATCH", f"The work of {task.id} is not what was inspected: {imported.pushed_head}."
        )
    return imported.quarantine
