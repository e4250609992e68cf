"""What is done about a CLI that gives no sign of life, rung by rung. Pure; decided again at every look.

Reminded, then interrupted: its daemon ends it, bundles what it made and goes on in the same session. Hung once
more in the same attempt, that attempt is ended as failed. What follows is what follows every failure
(`core.retry`): another attempt, the next CLI of the chain, a person.
"""

from datetime import datetime, timedelta
from typing import Literal

from agent_daemon.protocol.model import Feedback, TaskReport
from supervisor.core.decision import Decision, Event
from supervisor.core.liveness import Finding
from supervisor.core.record import Attempt, Concern, Interrupted, Suspicion, TaskRecord
from supervisor.core.settings import TimingSettings
from supervisor.core.states import ACTIVE
from supervisor.core.times import duration

MAX_RESUMES = 1  # of one attempt

_SIGNS: dict[Concern, tuple[str, str]] = {
    "input": ("E_CLI_WAITS", "it waits for somebody to type something, and nobody can"),
    "quiet": ("E_CLI_QUIET", "it has neither written nor worked"),
}


def climb(task: TaskRecord, finding: Finding | None, now: datetime) -> Decision:
    """The next rung for the task's live attempt, if one is due; `finding` is the concern that its CLI gives."""
    live = task.live
    if live is None or task.state not in ACTIVE:
        return Decision(task=task)
    if live.interruption is not None and not live.interruption.heeded:
        return Decision(task=task)  # what was found is of the run that is being ended
    if finding is None:
        return _recovered(task, live)
    return _interrupted(task, live, finding, now) if finding.is_over else _suspected(task, live, finding, now)


def heed(task: TaskRecord, report: TaskReport) -> Decision:
    """Take note of a report that the CLI was ended as asked, and what it had made was bundled."""
    live = task.live
    asked = live.interruption if live is not None and live.number == report.attempt else None
    if live is None or asked is None or asked.heeded or report.interruptions < asked.number:
        return Decision(task=task)
    after = task.with_attempt(live.number, interruption=asked.evolve(heeded=True))
    if asked.then == "end":
        return Decision(task=after)  # the report of its end says the rest
    saved = report.salvage is not None
    details = {"attempt": live.number, "rule": asked.rule, "session": live.session, "saved": saved}
    return Decision(task=after, events=(Event(name="attempt.resumed", details=details),))


def is_ignored(task: TaskRecord, finding: Finding | None, timing: TimingSettings) -> bool:
    """Whether a daemon that should have interrupted its CLI long ago has not: it has to be restarted."""
    live = task.live
    asked = live.interruption if live is not None and task.state in ACTIVE else None
    if asked is None or asked.heeded or finding is None:
        return False
    return finding.seconds >= finding.limit_seconds + timing.restart_after_seconds


def reminder(finding: Finding) -> Feedback:
    """What the workstation is told of a CLI that gives cause for concern."""
    code, said = _SIGNS[finding.rule]
    left = max(0.0, finding.limit_seconds - finding.seconds)
    return Feedback(
        code=code,
        message=f"The coding CLI shows no sign of life: {said} for {duration(finding.seconds)}.",
        expected="output, a step, or processor time",
        mend=f"it is interrupted in {duration(left)} if that stays so",
    )


def _suspected(task: TaskRecord, live: Attempt, finding: Finding, now: datetime) -> Decision:
    if live.suspicion is not None and live.suspicion.rule == finding.rule:
        return Decision(task=task)
    left = finding.limit_seconds - finding.seconds
    suspicion = Suspicion(
        rule=finding.rule,
        since=now - timedelta(seconds=finding.seconds),
        due=now + timedelta(seconds=left),
    )
    details = {"attempt": live.number, "rule": finding.rule, "seconds": round(finding.seconds)}
    event = Event(name="attempt.reminded", details=details | {"interrupted_in_seconds": round(left)})
    return Decision(task=task.with_attempt(live.number, suspicion=suspicion), events=(event,))


def _recovered(task: TaskRecord, live: Attempt) -> Decision:
    if live.suspicion is None:
        return Decision(task=task)
    event = Event(name="attempt.recovered", details={"attempt": live.number, "rule": live.suspicion.rule})
    return Decision(task=task.with_attempt(live.number, suspicion=None), events=(event,))


def _interrupted(task: TaskRecord, live: Attempt, finding: Finding, now: datetime) -> Decision:
    number = live.interruption.number + 1 if live.interruption else 1
    then: Literal["resume", "end"] = "resume" if number <= MAX_RESUMES else "end"
    asked = Interrupted(number=number, rule=finding.rule, then=then, at=now)
    details = {"attempt": live.number, "rule": finding.rule, "seconds": round(finding.seconds), "then": then}
    event = Event(name="attempt.interrupted", details=details)
    after = task.with_attempt(live.number, interruption=asked, suspicion=None)
    return Decision(task=after, events=(event,))
