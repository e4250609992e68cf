"""How a root does, in one line: for `systemctl status`. Pure."""

from collections import Counter
from collections.abc import Iterable

from supervisor.core.record import TaskRecord
from supervisor.core.states import ACTIVE, State
from supervisor.core.words import count


def standing(
    tasks: Iterable[TaskRecord], running: int, workstations: int, *, drained: bool, engine_away: bool = False
) -> str:
    """The tasks by what becomes of them, the workstations that have a daemon, and first what holds all up."""
    states = Counter(task.state for task in tasks)
    under_way = sum(states[state] for state in ACTIVE)
    parts = [
        f"{count(under_way, 'task')} under way",
        f"{states[State.PENDING] + states[State.FAILED]} to begin",
        f"{states[State.REVIEW]} in review",
    ]
    if states[State.BLOCKED]:
        parts.append(f"{states[State.BLOCKED]} blocked")
    parts.append(f"{running} of {count(workstations, 'workstation')} running")
    held_up = ["the Docker engine does not answer"] * engine_away + ["drained"] * drained
    return "; ".join([*held_up, ", ".join(parts)])
