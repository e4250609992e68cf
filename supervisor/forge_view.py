"""What `status` and `doctor` show of the forges: how far they were read, what waits to be told there, and why."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from agent_daemon.protocol.errors import Problem
from agent_daemon.protocol.paths import Root
from supervisor.core.forge import Budget, budget_line
from supervisor.core.record import TaskRecord
from supervisor.core.retry import AWAITED
from supervisor.core.secret_wait import mend_of
from supervisor.core.settings import Config
from supervisor.core.times import duration
from supervisor.core.words import count
from supervisor.forge_state import ForgeState, read_forge_state

# What an operator does about a forge that is in the way.
_MENDS = {
    "E_FORGE_MOVED": "set `repository` of the project to its new name in config.yaml, and restart the supervisor",
    "E_FORGE_DENIED": "`cloud-code project check {0}` says what the token lacks",
    "E_APP_PERMISSIONS": "`cloud-code project check {0}` says what the App lacks",
    "E_APP_SUSPENDED": "unsuspend the App in the settings of installed Apps",
    "E_FORGE_TOKEN": "write the secret where config.yaml says that it is",
    "E_FORGE_GONE": "see whether the repository is there, and whether the token may see it",
}


@dataclass(frozen=True, kw_only=True)
class ForgeRow:
    """One project's forge: when it was read last, what is left of its limit, how much waits to be told there."""

    project: str
    forge: str
    repository: str
    read_at: datetime | None
    budget: Budget
    waiting: int
    problem: str = ""


def forge_rows(root: Root, config: Config | None, tasks: Mapping[str, TaskRecord]) -> tuple[ForgeRow, ...]:
    """A row for each project that is on a forge."""
    if config is None:
        return ()
    return tuple(
        _row(root, name, project.forge, project.repository, [t for t in tasks.values() if t.project == name])
        for name, project in config.projects.items()
        if project.forge != "local"
    )


def _row(root: Root, name: str, forge: str, repository: str, tasks: list[TaskRecord]) -> ForgeRow:
    state: ForgeState = read_forge_state(root, name)
    errors = [error for task in tasks for error in untold(task)]
    errors += [post.error for post in state.replies if post.error is not None]
    return ForgeRow(
        project=name,
        forge=forge,
        repository=repository,
        read_at=state.read_at,
        budget=state.budget,
        waiting=len(errors),
        problem=state.problem or next(iter(errors), ""),
    )


def forge_line(row: ForgeRow, now: datetime) -> str:
    """One forge in a line: ``acme: github acme/app, read within the last minute; 4998 of 5000 calls left``.

    Its file is written once a minute while nothing happens.
    """
    read = f"read {_ago((now - row.read_at).total_seconds())}" if row.read_at else "not read yet"
    waits = f"; {count(row.waiting, 'thing waits', 'things wait')} to be told there" if row.waiting else ""
    budget = f"; {budget_line(row.budget, now)}" if row.budget.calls else ""
    return f"{row.project}: {row.forge} {row.repository}, {read}{budget}{waits}"


def _ago(seconds: float) -> str:
    return "within the last minute" if seconds < 60 else f"{duration(seconds)} ago"


def untold(task: TaskRecord) -> list[str]:
    """Why things of this task could not be told yet, one entry for each."""
    works = (*task.posts, task.story, task.label, *task.effects)
    return [work.error for work in works if work.error is not None and work.tries]


def forge_problems(rows: tuple[ForgeRow, ...]) -> Iterator[Problem]:
    """Each forge that is in the way, once, with what an operator does about it."""
    for row in rows:
        if not row.problem:
            continue
        code, _, message = row.problem.partition(": ")
        waits = f"; {count(row.waiting, 'thing waits', 'things wait')} to be told there" if row.waiting else ""
        yield Problem(
            code=code,
            message=f"the forge of {row.project}: {message.removesuffix('.')}{waits}; agents go on working",
            mend=_mend(code).format(row.project),
        )


def _mend(code: str) -> str:
    return _MENDS.get(code) or (mend_of(code)[0] if code in AWAITED else "nothing: it is tried again by itself")
