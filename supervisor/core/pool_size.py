"""How many workstations of a type there are: more while tasks wait, fewer when some were idle for long. Pure.

Names stay what they are: a workstation that goes keeps its folders, and comes back to them.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from supervisor.core.record import Attempt, TaskRecord
from supervisor.core.schedule import Assignment


@dataclass(frozen=True, kw_only=True)
class Member:
    """A workstation of a pool, but for those that a person has stopped. `up`: it is to run.

    `coming`: it is up, has nothing to do, and cannot be given anything yet. `needed`: an attempt is under way,
    it has work that is not delivered, or it is asked for something. `idle_seconds`: since it was needed last.
    """

    name: str
    up: bool
    coming: bool = False
    needed: bool = False
    idle_seconds: float = 0.0


def holds_work(task: TaskRecord, attempt: Attempt) -> bool:
    """Whether its workstation has to do with this attempt: work that is nowhere else, or a worktree to remove."""
    if attempt.released or attempt.abandoned:
        return False
    return attempt.ended_at is None or not attempt.expendable or attempt.let_go


def to_raise(members: Sequence[Member], least: int, most: int, wished: Iterable[Assignment] = ()) -> list[str]:
    """The workstations that are to come back, in the order of their need.

    `wished` are the pairs that `schedule` makes of tasks that wait and of members that are coming or not up.
    """
    up, down = [m for m in members if m.up], [m.name for m in members if not m.up]
    needed = [m.name for m in members if not m.up and m.needed]
    wanted = [a.workstation for a in wished]
    lacking = len(wanted) - sum(m.coming for m in up)
    rest = [name for name in wanted if name in down and name not in needed][: max(0, lacking)]
    chosen = [*needed, *rest]
    missing = least - len(up) - len(chosen)
    chosen += [name for name in down if name not in chosen][: max(0, missing)]
    return chosen[: max(0, most - len(up))]


def to_remove(members: Sequence[Member], least: int, idle_limit_seconds: float, *, waiting: bool) -> list[str]:
    """The workstations that go: the last ones of those that nobody has needed for so long, while no task waits."""
    up = [m for m in members if m.up]
    if waiting:
        return []
    spare = [m.name for m in up if not m.needed and m.idle_seconds >= idle_limit_seconds]
    return spare[::-1][: max(0, len(up) - least)]
