"""`plan_task`: from what a task is and what is seen of it, to what it becomes and which jobs it needs.

Level-triggered: called again with the same input it asks for the same jobs and changes nothing more.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from agent_daemon.protocol.model import Feedback, ReportStatus, TaskReport, WaitReason
from supervisor.core.attempts import claim_problems, end_attempt, take_report
from supervisor.core.budgets import stop_if_spent
from supervisor.core.cleanup import let_go_at_once
from supervisor.core.credentials import take_requests
from supervisor.core.decision import Bundle, Decision, Event, Inspect, Job, Look, OpenRequest, Push, Save
from supervisor.core.delivery import NOT_INSPECTED, arrive, push_key, request_key
from supervisor.core.giving import next_expiry, take_back, to_give, to_probe
from supervisor.core.ladder import heed
from supervisor.core.record import Attempt, TaskRecord
from supervisor.core.request_news import take_up_remarks
from supervisor.core.retry import block, fail_attempt, parked_until
from supervisor.core.salvage import awaited_since, give_up_salvage, must_hand_in
from supervisor.core.settings import Config
from supervisor.core.states import State


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What was observed of a task's attempts: their last good reports, by attempt number.

    `recipient` is for whom what is given to the live attempt is encrypted: the daemon that is there now.
    `watched_since` is since when this supervisor has looked without a break: its own absence counts against
    nobody.
    """

    reports: dict[int, TaskReport]
    watched_since: datetime | None = None
    recipient: str | None = None

    def unanswered_since(self, attempt: Attempt) -> datetime | None:
        """Since when an attempt has been looked for without a report; None when it has reported."""
        if attempt.number in self.reports:
            return None
        return max(attempt.started_at, self.watched_since or attempt.started_at)


def plan_task(task: TaskRecord, seen: Seen, config: Config, now: datetime) -> Decision:
    """The task as it should be now, what to tell, and the jobs that are needed (whether or not under way)."""
    # (first, so that an attempt that asks and stops in one report is heard)
    decision = take_requests(task, seen.reports.get(task.attempt), config, now)
    for number in sorted(seen.reports):
        decision = decision.then(heed(decision.task, seen.reports[number]))
        decision = decision.then(take_report(decision.task, seen.reports[number], config.retry, now))
    decision = decision.then(take_back(decision.task, now))
    decision = decision.then(_time_passed(decision.task, seen, config, now))
    decision = decision.then(stop_if_spent(decision.task, config, now))
    decision = decision.then(arrive(decision.task, now))
    decision = decision.then(take_up_remarks(decision.task, now))
    decision = decision.then(Decision(task=let_go_at_once(decision.task, config)))
    jobs = needed_jobs(decision.task, seen, now)
    return Decision(task=decision.task, events=decision.events, jobs=jobs)


def _time_passed(task: TaskRecord, seen: Seen, config: Config, now: datetime) -> Decision:
    """Backoffs that have run out, attempts that nobody took up, and work that nobody bundled."""
    task = give_up_salvage(task, seen.watched_since, config.timing.salvage_timeout_seconds, now)
    if task.state is State.FAILED and (task.not_before is None or task.not_before <= now):
        moved = task.moved(State.PENDING, reason="time for another attempt", actor="supervisor", at=now)
        return Decision(task=moved.evolve(not_before=None))
    lifted = parked_until(task)
    if lifted is not None and lifted <= now:
        why = "the quota of its coding CLI lasts again"
        return Decision(task=task.moved(State.PENDING, reason=why, actor="supervisor", at=now, waits_for=()))
    live = task.live
    since = seen.unanswered_since(live) if live is not None else None
    timeout = timedelta(seconds=config.timing.assign_timeout_seconds)
    if task.state is State.ASSIGNED and since is not None and now - since > timeout:
        return lose_attempt(task, verdict="no report", now=now, config=config)
    return Decision(task=task)


def lose_attempt(task: TaskRecord, *, verdict: str, now: datetime, config: Config) -> Decision:
    """The live attempt is given up without a word from its workstation; the next one may go elsewhere."""
    live = task.live
    if live is None:
        return Decision(task=task)
    ended = end_attempt(task, live, verdict=verdict, report=None, now=now).evolve(workstation=None)
    event = Event(name="attempt.ended", details={"attempt": live.number, "verdict": verdict})
    message = f"{live.workstation}: {verdict}"
    feedback = (*task.feedback, Feedback(code="E_ATTEMPT_LOST", message=message))
    failed = fail_attempt(ended, why=message, feedback=feedback, retry=config.retry, now=now)
    return Decision(task=ended, events=(event,)).then(failed)


