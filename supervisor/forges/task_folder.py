"""The tracker `local`: each YAML file in `tasks/` is an issue. The supervisor never writes there."""

import dataclasses
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from agent_daemon.protocol.codec import decode
from agent_daemon.protocol.errors import Problem, ProtocolError
from agent_daemon.protocol.files import read_file
from agent_daemon.protocol.paths import check_stem
from agent_daemon.protocol.yaml_reader import Limits
from supervisor.clock import Clock
from supervisor.core.intake import Draft
from supervisor.core.record import Source
from supervisor.core.settings import Config
from supervisor.core.task_file import TaskFile
from supervisor.ports import TrackerNews

SETTLED_SECONDS = 1.0
# A folder with thousands of files is read over several passes: the loop has other things to do.
MAX_READ_AT_ONCE = 200
TASK_FILE_LIMITS = Limits(max_scalar_bytes=200 * 1024)
SUFFIX = ".yaml"


@dataclass
class _File:
    """What is remembered of one file: its look, since when it has had it, whether that look was read."""

    look: tuple[int, int, int]
    since: float
    read: bool = False
    key: str | None = None
    absent_since: float | None = None
    held: bool = False


class TaskFolder:
    """Reads a file once it has been unchanged for a second; counts a deletion after a grace period.

    When more than half of the known files vanish together, or the folder itself does, those are not taken
    for deleted (E_TASKS_VANISHED), however long they stay away.
    """

    def __init__(
        self, folder: Path, config: Config, clock: Clock, settled_seconds: float = SETTLED_SECONDS
    ) -> None:
        self._folder, self._config, self._clock = folder, config, clock
        self._settled_seconds = settled_seconds
        self._files: dict[str, _File] = {}
        self._vanished_reported = False

    def remember(self, refs: list[str]) -> None:
        """Names of task files known from before this start: their absence counts as a deletion too."""
        now = self._clock.monotonic()
        for ref in refs:
            self._files.setdefault(ref, _File(look=(0, 0, 0), since=now, read=True, key=Path(ref).stem))

    @property
    def settled(self) -> bool:
        """Whether every file has been read, and no deletion waits to be counted."""
        put_off = self._vanished_reported
        return all(file.read and (file.absent_since is None or put_off) for file in self._files.values())

    def look_again(self, refs: list[str]) -> None:
        """Offer every file once more, and every absence: what was told could not be kept."""
        for file in self._files.values():
            file.read = False
        self.remember(refs)

    def poll(self) -> TrackerNews:
        now = self._clock.monotonic()
        listing = self._list()
        if listing is None:
            return self._vanished([], "the folder tasks/ is not there")
        read = 0
        drafts: list[Draft] = []
        problems: list[Problem] = []
        for name, look in listing.items():
            known = self._files.get(name)
            if known is None or known.look != look:
                self._files[name] = _File(look=look, since=now, key=known.key if known else None)
                continue
            known.absent_since, known.held = None, False
            if known.read or now - known.since < self._settled_seconds or read >= MAX_READ_AT_ONCE:
                continue
            read += 1
            known.read = True
            try:
                draft = read_draft(self._folder, name, self._config)
                known.key = Path(name).stem
                drafts.append(draft)
            except ProtocolError as error:
                problems += [dataclasses.replace(problem, file=f"tasks/{name}") for problem in error.problems]
            except FileNotFoundError:
                known.read = False
        return self._with_gone(TrackerNews(drafts=tuple(drafts), problems=tuple(problems)), set(listing), now)

    def _list(self) -> dict[str, tuple[int, int, int]] | None:
        try:
            with os.scandir(self._folder) as entries:
                return {
                    entry.name: (stat.st_ino, stat.st_size, stat.st_mtime_ns)
                    for entry in entries
                    if is_task_file(entry.name) and (stat := entry.stat(follow_symlinks=False))
                }
        except OSError:
            return None

    def _with_gone(self, news: TrackerNews, present: set[str], now: float) -> TrackerNews:
        missing = [name for name in self._files if name not in present]
        for name in missing:
            file = self._files[name]
            file.absent_since = file.absent_since or now
        fresh = [n for n in missing if self._files[n].key is not None and not self._files[n].held]
        known = sum(not file.held for file in self._files.values())
        if len(fresh) > 1 and len(fresh) * 2 > known:
            for name in fresh:
                self._files[name].held = True
            vanished = self._vanished(fresh, f"{len(fresh)} of {known} task files vanished together")
            return TrackerNews(drafts=news.drafts, problems=(*news.problems, *vanished.problems))
        self._vanished_reported = False
        gone = []
        for name in missing:
            file = self._files[name]
            if file.held:
                continue
            if now - (file.absent_since or now) < self._config.timing.deletion_grace_seconds:
                continue
            del self._files[name]
            if file.key is not None:
                gone.append(file.key)
        return TrackerNews(drafts=news.drafts, gone=tuple(gone), problems=news.problems)

    def _vanished(self, missing: list[str], what: str) -> TrackerNews:
        if self._vanished_reported:
            return TrackerNews()
        self._vanished_reported = True
        problem = Problem(
            code="E_TASKS_VANISHED",
            message=f"{what}; no task is cancelled for that",
            file=str(self._folder),
            mend="put the files back, or cancel tasks with `cloud-code task cancel`",
        )
        return TrackerNews(problems=(problem,))


def is_task_file(name: str) -> bool:
    """YAML files, whatever their suffix; an editor's temporary and backup files are not."""
    return name.endswith((SUFFIX, ".yml")) and not name.startswith((".", "#"))


def read_draft(folder: Path, name: str, config: Config) -> Draft:
    """The draft that this task file makes; raises ProtocolError with everything wrong with it."""
    shown = f"tasks/{name}"
    stem, suffix = Path(name).stem, Path(name).suffix
    if suffix != SUFFIX:
        raise _refused("E_SUFFIX", f"the file ends in {suffix}", shown, "", f"the name {stem}{SUFFIX}")
    try:
        check_stem(stem)
    except ValueError as error:
        raise _refused("E_NAME", str(error), shown, "", "a file name such as fix-login.yaml") from None
    data = read_file(folder, name).data
    text = decode(TaskFile, data, file=shown, limits=TASK_FILE_LIMITS)
    project = _project_of(text, config, shown)
    _check_names(text, project, config, shown)
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
        raise _refused("E_NO_PROJECT", "the file names no project", shown, "project", f"project: one of {names}")
    if text.project not in config.projects:
        message = f"there is no project '{text.project}' in config.yaml"
        raise _refused("E_UNKNOWN_PROJECT", message, shown, "project", f"one of {names}")
    return text.project


def _check_names(text: TaskFile, project: str, config: Config, shown: str) -> None:
    kind, types = text.specialist, config.types_for(project)
    if kind is None or kind in types:
        return
    message = f"there is no workstation type '{kind}' in config.yaml"
    if kind in config.workstations:
        domain = config.projects[project].trust_domain
        message = f"the workstation type '{kind}' does not serve the trust domain '{domain}' of {project}"
    raise _refused("E_UNKNOWN_SPECIALIST", message, shown, "specialist", f"one of {', '.join(types)}")


def _refused(code: str, message: str, file: str, place: str, expected: str) -> ProtocolError:
    return ProtocolError(Problem(code=code, message=message, file=file, place=place, expected=expected))
