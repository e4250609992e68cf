"""Task records on disk: one file a task, replaced atomically; ended ones move to the archive."""

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from agent_daemon.protocol.codec import decode, encode
from agent_daemon.protocol.errors import Problem, ProtocolError
from agent_daemon.protocol.files import read_file, write_file
from agent_daemon.protocol.paths import Root, is_task_id
from agent_daemon.protocol.yaml_reader import Limits
from supervisor.core.intake import Draft, other_project
from supervisor.core.record import TaskRecord

# A record may hold a description of 200 KiB; only the supervisor writes here.
RECORD_LIMITS = Limits(max_bytes=4 * 1024 * 1024, max_events=200_000, max_scalar_bytes=1024 * 1024)


@dataclass
class Loaded:
    """The live records, and what is wrong with those that could not be read."""

    tasks: dict[str, TaskRecord] = field(default_factory=dict)
    damaged: list[Problem] = field(default_factory=list)


class RecordStore:
    """Reads and writes the records of one root. Only the holder of the supervisor's lock may write."""

    def __init__(self, root: Root) -> None:
        self._root = root

    def load(self, on_each: Callable[[], None] = lambda: None) -> Loaded:
        """All live records. A damaged file is moved to `state/quarantine/`, never treated as empty.

        `on_each`: called with each, for there may be thousands.
        """
        loaded = Loaded()
        for name in sorted(os.listdir(self._root.records)):
            task_id = name.removesuffix(".yaml")
            if name.startswith(".") or task_id == name:
                continue
            on_each()
            try:
                loaded.tasks[task_id] = self.read(task_id)
            except ProtocolError as error:
                kept = self._quarantine(name)
                loaded.damaged.append(
                    Problem(
                        code="E_RECORD_DAMAGED",
                        message=f"the record of {task_id} cannot be read: {error.problem.message}",
                        file=str(kept),
                        line=error.problem.line,
                        mend=f"mend the file, move it back to {self._root.records}, restart the supervisor",
                    )
                )
        return loaded

    def _quarantine(self, name: str) -> object:
        target = self._root.quarantine / f"record-{name}"
        os.replace(self._root.records / name, target)
        return target

    def damaged_ids(self) -> set[str]:
        """Tasks whose record lies in quarantine: they are not taken in again."""
        names = os.listdir(self._root.quarantine)
        return {n.removeprefix("record-").removesuffix(".yaml") for n in names if n.startswith("record-")}

    def read(self, task_id: str) -> TaskRecord:
        """One live record; raises ProtocolError, FileNotFoundError."""
        return _read(self._root, "state/tasks", task_id)

    def save(self, task: TaskRecord) -> TaskRecord:
        """Write the record with its revision one higher, durably; returns what was written."""
        written = task.evolve(revision=task.revision + 1)
        write_file(self._root.records / f"{task.id}.yaml", encode(written), mode=0o640)
        return written

    def archive(self, task: TaskRecord) -> None:
        """Move an ended task's record to the archive."""
        os.replace(self._root.records / f"{task.id}.yaml", self._root.archive / f"{task.id}.yaml")

    def unarchive(self, task_id: str) -> TaskRecord:
        """Bring an archived record back to the live ones."""
        task = self.read_archived(task_id)
        os.replace(self._root.archive / f"{task_id}.yaml", self._root.records / f"{task_id}.yaml")
        return task

    def is_archived(self, task_id: str) -> bool:
        return (self._root.archive / f"{task_id}.yaml").exists()

    def read_archived(self, task_id: str) -> TaskRecord:
        return _read(self._root, "state/archive", task_id)

    def find(self, task_id: str) -> TaskRecord | None:
        """A record, live or archived, as it lies on disk; raises ProtocolError."""
        if (self._root.records / f"{task_id}.yaml").exists():
            return self.read(task_id)
        return self.read_archived(task_id) if self.is_archived(task_id) else None

    def projects(self) -> set[str]:
        """The projects of all records, ended and live; one look at the names of the files."""
        folders = (folder for folder in (self._root.records, self._root.archive) if folder.is_dir())
        names = (name for folder in folders for name in os.listdir(folder))
        return {name.partition(".")[0] for name in names if is_task_id(name.removesuffix(".yaml"))}

    def live_ids(self) -> list[str]:
        """The ids of all live tasks, by the names of their files."""
        names = (name.removesuffix(".yaml") for name in os.listdir(self._root.records) if name.endswith(".yaml"))
        return sorted(name for name in names if is_task_id(name))

    def remove_archived(self, task_id: str) -> None:
        """Forget an ended task for good."""
        (self._root.archive / f"{task_id}.yaml").unlink(missing_ok=True)

    def archived_ids(self) -> list[str]:
        """The ids of all archived tasks: the file names are the index."""
        names = (name.removesuffix(".yaml") for name in os.listdir(self._root.archive))
        return sorted(name for name in names if is_task_id(name))


def taken_otherwise(store: RecordStore, draft: Draft, projects: Iterable[str]) -> Problem | None:
    """What is wrong when this draft's source is a task of another one of these projects; raises ProtocolError."""
    rest = draft.id.partition(".")[2]
    for project in sorted(projects):
        task = store.find(f"{project}.{rest}")
        problem = other_project(draft, task) if task is not None else None
        if problem is not None:
            return problem
    return None


def _read(root: Root, folder: str, task_id: str) -> TaskRecord:
    relative = f"{folder}/{task_id}.yaml"
    data = read_file(root.path, relative, max_bytes=RECORD_LIMITS.max_bytes).data
    return decode(TaskRecord, data, file=relative, limits=RECORD_LIMITS)
