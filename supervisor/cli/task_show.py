"""`cloud-code task show` and `task explain`: one task."""

from typing import Any

import click
from rich.console import RenderableType

from agent_daemon.protocol.errors import Problem
from agent_daemon.protocol.files import read_file
from agent_daemon.protocol.model import TaskReport, Usage
from agent_daemon.protocol.money import amount
from agent_daemon.protocol.paths import Root
from supervisor.cli.output import (
    action_lines,
    ago,
    json_option,
    print_json,
    show,
    stamp,
    table,
    text,
)
from supervisor.cli.place import task_argument
from supervisor.cli.reading import picture_of, read_task
from supervisor.core.explain import explain, headline
from supervisor.core.planning import PLANNED, plan_message
from supervisor.core.record import Approval, Attempt, TaskRecord
from supervisor.core.states import State
from supervisor.core.surroundings import after_colon
from supervisor.core.words import count
from supervisor.view import Picture, surroundings

MAX_REQUEST_BYTES = 1024 * 1024


@click.command()
@task_argument
@json_option
@click.pass_context
def explain_task(ctx: click.Context, task_id: str, as_json: bool) -> None:
    """Say what state a task is in, since when and why, what happens next and when, and what a person can do."""
    reader, task = read_task(ctx, task_id)
    explanation = explain(task, surroundings(task, picture_of(reader)))
    if as_json:
        print_json(explanation)
        return
    state, began = task.state.words, explanation.since
    line = text(f"{task.id}: {task.title}", "bold")
    show(line, text(f"It has been {state} for {ago(began)}, since {stamp(began)}."))
    for title, sentences in (("Why", explanation.why), ("What happens next", explanation.next)):
        show(text(title, "bold"), *(text(sentence, indent=2) for sentence in sentences))
    if explanation.can:
        show(text("What you can do", "bold"), *action_lines(explanation.can, ctx, indent=2))


@click.command()
@task_argument
@json_option
@click.pass_context
def show_task(ctx: click.Context, task_id: str, as_json: bool) -> None:
    """Show everything known of a task: its text, its attempts, what was delivered, and its request."""
    reader, task = read_task(ctx, task_id)
    attempt = task.attempts[-1] if task.attempts else None
    report = reader.report(task, attempt) if attempt else None
    if as_json:
        found = report if isinstance(report, TaskReport) else None
        print_json({"task": task, "report": found, "request_text": _request_text(reader.root, task)})
        return
    show(*_head(task, picture_of(reader)))
    for attempt_shown in task.attempts:
        show(text(_attempt_line(task, attempt_shown), indent=2))
    show(*_report_lines(report))
    show(*_plan_lines(task))
    show(*_delivery_lines(task))
    written = _request_text(reader.root, task)
    if written:
        show(text(""), text(f"What a pull request would say ({reader.root.request(task.id)})", "bold"))
        show(text(written, lines=True))


def _head(task: TaskRecord, picture: Picture) -> list[RenderableType]:
    head = text(f"{task.id}: {task.title}", "bold")
    around = surroundings(task, picture)
    fields: list[tuple[str, Any]] = [
        ("state", f"{task.state.words}: {headline(task, around)}"),
        ("project", f"{task.project}, {task.base_branch or 'the usual branch'} → {task.branch}"),
        ("asked for by", f"{task.source.requested_by}, {task.source.key}, {stamp(task.created_at)}"),
        ("specialist", f"{task.specialist}, priority {task.priority.value}"),
        ("depends on", ", ".join(f"{d.task} (until {d.until})" for d in task.depends_on)),
        ("limits", ", ".join(f"{k} {v:g}" for k, v in task.limits.model_dump().items() if v is not None)),
        ("topped up", f"{amount(task.topped_up_usd)} USD" if task.topped_up_usd else ""),
        ("failures", f"{task.failures} of at most {task.max_failures}" if task.failures else ""),
    ]
    parts: list[RenderableType] = [head]
    parts += [text(f"{name + ':':<14}{value}", indent=2) for name, value in fields if value]
    if task.description:
        parts += [text(""), text(task.description, lines=True)]
    parts += [text(f"- {criterion}", indent=2) for criterion in task.acceptance_criteria]
    parts += [text(f"verified by {c.name}: {c.command}", indent=2) for c in task.verification]
    if task.attempts:
        parts += [text(""), text("Attempts", "bold")]
    return parts


_COUNTED = {"told": "as its CLI told", "prices": "by `prices`", "both": "in part by `prices`"}


def _cost(usage: Usage) -> str:
    """What it cost, who counted, and what nobody knows of it."""
    counted = f" {_COUNTED[usage.cost_from]}" if usage.cost_from else ""
    known = f", {amount(usage.cost_usd)} USD{counted}" if usage.cost_usd else ""
    return known + (f", cost unknown: {usage.cost_unknown}" if usage.cost_unknown else "")


