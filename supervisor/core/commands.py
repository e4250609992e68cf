"""The one door for people: a command, who may give it, and what it does to a task."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, Field, StringConstraints, TypeAdapter, ValidationError

from agent_daemon.protocol.model import Feedback, WaitReason
from agent_daemon.protocol.money import amount
from supervisor.core.attempts import end_attempt
from supervisor.core.credentials import decide_grant, open_grant, revoke
from supervisor.core.decision import Decision, Event
from supervisor.core.delivery import go_on, is_work_done
from supervisor.core.intake import TEXT_FIELDS, cancel, edit, rerun
from supervisor.core.issue_intake import drop_offer, take_offer
from supervisor.core.moved_base import conflict_feedback
from supervisor.core.planning import approve_plan, deny_plan, is_plan_stale, pending_plan
from supervisor.core.record import Approval, Attempt, Grant, Stored, TaskRecord, Tries
from supervisor.core.salvage import save_again
from supervisor.core.states import ACTIVE, State

TaskCommandKind = Literal[
    "retry",
    "cancel",
    "pause",
    "resume",
    "approve",
    "deny",
    "edit",
    "save",
    "drop",
    "run",
    "handoff",
    "top-up",
    "answer",
    "revoke",
]
WorkstationCommandKind = Literal[
    "workstation-stop",
    "workstation-start",
    "workstation-restart",
    "workstation-recreate",
    "workstation-maintain",
    "workstation-snapshot",
    "workstation-restore",
]
CommandKind = TaskCommandKind | WorkstationCommandKind | Literal["clean", "budget-top-up", "drain", "undrain"]
MAX_TOP_UP_USD = 1_000_000
MAX_APPLIED = 100
_SHOWN_CHARACTERS = 40
MAX_NOTE_CHARACTERS = 8_000
FROM_COMMENTS = frozenset(
    {"retry", "cancel", "pause", "resume", "approve", "deny", "edit", "run", "handoff", "answer"}
)


class Actor(Stored):
    """Who gives a command: an operator of this root, or somebody on a forge whose right was asked for there."""

    kind: Literal["operator", "forge"] = "operator"
    id: str
    is_admin: bool = False

    @property
    def may_do_all(self) -> bool:
        return self.kind == "operator" or self.is_admin


class Command(Stored):
    """One wish of a person. `if_revision` refuses when the record has changed since the person looked."""

    version: Literal[1] = 1
    id: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9-]{1,100}$")]
    at: AwareDatetime
    actor: Actor
    channel: Literal["cli", "tasking", "comment"]
    kind: CommandKind
    target: str
    args: dict[str, Any] = Field(default_factory=dict)
    if_revision: int | None = None


class CommandAnswer(Stored):
    """What became of a command: done, or one sentence why not."""

    version: Literal[1] = 1
    id: str
    done: bool
    message: str


class CommandRefusedError(Exception):
    """The command cannot be carried out; the message says why and what would work instead."""


def authorise(actor: Actor, command: Command) -> None:
    """Raises CommandRefusedError unless this actor may give this command.

    Whoever can write into the root's folders is its operator. From a forge come only commands for tasks, and only
    in comments, after the right of their author was asked for (`issue_intake.is_allowed`).
    """
    if actor.kind == "operator":
        return
    if command.channel != "comment" or command.kind not in FROM_COMMENTS:
        raise CommandRefusedError(f"{actor.id} may not {command.kind} {command.target}")


def refuse_unknown_cli(task: TaskRecord, command: Command, clis: Sequence[str]) -> None:
    """Raises CommandRefusedError where a command names a CLI that the task's workstations do not have."""
    wanted = str(command.args.get("cli") or "")
    if command.kind in ("handoff", "run") and wanted and wanted not in clis:
        raise CommandRefusedError(f"{task.specialist} has no coding CLI {wanted}: there are {', '.join(clis)}")


def apply_command(task: TaskRecord, command: Command, now: datetime) -> Decision:
    """The task after the command; raises CommandRefusedError. Applying the same command twice changes nothing."""
    if command.id in task.applied_commands:
        return Decision(task=task)
    authorise(command.actor, command)
    if command.if_revision is not None and command.if_revision != task.revision:
        raise CommandRefusedError(f"{task.id} has changed meanwhile (revision {task.revision}): look again")
    decision = _APPLY[command.kind](task, command, now)
    applied = (*decision.task.applied_commands, command.id)[-MAX_APPLIED:]
    return Decision(
        task=decision.task.evolve(applied_commands=applied), events=decision.events, jobs=decision.jobs
    )


