"""A claim taken out of the workstation's reach and looked at: design §6, steps before the push."""

import dataclasses
import shutil
from pathlib import Path

from loguru import logger

from agent_daemon.protocol.errors import Problem, ProtocolError
from agent_daemon.protocol.files import copy_file, make_folder, write_file
from agent_daemon.protocol.model import CommitMade, Criterion, FileModified, Result, TaskReport
from agent_daemon.protocol.paths import Root
from supervisor.core.attempts import EMPTY_RESULT
from supervisor.core.decision import Inspect
from supervisor.core.delivery import Inspected
from supervisor.core.record import Attempt, BaseConflict, Delivery, TaskRecord
from supervisor.git.errors import GitError
from supervisor.git.mirror import resolve
from supervisor.git.quarantine import import_bundle
from supervisor.git.request import Imported, ImportLimits, ImportRequest
from supervisor.jobs.base_check import find_conflict
from supervisor.jobs.earlier import is_merged
from supervisor.jobs.project import (
    Project,
    feedback,
    hidden_text,
    import_grounds,
    quarantine_path,
    replace_durably,
)

MAX_DECISIONS = 20  # that a request shows
MAX_BUNDLE_BYTES = ImportLimits().bundle_bytes


def inspect(
    root: Root, project: Project, task: TaskRecord, attempt: Attempt, report: TaskReport | None, job: Inspect
) -> Inspected:
    """Take the claim's bundle out safely and import it into a quarantine by the recipe."""
    result = claimed_result(attempt, report)
    if result is None and attempt.ended_at is None:
        return _nothing(root, project, task, attempt)
    if result is None:
        gone = Problem(code="E_NO_BUNDLE", message="the report that claimed this work is not there any more")
        return Inspected(attempt=attempt.number, problems=(feedback(gone),))
    try:
        if result.kind == "document":
            return _take_document(root, project, task, attempt, result)
        _refresh(project)
        bundle = take_bundle(root, task, attempt, result, approved=job.approved)
        imported = import_into_quarantine(root, project, task, attempt, bundle, result, approved=job.approved)
        if report is not None:  # stands in the request
            report = _as_it_is_told(project, report)
    except FileNotFoundError:
        missing = Problem(
            code="E_NO_BUNDLE",
            message="what was claimed is not there",
            file=result.bundle or result.document or "",
            mend="write the bundle first, then the report that names it",
        )
        return Inspected(attempt=attempt.number, problems=(feedback(missing),))
    except ProtocolError as error:
        quarantine = quarantine_path(root, task.id, attempt.number)
        shutil.rmtree(quarantine, ignore_errors=True)
        quarantine.with_suffix(".bundle").unlink(missing_ok=True)
        is_empty = {problem.code for problem in error.problems} == {EMPTY_RESULT.code}
        if is_empty and is_merged(root, project, task, attempt):
            return Inspected(attempt=attempt.number, merged=True)
        return Inspected(
            attempt=attempt.number, problems=tuple(feedback(_within(root, p)) for p in error.problems)
        )
    if not imported.commits and is_merged(root, project, task, attempt):
        bundle.unlink(missing_ok=True)
        shutil.rmtree(imported.quarantine, ignore_errors=True)
        return Inspected(attempt=attempt.number, merged=True)
    conflict = _conflict_with_base(project, attempt, imported)
    if conflict is not None and project.settings.rebase != "never":
        bundle.unlink(missing_ok=True)
        shutil.rmtree(imported.quarantine, ignore_errors=True)
        return Inspected(attempt=attempt.number, conflict=conflict)
    if imported.held:
        target = root.held_bundle(task.id, attempt.number)
        make_folder(target.parent)
        replace_durably(bundle, target)
        shutil.rmtree(imported.quarantine, ignore_errors=True)
        return Inspected(attempt=attempt.number, held=imported.held, bundle_sha256=result.sha256)
    bundle.unlink(missing_ok=True)
    delivery = _delivery(attempt, imported, result, report)
    return Inspected(attempt=attempt.number, delivery=delivery, conflict=conflict)


