"""What is done for an attempt, from worktree to bundle: in a thread, which writes no report itself.

Every function returns the report's closing fields; none of them leaves the report as it is.
"""

from typing import Any

from loguru import logger

from agent_daemon import artifacts, handing_in, planning, workplace
from agent_daemon.attempt import STOP_CANCELLED, STOP_PAUSED, STOP_UNRESPONSIVE, Attempt, wait_for_given
from agent_daemon.clis.base import mask_for
from agent_daemon.coding import run_cli
from agent_daemon.execution import StopRequest
from agent_daemon.external import look_for_external
from agent_daemon.failpoints import reach
from agent_daemon.git import GitError
from agent_daemon.notes import forget_what_it_waits_for, take_notes
from agent_daemon.parting import size_bytes
from agent_daemon.protocol.files import make_folder
from agent_daemon.protocol.model import Criterion, ReportError, ReportStatus, WorkspaceMode
from agent_daemon.reporting import MAX_SUMMARY_BYTES, clip_bytes
from agent_daemon.request import cli_settings
from agent_daemon.stage import text_digest
from agent_daemon.traces import renew_marked

_PREPARING = {
    WorkspaceMode.SHARED: "Preparing the worktree",
    WorkspaceMode.COPY_ON_WRITE: "Preparing a clone of its own, which borrows the mirror's objects",
    WorkspaceMode.ISOLATED: "Preparing a full clone of its own",
}

# How a run may have ended whose agent said that it cannot go on; everything else has consequences of its own.
_MAY_ASK = frozenset({"completed", "needs_input", "no_result"})


def work(attempt: Attempt) -> dict[str, Any]:
    """Do the work of an attempt once; raises GitError, ProtocolError, OSError when it could not even be tried."""
    make_folder(attempt.places.logs)
    ran = attempt.stage is not None and attempt.stage.finished and not attempt.changed
    finished = ran or attempt.known.result is not None
    status = ReportStatus.VERIFYING if finished else ReportStatus.PLANNING
    preparing = _PREPARING[attempt.task.workspace_mode]
    attempt.know({"status": status, "acceptance_criteria": _criteria(attempt)}, preparing)
    attempt.mask = attempt.given.hidden_by(mask_for(cli_settings(attempt)))
    take_notes(attempt, last=True)
    workplace.prepare(attempt)
    _tell_external(attempt)
    reach("daemon.worktree_made")
    if attempt.asked_to_stop:
        return _stopped(attempt)
    closing = None if finished and handing_in.can_go_on(attempt) else _code(attempt)
    if closing is None:
        closing = planning.hand_in(attempt) if attempt.task.phase == "plan" else handing_in.hand_in(attempt)
    if closing is None:
        return _stopped(attempt)
    if closing.get("status") in (ReportStatus.COMPLETED, ReportStatus.FAILED):
        closing |= {"blocked_reason": None, "question": None, "recommend_handoff": None}
    return closing | _artifacts(attempt, closing)


def _criteria(attempt: Attempt) -> tuple[Criterion, ...]:
    """The task's criteria, each with what was told of it in an earlier run of this attempt."""
    known = {entry.criterion: entry for entry in attempt.known.acceptance_criteria}
    return tuple(known.get(text, Criterion(criterion=text)) for text in attempt.task.acceptance_criteria)


def _artifacts(attempt: Attempt, closing: dict[str, Any]) -> dict[str, Any]:
    """What the agent left for people, where the attempt ends; that it cannot be copied spoils nothing."""
    if closing.get("status") not in (ReportStatus.COMPLETED, ReportStatus.FAILED, ReportStatus.BLOCKED):
        return {}
    try:
        found = artifacts.collect(attempt.places.worktree, attempt.places.outbox, attempt.mask)
    except OSError as error:
        attempt.tell({}, f"The artifacts could not be copied: {error}")
        return {}
    if found.left_out:
        more = f" and {len(found.left_out) - 5} more" if len(found.left_out) > 5 else ""
        attempt.tell({}, f"Artifacts left out: {', '.join(found.left_out[:5])}{more}")
    return {"artifacts": found.artifacts}


