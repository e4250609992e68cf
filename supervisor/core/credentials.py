"""What agents ask for: granted by rule or by a person, given for a while, and taken back."""

import fnmatch
import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Literal

from agent_daemon.protocol.model import Credential, CredentialRequest, Feedback, TaskReport, WaitReason
from supervisor.core.decision import Decision, Event, Failed, Give
from supervisor.core.record import Attempt, Grant, TaskRecord
from supervisor.core.retry import note_failure
from supervisor.core.secret_settings import AccessSettings, CredentialSettings
from supervisor.core.settings import Config
from supervisor.core.states import State

DENIED = "E_CREDENTIAL_DENIED"
# What one task may ask for; more is no work but a flood.
MAX_ASKED = 20
_MAX_CHARACTERS = 500
_SHOWN_CHARACTERS = 200
_WORD = re.compile(r"[a-z][a-z0-9_-]{0,40}")
_SCOPE = re.compile(r"[A-Za-z0-9@:/._*-]{0,200}")

# What is usual: the variable, and which access is granted by rule unless the configuration says otherwise.
_USUAL: dict[str, tuple[str, frozenset[str]]] = {
    "github_token": ("GITHUB_TOKEN", frozenset({"read"})),
    "gitlab_token": ("GITLAB_TOKEN", frozenset({"read"})),
    "npm_token": ("NPM_TOKEN", frozenset({"read"})),
    "pypi_token": ("PYPI_TOKEN", frozenset({"read"})),
    "database_url": ("DATABASE_URL", frozenset({"read_only"})),
    "api_key": ("API_KEY", frozenset()),
    "ssh_key": ("SSH_KEY", frozenset()),
}


def variable_of(name: str, settings: CredentialSettings) -> str:
    """The variable in which an agent gets it."""
    return settings.env or _USUAL.get(name, (name.upper().replace("-", "_"), frozenset()))[0]


def granted_by(name: str, access: str, rule: AccessSettings) -> Literal["by_rule", "by_person"]:
    """Who grants this access: what is configured, else what is usual, else a person."""
    usual = _USUAL.get(name, ("", frozenset()))[1]
    return rule.granted or ("by_rule" if access in usual else "by_person")


# --- asked ----------------------------------------------------------------------------------------------


def take_requests(task: TaskRecord, report: TaskReport | None, config: Config, now: datetime) -> Decision:
    """What the live attempt asks for and did not ask before: granted, put before a person, or denied."""
    decision = Decision(task=task)
    live = task.live
    if live is None or report is None or report.attempt != live.number:
        return decision
    for request in report.credential_requests:
        known = _without_old_refusal(decision.task, request)
        if len(_of_run(known)) >= MAX_ASKED + 1 or _known(known, request) is not None:
            continue
        grant = _judged(known, request, config, now)
        event = _event(grant, grant.status, actor=grant.by or "agent")
        decision = decision.then(Decision(task=known.evolve(grants=(*known.grants, grant)), events=(event,)))
    return decision


def _of_run(task: TaskRecord) -> tuple[Grant, ...]:
    """What was asked for in this run; what a person denied in an earlier one may be asked for again."""
    earlier = {attempt.number for attempt in task.attempts if attempt.rerun < task.rerun}
    return tuple(grant for grant in task.grants if grant.attempt not in earlier)


def _is_same(grant: Grant, request: CredentialRequest) -> bool:
    return (grant.type, grant.access, grant.scope) == (request.type, request.access, request.scope)


def _without_old_refusal(task: TaskRecord, request: CredentialRequest) -> TaskRecord:
    """The task without what a rule said to the same in an earlier attempt: the rule may be another one by now."""
    kept = tuple(
        grant
        for grant in task.grants
        if not (_is_same(grant, request) and _is_refused_by_rule(grant) and grant.attempt < task.attempt)
    )
    return task.evolve(grants=kept) if len(kept) < len(task.grants) else task


def _is_refused_by_rule(grant: Grant) -> bool:
    return (grant.status, grant.by) == ("denied", "rule")


def _known(task: TaskRecord, request: CredentialRequest) -> Grant | None:
    """What the same was decided on before in this run, and still counts: asking again changes nothing."""
    return next(
        (
            grant
            for grant in _of_run(task)
            if _is_same(grant, request) and (grant.status != "over" or _said(grant, request, task.attempt))
        ),
        None,
    )


def _said(grant: Grant, request: CredentialRequest, attempt: int) -> bool:
    """Whether this is the very request that is over by now, and not another one for the same."""
    return (grant.asked_as, grant.attempt) == (request.id, attempt)


