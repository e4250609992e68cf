"""Reading a root's files for display: nothing is moved, mended or locked for longer than a look."""

import difflib
import fcntl
import os
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from agent_daemon.protocol.codec import decode_framed
from agent_daemon.protocol.errors import Problem, ProtocolError
from agent_daemon.protocol.files import Signature, read_file, signature
from agent_daemon.protocol.model import Reporting, TaskReport, WorkstationFile
from agent_daemon.protocol.paths import NAME, REPORTING, WORKSTATION, Root, is_task_id
from supervisor.config import load_config
from supervisor.core.intake import Draft
from supervisor.core.record import Attempt, TaskRecord
from supervisor.core.schedule import DependencyState
from supervisor.core.settings import Config
from supervisor.errors import CloudCodeError
from supervisor.events import parse_event
from supervisor.mail import Box, decode_sign, own_entry
from supervisor.records import RecordStore
from supervisor.stations import StationFile, load_station

RECENT_EVENT_BYTES = 256 * 1024

Report = TaskReport | Problem | None


@dataclass(frozen=True)
class TaskFiles:
    """How task files are read: which names are such files, and the draft that one makes (ProtocolError)."""

    is_one: Callable[[str], bool]
    read: Callable[[Path, str, Config], Draft]


def is_locked(root: Root) -> bool:
    """Whether a supervisor (or a command that stands in for one) holds the root's lock at this moment."""
    try:
        descriptor = os.open(root.lock, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        # Shared, so that readers do not see each other, and given back at once.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return False
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)


