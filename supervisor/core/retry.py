"""When a failed task is tried again, and when a person is needed instead."""

from datetime import datetime, timedelta
from typing import Any, TypeVar

from agent_daemon.protocol.model import Feedback, WaitReason
from agent_daemon.protocol.outcomes import NOT_STARTED, Consequence
from supervisor.core.chain import refused_recommendation, run_so_far, what_was_tried
from supervisor.core.decision import Decision, Event, Failed
from supervisor.core.record import Attempt, TaskRecord, Tries, Wait
from supervisor.core.settings import RetrySettings
from supervisor.core.states import State
from supervisor.core.words import count

_Work = TypeVar("_Work", bound=Tries)

# The work does not go together with what came to the base branch meanwhile.
BASE_CONFLICT = "E_BASE_CONFLICT"

_TRY_AGAIN_SECONDS = (2, 5, 15, 60, 300)
_MAX_TRIES = 5
# These pass by themselves, though it may take a night: 100 tries are a good eight hours.
_OUTAGES = frozenset(
    {"E_UNREACHABLE", "E_STATE_DISK", "E_GIT_TIMEOUT", "E_MIRROR_BUSY", "E_FORGE_DOWN", "E_FORGE_LIMIT"}
)
_MAX_TRIES_IN_AN_OUTAGE = 100
# Where secrets are kept cannot be asked or opened, or refuses: mended there, and asked again as long as it takes.
AWAITED = frozenset(
    {"E_VAULT_DOWN", "E_VAULT_SEALED", "E_VAULT_DENIED", "E_VAULT_REFUSED", "E_VAULT_WRAPPED"}
    | {"E_SECRETS_IDENTITY", "E_SECRETS_UNREADABLE", "E_NO_SECRET"}
)
LONGEST_AWAITED_SECONDS = 30
# What is not there may be back in a moment, like a path on a network; a wrong address is not: 4 tries are 22 s.
_ABSENCES = frozenset({"E_NO_REPOSITORY"})
_MAX_TRIES_IN_AN_ABSENCE = 4

# A provider that is overloaded is given the pause that so many more failures would have.
_LONGER = 2
# The verdict on an attempt whose CLI had used up its quota, and the longest wait for one (limits of a week exist).
PARKED = "quota"
_LONGEST_PARKING = timedelta(days=8)


def note_failure(work: _Work, failed: Failed, now: datetime) -> _Work:
    """The work with one more try that failed, and the time of the next one."""
    tries = work.tries + 1
    pause = _TRY_AGAIN_SECONDS[min(tries, len(_TRY_AGAIN_SECONDS)) - 1]
    again = now + timedelta(seconds=min(pause, LONGEST_AWAITED_SECONDS) if failed.code in AWAITED else pause)
    if failed.retry_at is not None:
        again = max(again, failed.retry_at)
    return work.evolve(tries=tries, error=str(failed), not_before=again)


def needs_person(work: Tries, failed: Failed) -> bool:
    """Whether trying again by itself is of no use: it was refused for good, or has failed often enough."""
    if failed.code in AWAITED:
        return False
    if failed.code in _ABSENCES:
        return work.tries >= _MAX_TRIES_IN_AN_ABSENCE
    most = _MAX_TRIES_IN_AN_OUTAGE if failed.code in _OUTAGES else _MAX_TRIES
    return not failed.retryable or work.tries >= most


def is_told(work: Tries, failed: Failed) -> bool:
    """Whether the same was told of this work before, and is only waited for."""
    return failed.code in AWAITED and work.error == str(failed)


def told_of(work: Tries, failed: Failed) -> str:
    """The failure as the person is told of it who is asked."""
    return f"{failed} (tried {work.tries} times)" if work.tries > 1 else str(failed)


def backoff_seconds(failures: int, retry: RetrySettings) -> float:
    """Seconds to wait after this many failures (1 or more): exponential, capped."""
    try:
        return min(retry.cap_seconds, retry.first_seconds * retry.factor ** (failures - 1))
    except OverflowError:
        return retry.cap_seconds


