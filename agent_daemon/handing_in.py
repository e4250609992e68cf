"""From the end of the coding CLI to the report's closing fields: commit, verify that very commit, bundle it."""

import contextlib
import hashlib
from datetime import datetime, timedelta
from typing import Any

from agent_daemon import checkout, following, handover, planning, workplace
from agent_daemon.attempt import Attempt
from agent_daemon.clis.base import Verdict
from agent_daemon.evidence import verify
from agent_daemon.external import look_for_external
from agent_daemon.failpoints import reach
from agent_daemon.git import commit_of
from agent_daemon.prompt import DOCUMENT_PATH
from agent_daemon.protocol.files import write_file
from agent_daemon.protocol.model import (
    BlockedReason,
    Rebase,
    ReportError,
    ReportStatus,
    Result,
    Salvage,
    VerificationResult,
    WaitReason,
    utc,
)
from agent_daemon.protocol.outcomes import ENDS, NOT_STARTED, code_of
from agent_daemon.reporting import utc_now
from agent_daemon.unfinished import what_is_unfinished

# A time that is told from outside is not followed further than this.
_LONGEST_QUOTA_SECONDS = 30 * 86_400.0


def not_started(attempt: Attempt, verdict: Verdict, mend: str) -> dict[str, Any]:
    """The program is not there, or not configured so that it can be run: the next CLI of the chain may be."""
    message = f"{attempt.config.cli.name}: {verdict.message[:1500]}; {mend}"
    error = ReportError(code=NOT_STARTED, message=message)
    return {"status": ReportStatus.FAILED, "error": error, "salvage": salvage(attempt)}


def not_completed(attempt: Attempt, verdict: Verdict, allowed_usd: float | None) -> dict[str, Any]:
    """The CLI ended without saying that it is done: blocked or failed, its work salvaged.

    `allowed_usd` is told beside a limit that was reached: it may have been raised meanwhile.
    """
    fields: dict[str, Any] = {"salvage": salvage(attempt), **changes_made(attempt)}
    reason = ENDS[verdict.outcome].reason
    message = verdict.message or verdict.outcome
    if reason is not None:
        return fields | {
            "status": ReportStatus.BLOCKED,
            "blocked_reason": BlockedReason(
                reason=reason,
                ref=f"{allowed_usd:.6f}" if reason is WaitReason.BUDGET and allowed_usd is not None else None,
                until=_lifted_at(verdict),
            ),
            "blockers": (message[:2000],),
            "question": message[:2000] if reason is WaitReason.QUESTION else None,
        }
    error = ReportError(code=code_of(verdict.outcome), message=f"{attempt.config.cli.name}: {message[:2000]}")
    return fields | {"status": ReportStatus.FAILED, "error": error}


def asked(attempt: Attempt) -> dict[str, Any]:
    """The agent itself said that it cannot go on, and what it waits for; its work is salvaged."""
    known = attempt.known
    return {
        "status": ReportStatus.BLOCKED,
        "blocked_reason": known.blocked_reason,
        "question": known.question,
        "blockers": known.blockers,
        "salvage": salvage(attempt),
        **changes_made(attempt),
    }


def _lifted_at(verdict: Verdict) -> datetime | None:
    """When a quota lasts again, if the CLI told."""
    seconds = verdict.retry_after_seconds
    if verdict.outcome != "quota" or (verdict.retry_at is None and seconds is None):
        return None
    after = utc_now() + timedelta(seconds=min(seconds or 0, _LONGEST_QUOTA_SECONDS))
    return utc(verdict.retry_at) if verdict.retry_at is not None else after


def interrupted(attempt: Attempt) -> dict[str, Any]:
    """The CLI showed no sign of life and was ended: its work is bundled; it goes on, or the attempt ends."""
    asked = attempt.latest().interruption
    fields: dict[str, Any] = {"salvage": salvage(attempt), **changes_made(attempt)}
    if asked is None:  # it was taken back meanwhile
        return fields
    fields["interruptions"] = asked.number
    if asked.then == "resume":
        return fields
    message = f"{attempt.config.cli.name}: it showed no sign of life again (rule {asked.rule})"
    return fields | {"status": ReportStatus.FAILED, "error": ReportError(code="E_CLI_HUNG", message=message)}


def salvage(attempt: Attempt) -> Salvage | None:
    """Everything that the worktree holds, bundled; None when it holds nothing of this attempt's.

    What an attempt changed that was to plan only is no work of the task: it is undone first, and kept beside.
    """
    if attempt.task.phase == "plan":
        undone = planning.undo_edits(attempt.task, attempt.places, attempt.stage)
        if undone:
            attempt.tell({}, undone)
    return workplace.salvage(attempt.task, attempt.places, begun=attempt.begun)


def can_go_on(attempt: Attempt) -> bool:
    """Whether the finished work lies there as it was left, so that only its verification is to be run.

    Where somebody has touched it meanwhile, only the agent can tell what belongs together. What was handed in
    already is a claim, though, and no agent's concern any more.
    """
    stage, worktree, result = attempt.stage, attempt.places.worktree, attempt.known.result
    if result is not None:
        if stage is None or stage.head != result.head:
            attempt.advance(finished=True, message=attempt.known.summary, head=result.head, tree=None)
        return True
    if stage is None or stage.head is None:
        return stage is not None
    if commit_of(worktree, "HEAD") != stage.head:
        return False
    return stage.tree is None or stage.tree == handover.tree_of_everything(worktree, stage.head, nested=True)


