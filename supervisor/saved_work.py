"""Work that was saved from ended attempts, for people: listed, looked at, given back."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from agent_daemon.protocol.errors import ProtocolError
from agent_daemon.protocol.paths import Root, is_task_id
from supervisor.core.record import Attempt, TaskRecord
from supervisor.errors import CloudCodeError
from supervisor.git.quarantine import import_bundle
from supervisor.git.request import SALVAGE_LIMITS, Imported, ImportRequest
from supervisor.git.salvaged import (
    SavedFile,
    changed_files,
    check_out,
    fetch_branch,
    is_too_large,
    make_clone,
    repository_of,
    uncommitted_parent,
)
from supervisor.jobs.project import Project, import_grounds


@dataclass(frozen=True, kw_only=True)
class SavedRow:
    """One bundle in `state/salvage/`; what its task's record says is empty where that cannot be read."""

    task: str
    attempt: int
    size_bytes: int
    saved_at: datetime
    path: str
    title: str = ""
    state: str = ""
    verdict: str = ""
    workstation: str = ""


@dataclass(frozen=True, kw_only=True)
class SavedWork:
    """What one bundle holds. `uncommitted`: it ends with a commit of ours, of what was uncommitted.

    `earlier` are bundles of the same attempt, from before somebody touched its worktree.
    """

    task: str
    attempt: int
    path: str
    size_bytes: int
    base: str
    head: str
    commits: tuple[tuple[str, str], ...]
    uncommitted: bool
    files: tuple[SavedFile, ...]
    files_total: int
    earlier: tuple[str, ...] = ()


def saved_rows(root: Root, find: Callable[[str], TaskRecord | None], only: str | None = None) -> list[SavedRow]:
    """All saved work, or that of one task; by task, then by attempt."""
    rows = []
    for task_id in [only] if only else _names(root.salvage):
        if not is_task_id(task_id):
            continue
        numbers = [int(n.removesuffix(".bundle")) for n in _names(root.salvage / task_id) if _is_bundle(n)]
        try:
            task = find(task_id) if numbers else None
        except ProtocolError:
            task = None
        rows += [row for number in sorted(numbers) if (row := _row(root, task_id, number, task)) is not None]
    return rows


def _row(root: Root, task_id: str, number: int, task: TaskRecord | None) -> SavedRow | None:
    path = root.salvaged(task_id, number)
    attempt = task.attempt_number(number) if task is not None else None
    try:
        status = path.lstat()
    except FileNotFoundError:
        return None
    return SavedRow(
        task=task_id,
        attempt=number,
        size_bytes=status.st_size,
        saved_at=datetime.fromtimestamp(status.st_mtime, UTC),
        path=str(path),
        title=task.title if task else "",
        state=task.state.value if task else "",
        verdict=(attempt.verdict or "") if attempt else "",
        workstation=attempt.workstation if attempt else "",
    )