def _judged(task: TaskRecord, request: CredentialRequest, config: Config, now: datetime) -> Grant:
    grant = Grant(
        id=_free_id(task, request.id),
        asked_as=request.id[:_MAX_CHARACTERS],
        type=request.type[:_MAX_CHARACTERS],
        access=request.access[:_MAX_CHARACTERS],
        scope=request.scope[:_MAX_CHARACTERS],
        reason=request.reason[:_MAX_CHARACTERS],
        attempt=task.attempt,
        asked_at=now,
        status="asked",
    )
    why = next(_objections(task, request, config), None)
    if why is not None:
        return grant.evolve(status="denied", why=why, by="rule", at=now)
    settings = config.credentials[request.type]
    grant = grant.evolve(env=variable_of(request.type, settings), ttl_minutes=settings.ttl_minutes)
    if granted_by(request.type, request.access, settings.access[request.access]) == "by_rule":
        return _granted(grant, "rule", now)
    return grant


def _free_id(task: TaskRecord, wanted: str) -> str:
    """The agent's own name for it where that is one and not taken, else the next one."""
    taken = {grant.id for grant in task.grants}
    if re.fullmatch(r"cred-[0-9]{3}", wanted) and wanted not in taken:
        return wanted
    return next(name for number in range(1, 1000) if (name := f"cred-{number:03}") not in taken)


def _objections(task: TaskRecord, request: CredentialRequest, config: Config) -> Iterator[str]:
    """Why this cannot be granted by anybody, whatever is asked of a person."""
    if len(_of_run(task)) >= MAX_ASKED:
        yield f"the task has asked for {MAX_ASKED} things already"
    if not _WORD.fullmatch(request.type) or not _WORD.fullmatch(request.access):
        yield "a type and an access are words of small letters, digits, '_' and '-'"
        return
    if not _SCOPE.fullmatch(request.scope):
        yield "a scope has letters, digits and @:/._*- only"
    settings = config.credentials.get(request.type)
    if settings is None:
        known = ", ".join(sorted(config.credentials)) or "nothing"
        yield f"there is no {request.type} here; what can be asked for: {known}"
        return
    if request.access not in settings.access:
        yield f"there is no access '{request.access}' to it, only: {', '.join(settings.access)}"
    if settings.projects and task.project not in settings.projects:
        yield f"it is not for the project {task.project}"
    if settings.specialists and task.specialist not in settings.specialists:
        yield f"it is not for the specialist {task.specialist}"
    if settings.scopes and not any(fnmatch.fnmatchcase(request.scope, scope) for scope in settings.scopes):
        wrong = f"the scope '{request.scope}' is none of" if request.scope else "say --scope, one of"
        yield f"{wrong}: {', '.join(settings.scopes)}"


def _granted(grant: Grant, by: str, now: datetime) -> Grant:
    until = now + timedelta(minutes=grant.ttl_minutes)
    return grant.evolve(status="granted", by=by, at=now, expires_at=until)


# --- decided by a person --------------------------------------------------------------------------------


def open_grant(task: TaskRecord, wanted: str) -> Grant | None:
    """What a person is to decide: the one of this id, or without one the first."""
    return next((g for g in task.grants if g.status == "asked" and wanted in ("", g.id)), None)


def decide_grant(task: TaskRecord, grant: Grant, *, by: str, why: str | None, now: datetime) -> Decision:
    """A person grants it, or denies it for the reason `why`. A task that waits for nothing else goes on."""
    if why is None:
        decided, name = _granted(grant, by, now), "granted"
    else:
        decided, name = grant.evolve(status="denied", by=by, at=now, why=why), "denied"
    decision = Decision(task=_with(task, decided), events=(_event(decided, name, actor=by),))
    return decision.then(_go_on(decision.task, by, now))


def _go_on(task: TaskRecord, by: str, now: datetime) -> Decision:
    """Another attempt where the last one stopped for want of what is decided now; a paused task's comes later."""
    waits = [wait for wait in task.waits_for if wait.reason is not WaitReason.CREDENTIAL]
    if waits or any(grant.status == "asked" for grant in task.grants):
        return Decision(task=task)
    if task.state is State.BLOCKED:
        return another_attempt(task, by, now)
    if (task.state, task.paused_from) == (State.PAUSED, State.BLOCKED) and task.waits_for:
        return Decision(task=_told_of(task).evolve(waits_for=(), paused_from=State.PENDING))
    return Decision(task=task)


def another_attempt(task: TaskRecord, by: str, now: datetime) -> Decision:
    """What it asked for is decided: the next attempt, which is told, and no failure."""
    why = "what it asked for is decided"
    return Decision(task=_told_of(task).moved(State.PENDING, reason=why, actor=by, at=now, waits_for=()))


def _told_of(task: TaskRecord) -> TaskRecord:
    told = tuple(Feedback(code="CREDENTIAL", message=sentence(grant)) for grant in _of_run(task))
    return task.evolve(feedback=(*task.feedback, *told))