def _code(attempt: Attempt) -> dict[str, Any] | None:
    """Run the CLI; None when it came to a good end and its work is to be handed in."""
    if attempt.changed:
        forget_what_it_waits_for(attempt)
    attempt.advance(text_sha256=text_digest(attempt.task), finished=False, message="", head=None, tree=None)
    plans = attempt.task.phase == "plan"
    status, what = (ReportStatus.PLANNING, " to plan") if plans else (ReportStatus.IN_PROGRESS, "")
    attempt.tell({"status": status}, f"Starting {attempt.config.cli.name}{what}")
    if plans:
        planning.remember(attempt)
    wait_for_given(attempt)
    coding, verdict = run_cli(attempt)
    reach("daemon.cli_finished")
    take_notes(attempt, last=True)
    workplace.end_processes(attempt.places)
    asks = verdict.outcome in _MAY_ASK and attempt.known.blocked_reason is not None
    if verdict.outcome == "completed" and not asks:
        attempt.advance(finished=True, message=clip_bytes(verdict.message, MAX_SUMMARY_BYTES))
    if attempt.asked_to_stop:
        return _stopped(attempt)
    if attempt.stop.reason == STOP_UNRESPONSIVE:
        if verdict.outcome != "completed":
            return handing_in.interrupted(attempt)
        attempt.stop = StopRequest()  # it came to its end by itself just then
    if not coding.started:
        return handing_in.not_started(attempt, verdict, coding.mend)
    if asks:
        return handing_in.asked(attempt)
    if verdict.outcome != "completed":
        return handing_in.not_completed(attempt, verdict, coding.bounds.allowed_usd)
    return None


def _tell_external(attempt: Attempt) -> None:
    """Report what belongs to the project and is not in the worktree."""
    external = attempt.external = look_for_external(attempt.places.worktree)
    if external is not None:
        submodules, lfs = external.submodules_total, external.lfs_files_total
        message = f"Not in the worktree: {submodules} submodule(s), the content of {lfs} file(s) of git-lfs"
        attempt.tell({"external": external}, message)


def cancel(attempt: Attempt) -> dict[str, Any]:
    """Bundle what there is of an attempt that is wanted no more."""
    salvage = handing_in.salvage(attempt)
    fields = {"status": ReportStatus.CANCELLED, "salvage": salvage, "current_step": "Cancelled"}
    if salvage is None:
        return fields
    try:
        return fields | handing_in.changes_made(attempt)
    except (GitError, OSError) as error:  # it is bundled: what it changed is only told
        logger.warning("what {} {} changed is not told: {}", attempt.task.id, attempt.task.attempt, error)
        return fields


def release(attempt: Attempt, *, in_use: bool) -> dict[str, Any]:
    """Remove what the supervisor has saved. What was touched since is bundled again, and saved first.

    Nothing is reported as done where it is in use, not there or the disk refuses, for it is tried again.
    """
    task, places = attempt.task, attempt.places
    workplace.end_processes(places)
    handed_in = attempt.known.salvage or attempt.known.result
    try:
        more = workplace.bundle_again(
            task, places, handed_in.head if handed_in else None, given_up=_given_up(attempt)
        )
        if more is not None:
            attempt.tell({}, "Touched after it had been saved: bundled again")
            return {"salvage": more}
        workplace.release(task, places, in_use=in_use)
        if places.own is None:
            renew_marked(places.clone, task.branch)
        output_bytes = size_bytes(places.outbox)
    except (OSError, GitError) as error:
        logger.error("{} {} is not released: {}", task.id, task.attempt, error)
        told = f"Not released: {error}"[:600]
        if not attempt.known.progress or attempt.known.progress[-1].message != " ".join(told.split()):
            attempt.tell({}, told)
        return {}
    return {"status": ReportStatus.RELEASED, "current_step": "Released", "output_bytes": output_bytes}


def _given_up(attempt: Attempt) -> bool:
    """It could not be bundled, and is to be removed all the same: a person wants that."""
    error = attempt.known.error
    return error is not None and error.code == "E_NOT_BUNDLED"


def _stopped(attempt: Attempt) -> dict[str, Any]:
    """What is reported when someone asked the run to stop."""
    if attempt.stop.reason == STOP_PAUSED:
        return {"status": ReportStatus.PAUSED, "current_step": "Paused"}
    return cancel(attempt) if attempt.stop.reason == STOP_CANCELLED else {}


def give_up(attempt: Attempt, error: Exception) -> dict[str, Any]:
    """Whatever went wrong, the work is bundled; where even that fails the report says so, and all stays."""
    message = f"{type(error).__name__}: {error}"[:2000]
    try:
        salvage = handing_in.salvage(attempt)
    except Exception as second:
        logger.exception("attempt {} {} could not be bundled", attempt.task.id, attempt.task.attempt)
        failure = ReportError(code="E_NOT_BUNDLED", message=f"{message}; bundling: {second}"[:2000])
        return {"status": ReportStatus.FAILED, "error": failure}
    failure = ReportError(code="E_DAEMON", message=message)
    return {"status": ReportStatus.FAILED, "error": failure, "salvage": salvage}
