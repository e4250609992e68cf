"""What a report means for its task: the daemon's word, taken in by rule."""

import re
from datetime import datetime

from agent_daemon.protocol.model import (
    Feedback,
    ReportStatus,
    TaskReport,
    VerificationResult,
    WaitReason,
)
from agent_daemon.protocol.outcomes import follows_from
from supervisor.core.budgets import allowed_since
from supervisor.core.credentials import another_attempt, was_just_decided
from supervisor.core.decision import Decision, Event, claim_refused, problem_of
from supervisor.core.giving import cannot_be_had, wanted_in_vain
from supervisor.core.moved_base import conflict_feedback, reported_conflict
from supervisor.core.planning import PLANNED, take_plan
from supervisor.core.record import Attempt, TaskRecord
from supervisor.core.retry import PARKED, block, fail_attempt, follow_recommendation, park
from supervisor.core.settings import RetrySettings
from supervisor.core.spending import more_used
from supervisor.core.states import ACTIVE, State

WORKING = frozenset(
    {
        ReportStatus.RECEIVED,
        ReportStatus.PLANNING,
        ReportStatus.IN_PROGRESS,
        ReportStatus.VERIFYING,
        ReportStatus.WAITING,
    }
)
# The CLI has stopped for good and the attempt's work is bundled.
FINISHED = frozenset(
    {
        ReportStatus.BLOCKED,
        ReportStatus.COMPLETED,
        ReportStatus.FAILED,
        ReportStatus.CANCELLED,
        ReportStatus.RELEASED,
    }
)


_REF = re.compile(r"[A-Za-z0-9-]{1,40}")  # it stands in commands that people are shown
# How often what was touched after it had been saved is saved again.
MAX_TOUCHED = 3

# The daemon's word that an attempt left work behind that it could not bundle: its worktree must stay.
NOT_BUNDLED = "E_NOT_BUNDLED"


def occupies(task: TaskRecord, attempt: Attempt, report: TaskReport | None) -> bool:
    """Whether this attempt keeps its workstation busy."""
    if attempt.ended_at is not None:
        return False
    if report is None or awaits_verification(task, attempt, report):
        return True
    return report.status not in FINISHED and report.status is not ReportStatus.PAUSED


def awaits_verification(task: TaskRecord, attempt: Attempt, report: TaskReport) -> bool:
    """Whether a claim lacks commands only because its daemon has not read yet that they were edited."""
    if report.status is not ReportStatus.COMPLETED or report.result is None or task.expects == "document":
        return False
    not_run = any(report.run_of(command) is None for command in task.verification)
    return not_run and report.observed_revision < attempt.mail.revision


def end_attempt(
    task: TaskRecord, attempt: Attempt, *, verdict: str, report: TaskReport | None, now: datetime
) -> TaskRecord:
    """The record with this attempt ended; its work, if it handed any in, waits to be saved.

    Without a report, what it left behind is to be bundled by its workstation, or for it; one that never reported
    cannot have left anything, nor cost anything. What another one has cost is not known before it says so.
    """
    changes: dict[str, object] = {"verdict": verdict, "ended_at": now}
    if report is not None:
        changes |= _work_of(report) | _course_of(report) | _end_of(report)
    elif task.state is State.ASSIGNED:
        changes["save_error"] = "the workstation reported nothing"
    else:
        changes["salvage_since"] = now
        changes["usage"] = attempt.usage.model_copy(update={"cost_unknown": "its end was not reported"})
    return task.with_attempt(attempt.number, **changes)


def _course_of(report: TaskReport) -> dict[str, object]:
    """What the attempt used, and the session that its CLI can go on with."""
    session = {"session": report.session.id} if report.session is not None else {}
    return {"usage": report.usage, **session}


def _end_of(report: TaskReport) -> dict[str, object]:
    """Why it ended, by its own word; nothing of one that is done."""
    wait, error = report.blocked_reason, report.error
    said = error.message if error else report.question or next(iter(report.blockers), "")
    code = error.code if error else f"blocked: {wait.reason.value}" if wait else ""
    return {"code": code[:100], "why": " ".join(said.split())[:500]}


def _work_of(report: TaskReport) -> dict[str, object]:
    work = report.salvage or report.result
    answered: dict[str, object] = {"salvage_since": None, "bundle_again": False}
    if work is None and report.error is not None and report.error.code == NOT_BUNDLED:
        return answered | {"save_error": f"the daemon could not bundle its work: {report.error.message}"[:500]}
    if work is None or work.bundle is None:
        digest = work.sha256 if work is not None else None
        return answered | {"saved": True, "saved_in": "nothing", "save_error": None, "bundle_sha256": digest}
    return answered | {
        "bundle": work.bundle,
        "bundle_sha256": work.sha256,
        "bundle_head": work.head,
        "bundle_base": work.base,
        "saved": False,
        "saved_in": None,
        "save_error": None,
    }


