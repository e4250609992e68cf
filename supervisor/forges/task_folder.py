"""The tracker `local`: each YAML file in `tasks/` is an issue. The supervisor never writes there."""

import contextlib
import dataclasses
import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from agent_daemon.protocol.codec import decode
from agent_daemon.protocol.errors import Problem, ProtocolError
from agent_daemon.protocol.files import read_file
from agent_daemon.protocol.paths import check_stem, is_task_id
from agent_daemon.protocol.yaml_reader import Limits
from supervisor.clock import Clock
from supervisor.core.intake import Draft
from supervisor.core.record import Source
from supervisor.core.settings import Config
from supervisor.core.task_file import TaskFile
from supervisor.git.names import is_branch
from supervisor.ports import TrackerNews

SETTLED_SECONDS = 1.0
# A folder with thousands of files is read over several passes: the loop has other things to do.
MAX_READ_AT_ONCE = 200
TASK_FILE_LIMITS = Limits(max_scalar_bytes=200 * 1024)
SUFFIX = ".yaml"
# A file that has not changed for this long is looked at once in so many polls, unless something changed in the
# folder or another file has its name: most files are of tasks that have ended, and nobody touches them any more.
RESTLESS_SECONDS = 30.0
ROUND_POLLS = 5

_Look = tuple[int, int, int]  # inode, size, time of the last change in nanoseconds


@dataclass
class _File:
    """What is remembered of one file: its look, since when it has had it, whether that look was read.

    `key` is None until the file has been taken in once. `held`: it vanished with too many others.
    """

    look: _Look = (0, 0, 0)
    since: float = 0.0
    read: bool = False
    there: bool = False
    key: str | None = None
    absent_since: float | None = None
    held: bool = False

    @property
    def counts(self) -> bool:
        """Whether its absence would be a deletion."""
        return self.key is not None and not self.held