def _as_it_is_told(project: Project, report: TaskReport) -> TaskReport:
    """The report without what must not leave, in the agent's words that stand in the request."""
    place = "the report's summary, decisions, criteria or verification"

    def hidden(text: str) -> str:
        return hidden_text(project, text, place)

    criteria = (c.model_copy(update={"evidence": hidden(c.evidence)}) for c in report.acceptance_criteria)
    runs = (run.model_copy(update={"output_tail": hidden(run.output_tail)}) for run in report.verification)
    changes = {"summary": hidden(report.summary), "decisions": tuple(map(hidden, report.decisions))}
    return report.model_copy(
        update={**changes, "acceptance_criteria": tuple(criteria), "verification": tuple(runs)}
    )


def _nothing(root: Root, project: Project, task: TaskRecord, attempt: Attempt) -> Inspected:
    """No change is handed in: all of it may be merged already, or none be wanted."""
    if is_merged(root, project, task, attempt):
        return Inspected(attempt=attempt.number, merged=True)
    return Inspected(attempt=attempt.number, problems=() if task.allow_empty else (EMPTY_RESULT,))


def _refresh(project: Project) -> None:
    """The base branch as of now; a remote that cannot be asked is told of by the push."""
    try:
        project.host.fetch_mirror(project.mirror)
    except GitError as error:
        logger.info("the mirror {} is not fetched: {}", project.mirror.path.name, error)


def _conflict_with_base(project: Project, attempt: Attempt, imported: Imported) -> BaseConflict | None:
    """A conflict of the accepted work with what the base branch is by now."""
    tip = resolve(project.mirror, attempt.base_branch)
    if tip is None or tip == imported.base:
        return None
    try:
        return find_conflict(imported.quarantine, tip, imported.pushed_head)
    except GitError as error:  # the work itself is sound: this holds nothing up
        logger.warning("{} is not held against {}: {}", imported.pushed_head[:12], tip[:12], error)
        return None


def _within(root: Root, problem: Problem) -> Problem:
    """The problem with its file named from the root on."""
    return dataclasses.replace(problem, file=problem.file.removeprefix(f"{root.path}/"))


def claimed_result(attempt: Attempt, report: TaskReport | None) -> Result | None:
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


def take_bundle(root: Root, task: TaskRecord, attempt: Attempt, result: Result, *, approved: bool) -> Path:
    """The bundle's bytes, copied once to a place of ours, and found to be those that were claimed."""
    target = root.quarantine / f"{task.id}.{attempt.number}.bundle"
    target.unlink(missing_ok=True)
    if approved:
        held = root.held_bundle(task.id, attempt.number)
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
            scan=project.scan,
            **import_grounds(root, project, task, attempt),
        )
    )


def _take_document(root: Root, project: Project, task: TaskRecord, attempt: Attempt, result: Result) -> Inspected:
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
    document = staged.read_bytes().decode(errors="replace")
    staged.unlink()
    write_file(target, hidden_text(project, document, "document.md").encode(), mode=0o640)
    return Inspected(attempt=attempt.number, document=True)


def _told_of(report: TaskReport) -> tuple[Criterion, ...]:
    return tuple(c for c in report.acceptance_criteria if c.status != "pending" or c.evidence)


def _delivery(attempt: Attempt, imported: Imported, result: Result, report: TaskReport | None) -> Delivery:
    commits = (*imported.earlier, *imported.commits)
    return Delivery(
        attempt=attempt.number,
        claimed_head=imported.head,
        pushed_head=imported.pushed_head,
        base=imported.base,
        bundle_sha256=result.sha256,
        commits=tuple(CommitMade(sha=c.sha, message=c.subject[:500]) for c in commits[:200]),
        commits_total=len(commits),
        earlier_total=len(imported.earlier),
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
        decisions=report.decisions[:MAX_DECISIONS] if report else (),
        criteria=_told_of(report) if report else (),
    )
