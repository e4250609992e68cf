"""What `status` and the listings show, computed anew from the files each time: derived, never stored."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from agent_daemon.protocol.errors import Problem
from agent_daemon.protocol.model import Priority
from supervisor.budget_view import budgets_seen, money_waits
from supervisor.core.answers import Action, answers
from supervisor.core.budgets import Budget, Lack, cost_limit_usd
from supervisor.core.explain import headline, since
from supervisor.core.intake import Draft
from supervisor.core.record import Attempt, TaskRecord
from supervisor.core.schedule import DependencyState, unmet
from supervisor.core.settings import ISOLATING_DRIVERS, Config, TimingSettings
from supervisor.core.states import State
from supervisor.core.surroundings import StationSeen, Surroundings
from supervisor.disk import low_problem, seen_state
from supervisor.draining import Drained, read_drained
from supervisor.errors import CloudCodeError
from supervisor.fleet_view import StationRow, away_problems, read_stations
from supervisor.forge_view import ForgeRow, forge_problems, forge_rows
from supervisor.notices import config_changed, failing_leases, misplaced_files, refused_edits, vanished_files
from supervisor.reader import Reader, Report, is_locked
from supervisor.running import Running, running_supervisor
from supervisor.spending import read_spending, unreadable_problem

# Lists begin with what moves and end with what is over.
_ORDER = {
    state: rank
    for rank, state in enumerate(
        (
            State.IN_PROGRESS,
            State.ASSIGNED,
            State.BLOCKED,
            State.REVIEW,
            State.FAILED,
            State.PENDING,
            State.PAUSED,
            State.COMPLETED,
            State.CANCELLED,
        )
    )
}
_PRIORITIES = {priority: rank for rank, priority in enumerate(Priority)}


@dataclass(frozen=True, kw_only=True)
class TaskRow:
    """A task as a list shows it; `doing` is one line of what is done or waited for.

    `resting`: its project is not configured, and nothing happens to it.
    """

    id: str
    project: str
    title: str
    state: State
    since: datetime
    doing: str
    priority: Priority
    specialist: str
    attempt: int
    failures: int
    workstation: str | None
    branch: str
    request: str | None
    resting: bool = False


@dataclass(frozen=True, kw_only=True)
class FileRow:
    """A task file that is not taken in yet; `change` says whether it is a new task or a new text."""

    file: str
    task: str
    title: str
    change: str


@dataclass(frozen=True, kw_only=True)
class Waiting:
    """A task that waits for a person, and what that person can do."""

    task: str
    state: State
    since: datetime
    message: str
    request: str | None
    can: tuple[Action, ...]


@dataclass(frozen=True, kw_only=True)
class Overview:
    """Everything that `status` shows; `pid` is that of the supervisor that runs, where it is known."""

    root: str
    running: bool
    pid: int | None
    workstations: tuple[StationRow, ...]
    tasks: tuple[TaskRow, ...]
    files: tuple[FileRow, ...]
    waiting: tuple[Waiting, ...]
    problems: tuple[Problem, ...]
    forges: tuple[ForgeRow, ...] = ()
    budgets: tuple[Budget, ...] = ()
    drained: Drained | None = None


@dataclass(frozen=True, kw_only=True)
class Picture:
    """What was read of a root at one moment; every view is computed from it."""

    now: datetime
    running: bool
    supervisor: Running | None
    config: Config | None
    tasks: Mapping[str, TaskRecord]
    reports: Mapping[str, Report]
    dependencies: Mapping[str, DependencyState]
    damaged: Collection[str]
    unknown: Mapping[str, str]
    stations: tuple[StationRow, ...]
    drafts: tuple[Draft, ...]
    problems: tuple[Problem, ...]
    no_room: str = ""
    drained: Drained | None = None
    forges: tuple[ForgeRow, ...] = ()
    budgets: tuple[Budget, ...] = ()
    no_money: Mapping[str, tuple[Lack, ...]] = field(default_factory=dict)


def take_picture(reader: Reader) -> Picture:
    """Read the root's files; what cannot be read is among the problems."""
    now, config = datetime.now(UTC), None
    tasks, problems = reader.live()
    drafts: list[Draft] = []
    try:
        config = reader.config()
        drafts, wrong = reader.drafts(config)
        problems += wrong
    except CloudCodeError as error:
        problems += error.problems or (Problem(code=error.code, message=error.message, mend=error.mend),)
    reports = {task.id: reader.report(task, attempt) for task in tasks.values() if (attempt := _newest(task))}
    problems += [report for report in reports.values() if isinstance(report, Problem)]
    running = is_locked(reader.root)
    supervisor = running_supervisor(reader.root) if running else None
    found = (config_changed(reader.root, config, supervisor), vanished_files(reader.root, tasks))
    problems += [problem for problem in found if problem is not None]
    problems += refused_edits(reader.root, tasks)
    misplaced = misplaced_files(reader.root, drafts)
    problems += misplaced.values()
    disk = seen_state(reader.root, config.disk) if config is not None else None
    problems += [low] if disk is not None and (low := low_problem(disk)) is not None else []
    if running and config is not None:
        events = reader.recent_events()
        problems += failing_leases(events)
        if any(station.driver == "docker" for station in config.workstations.values()):
            problems += away_problems(events)
    forges = forge_rows(reader.root, config, tasks)
    problems += forge_problems(forges)
    dependencies, damaged = reader.dependency_states(tasks)
    problems += damaged.values()
    spending = read_spending(reader.root)
    problems += [unreadable] if (unreadable := unreadable_problem(reader.root, spending)) is not None else []
    budgets = budgets_seen(reader, config, spending, tasks, now) if config is not None else ()
    return Picture(
        now=now,
        running=running,
        supervisor=supervisor,
        config=config,
        tasks=tasks,
        reports=reports,
        dependencies=dependencies,
        damaged=damaged.keys(),
        unknown=reader.unknown_names(tasks, {*dependencies, *damaged}),
        stations=tuple(read_stations(reader, config, tasks, reports, running, now)),
        drafts=tuple(draft for draft in drafts if draft.id not in misplaced),
        problems=tuple(dict.fromkeys(problems)),
        no_room=disk.no_room if disk is not None else "",
        drained=read_drained(reader.root),
        forges=forges,
        budgets=budgets,
        no_money=money_waits(config, budgets, tasks, dependencies, now) if config is not None else {},
    )