class TaskFolder:
    """Reads a file once it has been unchanged for a second; counts a deletion after a grace period.

    When more than half of the known files vanish together, their tasks are held (E_TASKS_VANISHED): they are
    not taken for deleted, however long they stay away and however often the supervisor starts, until they
    have been there again. While the folder itself is gone, nothing counts.
    """

    def __init__(
        self, folder: Path, config: Config, clock: Clock, settled_seconds: float = SETTLED_SECONDS
    ) -> None:
        self._folder, self._config, self._clock = folder, config, clock
        self._settled_seconds = settled_seconds
        self._files: dict[str, _File] = {}
        self._untold: set[str] = set()
        self._gone = False
        self._woken = True
        self._turn = 0

    def remember(self, sources: Iterable[Source]) -> None:
        """The files of live tasks, known from before: their absence counts, unless they are held."""
        now = self._clock.monotonic()
        for source in sources:
            known = _File(since=now, read=True, key=Path(source.ref).stem, held=source.held)
            self._files.setdefault(source.ref, known)

    @property
    def settled(self) -> bool:
        """Whether every file has been read, and no deletion waits to be counted."""
        return self._gone or all(
            file.read if file.there else file.held or file.absent_since is None for file in self._files.values()
        )

    def offer(self, source: Source) -> None:
        """Read the file of this source once more, if it is there."""
        if source.ref in self._files:
            self._files[source.ref].read = False

    def look_again(self, sources: Iterable[Source]) -> None:
        """Offer every file once more, and every absence: what was told could not be kept."""
        for name, file in self._files.items():
            file.read = False
            if file.held:
                self._untold.add(name)
        self.remember(sources)

    def wake(self) -> None:
        """Something was changed in the folder: the next poll looks at every file."""
        self._woken = True

    def poll(self) -> TrackerNews:
        now = self._clock.monotonic()
        listing = self._list(now)
        was_gone, self._gone = self._gone, listing is None
        if listing is None:
            return TrackerNews(problems=() if was_gone else (self._vanished("the folder tasks/ is not there"),))
        drafts: list[Draft] = []
        problems: list[Problem] = []
        for name in self._due(listing, now):
            file = self._files[name]
            file.read = True
            try:
                drafts.append(read_draft(self._folder, name, self._config))
                file.key = Path(name).stem
            except ProtocolError as error:
                problems += [dataclasses.replace(problem, file=f"tasks/{name}") for problem in error.problems]
            except FileNotFoundError:
                file.read = False
        self._note_missing(set(listing), now)
        problems += self._hold()
        held = tuple(key for name in self._untold if (key := self._files[name].key) is not None)
        self._untold.clear()
        gone = self._take_gone(now)
        return TrackerNews(drafts=tuple(drafts), gone=gone, held=held, problems=tuple(problems))

    def _list(self, now: float) -> dict[str, _Look] | None:
        """The look of each task file; None when the folder cannot be listed."""
        self._turn = (self._turn + 1) % ROUND_POLLS
        closely, self._woken = self._woken, False
        try:
            with os.scandir(self._folder) as entries:
                files = [entry for entry in entries if is_task_file(entry.name)]
        except OSError:
            return None
        listing: dict[str, _Look] = {}
        for number, entry in enumerate(files):
            file = self._files.get(entry.name)
            rests = file is not None and file.read and now - file.since > RESTLESS_SECONDS
            if (
                file is None
                or closely
                or not rests
                or entry.inode() != file.look[0]
                or number % ROUND_POLLS == self._turn
            ):
                with contextlib.suppress(FileNotFoundError):
                    stat = entry.stat(follow_symlinks=False)
                    listing[entry.name] = (stat.st_ino, stat.st_size, stat.st_mtime_ns)
            else:
                listing[entry.name] = file.look
        return listing

    def _due(self, listing: dict[str, _Look], now: float) -> list[str]:
        """The files to be read now: those that are new, changed or back, and have come to rest."""
        due = []
        for name, look in listing.items():
            file = self._files.get(name)
            if file is None or file.look != look:
                self._files[name] = _File(look=look, since=now, key=file.key if file else None)
                continue
            if file.held:
                file.held = file.read = False
            file.absent_since = None
            if not file.read and now - file.since >= self._settled_seconds:
                due.append(name)
        return due[:MAX_READ_AT_ONCE]

    def _note_missing(self, present: set[str], now: float) -> None:
        """Since when each file has been away. One that was renamed to `.yml` is not deleted, but misnamed."""
        for name, file in self._files.items():
            file.there = name in present
            away = not file.there and f"{Path(name).stem}.yml" not in present
            file.absent_since = (file.absent_since or now) if away else None

    def _hold(self) -> list[Problem]:
        """Hold the files that vanished together, if they are more than half of those whose absence counts."""
        known = [name for name, file in self._files.items() if file.counts]
        missing = [name for name in known if self._files[name].absent_since is not None]
        if len(missing) < 2 or len(missing) * 2 <= len(known):
            return []
        for name in missing:
            self._files[name].held = True
        self._untold.update(missing)
        return [self._vanished(f"{len(missing)} of {len(known)} task files vanished together")]

    def _take_gone(self, now: float) -> tuple[str, ...]:
        """The files that have been away long enough, which are forgotten."""
        grace = self._config.timing.deletion_grace_seconds
        over = [
            name
            for name, file in self._files.items()
            if file.absent_since is not None and not file.held and now - file.absent_since >= grace
        ]
        keys = [self._files.pop(name).key for name in over]
        return tuple(key for key in keys if key is not None)

    def _vanished(self, what: str) -> Problem:
        return Problem(
            code="E_TASKS_VANISHED",
            message=f"{what}; no task is cancelled for that",
            file=str(self._folder),
            mend="put the files back, or cancel their tasks with `cloud-code task cancel`",
        )


def is_task_file(name: str) -> bool:
    """YAML files, whatever their suffix; an editor's temporary and backup files are not."""
    return name.endswith((SUFFIX, ".yml")) and not name.startswith((".", "#"))


