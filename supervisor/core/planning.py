"""A task that is planned first: what becomes of a plan that a person approves, amends or denies."""

import hashlib
from datetime import datetime

from agent_daemon.protocol.model import MAX_PLAN_BYTES, Feedback, TaskReport, WaitReason
from supervisor.core.decision import Decision, Event
from supervisor.core.intake import clean_text
from supervisor.core.record import Approval, Attempt, PlanMade, TaskRecord, Tries, Wait
from supervisor.core.retry import block
from supervisor.core.states import State
from supervisor.core.tasking import clip_bytes

PLANNED = "planned"  # the verdict on an attempt that has handed in a plan
# Denied one after the other; then a person is asked to say what is wanted in the task itself.
MAX_DENIED = 5
_DENIED = "E_PLAN_DENIED"
_SHOWN_CHARACTERS = 4000


def take_plan(task: TaskRecord, attempt: Attempt, report: TaskReport, now: datetime) -> Decision:
    """The ended attempt has handed in a plan: it waits for a person."""
    text = clip_bytes(clean_text(report.plan or ""), MAX_PLAN_BYTES)
    made = max((int(a.id.rpartition("-")[2]) for a in task.approvals if a.gate == "plan"), default=0)
    number = task.plan.number + 1 if task.plan is not None else 1
    plan = PlanMade(
        id=f"plan-{made + 1:03d}", number=number, attempt=attempt.number, text=text, made_for=_planned_text(task)
    )
    message = plan_message(attempt, plan.id)
    digest = hashlib.sha256(text.encode(errors="replace")).hexdigest()
    approval = Approval(id=plan.id, gate="plan", subject_hash=digest, message=message)
    event = Event(name="plan.made", details={"attempt": attempt.number, "plan": plan.id})
    blocked = block(
        task,
        reason=WaitReason.APPROVAL,
        ref=plan.id,
        message=f"to be approved: {message}",
        now=now,
        plan=plan,
        approvals=(*task.approvals, approval),
    )
    return Decision(task=task, events=(event,)).then(blocked)


def plan_message(attempt: Attempt, plan_id: str) -> str:
    """What is waited for while this attempt's plan is."""
    return f"the plan of attempt {attempt.number} ({plan_id})"


def pending_plan(task: TaskRecord) -> PlanMade | None:
    """The plan that a blocked task waits with."""
    waits = task.state is State.BLOCKED and any(wait.reason is WaitReason.APPROVAL for wait in task.waits_for)
    return task.plan if waits and task.plan is not None and task.plan.status == "pending" else None


def is_plan_stale(task: TaskRecord) -> bool:
    """Whether what is to be done has been changed since the plan that waits was made."""
    plan = pending_plan(task)
    return plan is not None and bool(plan.made_for) and plan.made_for != _planned_text(task)


def _planned_text(task: TaskRecord) -> str:
    """A short digest of what a plan is made for: not of limits, priorities and the like."""
    text = (task.title, task.description, task.type, task.expects, task.base_branch)
    lists = (task.acceptance_criteria, task.verification, task.related_files)
    return hashlib.sha256(repr((text, lists)).encode(errors="replace")).hexdigest()[:16]


def approve_plan(task: TaskRecord, plan: PlanMade, amendments: str, actor: str, now: datetime) -> Decision:
    """The next attempt works by the plan; that is no failure, and what led to the plan is told no more."""
    going = task.moved(
        State.PENDING,
        reason=f"{plan.id} was approved" + (" with amendments" if amendments else ""),
        actor=actor,
        at=now,
        waits_for=(),
        not_before=None,
        preparing=Tries(),
        plan=plan.evolve(status="approved", amendments=clean_text(amendments)),
        feedback=tuple(item for item in task.feedback if item.code != _DENIED),
    )
    return Decision(task=going, events=(Event(name="approval.granted", actor=actor),))


def deny_plan(task: TaskRecord, plan: PlanMade, reason: str, actor: str, now: datetime) -> Decision:
    """It is planned anew with the reason; after several denials a person says more in the task itself."""
    denied = task.evolve(plan=plan.evolve(status="denied"))
    event = Event(name="approval.denied", actor=actor)
    if plan.number >= MAX_DENIED:
        message = f"{plan.number} plans were denied; the last one: {reason}"
        waits = denied.evolve(waits_for=(Wait(reason=WaitReason.HUMAN, message=message),))
        told = Event(name="task.blocked", details={"reason": WaitReason.HUMAN.value, "message": message})
        return Decision(task=waits, events=(event, told))
    told_of = f"{plan.id} was not approved: {reason}\n\nThe plan was:\n{plan.text[:_SHOWN_CHARACTERS]}"
    feedback = Feedback(code=_DENIED, message=told_of, mend="plan it anew, with that in view")
    again = denied.moved(
        State.PENDING,
        reason=f"{plan.id} was denied: {reason}",
        actor=actor,
        at=now,
        waits_for=(),
        not_before=None,
        preparing=Tries(),
        feedback=(*(item for item in task.feedback if item.code != _DENIED), feedback),
    )
    return Decision(task=again, events=(event,))