def _names(folder: Path) -> list[str]:
    try:
        return sorted(entry.name for entry in folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def _is_bundle(name: str) -> bool:
    number, _, rest = name.partition(".")
    return rest == "bundle" and number.isdecimal() and number != "0"


def choose(root: Root, task: TaskRecord, number: int | None) -> Attempt:
    """The attempt whose saved work is meant: this one, or the newest that has any. E_NO_SALVAGE, E_NO_ATTEMPT."""
    saved = [a for a in task.attempts if root.salvaged(task.id, a.number).is_file()]
    shown = ", ".join(str(a.number) for a in saved)
    if number is None and saved:
        return saved[-1]
    if number is not None and task.attempt_number(number) is None:
        had = f"it has had {task.attempt}" if task.attempt else "none has been made yet"
        raise CloudCodeError("E_NO_ATTEMPT", f"{task.id} has no attempt {number}: {had}.")
    attempt = next((a for a in saved if a.number == number), None)
    if attempt is not None:
        return attempt
    if saved:
        mend = f"There is work of attempt {shown}."
    else:
        mend = f"Pushed work is on its branch; `cloud-code task show {task.id}` says what became of each attempt."
    which = f"attempt {number} of {task.id}" if number is not None else f"{task.id}"
    raise CloudCodeError("E_NO_SALVAGE", f"No saved work of {which} lies in {root.salvage / task.id}.", mend)


@contextmanager
def opened(root: Root, project: Project, task: TaskRecord, attempt: Attempt) -> Iterator[Imported]:
    """The bundle unpacked into a throw-away repository and checked, as when it was saved. Rejected, GitError."""
    bundle = root.salvaged(task.id, attempt.number)
    if not project.mirror.path.is_dir():
        raise CloudCodeError(
            "E_NO_SALVAGE",
            f"{bundle} builds on commits of {project.mirror.path}, which is not there.",
            f"In any clone that has {attempt.base_commit}: git fetch {bundle} 'refs/heads/*:refs/salvage/*'",
        )
    with tempfile.TemporaryDirectory(prefix="cloud-code-salvage-") as folder:
        yield import_bundle(
            ImportRequest(
                quarantine=Path(folder) / "scratch.git",
                bundle=bundle,
                claimed_head=attempt.bundle_head,
                purpose="salvage",
                limits=SALVAGE_LIMITS,
                **import_grounds(root, project, task, attempt),
            )
        )


def look(root: Root, project: Project, task: TaskRecord, attempt: Attempt) -> SavedWork:
    """What an attempt's saved work holds."""
    path = root.salvaged(task.id, attempt.number)
    with opened(root, project, task, attempt) as imported:
        git_dir = imported.quarantine
        files, total = changed_files(git_dir, imported.base, imported.head)
        loose = uncommitted_parent(git_dir, imported.head) is not None
        commits = [(commit.sha, commit.subject) for commit in imported.commits]
        return SavedWork(
            task=task.id,
            attempt=attempt.number,
            path=str(path),
            size_bytes=path.stat().st_size,
            base=imported.base,
            head=imported.head,
            commits=tuple(commits[:-1] if loose else commits),
            uncommitted=loose,
            files=files,
            files_total=total,
            earlier=tuple(str(p) for p in sorted(path.parent.glob(f"{attempt.number}.earlier-*.bundle"))),
        )


def restore(
    root: Root,
    project: Project,
    task: TaskRecord,
    attempt: Attempt,
    *,
    into: Path | None,
    branch: str,
    folder: Path | None,
) -> str:
    """Give saved work back: as a branch of the repository `into`, in a new `folder`, or both; what was done.

    CloudCodeError: E_RESTORE, E_RESTORE_TOO_LARGE, E_NO_REPOSITORY; Rejected, GitError.
    """
    for place in (into, folder):
        _refuse_own_folders(root, place)
    if folder is not None and (folder.is_symlink() or (folder.exists() and any_entry(folder))):
        raise CloudCodeError("E_RESTORE", f"{folder} is not empty.", "Name a folder that does not exist yet.")
    with opened(root, project, task, attempt) as imported:
        loose = uncommitted_parent(imported.quarantine, imported.head) is not None
        if folder is not None and is_too_large(imported.quarantine, imported.base, imported.head):
            raise CloudCodeError(
                "E_RESTORE_TOO_LARGE",
                "The work would lay out more than 50,000 changed files, or more than 4 GiB of them.",
                "Give --into CLONE without --folder: that makes the branch and writes no file; look at it with "
                f"`git ls-tree`. The bundle itself is {root.salvaged(task.id, attempt.number)}.",
            )
        if into is not None:
            repository = repository_of(into)
        elif folder is not None:
            repository = make_clone(folder, project.host.url())
        else:
            raise CloudCodeError("E_RESTORE", "It is not said where to.", "Give --into CLONE or --folder FOLDER.")
        fetch_branch(repository, imported.quarantine, branch)
        if folder is not None:
            check_out(repository, branch, folder)
    where = f"in {folder}, on the branch {branch}" if folder is not None else f"the branch {branch} of {into}"
    if not loose:
        return f"The work of attempt {attempt.number} of {task.id} is {where}."
    rest = "what was uncommitted is so again" if folder is not None else "its last commit is what was uncommitted"
    return f"The work of attempt {attempt.number} of {task.id} is {where}; {rest}."


def any_entry(folder: Path) -> bool:
    return not folder.is_dir() or next(folder.iterdir(), None) is not None


def _refuse_own_folders(root: Root, place: Path | None) -> None:
    """Git of ours never runs where agents write, and nobody's files belong into the root."""
    if place is not None and place.resolve().is_relative_to(root.path.resolve()):
        raise CloudCodeError(
            "E_RESTORE", f"{place} lies in the root {root.path}.", "Name a folder of your own, outside of it."
        )