def take_report(task: TaskRecord, report: TaskReport, retry: RetrySettings, now: datetime) -> Decision:
    """What follows from a good report of one of this task's attempts."""
    attempt = task.attempt_number(report.attempt)
    if attempt is None:
        return Decision(task=task)
    if attempt.ended_at is not None:
        return _late_report(task, attempt, report)
    if task.state is State.PAUSED:
        return Decision(task=task)
    if task.state not in ACTIVE:
        if report.status not in FINISHED:
            return Decision(task=task)
        ended = end_attempt(task, attempt, verdict=report.status.value, report=report, now=now)
        return Decision(task=ended, events=(_ended_event(attempt, report.status.value),))
    if report.status in WORKING or report.status is ReportStatus.PAUSED:
        return _started(task, now)
    return _finished(task, attempt, report, retry, now)


def _started(task: TaskRecord, now: datetime) -> Decision:
    if task.state is not State.ASSIGNED:
        return Decision(task=task)
    moved = task.moved(State.IN_PROGRESS, reason="the workstation reports", actor="workstation", at=now)
    return Decision(task=moved, events=(Event(name="task.started"),))


def _late_report(task: TaskRecord, attempt: Attempt, report: TaskReport) -> Decision:
    """Of an attempt that has ended: what it used, whether its work can be saved, whether it has been released."""
    usage = report.usage
    if report.status not in FINISHED and not usage.cost_unknown:  # it may have gone on after it said so
        usage = usage.model_copy(update={"cost_unknown": attempt.usage.cost_unknown})
    if more_used(usage, attempt.usage):
        task = task.with_attempt(attempt.number, usage=usage)
        attempt = attempt.evolve(usage=usage)
    if report.status is ReportStatus.RELEASED:
        if attempt.released or not attempt.expendable:
            return Decision(task=task)
        return Decision(task=task.with_attempt(attempt.number, released=True))
    if attempt.bundle_again and report.error is not None and report.error.code == NOT_BUNDLED:
        return Decision(task=task)  # that is what it said before it was asked again
    if _is_touched(attempt, report):
        again = task.with_attempt(attempt.number, **_work_of(report), times_touched=attempt.times_touched + 1)
        event = Event(name="worktree.touched", details={"attempt": attempt.number})
        return Decision(task=again, events=(event,))
    unknown = attempt.save_error is not None or attempt.salvage_since is not None
    if report.status in FINISHED and unknown and attempt.bundle is None and not attempt.saved:
        return Decision(task=task.with_attempt(attempt.number, **_work_of(report), **_course_of(report)))
    return Decision(task=task)


def _is_touched(attempt: Attempt, report: TaskReport) -> bool:
    """Its worktree was about to go, and holds more than what was saved: that is saved before it goes.

    Not for ever: whoever hands in something else again and again keeps the worktree.
    """
    saved = attempt.expendable and not attempt.released and report.status in FINISHED
    more = report.salvage is not None and report.salvage.sha256 != attempt.bundle_sha256
    return saved and more and attempt.times_touched < MAX_TOUCHED


def _ended_event(attempt: Attempt, verdict: str) -> Event:
    return Event(name="attempt.ended", details={"attempt": attempt.number, "verdict": verdict})


def _finished(
    task: TaskRecord, attempt: Attempt, report: TaskReport, retry: RetrySettings, now: datetime
) -> Decision:
    started = _started(task, now)
    task = started.task
    if report.status is ReportStatus.COMPLETED:
        if awaits_verification(task, attempt, report):
            return started
        missing = claim_problems(task, report)
        if not missing:
            return started  # the claim is inspected: see `plan.needed_jobs`
        ended = end_attempt(task, attempt, verdict="claim refused", report=report, now=now)
        why = f"{missing[0].code}: {missing[0].message}"
        refused = claim_refused(attempt.number, [problem_of(item) for item in missing])
        started = started.then(Decision(task=task, events=(refused,)))
        after = fail_attempt(ended, why=why, feedback=missing, retry=retry, now=now)
    elif report.status is ReportStatus.BLOCKED:
        after = _blocked(task, attempt, report, retry, now)
    else:
        ended = end_attempt(task, attempt, verdict=report.status.value, report=report, now=now)
        why = (
            report.error.message if report.error and report.error.message else f"the agent reports {report.status}"
        )
        feedback = failure_feedback(attempt, report, why)
        then = follows_from(report.error.code if report.error else None)
        if report.recommend_handoff:
            after = follow_recommendation(ended, attempt, report.recommend_handoff, why=why, retry=retry, now=now)
        else:
            after = fail_attempt(ended, why=why, feedback=feedback, retry=retry, now=now, then=then)
    ended_as = after.task.attempt_number(attempt.number)
    verdict = PLANNED if ended_as is not None and ended_as.verdict == PLANNED else report.status.value
    event = Decision(task=after.task, events=(_ended_event(attempt, verdict),))
    return started.then(event).then(after)


EMPTY_RESULT = Feedback(
    code="E_EMPTY_RESULT",
    message="nothing was changed, and the task asks for a change",
    mend="make the change that the task asks for",
)