def overview(reader: Reader) -> Overview:
    """The whole status of a root."""
    picture = take_picture(reader)
    rows = task_rows(picture)
    return Overview(
        root=str(reader.root.path),
        running=picture.running,
        pid=picture.supervisor.pid if picture.supervisor else None,
        workstations=picture.stations,
        tasks=tuple(row for row in rows if row.state not in (State.COMPLETED, State.CANCELLED)),
        files=tuple(file_rows(picture.drafts, picture.tasks, set(reader.archived_ids()))),
        waiting=tuple(waiting_tasks(picture)),
        problems=picture.problems,
        forges=picture.forges,
        budgets=picture.budgets,
        drained=picture.drained,
    )


def _newest(task: TaskRecord) -> Attempt | None:
    """The attempt whose report matters: the last one, while the task is not over."""
    return task.attempts[-1] if task.attempts and not task.ended else None


# --- tasks --------------------------------------------------------------------------------------------


def task_rows(picture: Picture) -> list[TaskRow]:
    """A row for each task, what moves first."""
    rows = [task_row(task, surroundings(task, picture)) for task in picture.tasks.values()]
    return sorted(rows, key=lambda row: (_ORDER[row.state], _PRIORITIES[row.priority], row.since, row.id))


def task_row(task: TaskRecord, around: Surroundings) -> TaskRow:
    return TaskRow(
        id=task.id,
        project=task.project,
        title=task.title,
        state=task.state,
        since=since(task),
        doing=headline(task, around),
        priority=task.priority,
        specialist=task.specialist,
        attempt=task.attempt,
        failures=task.failures,
        workstation=task.workstation if task.live is not None else None,
        branch=task.branch,
        request=task.request.url if task.request else None,
        resting=around.resting,
    )