class Reader:
    """Reads one root, again and again for `--watch`: what has not changed is not read twice."""

    def __init__(self, root: Root, task_files: TaskFiles) -> None:
        self.root, self._task_files = root, task_files
        self._store = RecordStore(root)
        self._records: dict[str, tuple[Signature | None, TaskRecord | Problem]] = {}
        self._reports: dict[str, tuple[Signature | None, Report]] = {}
        self._drafts: dict[str, tuple[Signature | None, Draft | tuple[Problem, ...]]] = {}
        self._config: tuple[Signature | None, Config | CloudCodeError] | None = None

    # --- what people write ----------------------------------------------------------------------------

    def config(self) -> Config:
        """The configuration; raises CloudCodeError."""
        seen = signature(self.root.config)
        if self._config is None or self._config[0] != seen:
            self._drafts.clear()
            try:
                self._config = (seen, load_config(self.root))
            except CloudCodeError as error:
                self._config = (seen, error)
        found = self._config[1]
        if isinstance(found, CloudCodeError):
            raise found
        return found

    def drafts(self, config: Config) -> tuple[list[Draft], list[Problem]]:
        """The task files as they are now: those that can be taken in, and what is wrong with the others."""
        drafts: list[Draft] = []
        problems: list[Problem] = []
        for name in sorted(filter(self._task_files.is_one, _names(self.root.tasks))):
            found = self._draft(name, config)
            if isinstance(found, Draft):
                drafts.append(found)
            else:
                problems += found
        return drafts, problems

    def _draft(self, name: str, config: Config) -> Draft | tuple[Problem, ...]:
        seen = signature(self.root.tasks / name)
        known = self._drafts.get(name)
        if known is not None and known[0] == seen:
            return known[1]
        found: Draft | tuple[Problem, ...]
        try:
            found = self._task_files.read(self.root.tasks, name, config)
        except ProtocolError as error:
            found = error.problems
        except FileNotFoundError:
            return ()
        self._drafts[name] = (seen, found)
        return found

    # --- what the supervisor writes -------------------------------------------------------------------

    def live_ids(self) -> list[str]:
        return _ids(_names(self.root.records))

    def archived_ids(self) -> list[str]:
        return _ids(_names(self.root.archive))

    def live(self) -> tuple[dict[str, TaskRecord], list[Problem]]:
        """The records of live tasks, and what is wrong with those that cannot be read or were put aside."""
        tasks: dict[str, TaskRecord] = {}
        problems = [problem for name in self.put_aside_ids() if (problem := self.put_aside(name)) is not None]
        for task_id in self.live_ids():
            found = self._record(task_id)
            if isinstance(found, TaskRecord):
                tasks[task_id] = found
            elif found is not None:
                problems.append(found)
        return tasks, problems

    def _record(self, task_id: str) -> TaskRecord | Problem | None:
        seen = signature(self.root.record(task_id))
        known = self._records.get(task_id)
        if known is not None and known[0] == seen:
            return known[1]
        found: TaskRecord | Problem
        try:
            found = self._store.read(task_id)
        except FileNotFoundError:  # archived meanwhile
            return None
        except ProtocolError as error:
            found = self._unreadable(task_id, error.problem)
        self._records[task_id] = (seen, found)
        return found

    def put_aside_ids(self) -> list[str]:
        """The tasks whose damaged records lie in quarantine."""
        names = sorted(_names(self.root.quarantine))
        return [name.removeprefix("record-").removesuffix(".yaml") for name in names if name.startswith("record-")]

    def _damaged(self, task_id: str, path: Path) -> Problem:
        return Problem(
            code="E_RECORD_DAMAGED",
            message=f"the record of {task_id} is damaged",
            file=str(path),
            mend=f"mend the file and move it back to {self.root.records}, then restart the supervisor",
        )

    def _unreadable(self, task_id: str, problem: Problem) -> Problem:
        return replace(
            problem,
            code="E_RECORD_DAMAGED",
            message=f"the record of {task_id} cannot be read: {problem.message}",
            mend="mend the file, or put a copy of it in its place",
        )

    def find(self, task_id: str) -> TaskRecord | None:
        """A task, live or archived; raises ProtocolError when its record is damaged."""
        if not is_task_id(task_id):
            return None
        for read in (self._store.read, self._store.read_archived, self._store.read):
            try:
                return read(task_id)  # a third look, for it may be brought back between the first two
            except FileNotFoundError:
                continue
            except ProtocolError as error:
                raise ProtocolError(self._unreadable(task_id, error.problem)) from None
        return None

    def put_aside(self, task_id: str) -> Problem | None:
        """What is wrong with a task whose damaged record lies in quarantine; None for every other."""
        path = self.root.quarantine / f"record-{task_id}.yaml"
        return self._damaged(task_id, path) if path.exists() else None

    def archived(self) -> tuple[list[TaskRecord], list[Problem]]:
        """The records of archived tasks, by id, and what is wrong with those that cannot be read."""
        tasks: list[TaskRecord] = []
        problems: list[Problem] = []
        for task_id in self.archived_ids():
            try:
                tasks.append(self._store.read_archived(task_id))
            except FileNotFoundError:
                continue
            except ProtocolError as error:
                problems.append(self._unreadable(task_id, error.problem))
        return tasks, problems

    def dependency_states(
        self, tasks: dict[str, TaskRecord]
    ) -> tuple[dict[str, DependencyState], dict[str, Problem]]:
        """The state of everything that these tasks depend on; what is wrong with records that cannot be read."""
        states: dict[str, DependencyState] = {}
        damaged: dict[str, Problem] = {}
        for name in sorted({dependency.task for task in tasks.values() for dependency in task.depends_on}):
            try:
                found = tasks.get(name) or self.find(name)
            except ProtocolError as error:
                damaged[name] = error.problem
                continue
            aside = self.put_aside(name) if found is None else None
            if aside is not None:
                damaged[name] = aside
            elif found is not None:
                states[name] = DependencyState(state=found.state)
        return states, damaged

    def unknown_names(self, tasks: dict[str, TaskRecord], known: Collection[str]) -> dict[str, str]:
        """What these tasks depend on although no task and no file is called so; each with the nearest name."""
        needed = {dependency.task for task in tasks.values() for dependency in task.depends_on}
        stems = {name.partition(".")[0] for name in _names(self.root.tasks)}
        missing = sorted(name for name in needed - set(known) if name.partition(".")[2] not in stems)
        if not missing:
            return {}
        projects = {task.project for task in tasks.values()}
        ids = {*tasks, *self.archived_ids(), *(f"{project}.{stem}" for project in projects for stem in stems)}
        return {name: next(iter(difflib.get_close_matches(name, ids, n=1)), "") for name in missing}

    def station(self, name: str) -> StationFile | None:
        return load_station(self.root, name)

    def station_files(self) -> list[StationFile]:
        """Every workstation that there ever was, by name; damaged files are passed over."""
        names = sorted(name.removesuffix(".yaml") for name in _names(self.root.workstations))
        return [file for name in names if NAME.fullmatch(name) and (file := self.station(name)) is not None]

    def recent_events(self) -> list[dict[str, object]]:
        """The newest events, oldest first: as many as the end of the current file holds."""
        try:
            with self.root.events.open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size - RECENT_EVENT_BYTES))
                return [entry for line in file if (entry := parse_event(line)) is not None]
        except OSError:  # who writes it says what is wrong with it
            return []

    # --- what the workstations write --------------------------------------------------------------------

    def report(self, task: TaskRecord, attempt: Attempt) -> Report:
        """The report of an attempt, or why it cannot be taken; None when there is none."""
        relative = f"{task.id}/{attempt.number}/{REPORTING}"
        folder = self.root.mail_out(attempt.workstation)
        path = folder / relative
        try:
            seen = signature(path)
        except OSError:  # whatever stands there instead of a folder: the safe read says what it is
            seen = None
        known = self._reports.get(str(path))
        if known is not None and known[0] is not None and known[0] == seen:
            return known[1]
        found: Report
        shown = f"mail/{attempt.workstation}/out/{relative}"
        try:
            reporting = decode_framed(Reporting, read_file(folder, relative).data, file=shown)
            found = own_entry(reporting, Box(attempt.workstation, task.id, attempt.number), shown)
        except FileNotFoundError:
            found = None
        except ProtocolError as error:
            found = replace(error.problem, file=shown)
        self._reports[str(path)] = (seen, found)
        return found

    def sign(self, name: str) -> tuple[WorkstationFile, datetime] | Problem | None:
        """A workstation's last sign of life and when it was written, by this machine's clock; or what is wrong."""
        folder = self.root.mail_out(name)
        try:
            content = read_file(folder, WORKSTATION)
            file = decode_sign(content.data, name)
        except FileNotFoundError:
            return None
        except ProtocolError as error:
            return replace(error.problem, file=f"mail/{name}/out/{WORKSTATION}")
        return file, datetime.fromtimestamp(content.signature.modified_ns / 1e9, UTC)


def _names(folder: os.PathLike[str]) -> list[str]:
    try:
        return os.listdir(folder)
    except FileNotFoundError:
        return []


def _ids(names: Iterable[str]) -> list[str]:
    return sorted(n.removesuffix(".yaml") for n in names if n.endswith(".yaml") and is_task_id(n[:-5]))
