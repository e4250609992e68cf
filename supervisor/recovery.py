"""What a start must do before the first decision: leftovers ended, records read, the fleet taken up again."""

import contextlib
import shutil
from collections.abc import Callable, Mapping

from agent_daemon.protocol.files import make_folder
from agent_daemon.protocol.paths import Root
from supervisor.clock import Clock
from supervisor.core.attempts import end_attempt
from supervisor.core.decision import Decision, Event
from supervisor.core.plan import lose_attempt
from supervisor.core.record import Attempt, TaskRecord
from supervisor.core.retry import bounded
from supervisor.core.routing import route
from supervisor.core.settings import Config
from supervisor.core.states import ACTIVE
from supervisor.core.telling import look_first
from supervisor.fleet import Fleet
from supervisor.git.command import end_leftovers
from supervisor.git.mirror import remove_stale_locks
from supervisor.jobs.project import Project
from supervisor.ledger import Ledger
from supervisor.mail import Mail
from supervisor.records import RecordStore


def recover(
    root: Root,
    config: Config,
    clock: Clock,
    store: RecordStore,
    ledger: Ledger,
    fleet: Fleet,
    mail: Mail,
    projects: Mapping[str, Project],
    on_progress: Callable[[], None] = lambda: None,
) -> None:
    """Bring memory, mail and workstations together again after whatever ended the last run.

    `on_progress`: called often; with much to take up it takes long.
    """
    end_leftovers(root.path)
    for project in projects.values():
        make_folder(project.mirror.path.parent)
        remove_stale_locks(project.mirror)
    remove_leftovers(root)
    loaded = store.load(on_progress)
    for problem in loaded.damaged:
        details = {"code": problem.code, "message": problem.message, "file": problem.file, "mend": problem.mend}
        ledger.log(Event(name="record.damaged", details=details))
    for task_id in store.damaged_ids() - set(loaded.tasks):
        mail.hold(task_id)
    known = _of_known_projects(loaded.tasks, config, ledger)
    ledger.load(
        {
            task_id: look_first(bounded(task, config.retry, clock.now()), clock.now())
            for task_id, task in known.items()
        }
    )
    for news in fleet.adopt(0.0):
        ledger.log(Event(name=news.event, details=dict(news.details)), workstation=news.workstation)
    for name in fleet.stations:
        mail.prepare_folders(name)
        on_progress()
    _follow_configuration(config, ledger, fleet, clock)
    ledger.retell()


def _of_known_projects(tasks: Mapping[str, TaskRecord], config: Config, ledger: Ledger) -> dict[str, TaskRecord]:
    """Tasks of projects that are configured; the records of others stay as they are until theirs is again."""
    known = {}
    for task in tasks.values():
        if task.project in config.projects:
            known[task.id] = task
            continue
        message = f"{task.id} rests: the project {task.project} is not in config.yaml"
        mend = "configure the project again, or move the record out of state/tasks"
        details = {"code": "E_PROJECT_GONE", "message": message, "mend": mend}
        ledger.log(Event(name="task.resting", details=details))
    return known


def _follow_configuration(config: Config, ledger: Ledger, fleet: Fleet, clock: Clock) -> None:
    """Types and workstations that are configured no longer: their tasks go elsewhere."""
    for task in list(ledger.tasks.values()):
        types = config.types_for(task.project)
        if not task.ended and task.specialist not in types:
            kind = route(task.labels, config.routing, types)
            details = {"from": task.specialist, "to": kind}
            event = Event(name="task.rerouted", details=details)
            task = ledger.apply(Decision(task=task.evolve(specialist=kind), events=(event,)))
        for attempt in task.attempts:
            if not attempt.released and not fleet.is_configured(attempt.workstation):
                task = ledger.apply(_abandon(task, attempt, config, clock))


def _abandon(task: TaskRecord, attempt: Attempt, config: Config, clock: Clock) -> Decision:
    """Nobody will report on this attempt any more. Its worktree stays where it is, for a person."""
    now = clock.now()
    if attempt.ended_at is None and task.state in ACTIVE:
        lost = lose_attempt(task, verdict="workstation lost", now=now, config=config)
    elif attempt.ended_at is None:
        lost = Decision(task=end_attempt(task, attempt, verdict="workstation lost", report=None, now=now))
    else:
        lost = Decision(task=task)
    return Decision(task=lost.task.with_attempt(attempt.number, abandoned=True), events=lost.events)


def remove_leftovers(root: Root) -> None:
    """Empty the quarantine of an earlier run's imports, its temporary files, and folders of saved work that went.

    Records kept in quarantine for a person stay.
    """
    for folder in (*root.salvage.iterdir(), *root.held.iterdir()):
        with contextlib.suppress(OSError):  # something is in it
            folder.rmdir()
    for entry in (*root.quarantine.iterdir(), *root.temporary.iterdir()):
        if entry.name.startswith("record-"):
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            with contextlib.suppress(FileNotFoundError):
                entry.unlink()
