"""Texts for people: what a request says. The agent's words stand in fences only."""

import re
from datetime import UTC

from agent_daemon.protocol.model import Criterion, TaskReport
from agent_daemon.protocol.money import amount
from supervisor.core.record import Delivery, TaskRecord
from supervisor.core.words import count

_BACKTICKS = re.compile(r"`+")
# GitLab acts on lines such as "/merge"; older versions take the first line of ``` for the end of any fence.
_QUICK_ACTION = re.compile(r"^\r*/", re.MULTILINE)
MAX_SHOWN = 50
MAX_DESCRIPTION_CHARACTERS = 10_000
MAX_EVIDENCE_CHARACTERS = 500


def fence(text: str) -> str:
    """`text` in a code fence longer than any run of backticks in it, so that nothing in it takes effect."""
    longest = max((len(run) for run in _BACKTICKS.findall(text)), default=0)
    ticks = "`" * max(3, longest + 1)
    return f"{ticks}text\n{_QUICK_ACTION.sub(' /', text).rstrip()}\n{ticks}"


def one_line_code(text: str) -> str:
    """`text` as inline code on one line."""
    line = " ".join(text.split()).replace("|", "¦")
    longest = max((len(run) for run in _BACKTICKS.findall(line)), default=0)
    ticks = "`" * (longest + 1)
    pad = " " if line.startswith("`") or line.endswith("`") else ""
    return f"{ticks}{pad}{line}{pad}{ticks}" if line else ""


def clipped(text: str, most: int) -> str:
    """As many lines as fit into so many characters: half a line might leave its code open."""
    return text if len(text) <= most else text[:most].rpartition("\n")[0] + "\n[…]"


def render_request(task: TaskRecord) -> str:
    """What the request of a delivered task says, as a page with its title."""
    return f"# {task.title}\n\n{render_body(task)}"


def is_verified(task: TaskRecord) -> bool:
    """Whether every verification command is claimed to have passed on what was delivered, and there is one."""
    ran = {entry.name: entry.exit_code for entry in task.delivery.verification} if task.delivery else {}
    return bool(task.verification) and all(ran.get(command.name) == 0 for command in task.verification)


def render_body(task: TaskRecord) -> str:
    """The Markdown description that the request of a delivered task has on a forge.

    What an issue asks for is not repeated: the request closes it.
    """
    delivery = task.delivery
    if delivery is None:
        raise ValueError(f"task {task.id} has nothing delivered to describe")
    attempt = task.attempt_number(delivery.attempt)
    by = f"{attempt.workstation} with {attempt.cli}, attempt {attempt.number}" if attempt else "an agent"
    parts = [f"Task `{task.id}` on branch `{task.branch}` for `{task.base_branch}`, done by {by}{_cost(task)}."]
    description = "" if task.source.kind == "issue" else task.description.strip()
    if description or task.acceptance_criteria:
        parts.append("## Asked for")
    if description:
        parts.append(fence(_clipped(task.description)))
    if task.acceptance_criteria:
        parts.append(_criteria(task, delivery))
    if delivery.summary:
        parts += ["## What the agent says", fence(delivery.summary)]
    if delivery.decisions:
        decided = "\n".join(f"- {one_line_code(decision)}" for decision in delivery.decisions)
        parts += ["## What the agent decided", decided]
    parts += ["## Evidence", _evidence(task, delivery)]
    if not task.verification:
        parts.append("No verification command is configured for it: whether it works is for its reader to see.")
    if task.base_conflict is not None:
        base, files = task.base_conflict.base, ", ".join(map(one_line_code, task.base_conflict.files))
        parts.append(f"**It does not merge as it is:** {one_line_code(task.base_branch)} is at `{base}`. {files}")
    approved = _approvals(task, delivery)
    if approved:
        parts += ["## Approved by a person", "\n".join(approved)]
    parts += ["## Files", _files(delivery), "## Commits", _commits(delivery)]
    return "\n\n".join(parts) + "\n"


