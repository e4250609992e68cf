"""When a failed task is tried again, and when a person is needed instead."""

from datetime import datetime, timedelta
from typing import TypeVar

from agent_daemon.protocol.model import Feedback, WaitReason
from supervisor.core.decision import Decision, Event, Failed
from supervisor.core.record import TaskRecord, Tries, Wait
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
# What is not there may be back in a moment, like a path on a network; a wrong address is not: 4 tries are 22 s.
_ABSENCES = frozenset({"E_NO_REPOSITORY"})
_MAX_TRIES_IN_AN_ABSENCE = 4


def note_failure(work: _Work, failed: Failed, now: datetime) -> _Work:
    """The work with one more try that failed, and the time of the next one."""
    tries = work.tries + 1
    again = now + timedelta(seconds=_TRY_AGAIN_SECONDS[min(tries, len(_TRY_AGAIN_SECONDS)) - 1])
    if failed.retry_at is not None:
        again = max(again, failed.retry_at)
    return work.evolve(tries=tries, error=str(failed), not_before=again)


def needs_person(work: Tries, failed: Failed) -> bool:
    """Whether trying again by itself is of no use: it was refused for good, or has failed often enough."""
    if failed.code in _ABSENCES:
        return work.tries >= _MAX_TRIES_IN_AN_ABSENCE
    most = _MAX_TRIES_IN_AN_OUTAGE if failed.code in _OUTAGES else _MAX_TRIES
    return not failed.retryable or work.tries >= most


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
    )


def fail_attempt(
    task: TaskRecord, *, why: str, feedback: tuple[Feedback, ...], retry: RetrySettings, now: datetime
) -> Decision:
    """The attempt has failed: wait and try again, after `max_failures` with the next CLI, at last ask a person."""
    failures, why = task.failures + 1, why.split("\n", 1)[0]
    changes: dict[str, object] = {"failures": failures, "feedback": feedback, "delivery": None}
    events: tuple[Event, ...] = ()
    newest = task.attempts[-1] if task.attempts else None
    if failures >= task.max_failures and newest is not None and newest.next_cli is not None:
        changes |= {"failures": 0, "cli": newest.next_cli}
        details = {"rule": "max_failures", "failures": failures, "from": newest.cli, "to": newest.next_cli}
        events = (Event(name="task.cli_changed", details=details),)
    elif failures >= task.max_failures:
        conflicts = any(item.code == BASE_CONFLICT for item in feedback)
        reason = WaitReason.CONFLICT if conflicts else WaitReason.HUMAN
        wait = Wait(reason=reason, message=f"{count(failures, 'attempt')} failed; the last one: {why}")
        blocked = task.moved(
            State.BLOCKED, reason=why, actor="supervisor", at=now, waits_for=(wait,), not_before=None, **changes
        )
        return Decision(
            task=blocked,
            events=(Event(name="task.blocked", details={"reason": reason.value, "message": wait.message}),),
        )
    seconds = backoff_seconds(1 if events else failures, retry)
    failed = task.moved(
        State.FAILED,
        reason=why,
        actor="supervisor",
        at=now,
        not_before=now + timedelta(seconds=seconds),
        waits_for=(),
        **changes,
    )
    event = Event(
        name="task.failed", details={"failures": failures, "message": why, "retry_in_seconds": round(seconds, 1)}
    )
    return Decision(task=failed, events=(event, *events))


def block(
    task: TaskRecord,
    *,
    reason: WaitReason,
    message: str,
    now: datetime,
    ref: str | None = None,
    **changes: object,
) -> Decision:
    """The task waits for something that only arrives from outside."""
    wait = Wait(reason=reason, message=message, ref=ref)
    blocked = task.moved(State.BLOCKED, reason=message, actor="supervisor", at=now, waits_for=(wait,), **changes)
    return Decision(
        task=blocked,
        events=(Event(name="task.blocked", details={"reason": reason.value, "message": message}),),
    )