def _attempt_line(task: TaskRecord, attempt: Attempt) -> str:
    took = ""
    if attempt.ended_at is not None:
        took = f", {ago(attempt.started_at, attempt.ended_at)}"
    cost = _cost(attempt.usage)
    tokens = attempt.usage.input_tokens + attempt.usage.output_tokens
    used = f", {count(tokens, 'token')}" if tokens else ""
    lost = f"; its work could not be saved: {attempt.save_error}" if attempt.save_error else ""
    lost += f"; given up by {attempt.dropped_by}" if attempt.dropped_by else ""
    verdict = attempt.verdict or "under way"
    plan = _plan_of(task, attempt) if verdict == PLANNED else None
    why = ": ".join(filter(None, (attempt.code, attempt.why))) if attempt.code else ""
    why = f"{plan.id}: {_plan_decision(plan)}" if plan else why
    verdict += f" ({why})" if why else ""
    verdict = f"to get it unstuck, {verdict}" if attempt.role == "unstuck" else verdict
    return f"{attempt.number} on {attempt.workstation} with {attempt.cli}: {verdict}{took}{used}{cost}{lost}"


def _report_lines(report: TaskReport | Problem | None) -> list[RenderableType]:
    if report is None:
        return []
    title = text("What the workstation reports (claimed)", "bold")
    if isinstance(report, Problem):
        return [title, text(report, "red", indent=2)]
    lines: list[RenderableType] = [text(""), title]
    status, step = report.status.value, report.current_step
    lines.append(text(f"{status}: {step}" if step not in ("", status) else status, indent=2))
    lines += [text(f"{e.timestamp:%H:%M:%S} {e.message}", "dim", indent=2) for e in report.progress[-10:]]
    lines += [
        text(f"{file.change_type} {file.path} +{file.lines_added} -{file.lines_removed}", indent=2)
        for file in report.files_modified[:20]
    ]
    if report.files_modified_total > 20:
        lines.append(text(f"… {report.files_modified_total} files in all", indent=2))
    lines += [text(f"decided: {decision}", indent=2) for decision in report.decisions[-20:]]
    lines += [
        text(f"criterion {number} {criterion.status}: {criterion.evidence or 'no evidence given'}", indent=2)
        for number, criterion in enumerate(report.acceptance_criteria, start=1)
        if criterion.status != "pending" or criterion.evidence
    ]
    lines += [
        text(f"asks for {wanted.id}: {wanted.type}, {wanted.access} {wanted.scope}: {wanted.reason}", indent=2)
        for wanted in report.credential_requests
    ]
    lines += [
        text(f"left for people: {artifact.path} ({artifact.media_type}, {artifact.size} bytes)", indent=2)
        for artifact in report.artifacts
    ]
    return lines


def _plan_of(task: TaskRecord, attempt: Attempt) -> Approval | None:
    """The approval of the plan that this attempt handed in."""
    plans = (a for a in task.approvals if a.gate == "plan")
    return next((a for a in plans if a.message == plan_message(attempt, a.id)), None)


def _plan_decision(plan: Approval) -> str:
    """Who decided what; what was said to an approval stands below the plan."""
    if plan.status == "pending":
        return "waits for approval"
    by = f" by {plan.by}" if plan.by else ""
    if plan.status != "denied":
        return (
            ("counts no more" if plan.status == "over" else plan.status) + by + " with amendments" * bool(plan.why)
        )
    return f"denied{by}{after_colon(plan.why[:300]).removesuffix('.')}"


def _plan_lines(task: TaskRecord) -> list[RenderableType]:
    plan = task.plan
    if plan is None:
        return []
    decided = next((a for a in task.approvals if a.id == plan.id), None)
    title = f"Plan {plan.id}, of attempt {plan.attempt}: {_plan_decision(decided) if decided else plan.status}"
    parts: list[RenderableType] = [text(""), text(title, "bold"), text(plan.text, lines=True)]
    if plan.amendments:
        parts += [text("Amended:", "bold"), text(plan.amendments, lines=True)]
    return parts


def _delivery_lines(task: TaskRecord) -> list[RenderableType]:
    delivery = task.delivery
    if delivery is None:
        return []
    rows = [(f"+{f.lines_added}", f"-{f.lines_removed}", f.change_type, f.path) for f in delivery.files[:50]]
    title = f"Seen by the supervisor: {delivery.diff_stat or count(delivery.files_total, 'file')}"
    parts: list[RenderableType] = [text(""), text(title, "bold")]
    parts.append(table(("ADDED", "REMOVED", "CHANGE", "FILE"), rows))
    parts += [
        text(f"{v.name}: exit code {v.exit_code} (claimed, not re-run)", indent=2) for v in delivery.verification
    ]
    pushed = task.state in (State.REVIEW, State.COMPLETED)
    parts.append(
        text(f"{'pushed' if pushed else 'to be pushed'}: {delivery.pushed_head} on {task.branch}", indent=2)
    )
    return parts


def _request_text(root: Root, task: TaskRecord) -> str | None:
    """The Markdown that stands for a pull request, or the document that was asked for."""
    if task.request is None and not (task.expects == "document" and task.state is State.COMPLETED):
        return None
    try:
        data = read_file(root.requests, f"{task.id}.md", max_bytes=MAX_REQUEST_BYTES).data
    except FileNotFoundError:
        return None
    return data.decode("utf-8", "replace")