def hand_in(attempt: Attempt) -> dict[str, Any] | None:
    """Commit what is left, verify that very commit, bundle it; None when asked to stop meanwhile."""
    task, worktree = attempt.task, attempt.places.worktree
    workplace.link_files(attempt.places)
    checkout.find_again(attempt.places.clone, worktree)
    checkout.remove_stale_locks(worktree)
    message = attempt.stage.message if attempt.stage else ""
    unfinished = what_is_unfinished(worktree)
    if unfinished is not None:
        fields: dict[str, Any] = {"summary": message, "salvage": salvage(attempt), **changes_made(attempt)}
        error = ReportError(code="E_UNSETTLED", message=unfinished)
        return fields | {"status": ReportStatus.FAILED, "error": error}
    rebase = _commit(attempt)
    head = checkout.head(worktree)
    closing: dict[str, Any] = {"summary": message, "rebase": rebase, **changes_made(attempt)}
    if task.expects == "document":
        saved = workplace.as_salvage(_bundle(attempt, "salvage.bundle"))
        return closing | {"salvage": saved} | _hand_in_document(attempt, message)
    if rebase is not None and rebase.outcome == "conflict":
        saved = workplace.as_salvage(_bundle(attempt, "salvage.bundle"))
        error = following.conflict_error(task, rebase)
        return closing | {"status": ReportStatus.FAILED, "error": error, "salvage": saved}
    results = verify(attempt, head)
    if attempt.asked_to_stop:
        attempt.advance(tree=handover.tree_of_everything(worktree, head, nested=True))
        return None
    reach("daemon.verified")
    return closing | {"verification": results} | _verified(attempt, results)


def _commit(attempt: Attempt) -> Rebase | None:
    """Make HEAD what is to be handed in. After it nothing uncommitted is work: a verification made it."""
    worktree, stage, known = attempt.places.worktree, attempt.stage, attempt.known
    committed = stage.head if stage is not None else None
    if committed is not None and commit_of(worktree, "HEAD") == committed:
        checkout.restore_tracked(worktree)
    else:
        handover.commit_leftovers(worktree, attempt.task.title, attempt.config.identity)
        checkout.put_on_branch(worktree, attempt.task.branch)
        _tell_left_out(attempt)
    claimed = known.result is not None and known.result.head == checkout.head(worktree)
    rebase = None if claimed else following.follow_base_branch(attempt)
    if rebase is not None:
        attempt.tell({"rebase": rebase}, None)
    attempt.advance(head=checkout.head(worktree), tree=None)
    reach("daemon.committed")
    return rebase or known.rebase


def _tell_left_out(attempt: Attempt) -> None:
    external = look_for_external(attempt.places.worktree)
    if external is not None and external.submodules_changed:
        inside = ", ".join(external.submodules_changed)
        attempt.tell({"external": external}, f"Changes inside of submodules are not handed in: {inside}")


def _verified(attempt: Attempt, results: tuple[VerificationResult, ...]) -> dict[str, Any]:
    """The commits as a result, or as salvage where a command did not pass."""
    failed = [result for result in results if result.exit_code != 0]
    if failed:
        names = ", ".join(f"'{result.name}'" for result in failed)
        error = ReportError(code="E_VERIFICATION_FAILED", message=f"verification failed: {names}")
        # The commits alone: what is uncommitted now is the verification's dirt, not the agent's work.
        saved = workplace.as_salvage(_bundle(attempt, "salvage.bundle"))
        return {"status": ReportStatus.FAILED, "error": error, "result": None, "salvage": saved}
    bundle = _bundle(attempt, "result.bundle")
    reach("daemon.bundled_before_report")
    if bundle is None:
        return {"status": ReportStatus.COMPLETED, "result": None}
    result = Result(
        kind="commits", bundle=bundle.path.name, sha256=bundle.sha256, head=bundle.head, base=bundle.base
    )
    return {"status": ReportStatus.COMPLETED, "result": result, "percent": 100}


def _bundle(attempt: Attempt, name: str) -> handover.BundleMade | None:
    """The commits in a bundle; the one that was handed in before, if it is there and holds the same."""
    task, places, known = attempt.task, attempt.places, attempt.known.result
    if known is not None and known.head == checkout.head(places.worktree):
        handed_in = handover.bundle_made(places.outbox, known)
        if handed_in is not None:
            return handed_in
    base = handover.result_base(places.worktree, task.base_branch, task.base_commit)
    return handover.make_bundle(places.worktree, base, task.branch, places.outbox / name)


def _hand_in_document(attempt: Attempt, text: str) -> dict[str, Any]:
    written = attempt.places.worktree / DOCUMENT_PATH
    with contextlib.suppress(OSError):
        if not written.is_symlink():
            text = attempt.mask.hide(written.read_text(errors="replace")[: 1024 * 1024])
    data = text.encode(errors="replace")
    write_file(attempt.places.outbox / "document.md", data)
    result = Result(kind="document", document="document.md", sha256=hashlib.sha256(data).hexdigest())
    return {"status": ReportStatus.COMPLETED, "result": result}


def changes_made(attempt: Attempt) -> dict[str, Any]:
    """What the task changed, and not what came to the base branch meanwhile."""
    worktree, task = attempt.places.worktree, attempt.task
    base = handover.result_base(worktree, task.base_branch, task.base_commit)
    return handover.changes(worktree, base).hidden_by(attempt.mask)