def _criteria(task: TaskRecord, delivery: Delivery) -> str:
    """Each criterion with what the agent said of it; where it said nothing of any, the criteria alone."""
    said = {entry.criterion: entry for entry in delivery.criteria}
    if not said.keys() & set(task.acceptance_criteria):
        return "\n".join(f"- {one_line_code(entry)}" for entry in task.acceptance_criteria)
    rows = []
    for text in task.acceptance_criteria:
        entry = said.get(text, Criterion(criterion=text))
        evidence = f": {one_line_code(entry.evidence[:MAX_EVIDENCE_CHARACTERS])}" if entry.evidence.strip() else ""
        rows.append(f"- [{'x' if entry.status == 'done' else ' '}] {one_line_code(text)}{evidence}")
    return "\n".join([*rows, "", "Ticked, and what stands beside it, is the agent's word."])


def _cost(task: TaskRecord) -> str:
    """What all attempts cost together, as far as their CLIs told."""
    usd = cost_usd(task)
    return f", for {amount(usd)} USD" if usd else ""


def cost_usd(task: TaskRecord, report: TaskReport | None = None) -> float:
    """The sum over the attempts, as their coding CLIs reported it; `report` is that of one under way."""
    running = report.usage.cost_usd or 0 if report is not None and task.live is not None else 0
    return running + sum(attempt.usage.cost_usd or 0 for attempt in task.attempts)


def _evidence(task: TaskRecord, delivery: Delivery) -> str:
    rows = ["| what | claimed | verified |", "|---|---|---|"]
    rows.append(f"| head | `{delivery.claimed_head}` | seen in the bundle; pushed as `{delivery.pushed_head}` |")
    rows.append(f"| base | | `{delivery.base}` of {one_line_code(task.base_branch)}, seen in the bundle |")
    changes = f"{count(delivery.files_total, 'file')}, {count(delivery.commits_total, 'commit')}"
    if delivery.earlier_total:
        changes += f", {delivery.earlier_total} of them there before"
    rows.append(f"| changes | | {changes}, seen in the bundle |")
    for command in task.verification:
        found = next((entry for entry in delivery.verification if entry.name == command.name), None)
        said = f"exit code {found.exit_code} in {found.duration_seconds:.1f} s" if found else "not run"
        rows.append(f"| {one_line_code(command.name)}: {one_line_code(command.command)} | {said} | not re-run |")
    return "\n".join(rows)


def _approvals(task: TaskRecord, delivery: Delivery) -> list[str]:
    """Who let exactly this work be pushed although it was held, and when."""
    return [
        f"- {one_line_code(approval.message)}: approved by {one_line_code(approval.by or 'a person')}"
        + (f" at {approval.at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC" if approval.at else "")
        for approval in task.approvals
        if approval.status == "approved"
        and (approval.gate == "plan" or approval.subject_hash == delivery.bundle_sha256)
    ]


def _clipped(text: str) -> str:
    """A description as far as a request repeats it."""
    return text if len(text) <= MAX_DESCRIPTION_CHARACTERS else f"{text[:MAX_DESCRIPTION_CHARACTERS]}\n[…]"


def _files(delivery: Delivery) -> str:
    shown = [
        f"- {one_line_code(file.path)} {file.change_type} (+{file.lines_added} −{file.lines_removed})"
        for file in delivery.files[:MAX_SHOWN]
    ]
    return "\n".join([*shown, *_more(delivery.files_total, len(shown))])


def _commits(delivery: Delivery) -> str:
    shown = [f"- `{commit.sha[:12]}` {one_line_code(commit.message)}" for commit in delivery.commits[:MAX_SHOWN]]
    return "\n".join([*shown, *_more(delivery.commits_total, len(shown))])


def _more(total: int, shown: int) -> list[str]:
    return [f"- … and {total - shown} more"] if total > shown else []