def surroundings(task: TaskRecord, picture: Picture) -> Surroundings:
    """What is seen around one task."""
    report, lacks = picture.reports.get(task.id), picture.no_money.get(task.id, ())
    timing = picture.config.timing if picture.config else TimingSettings()
    stations = tuple(
        StationSeen(
            name=row.name,
            state=row.state,
            task=row.task,
            note=row.note,
            silent_seconds=row.silent_seconds,
            activity=row.activity,
        )
        for row in picture.stations
        if row.type == task.specialist
    )
    return Surroundings(
        now=picture.now,
        no_room=picture.no_room,
        drained=picture.drained is not None,
        no_money=tuple(lack.words for lack in lacks),
        top_ups=tuple(lack.command for lack in lacks if lack.command),
        cost_limit_usd=cost_limit_usd(task, picture.config) if picture.config is not None else None,
        running=picture.running,
        report=None if isinstance(report, Problem) else report,
        report_problem=str(report) if isinstance(report, Problem) else "",
        unmet=tuple(unmet(task, picture.dependencies, picture.damaged, picture.unknown)),
        cancelled=_cancelled(task, picture),
        unknown=_unknown(task, picture),
        resting=_is_resting(task, picture),
        stations=stations,
        timing=timing,
        own_workstation=any(
            row.driver in ISOLATING_DRIVERS for row in picture.stations if row.type == task.specialist
        ),
    )


def _is_resting(task: TaskRecord, picture: Picture) -> bool:
    """Its project is unknown to the supervisor that runs, or to the next one where none does."""
    if picture.supervisor is not None:
        return task.project not in picture.supervisor.projects
    return picture.config is not None and task.project not in picture.config.projects


def waiting_tasks(picture: Picture) -> list[Waiting]:
    """The tasks that wait for a person, those that wait longest first."""
    waiting = [
        Waiting(
            task=task.id,
            state=task.state,
            since=since(task),
            message=headline(task, surroundings(task, picture)),
            request=task.request.url if task.request and task.state is State.REVIEW else None,
            can=can,
        )
        for task in picture.tasks.values()
        if (can := _answers(task, picture))
    ]
    return sorted(waiting, key=lambda entry: (_ORDER[entry.state], entry.since))


def _answers(task: TaskRecord, picture: Picture) -> tuple[Action, ...]:
    resting = _is_resting(task, picture)
    return answers(task, _cancelled(task, picture), _unknown(task, picture), resting=resting)


def _unknown(task: TaskRecord, picture: Picture) -> tuple[str, ...]:
    """What this task depends on although nothing has that name."""
    names = dict.fromkeys(dependency.task for dependency in task.depends_on)
    return tuple(name for name in names if name in picture.unknown)


def _cancelled(task: TaskRecord, picture: Picture) -> tuple[str, ...]:
    """The cancelled tasks that this one depends on."""
    names = dict.fromkeys(dependency.task for dependency in task.depends_on)
    known = picture.dependencies
    return tuple(name for name in names if name in known and known[name].state is State.CANCELLED)


def file_rows(drafts: Iterable[Draft], live: Mapping[str, TaskRecord], archived: set[str]) -> list[FileRow]:
    """The task files whose present text the supervisor has not taken in; ended tasks absorb theirs."""
    rows = []
    for draft in drafts:
        task = live.get(draft.id)
        taken = task is not None and (task.ended or task.source.text_hash == draft.source.text_hash)
        if taken or (task is None and (draft.id in archived or draft.text.cancel)):
            continue
        rows.append(
            FileRow(
                file=f"tasks/{draft.source.ref}",
                task=draft.id,
                title=draft.text.title,
                change="new task" if task is None else "changed text",
            )
        )
    return rows
