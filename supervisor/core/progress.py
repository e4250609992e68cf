"""Which tasks still get anywhere without a person."""

from collections.abc import Collection, Iterable, Mapping

from supervisor.core.record import TaskRecord
from supervisor.core.schedule import DependencyState, unmet
from supervisor.core.states import State

_MOVING = frozenset({State.ASSIGNED, State.IN_PROGRESS, State.FAILED})


def progressing(
    tasks: Iterable[TaskRecord],
    known: Mapping[str, DependencyState],
    *,
    types: Collection[str],
    workstations: Collection[str],
) -> set[str]:
    """The ids of tasks that will change by themselves.

    `types` are those that have a workstation to take a task up, `workstations` the names of those that run.
    """
    every = list(tasks)
    moving = {task.id for task in every if task.state in _MOVING or _is_cleaned_up(task, workstations)}
    pending = [task for task in every if task.state is State.PENDING and task.specialist in types]
    while True:
        ready = {task.id for task in pending if task.id not in moving and not _held_back(task, known, moving)}
        if not ready:
            return moving
        moving |= ready


def _is_cleaned_up(task: TaskRecord, workstations: Collection[str]) -> bool:
    """Ended, and a running workstation has something of it to hand over and to remove."""
    left = [a for a in task.attempts if not a.released and not a.left_behind]
    return task.ended and any(attempt.workstation in workstations for attempt in left)


def _held_back(task: TaskRecord, known: Mapping[str, DependencyState], moving: set[str]) -> bool:
    """It depends on something that is not there and does not come by itself."""
    others = tuple(dependency for dependency in task.depends_on if dependency.task not in moving)
    return bool(unmet(task.evolve(depends_on=others), known))