def _said(command: Command, name: str) -> str:
    """A person's words in a command, as many as are told on; empty where there are none."""
    return str(command.args.get(name) or "")[:MAX_NOTE_CHARACTERS]


def _retry(task: TaskRecord, command: Command, now: datetime) -> Decision:
    note = _said(command, "note")
    questions = [wait.message for wait in task.waits_for if wait.reason is WaitReason.QUESTION]
    asked = tuple(Feedback(code="QUESTION", message=message) for message in questions)
    feedback = (*asked, Feedback(code="NOTE", message=note)) if note else ()
    actor = command.actor.id
    start = _start(task, command.args.get("from_salvage"))
    if task.ended:
        again = rerun(task, reason="asked for by a person", actor=actor, now=now)
        return Decision(task=again.task.evolve(feedback=feedback, **start), events=again.events)
    if task.state is State.PENDING:
        told = (*task.feedback, *feedback)
        at_once = task.evolve(not_before=None, preparing=Tries(), feedback=told, **start)
        return Decision(task=at_once)
    if task.state in ACTIVE or task.state is State.PAUSED:
        raise CommandRefusedError(
            f"{task.id} is {task.state.words}: an attempt is under way; pause, resume or cancel it instead"
        )
    if not note and not start["start_from"] and is_work_done(task):
        return _go_on(task, actor, now)
    pending = task.moved(
        State.PENDING,
        reason="asked for by a person",
        actor=actor,
        at=now,
        failures=0,
        cli=None,
        unstuck=False,
        waits_for=(),
        not_before=None,
        preparing=Tries(),
        feedback=(*task.feedback, *_conflict(task), *feedback),
        delivery=None,
        effects=(),
        plan=task.plan if task.next_phase == "work" else None,
        approvals=tuple(a.evolve(status="over") if a.status == "pending" else a for a in task.approvals),
        **start,
    )
    return Decision(task=pending, events=(Event(name="task.retried", actor=actor),))


def _answer(task: TaskRecord, command: Command, now: datetime) -> Decision:
    """An answer to what is asked: to a question by another attempt, to a plan by letting it go on, so amended."""
    if pending_plan(task) is not None:
        return _approve(task, command, now)
    if not any(wait.reason is WaitReason.QUESTION for wait in task.waits_for):
        raise CommandRefusedError(f"{task.id} asks nothing; `retry` with a note gives a hint")
    return _retry(task, command, now)


def _run(task: TaskRecord, command: Command, now: datetime) -> Decision:
    """Another run of a task that has ended, or at once an attempt of one that waits; with a CLI, by that one."""
    cli = str(command.args.get("cli") or "")
    decision = _retry(task, command, now)
    if not cli:
        return decision
    return Decision(task=decision.task.evolve(cli=cli, unstuck=False), events=decision.events)


def _handoff(task: TaskRecord, command: Command, now: datetime) -> Decision:
    """The next attempt is another CLI's; one that is under way ends, and its work is what the next starts from."""
    cli = str(command.args.get("cli") or "")
    live = task.live
    if task.state is State.PAUSED:
        raise CommandRefusedError(f"{task.id} is paused: resume it first, then hand it over")
    if live is None or task.state not in ACTIVE:
        return _run(task, command, now)
    if live.cli == cli:
        raise CommandRefusedError(f"{cli} works on {task.id} already")
    ended = end_attempt(task, live, verdict="handed over", report=None, now=now)
    told = Feedback(
        code="HANDOFF", message=f"{live.cli} worked on this before; {command.actor.id} handed it to you"
    )
    note = _said(command, "note")
    pending = ended.moved(
        State.PENDING,
        reason=f"handed over to {cli}",
        actor=command.actor.id,
        at=now,
        cli=cli,
        unstuck=False,
        failures=0,
        feedback=(*task.feedback, told, *([Feedback(code="NOTE", message=note)] if note else [])),
    )
    details = {"rule": "handoff", "failures": task.failures, "from": live.cli, "to": cli}
    return Decision(
        task=pending, events=(Event(name="task.cli_changed", details=details, actor=command.actor.id),)
    )