def bounded(task: TaskRecord, retry: RetrySettings, now: datetime) -> TaskRecord:
    """The record without times that lie too far ahead: the machine's clock was set back while nobody looked.

    Nothing is held up by that for longer than the longest pause, and nothing is done sooner.
    """
    latest = now + timedelta(seconds=retry.cap_seconds)

    def sooner(work: _Work) -> _Work:
        return work if work.not_before is None else work.evolve(not_before=min(work.not_before, latest))

    attempts = tuple(
        attempt.evolve(
            started_at=attempt.started_at if attempt.ended_at else min(attempt.started_at, now),
            salvage_since=min(attempt.salvage_since, now) if attempt.salvage_since else None,
            inspecting=sooner(attempt.inspecting),
            saving=sooner(attempt.saving),
        )
        for attempt in task.attempts
    )
    waits = None if task.not_before is None else min(task.not_before, latest)
    return task.evolve(
        attempts=attempts,
        effects=tuple(map(sooner, task.effects)),
        posts=tuple(map(sooner, task.posts)),
        story=sooner(task.story),
        label=sooner(task.label),
        not_before=waits,
        preparing=sooner(task.preparing),
        grants=tuple(grant.evolve(giving=sooner(grant.giving)) for grant in task.grants),
    )


def fail_attempt(
    task: TaskRecord,
    *,
    why: str,
    feedback: tuple[Feedback, ...],
    retry: RetrySettings,
    now: datetime,
    then: Consequence = Consequence.AGAIN,
) -> Decision:
    """The attempt has failed: try again, after `max_failures` with the next CLI, at last ask a person."""
    failures, why = task.failures + 1, why.split("\n", 1)[0]
    changes: dict[str, Any] = {"failures": failures, "feedback": feedback, "delivery": None}
    newest = task.attempts[-1] if task.attempts else None
    follows = newest is not None and newest.next_cli is not None
    enough = failures >= task.max_failures or then is Consequence.HAND_OVER
    enough = enough or (follows and then is Consequence.NEXT) or _was_last_try(newest, then)
    if enough and newest is not None and follows:
        rule = "max_failures" if failures >= task.max_failures else "hand_over"
        rule = "not_started" if newest.code == NOT_STARTED else rule
        return _next_cli(task, newest, why=why, rule=rule, retry=retry, now=now, changes=changes)
    if enough:
        conflicts = any(item.code == BASE_CONFLICT for item in feedback)
        reason = WaitReason.CONFLICT if conflicts else WaitReason.HUMAN
        tried = _tried(task)
        failed = "all that was tried failed" if tried else f"{count(failures, 'attempt')} failed"
        message = f"{failed}; the last one: {why}{tried}"
        return block(task, reason=reason, message=message, now=now, why=why, not_before=None, **changes)
    return _try_again(task, why, _pause_seconds(then, failures, retry), now, changes)


def _tried(task: TaskRecord) -> str:
    """What was tried besides, for the person who is asked; empty where that was one CLI alone."""
    return f"; tried: {what_was_tried(task)}" if len({a.cli for a in run_so_far(task)}) > 1 else ""


def _was_last_try(newest: Attempt | None, then: Consequence) -> bool:
    """Whether the try to get the task unstuck is over; what ended it was no trouble that passes by itself."""
    passing = (Consequence.RETRY, Consequence.BACK_OFF)
    return newest is not None and newest.role == "unstuck" and then not in passing


def _pause_seconds(then: Consequence, failures: int, retry: RetrySettings) -> float:
    if then is Consequence.RETRY:
        return 0
    return backoff_seconds(failures + (_LONGER if then is Consequence.BACK_OFF else 0), retry)


def _next_cli(
    task: TaskRecord,
    newest: Attempt,
    *,
    why: str,
    rule: str,
    retry: RetrySettings,
    now: datetime,
    changes: dict[str, Any],
) -> Decision:
    """The next CLI of the chain takes over, with a failure count of its own."""
    failures = changes.get("failures", task.failures)
    unstuck = newest.next_role == "unstuck"
    details: dict[str, object] = {"rule": rule, "failures": failures, "from": newest.cli, "to": newest.next_cli}
    details |= {"unstuck": True} if unstuck else {}
    seconds = backoff_seconds(1, retry) if rule == "max_failures" else 0
    changes = changes | {"failures": 0, "cli": newest.next_cli, "unstuck": unstuck}
    again = _try_again(task, why, seconds, now, changes, failures)
    return again.then(Decision(task=again.task, events=(Event(name="task.cli_changed", details=details),)))


