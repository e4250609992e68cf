"""What there is to clean up: looked for by the names that the records give, never by what lies about.

Reads the records and a few sizes; looks at nothing below `workspaces/`, and in `out/` only whether an attempt's
folder is there. A folder that no record speaks of is not found here, and so it is never named.
"""

import os
import re
import stat
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from agent_daemon.protocol.codec import decode_framed
from agent_daemon.protocol.errors import ProtocolError
from agent_daemon.protocol.files import read_file
from agent_daemon.protocol.model import Reporting, TaskReport
from agent_daemon.protocol.paths import NAME, REPORTING, WORKSTATION, Root, is_project
from supervisor.core.cleanup import DAY_SECONDS, CloneFound, Found, Room
from supervisor.core.observed import Run, observed_seconds
from supervisor.core.record import Attempt, TaskRecord
from supervisor.core.settings import Config
from supervisor.disk import seen_state
from supervisor.mail import decode_sign
from supervisor.records import RecordStore

_OF_SALVAGE = re.compile(r"([1-9][0-9]{0,8})(\.start|\.earlier-[0-9a-f]{8})?\.bundle")
# A pause after so many records, so that the loop's thread is not kept waiting.
_PAUSE_AFTER, _PAUSE_SECONDS = 20, 0.01


@dataclass(frozen=True, kw_only=True)
class Survey:
    """Everything that a clean-up is decided from. `unreadable` are the tasks whose record cannot be read."""

    found: tuple[Found, ...] = ()
    clones: tuple[CloneFound, ...] = ()
    room: Room
    unreadable: tuple[str, ...] = ()
    revisions: Mapping[str, int] = field(default_factory=dict)


def survey(root: Root, config: Config, runs: Sequence[Run]) -> Survey:
    """Look at everything; raises OSError when the folders of the records cannot be listed."""
    store = RecordStore(root)
    surveyor = _Surveyor(root, config, runs, store, sorted(store.damaged_ids()), store.archived_ids())
    live = list(surveyor.read(store.live_ids(), store.read))
    archived = list(surveyor.read(surveyor.worth_a_look(), store.read_archived))
    wanted: dict[str, list[str]] = defaultdict(list)
    for task in live:
        if not task.ended:
            for dependency in task.depends_on:
                wanted[dependency.task].append(task.id)
    found = [surveyor.found(task, archived=False, wanted_by=()) for task in live if task.ended]
    found += [surveyor.found(task, archived=True, wanted_by=tuple(wanted[task.id])) for task in archived]
    disk = seen_state(root, config.disk)
    return Survey(
        found=tuple(found),
        clones=tuple(surveyor.clones(live)),
        room=Room(total_bytes=disk.total_bytes if disk else 0, low=disk is not None and disk.low),
        unreadable=tuple(surveyor.unreadable),
        revisions={one.task.id: one.task.revision for one in found},
    )