def _conflict(task: TaskRecord) -> tuple[Feedback, ...]:
    if task.base_conflict is None:
        return ()
    return (conflict_feedback(task.base_branch, task.base_conflict, on_remote=True),)


def _short(value: object) -> str:
    """What somebody gave, as far as it is worth being shown."""
    try:
        return str(value)[:_SHOWN_CHARACTERS]
    except ValueError:  # a number of thousands of digits
        return "a number without end"


def _attempt_named(task: TaskRecord, wanted: object) -> Attempt:
    """The attempt of this number; raises CommandRefusedError."""
    said = _short(wanted)
    attempt = task.attempt_number(int(said)) if said.isdecimal() else None
    if attempt is None:
        raise CommandRefusedError(f"{task.id} has no attempt {said}: it has had {task.attempt}")
    return attempt


def _start(task: TaskRecord, wanted: object) -> dict[str, Any]:
    """What the next attempt starts from when a person names an attempt whose saved work that is to be."""
    if wanted is None:
        return {"start_from": None}
    attempt = _attempt_named(task, wanted)
    if not attempt.saved or attempt.bundle_head is None:
        why = attempt.save_error or ("it left nothing behind" if attempt.saved else "its work is not saved yet")
        raise CommandRefusedError(f"attempt {attempt.number} of {task.id} has no saved work: {why}")
    return {"start_from": attempt.number, "start_squashed": attempt.verdict == "claim refused"}


def _go_on(task: TaskRecord, actor: str, now: datetime) -> Decision:
    """Try again what failed after the agent was done, without another attempt."""
    why = "to be delivered again" if task.delivery is not None else "to be inspected again"
    effects = tuple(effect.evolve(tries=0, not_before=None, error=None) for effect in task.effects)
    going = task.moved(State.IN_PROGRESS, reason=why, actor=actor, at=now, waits_for=(), effects=effects)
    again = going.with_attempt(task.attempt, inspecting=Tries())
    return Decision(task=again, events=(Event(name="task.retried", actor=actor),))


def _cancel(task: TaskRecord, command: Command, now: datetime) -> Decision:
    if task.ended:
        raise CommandRefusedError(f"{task.id} has ended ({task.state.words}): there is nothing to cancel")
    reason = str(command.args.get("reason") or "asked for by a person")
    return cancel(task, reason=reason, actor=command.actor.id, now=now)


def _pause(task: TaskRecord, command: Command, now: datetime) -> Decision:
    if task.ended or task.state is State.PAUSED:
        raise CommandRefusedError(f"{task.id} is {task.state.words}: there is nothing to pause")
    paused = task.moved(
        State.PAUSED, reason="asked for by a person", actor=command.actor.id, at=now, paused_from=task.state
    )
    return Decision(task=paused, events=(Event(name="task.paused", actor=command.actor.id),))


def _resume(task: TaskRecord, command: Command, now: datetime) -> Decision:
    if task.state is State.BLOCKED:
        raise CommandRefusedError(
            f"{task.id} is blocked, not paused: `task retry {task.id}` makes another attempt"
        )
    if task.state is not State.PAUSED:
        raise CommandRefusedError(f"{task.id} is {task.state.words}: there is nothing to resume")
    if task.offered is not None:
        ref = next((wait.ref for wait in task.waits_for if wait.ref), "")
        raise CommandRefusedError(
            f"{task.id} is held for its changed text: approve {ref} takes it, deny {ref} goes on without"
        )
    return go_on(task, "asked for by a person", command.actor.id, now)


def _approval(task: TaskRecord, command: Command) -> Approval:
    wanted = str(command.args.get("approval") or "")
    open_ones = [a for a in task.approvals if a.status == "pending"]
    found = next((a for a in open_ones if a.id == wanted or not wanted), None)
    held = found is not None and found.gate == "source_changed" and task.state is State.PAUSED
    if found is None or not (held or task.state is State.BLOCKED):
        asked = [grant.id for grant in task.grants if grant.status == "asked"]
        names = ", ".join([*(a.id for a in open_ones), *asked]) or "none"
        raise CommandRefusedError(
            f"{task.id} has no open approval {wanted or ''} (open: {names})".replace("  ", " ")
        )
    return found


