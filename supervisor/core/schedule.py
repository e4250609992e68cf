"""Who works on what next: priorities, dependencies, free workstations."""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType

from agent_daemon.protocol.model import Priority, WaitReason
from supervisor.core.budgets import Purse
from supervisor.core.chain import cli_for
from supervisor.core.decision import Decision
from supervisor.core.record import TaskRecord
from supervisor.core.retry import block
from supervisor.core.states import State

# Verdicts on attempts whose workstation could not be relied on.
LOST = frozenset({"no report", "workstation lost"})
_RANK = {priority: rank for rank, priority in enumerate(Priority)}


@dataclass(frozen=True, kw_only=True)
class WorkstationView:
    """What scheduling knows of a workstation that is free; `unstuck` is the last resort of each project."""

    name: str
    type: str
    trust_domain: str
    clis: tuple[str, ...]
    unstuck: Mapping[str, str | None] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Assignment:
    task_id: str
    workstation: str
    cli: str


@dataclass(frozen=True, kw_only=True)
class DependencyState:
    """Of a task that others depend on: its state, and the head to start from once verified."""

    state: State
    pushed_head: str | None = None


def unmet(
    task: TaskRecord,
    known: Mapping[str, DependencyState],
    damaged: Collection[str] = frozenset(),
    unknown: Mapping[str, str] = MappingProxyType({}),
) -> list[str]:
    """A sentence for each dependency that still holds the task back; empty when it may start.

    `damaged` are the tasks whose records cannot be read, `unknown` names that neither a task nor a file has, each
    with the nearest that one has, or with nothing.
    """
    reasons = []
    for dependency in task.depends_on:
        found = known.get(dependency.task)
        if dependency.task in damaged:
            reasons.append(f"{dependency.task}, whose record is damaged")
        elif dependency.task in unknown:
            near = unknown[dependency.task]
            hint = f"; did you mean {near}?" if near else ""
            reasons.append(f"{dependency.task}, and neither a task nor a file has that name{hint}")
        elif found is None:
            reasons.append(f"{dependency.task}, which is not known (yet)")
        elif found.state is not State.COMPLETED and (
            dependency.until == "merged" or found.state is not State.REVIEW
        ):
            reasons.append(f"{dependency.task}, which is {found.state.words} (needed: {dependency.until})")
    return reasons


def dependency_cycle(task_id: str, needs: Callable[[str], Iterable[str]]) -> list[str] | None:
    """The chain of task ids from `task_id` back to itself, if its dependencies form a circle.

    `needs` gives what a task depends on; nothing for one that is not known.
    """
    came_from: dict[str, str] = {}
    open_ids = [task_id]
    while open_ids:
        current = open_ids.pop()
        for following in needs(current):
            if following == task_id:
                chain = [current]
                while chain[-1] != task_id:
                    chain.append(came_from[chain[-1]])
                return [*reversed(chain), task_id]
            if following not in came_from:
                came_from[following] = current
                open_ids.append(following)
    return None


def stop_circle(task: TaskRecord, tasks: Mapping[str, TaskRecord], now: datetime) -> Decision:
    """A pending task that waits for itself, by way of others that are pending too, would wait for ever."""

    def needs(task_id: str) -> Iterable[str]:
        found = tasks.get(task_id)
        waits = found is not None and found.state is State.PENDING
        return [dependency.task for dependency in found.depends_on] if found is not None and waits else ()

    circle = dependency_cycle(task.id, needs) if task.state is State.PENDING and task.depends_on else None
    if circle is None:
        return Decision(task=task)
    message = f"E_DEPENDENCY_CYCLE: the tasks wait for each other: {' → '.join(circle)}"
    return block(task, reason=WaitReason.HUMAN, message=message, now=now)


def is_due(task: TaskRecord, now: datetime) -> bool:
    """Pending, not waiting out a backoff, and no earlier attempt is still being stopped or saved."""
    settled = all(attempt.ended_at is not None and attempt.settled for attempt in task.attempts)
    waited = (task.not_before is None or task.not_before <= now) and task.preparing.due(now)
    return task.state is State.PENDING and settled and waited


def lost_on(task: TaskRecord) -> str | None:
    """The workstation on which the newest attempt was lost, if it was."""
    newest = task.attempts[-1] if task.attempts else None
    return newest.workstation if newest is not None and newest.verdict in LOST else None


def in_turn(tasks: Iterable[TaskRecord]) -> list[TaskRecord]:
    """Highest priority first, then oldest, then by id."""
    return sorted(tasks, key=lambda task: (_RANK[task.priority], task.created_at, task.id))


def schedule(
    tasks: Iterable[TaskRecord],
    workstations: Iterable[WorkstationView],
    known: Mapping[str, DependencyState],
    trust_domains: Mapping[str, str],
    now: datetime,
    purse: Purse | None = None,
) -> list[Assignment]:
    """Pair pending tasks with free workstations: highest priority first, then oldest, then by id.

    `trust_domains` is the domain of each project; a workstation serves one domain only. A task goes
    to the workstation that has its worktree when that one is free, else to any of its type; one that has just
    lost its attempt comes last. What does not fit into `purse` waits; what will fit into it by itself keeps its
    workstation.
    """
    free = list(workstations)
    ready = in_turn(task for task in tasks if is_due(task, now) and not unmet(task, known))
    assignments: list[Assignment] = []
    for task in ready:
        if not free:
            break
        fitting = [
            station
            for station in free
            if station.type == task.specialist and station.trust_domain == trust_domains.get(task.project)
        ]
        if not fitting:
            continue
        elsewhere = next((s for s in fitting if s.name != lost_on(task)), fitting[0])
        chosen = next((s for s in fitting if s.name == task.workstation), elsewhere)
        paid = purse is None or purse.take(task)
        if not paid and purse is not None and not purse.will_fit(task, by_itself=True):
            continue
        free.remove(chosen)
        if not paid:
            continue
        cli = cli_for(task, chosen.clis, chosen.unstuck.get(task.project))
        assignments.append(Assignment(task_id=task.id, workstation=chosen.name, cli=cli))
    return assignments
