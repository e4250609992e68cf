"""What was granted, on its way: given to the live attempt, given anew, waited for, and taken back."""

from datetime import datetime, timedelta

from agent_daemon.protocol.model import Credential, WaitReason
from supervisor.core.credentials import event_of, of_run, revoke, with_grant
from supervisor.core.decision import Decision, Failed, Give, Given, Probe
from supervisor.core.record import Grant, TaskRecord, Tries
from supervisor.core.retry import note_failure
from supervisor.core.states import State

# What cannot be had now is asked for again at least this often.
_LONGEST_PAUSE = timedelta(seconds=30)


def take_back(task: TaskRecord, now: datetime) -> Decision:
    """What is over by itself: its time, or the task."""
    decision = Decision(task=task)
    for grant in task.grants:
        why = ""
        if _is_unanswered(task, grant, now):
            denied = grant.evolve(status="denied", by="rule", at=now, why="nobody answered in time")
            events = (event_of(denied, "denied", actor="rule"),)
            decision = decision.then(Decision(task=with_grant(decision.task, denied), events=events))
            continue
        if is_lacking(grant) and not task.ended and grant.expires_at is not None and grant.expires_at <= now:
            # (its time begins once it can be had)
            again = grant.evolve(expires_at=now + timedelta(minutes=grant.ttl_minutes))
            decision = decision.then(Decision(task=with_grant(decision.task, again)))
            continue
        if _lasts_on(task, grant, now):
            again = grant.evolve(expires_at=now + timedelta(minutes=grant.ttl_minutes), given_to=None, mark="")
            event = event_of(again, "refreshed", extra={"message": "its attempt goes on", "anew": True})
            decision = decision.then(Decision(task=with_grant(decision.task, again), events=(event,)))
            continue
        if task.ended and grant.status in ("granted", "asked"):
            why = "the task has ended"
        elif grant.status == "granted" and grant.expires_at is not None and grant.expires_at <= now:
            why = "its time is over"
        if why:
            decision = decision.then(revoke(decision.task, grant, by="supervisor", why=why, now=now))
    return decision


def _lasts_on(task: TaskRecord, grant: Grant, now: datetime) -> bool:
    """Whether its time is over and it is given anew, for its attempt has it to the end."""
    over = grant.expires_at is not None and grant.expires_at <= now
    return grant.unasked and grant.status == "granted" and over and task.live is not None and not task.ended


def _is_unanswered(task: TaskRecord, grant: Grant, now: datetime) -> bool:
    """Whether nobody decided while there was time. A task that waits for it stays where it is."""
    return grant.status == "asked" and not task.ended and grant.answer_by is not None and grant.answer_by <= now


def next_expiry(task: TaskRecord) -> datetime | None:
    """When the next grant is over, or the time to decide on one."""
    times = (_end_of(grant) for grant in task.grants)
    return min((time for time in times if time is not None), default=None)


def _end_of(grant: Grant) -> datetime | None:
    return {"granted": grant.expires_at, "asked": grant.answer_by}.get(grant.status)


def to_give(task: TaskRecord, recipient: str | None, now: datetime) -> list[Give]:
    """What the live attempt has not got yet, or not for the daemon that is there now."""
    live = task.live
    if live is None or recipient is None or task.state is State.PAUSED:
        return []
    return [
        Give(task_id=task.id, grant=grant.id, attempt=live.number, recipient=recipient)
        for grant in task.grants
        if grant.status == "granted"
        and (grant.stale or grant.given_to != (live.number, recipient))
        and grant.giving.due(now)
    ]


def is_live(task: TaskRecord, grant: Grant, attempt: int) -> bool:
    """Whether what was given to this attempt is still its own."""
    return grant.status == "granted" and task.live is not None and task.live.number == attempt


def is_lacking(grant: Grant) -> bool:
    """Whether it was granted and could not be had so far."""
    return grant.status == "granted" and grant.given_to is None and grant.giving.error is not None


def mark_stale(task: TaskRecord, grant_id: str, why: str) -> Decision:
    """What was given has another value now: it is to be given anew."""
    grant = task.grant(grant_id)
    if grant is None or grant.status != "granted" or grant.stale:
        return Decision(task=task)
    event = event_of(grant, "refreshed", extra={"message": why, "anew": True})
    return Decision(task=with_grant(task, grant.evolve(stale=True)), events=(event,))


