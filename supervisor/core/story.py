"""The story of a task on its issue: one comment, whose text is a function of what is known now.

An agent's words stand in code only, so that nothing in them links, mentions, closes or commands.
"""

import hashlib
from datetime import datetime, timedelta

from agent_daemon.protocol.model import TaskReport, WaitReason
from agent_daemon.protocol.money import amount
from supervisor.core.explain import headline
from supervisor.core.planning import is_plan_stale, pending_plan
from supervisor.core.record import TaskRecord
from supervisor.core.render import one_line_code
from supervisor.core.retry import parked_until
from supervisor.core.secret_wait import secret_wait
from supervisor.core.states import State
from supervisor.core.surroundings import Surroundings
from supervisor.core.times import duration

SHOWN_STEPS = 8
SHOWN_CRITERIA = 50
SHOWN_GRANTS = 3
# How often the comment may be edited: often at first, rarely for a task that takes hours (seconds of age, gap).
_GAPS = ((600, 15), (3600, 45))
_LONGEST_GAP_SECONDS = 120

_SIGNS = {
    State.PENDING: "⏳ Queued",
    State.ASSIGNED: "⏳ Handed to a workstation",
    State.IN_PROGRESS: "🛠️ Working",
    State.REVIEW: "👀 Ready for review",
    State.BLOCKED: "✋ Needs a person",
    State.FAILED: "🔁 Failed, another attempt follows",
    State.PAUSED: "⏸️ Paused",
    State.COMPLETED: "✅ Completed",
    State.CANCELLED: "🚫 Cancelled",
}


def marker(root_id: str, task_id: str, key: str) -> str:
    """The hidden first line that tells our comment from others; it counts only with our account as its author."""
    return f"<!-- cloud-code:{root_id}:{task_id}:{key} -->"


def story_gap_seconds(task: TaskRecord, now: datetime) -> float:
    """The least time between two edits of this task's comment."""
    live = task.live
    age = (now - live.started_at).total_seconds() if live is not None else 0.0
    return next((gap for limit, gap in _GAPS if age < limit), _LONGEST_GAP_SECONDS)


def story_due(task: TaskRecord, edited_at: datetime | None, now: datetime) -> datetime:
    """When the comment may be edited again; at once where the task waits for a person or has ended."""
    urgent = task.ended or task.state in (State.BLOCKED, State.REVIEW)
    if edited_at is None or urgent:
        return now
    return edited_at + timedelta(seconds=story_gap_seconds(task, now))


def text_hash(text: str) -> str:
    return hashlib.sha256(text.encode(errors="replace")).hexdigest()[:32]


def render_story(task: TaskRecord, around: Surroundings, *, cost_usd: float | None = None) -> str:
    """The comment's text below its marker. `cost_usd` is that of all attempts, where it is known."""
    sign = _SIGNS[task.state] if parked_until(task) is None else "⏳ Waits for the provider's quota"
    sign = sign if secret_wait(task) is None else "🔑 Waits for working credentials"
    parts = [f"### {sign}", _lead(task, around)]
    if task.acceptance_criteria:
        parts.append(_criteria(task, around.report))
    steps = _steps(around.report) if task.live is not None else ""
    if steps:
        parts.append(f"<details><summary>Latest steps</summary>\n\n{steps}\n\n</details>")
    parts.append(_facts(task, around, cost_usd))
    parts.append(_steering(task))
    return "\n\n".join(part for part in parts if part) + "\n"


def _lead(task: TaskRecord, around: Surroundings) -> str:
    """What is going on, without anything that changes by the passing of time alone."""
    if task.state is State.FAILED:
        at = f" at {task.not_before:%H:%M:%S} UTC" if task.not_before else ""
        last = task.history[-1].reason if task.history else "the last attempt failed"
        lines = [one_line_code(last), f"Another attempt starts{at}."]
    elif task.state is State.PENDING:
        waits = (*around.unmet, *around.no_money)
        lines = [one_line_code(f"waits for {reason}") for reason in waits] or ["It waits for its turn."]
    else:
        lines = [one_line_code(headline(task, around))]
    if task.request is not None and task.request.url.startswith("http"):
        lines.append(f"[The request]({task.request.url})")
    return "\n".join(f"- {line}" for line in lines if line)


def _criteria(task: TaskRecord, report: TaskReport | None) -> str:
    reported = {entry.criterion: entry.status for entry in report.acceptance_criteria} if report else {}
    rows = []
    for criterion in task.acceptance_criteria[:SHOWN_CRITERIA]:
        ticked = reported.get(criterion) == "done"  # (by the agent's word: nobody else looks at them)
        rows.append(f"- [{'x' if ticked else ' '}] {one_line_code(criterion)}")
    return "\n".join(rows)


def _steps(report: TaskReport | None) -> str:
    if report is None:
        return ""
    said = (one_line_code(" ".join(entry.message.split())[:300]) for entry in report.progress[-SHOWN_STEPS:])
    return "\n".join(f"- {line}" for line in said if line)


def _facts(task: TaskRecord, around: Surroundings, cost_usd: float | None) -> str:
    newest = task.attempts[-1] if task.attempts else None
    facts = [f"task `{task.id}`"]
    if newest is not None:
        facts.append(f"attempt {newest.number} on `{newest.workstation}` with `{newest.cli}`")
        until = newest.ended_at or around.now
        seconds = (until - newest.started_at).total_seconds()
        # (a running attempt's time is rounded, so that the text does not change for its sake alone)
        whole = seconds if newest.ended_at else seconds // 300 * 300
        facts += [duration(whole)] if whole >= 1 else []
    if cost_usd is not None and cost_usd > 0:
        facts.append(f"{amount(cost_usd)} USD")
    if any(attempt.usage.cost_unknown for attempt in task.attempts):
        facts.append("cost not all known")
    return f"<sub>{' · '.join(facts)}</sub>"


def _steering(task: TaskRecord) -> str:
    shown = ", ".join(f"`/cloud-code {command}`" for command in [*steering(task), "help"])
    return f"<sub>Steer: {shown}</sub>"


def steering(task: TaskRecord) -> list[str]:
    """The commands that make sense now; what the agent asks for in secret comes first."""
    if task.ended:
        return ["retry"]
    asked = [grant.id for grant in task.grants if grant.status == "asked"][:SHOWN_GRANTS]
    deciding = [command for ref in asked for command in (f"approve {ref}", f"deny {ref} REASON")]
    return deciding + _going_on(task)


def _going_on(task: TaskRecord) -> list[str]:
    waits = [wait.reason for wait in task.waits_for]
    if WaitReason.QUESTION in waits:
        return ["answer TEXT", "cancel"]
    if WaitReason.APPROVAL in waits:
        ref = next((approval.id for approval in task.approvals if approval.status == "pending"), "ID")
        if is_plan_stale(task):
            return ["retry NOTE", f"deny {ref} REASON", "cancel"]
        amend = ["answer AMENDMENT"] if pending_plan(task) is not None else []
        return [f"approve {ref}", *amend, f"deny {ref} REASON", "cancel"]
    if task.state is State.PAUSED:
        return ["resume", "cancel"]
    if task.state in (State.BLOCKED, State.FAILED, State.REVIEW):
        return ["retry NOTE", "cancel"]
    return ["pause", "cancel"]