NO_PLAN = Feedback(
    code="E_NO_PLAN",
    message="the attempt was to hand in a plan, and nothing else",
    mend="plan what the task asks for, and change nothing",
)


def _blocked(
    task: TaskRecord, attempt: Attempt, report: TaskReport, retry: RetrySettings, now: datetime
) -> Decision:
    """The agent cannot go on: a person is asked, or its CLI's quota is waited for."""
    wait = report.blocked_reason
    reason = wait.reason if wait else WaitReason.HUMAN
    message = report.question or next(iter(report.blockers), "") or "the agent needs help"
    planned = attempt.phase == "plan" and reason is WaitReason.APPROVAL and bool(report.plan)
    verdict = PARKED if reason is WaitReason.QUOTA else PLANNED if planned else "blocked"
    ended = end_attempt(task, attempt, verdict=verdict, report=report, now=now)
    if planned:
        return take_plan(ended, attempt, report, now)
    if reason is WaitReason.BUDGET and wait and allowed_since(task, attempt, wait.ref):
        why = "it was allowed more as it came to its limit"
        return Decision(task=ended.moved(State.PENDING, reason=why, actor="supervisor", at=now, waits_for=()))
    if reason is WaitReason.QUOTA:
        until = wait.until if wait else None
        return park(ended, attempt, message=message, until=until, retry=retry, now=now)
    if reason is WaitReason.HANDOFF:
        return follow_recommendation(ended, attempt, report.recommend_handoff, why=message, retry=retry, now=now)
    ref = wait.ref if wait and wait.ref and _REF.fullmatch(wait.ref) and reason is not WaitReason.BUDGET else None
    lacking = wanted_in_vain(ended, attempt.number) if reason is WaitReason.CREDENTIAL else None
    if lacking is not None:
        return block(ended, reason=reason, ref=lacking.id, message=cannot_be_had(lacking), now=now)
    if reason is WaitReason.CREDENTIAL and ref is not None and was_just_decided(task, attempt):
        return another_attempt(ended, "supervisor", now)
    return block(ended, reason=reason, ref=ref, message=message, now=now)


def still_claimed(task: TaskRecord, report: TaskReport) -> bool:
    """Whether what was inspected is still what is claimed: the verification may have been edited meanwhile."""
    return report.status is ReportStatus.COMPLETED and not claim_problems(task, report)


def claim_problems(task: TaskRecord, report: TaskReport) -> tuple[Feedback, ...]:
    """Why a claim of completion cannot even be inspected; empty when it can.

    Nothing may be all that there is to hand in where earlier work was pushed: that may have been merged meanwhile.
    """
    result, attempt = report.result, task.attempt_number(report.attempt)
    if attempt is not None and attempt.phase == "plan":
        return (NO_PLAN,)
    if result is None:
        return () if task.allow_empty or task.pushed_head is not None else (EMPTY_RESULT,)
    if result.kind != task.expects or (
        result.kind == "commits" and (result.bundle is None or result.head is None)
    ):
        message = f"the task expects {task.expects}, the report hands in {result.kind}"
        return (Feedback(code="E_WRONG_RESULT", message=message, expected=task.expects),)
    if task.expects == "document":
        return ()
    return tuple(
        verification_feedback(command.name, command.command, found, result.head)
        for command in task.verification
        if not _passed(found := report.run_of(command), result.head)
    )


def _passed(found: VerificationResult | None, head: str | None) -> bool:
    return found is not None and found.exit_code == 0 and found.commit == head


def verification_feedback(name: str, command: str, found: VerificationResult | None, head: str | None) -> Feedback:
    """One sentence, and the end of the output, on a verification that is no evidence."""
    if found is None:
        message, output = f"verification '{name}' was not run", ""
    elif found.exit_code != 0:
        message, output = f"verification '{name}' failed with exit code {found.exit_code}", found.output_tail
    else:
        message, output = f"verification '{name}' was run on another commit than the one handed in", ""
    text = f"{message}\n{output}" if output else message
    return Feedback(
        code="E_VERIFICATION_FAILED",
        message=text,
        expected=f"`{command}` ends with exit code 0 on {head or 'the commit handed in'}",
        mend="make the command pass",
    )


def failure_feedback(attempt: Attempt, report: TaskReport, why: str) -> tuple[Feedback, ...]:
    """What the next attempt should know of a failed one."""
    conflict = reported_conflict(report)
    if conflict is not None:
        on_remote = attempt.shared_tip is not None
        return (conflict_feedback(attempt.base_branch, conflict, on_remote=on_remote),)
    failed = tuple(
        verification_feedback(entry.name, entry.command or entry.name, entry, entry.commit)
        for entry in report.verification
        if entry.exit_code != 0
    )
    if failed and report.rebase is not None and report.rebase.outcome == "rebased":
        moved = f"{attempt.base_branch} had moved: what failed ran on top of it at {report.rebase.onto[:12]}"
        failed = (*failed, Feedback(code="E_VERIFICATION_FAILED", message=moved))
    code = report.error.code if report.error else "E_AGENT_FAILED"
    return failed or (Feedback(code=code, message=why),)