def was_just_decided(task: TaskRecord, attempt: Attempt) -> bool:
    """Whether all that it asked for is decided, and something since this attempt began: it may have missed it.

    Each decision speaks for one more attempt and no further one: an agent that stops again is a person's matter.
    """
    if any(grant.status == "asked" for grant in task.grants):
        return False
    return any(
        grant.at is not None and grant.at >= attempt.started_at and _is_news(grant, attempt)
        for grant in _of_run(task)
    )


def _is_news(grant: Grant, attempt: Attempt) -> bool:
    """A person's word, or what a rule granted and this attempt was not given."""
    if grant.by != "rule":
        return grant.status in ("granted", "denied")
    return grant.status == "granted" and (grant.given_to is None or grant.given_to[0] != attempt.number)


def sentence(grant: Grant) -> str:
    """What became of a request, for an agent or a person; never a value."""
    what = f"{grant.id}: {grant.type}, {grant.access}" + (f", {grant.scope}" if grant.scope else "")
    match grant.status:
        case "asked":
            return f"{what}: a person is asked"
        case "granted":
            return f"{what}: granted by {grant.by}, as {grant.env}"
        case "denied":
            return f"{what}: denied by {grant.by}: {grant.why}"
        case _:
            return f"{what}: taken back: {grant.why}"


def said_why(grant: Grant) -> str:
    """The agent's reason, on one line and no longer than a line is read."""
    words = " ".join(grant.reason.split())
    return words if len(words) <= _SHOWN_CHARACTERS else words[: _SHOWN_CHARACTERS - 1] + "…"


def revoke(task: TaskRecord, grant: Grant, *, by: str, why: str, now: datetime) -> Decision:
    """Take back what was granted."""
    over = grant.evolve(status="over", why=why, by=by, at=now, given_to=None)
    return Decision(task=_with(task, over), events=(_event(over, "revoked", actor=by),))


# --- given and taken back -------------------------------------------------------------------------------


def take_back(task: TaskRecord, now: datetime) -> Decision:
    """What is over by itself: its time, or the task."""
    decision = Decision(task=task)
    for grant in task.grants:
        why = ""
        if task.ended and grant.status in ("granted", "asked"):
            why = "the task has ended"
        elif grant.status == "granted" and grant.expires_at is not None and grant.expires_at <= now:
            why = "its time is over"
        if why:
            decision = decision.then(revoke(decision.task, grant, by="supervisor", why=why, now=now))
    return decision


def next_expiry(task: TaskRecord) -> datetime | None:
    """When the next grant is over."""
    return min((g.expires_at for g in task.grants if g.status == "granted" and g.expires_at), default=None)


def to_give(task: TaskRecord, recipient: str | None, now: datetime) -> list[Give]:
    """What the live attempt has not got yet, or not for the daemon that is there now."""
    live = task.live
    if live is None or recipient is None or task.state is State.PAUSED:
        return []
    return [
        Give(task_id=task.id, grant=grant.id, attempt=live.number, recipient=recipient)
        for grant in task.grants
        if grant.status == "granted" and grant.given_to != (live.number, recipient) and grant.giving.due(now)
    ]


def settle_giving(task: TaskRecord, job: Give, failed: Failed | None, now: datetime) -> Decision:
    """It lies ready, or could not be laid ready, and is tried again."""
    grant = task.grant(job.grant)
    if grant is None or grant.status != "granted":
        return Decision(task=task)
    if failed is not None:
        tried = note_failure(grant.giving, failed, now)
        event = _event(grant, "not_given", extra={"code": failed.code, "message": failed.message})
        same = tried.error == grant.giving.error
        return Decision(task=_with(task, grant.evolve(giving=tried)), events=() if same else (event,))
    given = grant.evolve(given_to=(job.attempt, job.recipient), giving=type(grant.giving)())
    return Decision(task=_with(task, given), events=(_event(given, "given", extra={"attempt": job.attempt}),))


def told_credentials(task: TaskRecord, attempt: int) -> tuple[Credential, ...]:
    """The decisions as an attempt's tasking tells them; what is granted is told once it lies there."""
    return tuple(_told(grant, attempt) for grant in _of_run(task))


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
            "reason": grant.why or None,
        }
    )


def _with(task: TaskRecord, grant: Grant) -> TaskRecord:
    return task.evolve(grants=tuple(grant if g.id == grant.id else g for g in task.grants))


def _event(grant: Grant, what: str, *, actor: str = "supervisor", extra: dict[str, object] | None = None) -> Event:
    details: dict[str, object] = {
        "id": grant.id,
        "type": grant.type,
        "access": grant.access,
        "scope": grant.scope,
    }
    if what == "denied":
        details |= {"code": DENIED}
    if what in ("asked", "granted", "denied") and grant.reason:
        details |= {"reason": said_why(grant)}
    if grant.why:
        details |= {"message": grant.why}
    return Event(name=f"credential.{what}", details=details | (extra or {}), actor=actor)