@dataclass
class _Surveyor:
    root: Root
    config: Config
    runs: Sequence[Run]
    store: RecordStore
    unreadable: list[str]
    archived: list[str]
    _reads: int = 0

    def read(self, ids: Iterable[str], read: Callable[[str], TaskRecord]) -> Iterator[TaskRecord]:
        for task_id in ids:
            self._reads += 1
            if self._reads % _PAUSE_AFTER == 0:
                time.sleep(_PAUSE_SECONDS)
            try:
                yield read(task_id)
            except FileNotFoundError:
                continue
            except ProtocolError:
                self.unreadable.append(task_id)

    def worth_a_look(self) -> list[str]:
        """Archived tasks of which something is left, or whose record is old: the others are not even read."""
        stations = self._stations()
        with_bundles = {*_names(self.root.salvage), *_names(self.root.held)}
        outs = {station: self.root.mail_out(station) for station in stations}
        oldest = time.time() - self.config.cleanup.record_days * DAY_SECONDS

        def is_worth(task_id: str) -> bool:
            if task_id in with_bundles or any(_is_folder(out / task_id) for out in outs.values()):
                return True
            written = _lstat(self.root.archived(task_id))
            return written is not None and written.st_mtime < oldest

        return [task_id for task_id in self.archived if is_worth(task_id)]

    def found(self, task: TaskRecord, *, archived: bool, wanted_by: tuple[str, ...]) -> Found:
        record = self.root.archived(task.id) if archived else self.root.record(task.id)
        salvage, start = self._bundles(self.root.salvage / task.id)
        held, _ = self._bundles(self.root.held / task.id)
        outputs: dict[int, int | None] = {}
        worktrees: dict[int, int | None] = {}
        for attempt in task.attempts:
            if not _is_folder(self.root.attempt_out(attempt.workstation, task.id, attempt.number)):
                continue
            report = self._report(task, attempt)
            outputs[attempt.number] = report.output_bytes if report else None
            worktrees[attempt.number] = report.worktree_bytes if report else None
        return Found(
            task=task,
            archived=archived,
            age_seconds=self._age(task),
            record=_size(record),
            salvage=salvage,
            start=start,
            held=held,
            outputs=outputs,
            worktrees=worktrees,
            wanted_by=wanted_by,
        )

    def _age(self, task: TaskRecord) -> float:
        """Since its last step, which is that to its end; a task without history has none to go by."""
        return observed_seconds(self.runs, task.history[-1].at) if task.history else 0.0

    def _bundles(self, folder: Path) -> tuple[dict[int, int], dict[int, int]]:
        """Sizes by attempt: of saved work, and of what belongs to it."""
        main: dict[int, int] = {}
        beside: dict[int, int] = defaultdict(int)
        for name in _names(folder):
            match = _OF_SALVAGE.fullmatch(name)
            if match and match[2]:
                beside[int(match[1])] += _size(folder / name)
            elif match:
                main[int(match[1])] = _size(folder / name)
        return main, dict(beside)

    def _report(self, task: TaskRecord, attempt: Attempt) -> TaskReport | None:
        """What the workstation says: for sizes only."""
        name = f"{task.id}/{attempt.number}/{REPORTING}"
        try:
            data = read_file(self.root.mail_out(attempt.workstation), name).data
            return decode_framed(Reporting, data, file=name).tasks.get(task.id)
        except (OSError, ProtocolError):
            return None

    # --- clones -------------------------------------------------------------------------------------------

    def clones(self, live: list[TaskRecord]) -> Iterator[CloneFound]:
        """The clones that workstations say they have, but for those of projects that are worked on."""
        busy = {task.project for task in live}
        for station in self._stations():
            for project in self._said_clones(station):
                if not (project in busy and project in self.config.projects) and self._has_rested(project):
                    yield self._clone(station, project, [task for task in live if task.project == project])

    def _has_rested(self, project: str) -> bool:
        """Whether nothing of the project was archived lately; cheap, for its records are read only then."""
        since = time.time() - self.config.cleanup.clone_days * DAY_SECONDS
        ids = [task_id for task_id in self.archived if task_id.startswith(f"{project}.")]
        written = [found.st_mtime for task_id in ids if (found := _lstat(self.root.archived(task_id))) is not None]
        return all(moment <= since for moment in written)

    def _said_clones(self, station: str) -> list[str]:
        try:
            data = read_file(self.root.mail_out(station), WORKSTATION).data
            said = decode_sign(data, station).clones
        except (OSError, ProtocolError):
            return []
        return [project for project in said[:1000] if is_project(project)]

    def _clone(self, station: str, project: str, live: list[TaskRecord]) -> CloneFound:
        """All records of its project are read, for any of them may have a worktree of it."""
        before = len(self.unreadable)
        ids = [task_id for task_id in self.archived if task_id.startswith(f"{project}.")]
        tasks = [*live, *self.read(ids, self.store.read_archived)]
        of_project = [task_id for task_id in self.unreadable[:before] if task_id.startswith(f"{project}.")]
        attempts = [(task, a) for task in tasks for a in task.attempts if a.workstation == station]
        used = [f"attempt {a.number} of {task.id}" for task, a in attempts if not a.released]
        used += [task.id for task in tasks if not task.ended]
        ends = [attempt.ended_at for _, attempt in attempts if attempt.ended_at is not None]
        return CloneFound(
            workstation=station,
            project=project,
            age_seconds=observed_seconds(self.runs, max(ends)) if ends else 0.0,
            used_by=tuple(used) if attempts or used else None,
            unreadable=(*of_project, *self.unreadable[before:]),
        )

    def _stations(self) -> list[str]:
        """The workstations that have a folder in the mail."""
        return [name for name in _names(self.root.mail) if NAME.fullmatch(name)]


def bundles_of(folder: Path, attempt: int) -> list[Path]:
    """The files in a folder of saved or held work that belong to one attempt."""
    matches = [(name, _OF_SALVAGE.fullmatch(name)) for name in _names(folder)]
    return [folder / name for name, match in matches if match and int(match[1]) == attempt]


def _names(folder: Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return []


def _lstat(path: Path) -> os.stat_result | None:
    try:
        return path.lstat()
    except OSError:
        return None


def _is_folder(path: Path) -> bool:
    found = _lstat(path)
    return found is not None and stat.S_ISDIR(found.st_mode)


def _size(path: Path) -> int:
    found = _lstat(path)
    return found.st_size if found is not None else 0
