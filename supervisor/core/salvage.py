"""What a given-up attempt left behind: who bundles it, how long the next attempt waits for it."""

from datetime import datetime, timedelta

from agent_daemon.protocol.model import TaskingStatus, TaskReport
from supervisor.core.attempts import FINISHED
from supervisor.core.decision import Decision, Event, Failed
from supervisor.core.delivery import job_failed
from supervisor.core.record import Attempt, TaskRecord, Tries
from supervisor.core.retry import needs_person, note_failure, told_of
from supervisor.core.tasking import wanted_status


def must_hand_in(task: TaskRecord, attempt: Attempt, report: TaskReport | None) -> bool:
    """Whether its workstation is to bundle what this attempt left behind, and has not reported it yet."""
    if attempt.to_be_bundled:
        return True
    ended = attempt.ended_at is not None or (report is not None and report.status in FINISHED)
    return not ended and wanted_status(task, attempt) is TaskingStatus.CANCELLED


def awaited_since(attempt: Attempt, watched_since: datetime | None) -> datetime | None:
    """Since when somebody looks for what an attempt left behind; None when nothing is awaited.

    `watched_since`: the supervisor's own absence counts against nobody.
    """
    since = attempt.salvage_since
    if since is None or not attempt.to_be_bundled:
        return None
    return max(since, watched_since or since)


def give_up_salvage(task: TaskRecord, watched_since: datetime | None, seconds: float, now: datetime) -> TaskRecord:
    """The next attempt does not wait for ever: after so many seconds it begins without. The worktree stays."""
    for attempt in task.attempts:
        since = awaited_since(attempt, watched_since)
        if since is not None and now - since > timedelta(seconds=seconds):
            error = f"nobody bundled what it left behind within {seconds:g} s; its worktree stays"
            since = None if attempt.bundle_again else attempt.salvage_since
            task = task.with_attempt(attempt.number, save_error=error, salvage_since=since, bundle_again=False)
    return task


def settle_salvage(task: TaskRecord, number: int, outcome: Failed | str, now: datetime) -> Decision:
    """What was bundled for a dead daemon comes in by its report. What failed is tried again, but not for ever."""
    attempt = task.attempt_number(number)
    if attempt is None:
        return Decision(task=task)
    if isinstance(outcome, str):
        event = Event(name="attempt.salvaged", details={"attempt": number, "message": outcome})
        return Decision(task=task.with_attempt(number, saving=Tries()), events=(event,))
    tried = note_failure(attempt.saving, outcome, now)
    given_up = needs_person(tried, outcome) and attempt.to_be_bundled
    error = told_of(tried, outcome) if given_up else attempt.save_error
    changes = {"salvage_since": None, "bundle_again": False} if given_up else {}
    failed = task.with_attempt(number, saving=tried, save_error=error, **changes)
    return Decision(task=failed, events=(job_failed("Bundle", outcome),))


def save_again(task: TaskRecord, now: datetime) -> TaskRecord:
    """Try anew to save what attempts left behind; a person may have mended what was in the way."""
    for attempt in task.attempts:
        if attempt.ended_at is not None and not attempt.expendable and attempt.save_error is not None:
            changes = {"salvage_since": now, "bundle_again": True} if attempt.bundle is None else {}
            task = task.with_attempt(attempt.number, save_error=None, saving=Tries(), **changes)
    return task