def _decide(task: TaskRecord, command: Command, status: str, now: datetime) -> TaskRecord:
    approval = _approval(task, command)
    why = _said(command, "note" if status == "approved" else "reason")
    decided = approval.evolve(status=status, by=command.actor.id, at=now, why=why)
    return task.evolve(approvals=tuple(decided if a.id == approval.id else a for a in task.approvals))


def _open_grant(task: TaskRecord, command: Command) -> Grant | None:
    """The credential that is meant; one that is not named only where nothing else is open."""
    wanted = str(command.args.get("approval") or "")
    if task.ended or (not wanted and any(approval.status == "pending" for approval in task.approvals)):
        return None
    return open_grant(task, wanted)


def _approve(task: TaskRecord, command: Command, now: datetime) -> Decision:
    grant = _open_grant(task, command)
    if grant is not None:
        if grant.approve == "admin" and not command.actor.may_do_all:
            raise CommandRefusedError(
                f"{grant.id} ({grant.type}) is for an administrator of the project to approve"
            )
        text = _said(command, "note")
        return decide_grant(task, grant, by=command.actor.id, why=None, now=now, via=command.channel, text=text)
    plan, note = pending_plan(task), _said(command, "note")
    if note and plan is None and command.channel == "cli":
        raise CommandRefusedError("only a plan can be approved with a note")
    if plan is not None and is_plan_stale(task):
        raise CommandRefusedError(
            f"the text of {task.id} was changed after {plan.id} was made: `retry` has it planned anew"
        )
    decided = _decide(task, command, "approved", now)
    if task.offered is not None and task.state is State.PAUSED:
        taken = take_offer(decided, command.actor.id, now)
        return Decision(
            task=taken.task, events=(Event(name="approval.granted", actor=command.actor.id), *taken.events)
        )
    if plan is not None:
        return approve_plan(decided, plan, note, command.actor.id, now)
    going = decided.moved(State.IN_PROGRESS, reason="approved", actor=command.actor.id, at=now, waits_for=())
    return Decision(task=going, events=(Event(name="approval.granted", actor=command.actor.id),))


def _deny(task: TaskRecord, command: Command, now: datetime) -> Decision:
    grant = _open_grant(task, command)
    if grant is not None:
        why = _said(command, "reason") or "a person said no"
        return decide_grant(task, grant, by=command.actor.id, why=why, now=now, via=command.channel)
    decided = _decide(task, command, "denied", now)
    if task.offered is not None and task.state is State.PAUSED:
        left = drop_offer(decided, "the changed text was not approved", command.actor.id, now)
        return Decision(
            task=left.task, events=(Event(name="approval.denied", actor=command.actor.id), *left.events)
        )
    plan = pending_plan(task)
    if plan is not None:
        why = _said(command, "reason") or "no reason was given"
        return deny_plan(decided, plan, why, command.actor.id, now)
    reason = str(command.args.get("reason") or "a person did not approve the change to protected files")
    pending = decided.moved(
        State.PENDING,
        reason=f"denied: {reason}",
        actor=command.actor.id,
        at=now,
        waits_for=(),
        start_squashed=True,
        feedback=(Feedback(code="E_DENIED", message=reason, mend="do the task without changing protected files"),),
    )
    return Decision(task=pending, events=(Event(name="approval.denied", actor=command.actor.id),))


def _edit(task: TaskRecord, command: Command, now: datetime) -> Decision:
    unknown = sorted(set(command.args) - set(TEXT_FIELDS))
    if unknown:
        raise CommandRefusedError(f"{', '.join(unknown)} cannot be edited")
    if task.ended:
        raise CommandRefusedError(
            f"{task.id} has ended ({task.state.words}): `task retry {task.id}` runs it again"
        )
    changes = checked_fields(command.args)
    changed = sorted(name for name, value in changes.items() if getattr(task, name) != value)
    edited = task.evolve(**changes)
    return edit(edited, changed, actor=command.actor.id, now=now) if changed else Decision(task=edited)