def _try_again(
    task: TaskRecord, why: str, seconds: float, now: datetime, changes: dict[str, Any], failures: object = None
) -> Decision:
    failed = task.moved(
        State.FAILED,
        reason=why,
        actor="supervisor",
        at=now,
        not_before=now + timedelta(seconds=seconds),
        waits_for=(),
        **changes,
    )
    told = failed.failures if failures is None else failures
    details = {"failures": told, "message": why, "retry_in_seconds": round(seconds, 1)}
    return Decision(task=failed, events=(Event(name="task.failed", details=details),))


def follow_recommendation(
    task: TaskRecord, attempt: Attempt, wanted: str | None, *, why: str, retry: RetrySettings, now: datetime
) -> Decision:
    """The agent says that another CLI should go on: that one does, at once, and it is no failure.

    Where it names none, or one that cannot be taken, the next of the chain goes on, and is told so.
    """
    refusal = refused_recommendation(task, attempt, wanted) if wanted else "it names none"
    told = Feedback(code="HANDOFF", message=f"{attempt.cli} worked on this before and says: {why}")
    if wanted and refusal is None:
        unstuck = wanted == attempt.unstuck and wanted not in attempt.clis
        chosen = attempt.evolve(next_cli=wanted, next_role="unstuck" if unstuck else "specialist")
        changes = {"feedback": (told,), "delivery": None}
        return _next_cli(task, chosen, why=why, rule="recommended", retry=retry, now=now, changes=changes)
    ignored = Event(name="handoff.ignored", details={"recommended": wanted or "", "message": refusal})
    named = Feedback(code="HANDOFF", message=f"the recommended coding CLI {wanted!r} is not taken: {refusal}")
    feedback = (told, *([named] if wanted else []))
    if attempt.next_cli is not None:
        then = Consequence.HAND_OVER
        after = fail_attempt(task, why=why, feedback=feedback, retry=retry, now=now, then=then)
    else:  # no attempt failed: nobody is left to go on
        asks = (
            f"{wanted}, which is not taken: {refusal}" if wanted else "another coding CLI, and there is none left"
        )
        message = f"{attempt.cli} recommends {asks}; it says: {why}" + _tried(task)
        after = block(
            task,
            reason=WaitReason.HUMAN,
            message=message,
            now=now,
            not_before=None,
            feedback=feedback,
            delivery=None,
        )
    return Decision(task=task, events=(ignored,) if wanted else ()).then(after)


def park(
    task: TaskRecord,
    attempt: Attempt,
    *,
    message: str,
    until: datetime | None,
    retry: RetrySettings,
    now: datetime,
) -> Decision:
    """The CLI's quota is used up: no failure. The task waits until it lasts again, or the next CLI takes over."""
    if retry.quota == "next_cli" and attempt.next_cli is not None:
        return _next_cli(task, attempt, why=message, rule="quota", retry=retry, now=now, changes={})
    if until is None:
        return block(task, reason=WaitReason.QUOTA, message=message, now=now)
    # What is told comes from outside: neither in a circle without a pause, nor for ever.
    earliest = now + timedelta(seconds=backoff_seconds(_parked_in_a_row(task), retry))
    until = min(max(until, earliest), now + _LONGEST_PARKING)
    return block(task, reason=WaitReason.QUOTA, message=message, now=now, until=until)


def _parked_in_a_row(task: TaskRecord) -> int:
    """How many attempts have ended so one after the other, the newest included; at least 1."""
    others = (number for number, attempt in enumerate(reversed(task.attempts)) if attempt.verdict != PARKED)
    return max(1, next(others, len(task.attempts)))


def parked_until(task: TaskRecord) -> datetime | None:
    """When a blocked task goes on by itself; None for one that waits for a person, and for any other."""
    times = [wait.until for wait in task.waits_for]
    if task.state is not State.BLOCKED or not times or None in times:
        return None
    return max(time for time in times if time is not None)


def block(
    task: TaskRecord,
    *,
    reason: WaitReason,
    message: str,
    now: datetime,
    ref: str | None = None,
    until: datetime | None = None,
    why: str | None = None,
    **changes: Any,
) -> Decision:
    """The task waits for something that only arrives from outside, or until a time."""
    wait = Wait(reason=reason, message=message, ref=ref, until=until)
    blocked = task.moved(
        State.BLOCKED, reason=why or message, actor="supervisor", at=now, waits_for=(wait,), **changes
    )
    details = {"reason": reason.value, "message": message} | ({"until": until.isoformat()} if until else {})
    return Decision(task=blocked, events=(Event(name="task.blocked", details=details),))