def read_draft(folder: Path, name: str, config: Config) -> Draft:
    """The draft that this task file makes; raises ProtocolError with everything wrong with it."""
    shown = f"tasks/{name}"
    stem, suffix = Path(name).stem, Path(name).suffix
    if suffix != SUFFIX:
        mend = f"rename it; if {stem}{SUFFIX} is a task already, that keeps its former text until then"
        raise _refused("E_SUFFIX", f"the file ends in {suffix}", shown, "", f"the name {stem}{SUFFIX}", mend)
    try:
        check_stem(stem)
    except ValueError as error:
        raise _refused("E_NAME", str(error), shown, "", "a file name such as fix-login.yaml") from None
    data = read_file(folder, name).data
    text = decode(TaskFile, data, file=shown, limits=TASK_FILE_LIMITS)
    project = _project_of(text, config, shown)
    _check_names(text, project, config, shown)
    _check_dependencies(text, project, shown)
    return Draft(
        id=f"{project}.{stem}",
        project=project,
        source=Source(
            tracker="local",
            kind="file",
            ref=name,
            key=f"file:{stem}",
            requested_by="operator",
            text_hash=hashlib.sha256(data).hexdigest(),
        ),
        text=text,
    )


def _project_of(text: TaskFile, config: Config, shown: str) -> str:
    names = ", ".join(config.projects)
    if text.project is None and len(config.projects) == 1:
        return next(iter(config.projects))
    if text.project is None:
        message = "the file names no project, and more than one is configured"
        mend = "write the one that it is for into the file, also where there was only one when it was written"
        raise _refused("E_NO_PROJECT", message, shown, "project", f"project: one of {names}", mend)
    if text.project not in config.projects:
        message = f"there is no project '{text.project}' in config.yaml"
        raise _refused("E_UNKNOWN_PROJECT", message, shown, "project", f"one of {names}")
    return text.project


def _check_names(text: TaskFile, project: str, config: Config, shown: str) -> None:
    """Refuse names that lead nowhere, or that git and the records could not take."""
    kind, types = text.specialist, config.types_for(project)
    if kind is not None and kind not in types:
        message = f"there is no workstation type '{kind}' in config.yaml"
        if kind in config.workstations:
            domain = config.projects[project].trust_domain
            message = f"the workstation type '{kind}' does not serve the trust domain '{domain}' of {project}"
        raise _refused("E_UNKNOWN_SPECIALIST", message, shown, "specialist", f"one of {', '.join(types)}")
    if text.base_branch is not None and not is_branch(text.base_branch):
        message = f"'{text.base_branch}' is not the name of a branch"
        raise _refused("E_BRANCH_NAME", message, shown, "base_branch", "a name such as main")
    for number, dependency in enumerate(text.depends_on):
        if not is_task_id(dependency.task if "." in dependency.task else f"{project}.{dependency.task}"):
            message, place = f"'{dependency.task[:100]}' is not the name of a task", f"depends_on[{number}]"
            raise _refused("E_TASK_ID", message, shown, place, "a task file's name without .yaml, or a whole id")


def _refused(code: str, message: str, file: str, place: str, expected: str, mend: str = "") -> ProtocolError:
    problem = Problem(code=code, message=message, file=file, place=place, expected=expected, mend=mend)
    return ProtocolError(problem)


def _check_dependencies(text: TaskFile, project: str, shown: str) -> None:
    for number, dependency in enumerate(text.depends_on):
        other, dot, _ = dependency.task.partition(".")
        asked = "use" in dependency.model_fields_set and dependency.use == "head"
        if dot and other != project and asked:
            message = f"the branch of {dependency.task} is in another repository: this task cannot start from it"
            raise _refused(
                "E_OTHER_PROJECT_HEAD", message, shown, f"depends_on[{number}].use", "use: none, or nothing"
            )