def wanted_in_vain(task: TaskRecord, attempt: int) -> Grant | None:
    """What was granted and this attempt has not got, because it cannot be had now."""
    return next(
        (
            grant
            for grant in task.grants
            if grant.status == "granted"
            and grant.giving.error is not None
            and (grant.given_to is None or grant.given_to[0] != attempt)
        ),
        None,
    )


def cannot_be_had(grant: Grant) -> str:
    """The sentence for people, and for the agent."""
    return f"{grant.id} ({grant.type}) is granted and cannot be had now: {grant.giving.error}"


def _awaited(task: TaskRecord) -> Grant | None:
    """What a blocked task waits for, and nobody but its place can give."""
    if task.state is not State.BLOCKED:
        return None
    refs = {wait.ref for wait in task.waits_for if wait.reason is WaitReason.CREDENTIAL}
    return next(
        (g for g in task.grants if g.id in refs and g.status == "granted" and g.giving.error is not None), None
    )


def to_probe(task: TaskRecord, now: datetime) -> list[Probe]:
    """What is to be looked for again, so that the task goes on by itself."""
    grant = _awaited(task)
    if grant is None or not grant.giving.due(now):
        return []
    return [Probe(task_id=task.id, grant=grant.id)]


def settle_probe(task: TaskRecord, job: Probe, failed: Failed | None, now: datetime) -> Decision:
    """It can be had again, and the task goes on; or not yet."""
    grant = _awaited(task)
    if grant is None or grant.id != job.grant:
        return Decision(task=task)
    if failed is not None:
        return Decision(task=with_grant(task, grant.evolve(giving=_note_failure(grant, failed, now))))
    found = with_grant(task, grant.evolve(giving=type(grant.giving)()))
    why = "what it waits for can be had again"
    return Decision(task=found.moved(State.PENDING, reason=why, actor="supervisor", at=now, waits_for=()))


def _note_failure(grant: Grant, failed: Failed, now: datetime) -> Tries:
    tried = note_failure(grant.giving, failed, now)
    if tried.not_before is None or failed.retry_at is not None:
        return tried
    return tried.evolve(not_before=min(tried.not_before, now + _LONGEST_PAUSE))


def settle_giving(task: TaskRecord, job: Give, outcome: Given | Failed, now: datetime) -> Decision:
    """It lies ready, or could not be laid ready, and is tried again."""
    grant = task.grant(job.grant)
    if grant is None or grant.status != "granted":
        return Decision(task=task)
    if isinstance(outcome, Failed):
        tried = _note_failure(grant, outcome, now)
        event = event_of(grant, "not_given", extra={"code": outcome.code, "message": outcome.message})
        same = tried.error == grant.giving.error
        return Decision(task=with_grant(task, grant.evolve(giving=tried)), events=() if same else (event,))
    given = grant.evolve(
        given_to=(job.attempt, job.recipient),
        deliveries=grant.deliveries + 1,
        mark=outcome.mark,
        stale=False,
        giving=type(grant.giving)(),
    )
    return Decision(
        task=with_grant(task, given), events=(event_of(given, "given", extra={"attempt": job.attempt}),)
    )


def told_credentials(task: TaskRecord, attempt: int) -> tuple[Credential, ...]:
    """The decisions as an attempt's tasking tells them; what is granted is told once it lies there."""
    grants = of_run(task)
    newest = {(grant.type, grant.access, grant.scope): grant.id for grant in grants}
    return tuple(
        _told(grant, attempt)
        for grant in grants
        if grant.status != "denied" or newest[grant.type, grant.access, grant.scope] == grant.id
    )


def _told(grant: Grant, attempt: int) -> Credential:
    given = grant.given_to is not None and grant.given_to[0] == attempt
    told = {"asked": "pending", "denied": "denied", "over": "revoked"}.get(
        grant.status, "injected" if given else "pending"
    )
    return Credential.model_validate(
        {
            "id": grant.id,
            "type": grant.type,
            "access": grant.access,
            "scope": grant.scope,
            "status": told,
            "env": grant.env or None,
            "file": f"{grant.id}.age" if told == "injected" else None,
            "recipient": grant.given_to[1] if grant.given_to is not None and told == "injected" else None,
            "expires_at": grant.expires_at if told == "injected" else None,
            "reason": grant.why or (cannot_be_had(grant) if told == "pending" and is_lacking(grant) else None),
            "delivery": grant.deliveries if told == "injected" else 0,
            "on_its_way": told == "pending" and grant.status == "granted" and grant.giving.error is None,
        }
    )