def _save(task: TaskRecord, command: Command, now: datetime) -> Decision:
    again = save_again(task, now)
    if again == task:
        raise CommandRefusedError(f"{task.id} has no attempt whose work could not be saved")
    return Decision(task=again, events=(Event(name="salvage.retried", actor=command.actor.id),))


def _drop(task: TaskRecord, command: Command, now: datetime) -> Decision:
    """Give up what one attempt left behind. Its worktree goes as if it had been saved."""
    attempt = _attempt_named(task, command.args.get("attempt") or "")
    if attempt.save_error is None or attempt.expendable:
        raise CommandRefusedError(f"attempt {attempt.number} of {task.id} left nothing behind that is not saved")
    if attempt.abandoned:
        raise CommandRefusedError(
            f"{attempt.workstation} is configured no longer: nobody but you can remove what attempt "
            f"{attempt.number} of {task.id} left there"
        )
    dropped = task.with_attempt(attempt.number, dropped_by=command.actor.id)
    event = Event(name="work.dropped", details={"attempt": attempt.number}, actor=command.actor.id)
    return Decision(task=dropped, events=(event,))


def amount_of(command: Command) -> float:
    """What a command adds, in USD; raises CommandRefusedError for what is no such amount."""
    try:
        usd = float(command.args.get("usd"))  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        usd = 0.0
    if not 0 < usd <= MAX_TOP_UP_USD:
        said = _short(command.args.get("usd"))
        raise CommandRefusedError(f"'{said}' is no amount: more than 0 USD, and at most {MAX_TOP_UP_USD}")
    return usd


def _top_up(task: TaskRecord, command: Command, now: datetime) -> Decision:
    """The task may cost more; one that waits for that goes on from its work, with the CLI that it had."""
    usd, live, actor = amount_of(command), task.live, command.actor.id
    if task.ended:
        raise CommandRefusedError(
            f"{task.id} has ended ({task.state.words}): `task retry {task.id}` runs it again"
        )
    more = task.evolve(topped_up_usd=task.topped_up_usd + usd)
    if live is not None and live.reserved_usd is not None:
        allowed = {"reserved_usd": live.reserved_usd + usd, "topped_up_usd": live.topped_up_usd + usd}
        more = more.with_attempt(live.number, **allowed)
    event = Event(name="task.topped_up", details={"usd": usd}, actor=actor)
    waits = [wait.reason for wait in task.waits_for]
    if task.state is State.BLOCKED and waits == [WaitReason.BUDGET]:
        why = f"{amount(usd)} USD more allowed"
        more = more.moved(State.PENDING, reason=why, actor=actor, at=now, waits_for=(), not_before=None)
    elif task.paused_from is State.BLOCKED and waits == [WaitReason.BUDGET]:
        more = more.evolve(paused_from=State.PENDING, waits_for=(), not_before=None)
    return Decision(task=more, events=(event,))


def checked_fields(changes: Mapping[str, Any]) -> dict[str, Any]:
    """Values for record fields, validated by the record's own types; raises CommandRefusedError."""
    result = {}
    for name, value in changes.items():
        expected: Any = TaskRecord.model_fields[name].annotation
        try:
            result[name] = TypeAdapter(expected).validate_python(value)
        except ValidationError as error:
            raise CommandRefusedError(f"{name}: {error.errors()[0]['msg']}") from None
    return result


def _revoke(task: TaskRecord, command: Command, now: datetime) -> Decision:
    """Take back what an agent was given."""
    wanted = str(command.args.get("grant") or "")
    grant = task.grant(wanted)
    if grant is None or grant.status != "granted":
        known = ", ".join(g.id for g in task.grants if g.status == "granted") or "nothing"
        raise CommandRefusedError(f"{task.id} has not been given '{wanted}' (it has: {known})")
    return revoke(task, grant, by=command.actor.id, why="a person took it back", now=now)


_APPLY = {
    "retry": _retry,
    "cancel": _cancel,
    "pause": _pause,
    "resume": _resume,
    "approve": _approve,
    "deny": _deny,
    "edit": _edit,
    "save": _save,
    "drop": _drop,
    "run": _run,
    "handoff": _handoff,
    "top-up": _top_up,
    "answer": _answer,
    "revoke": _revoke,
}