def refuse_attempt(task: TaskRecord, why: str, now: datetime) -> Decision:
    """The live attempt's report could not be read for too long: stop it, and ask a person."""
    live = task.live
    if live is None:
        return Decision(task=task)
    ended = end_attempt(task, live, verdict="unreadable report", report=None, now=now)
    return block(ended, reason=WaitReason.HUMAN, message=why, now=now)


def needed_jobs(task: TaskRecord, seen: Seen, now: datetime) -> tuple[Job, ...]:
    """The slow work that this state of affairs calls for."""
    jobs: list[Job] = [
        Save(task_id=task.id, attempt=attempt.number)
        for attempt in task.attempts
        if attempt.ended_at is not None
        and attempt.bundle
        and not attempt.settled
        and attempt.saving.due(now)
        and not _will_push(task, attempt.number)
    ]
    jobs += [
        Bundle(task_id=task.id, attempt=attempt.number)
        for attempt in task.attempts
        if must_hand_in(task, attempt, seen.reports.get(attempt.number)) and attempt.saving.due(now)
    ]
    if task.state is State.IN_PROGRESS:
        jobs += _delivery_jobs(task, seen, now)
    return (*jobs, *to_give(task, seen.recipient, now), *to_probe(task, now), *_looks(task, now))


def _will_push(task: TaskRecord, number: int) -> bool:
    """The work of this attempt is on its way to the remote, which saves it."""
    return task.state is State.IN_PROGRESS and task.delivery is not None and task.delivery.attempt == number


def _delivery_jobs(task: TaskRecord, seen: Seen, now: datetime) -> list[Job]:
    if task.delivery is None:
        return _inspections(task, seen, now)
    keys = push_key(task), request_key(task)
    for key, job in zip(
        keys, (Push(task_id=task.id, effect=keys[0]), OpenRequest(task_id=task.id, effect=keys[1])), strict=True
    ):
        effect = task.effect(key)
        if effect is not None and effect.status != "done":
            return [job] if effect.due(now) else []
    return []


def _looks(task: TaskRecord, now: datetime) -> list[Job]:
    """The task was cancelled, and perhaps begun anew, while something was being sent: did it arrive?"""
    wanted = () if task.ended else (push_key(task), request_key(task))
    earlier = (a.branch for a in reversed(task.attempts) if a.rerun < task.rerun)
    branch = task.branch if task.ended else next(earlier, task.branch)
    return [
        Look(task_id=task.id, effect=effect.key, branch=branch)
        for effect in task.effects
        if effect.status == "sending" and effect.key not in wanted and effect.due(now)
    ]


def _inspections(task: TaskRecord, seen: Seen, now: datetime) -> list[Job]:
    """What is claimed, what a person has approved since, or what could not be inspected and is to be again."""
    attempt = task.attempt_number(task.attempt)
    if attempt is None or not attempt.inspecting.due(now):
        return []
    job = Inspect(task_id=task.id, attempt=attempt.number)
    approved = [a.subject_hash for a in task.approvals if a.status == "approved" and a.gate == "protected_paths"]
    if attempt.verdict == NOT_INSPECTED:
        return [replace(job, approved=attempt.bundle_sha256 in approved)]
    if attempt.ended_at is not None:
        return [replace(job, approved=True)] if approved else []
    report = seen.reports.get(attempt.number)
    claimed = report is not None and report.status is ReportStatus.COMPLETED
    return [job] if claimed and report is not None and not claim_problems(task, report) else []


def next_deadline(task: TaskRecord, seen: Seen, config: Config) -> datetime | None:
    """When `plan_task` must look at this task again although nothing has changed."""
    times = [parked_until(task)]
    if task.state is State.FAILED or task.state is State.PENDING:
        times += [task.not_before, task.preparing.not_before]
    live = task.live
    since = seen.unanswered_since(live) if live is not None else None
    if task.state is State.ASSIGNED and since is not None:
        times.append(since + timedelta(seconds=config.timing.assign_timeout_seconds + 0.1))
    waiting = (awaited_since(attempt, seen.watched_since) for attempt in task.attempts)
    limit = timedelta(seconds=config.timing.salvage_timeout_seconds + 0.1)
    times += [since + limit for since in waiting if since is not None]
    times += [next_expiry(task), *(grant.giving.not_before for grant in task.grants if grant.status == "granted")]
    times += [effect.not_before for effect in task.effects if effect.status != "done"]
    times += [attempt.saving.not_before for attempt in task.attempts if not attempt.settled]
    newest = task.attempt_number(task.attempt)
    if newest is not None and task.state is State.IN_PROGRESS and task.delivery is None:
        times.append(newest.inspecting.not_before)
    return min((time for time in times if time is not None), default=None)
