"""What a person should know beside the tasks: of the configuration, of task files and of refused edits."""

from collections.abc import Iterable, Iterator, Mapping

from agent_daemon.protocol.errors import Problem, ProtocolError
from agent_daemon.protocol.files import read_file
from agent_daemon.protocol.paths import TASKING_REJECTED, Root
from supervisor.core.intake import Draft
from supervisor.core.record import TaskRecord
from supervisor.core.secret_wait import mend_of
from supervisor.core.settings import Config
from supervisor.core.words import count
from supervisor.records import RecordStore, taken_otherwise
from supervisor.running import Running, digest_of

MAX_EDIT_BYTES = 1024 * 1024
MAX_NAMED = 5


def config_changed(root: Root, config: Config | None, supervisor: Running | None) -> Problem | None:
    """The supervisor that runs was started with another configuration than the file holds now."""
    if supervisor is None or (config is not None and digest_of(config) == supervisor.config_sha256):
        return None
    began = f"{supervisor.started_at:%Y-%m-%d %H:%M:%S} UTC"
    mend = f"`kill -HUP {supervisor.pid}` has it taken up (a service: `sudo systemctl reload cloud-code`); "
    mend += "agents go on working meanwhile"
    if config is None:
        mend = "mend it before the next start; until then the supervisor goes on with the former one"
    return Problem(
        code="E_CONFIG_CHANGED",
        message=f"the configuration is not the one that the supervisor was started with at {began}",
        file=str(root.config),
        mend=mend,
    )


def failing_leases(events: Iterable[Mapping[str, object]]) -> Iterator[Problem]:
    """What the supervisor cannot do with what agents were given, by its newest events; nothing once it can."""
    failing: dict[str, tuple[str, list[str]]] = {}
    for event in events:
        details = event.get("details")
        if event.get("event") in ("lease.works", "supervisor.started"):
            failing.clear()
        elif event.get("event") == "lease.failed" and isinstance(details, dict):
            code, message, verb = (str(details.get(key, "")) for key in ("code", "message", "what"))
            verbs = failing.get(code, ("", []))[1]
            failing[code] = message, [*(one for one in verbs if one != verb), verb]
    for code, (message, verbs) in failing.items():
        text, command = mend_of(code)
        what = f"what agents were given cannot be {' or '.join(verbs)} now, and is tried again"
        mend = f"{text[0].lower()}{text[1:]} (`{command}`)"
        yield Problem(code=code, message=f"{what}: {message.removesuffix('.')}", mend=mend)


def refused_edits(root: Root, tasks: Mapping[str, TaskRecord]) -> Iterator[Problem]:
    """Edits of `tasking.yaml` that were not taken, of tasks that are not over; each is kept in a file."""
    for task in tasks.values():
        for attempt in () if task.ended else task.attempts:
            if attempt.released:
                continue
            folder = root.attempt_in(attempt.workstation, task.id, attempt.number)
            try:
                data = read_file(folder, TASKING_REJECTED, max_bytes=MAX_EDIT_BYTES).data
            except FileNotFoundError:
                continue
            except ProtocolError as error:
                yield error.problem
                continue
            first = data.decode(errors="replace").partition("\n")[0]
            why = first.removeprefix("#").strip() if first.startswith("#") else "This edit was not taken."
            yield Problem(
                code="E_EDIT_REFUSED",
                message=f"the tasking of {task.id}: {why}",
                file=str(folder / TASKING_REJECTED),
                mend="edit tasking.yaml again, then delete this file",
            )


def vanished_files(root: Root, tasks: Mapping[str, TaskRecord]) -> Problem | None:
    """Task files that are away in a way that nobody can have meant: their tasks go on."""
    held = sorted(task.source.ref for task in tasks.values() if task.source.held and not task.ended)
    gone = not root.tasks.is_dir() and any(task.source.tracker == "local" for task in tasks.values())
    if not held and not gone:
        return None
    more = f" and {len(held) - MAX_NAMED} more" if len(held) > MAX_NAMED else ""
    what = f"{count(len(held), 'task file')} vanished together ({', '.join(held[:MAX_NAMED])}{more})"
    return Problem(
        code="E_TASKS_VANISHED",
        message=f"{'the folder is not there' if gone else what}; no task is cancelled for that",
        file=str(root.tasks),
        mend="put it back" if gone else "put them back, or cancel their tasks with `cloud-code task cancel`",
    )


def misplaced_files(root: Root, drafts: Iterable[Draft]) -> dict[str, Problem]:
    """Of these, the task files that are tasks of another project already, by the id that they ask for."""
    store, found = RecordStore(root), dict[str, Problem]()
    if not root.records.is_dir():
        return found
    new = [draft for draft in drafts if not root.record(draft.id).exists() and not store.is_archived(draft.id)]
    projects = store.projects() if new else set()
    for draft in new:
        try:
            problem = taken_otherwise(store, draft, projects)
        except ProtocolError as error:
            problem = error.problem
        if problem is not None:
            found[draft.id] = problem
    return found
