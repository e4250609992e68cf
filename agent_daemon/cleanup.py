"""What the supervisor asks to be removed of ended tasks: outputs of attempts, clones that nobody uses.

It names everything, and what it does not name stays. Beyond that nothing is removed in doubt: what is not ours,
not released, used by a process, or holds commits that are nowhere else. Folders are renamed before they are
removed, so that a removal cut short never looks like something whole.
"""

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from loguru import logger

from agent_daemon.checkout import remove_folder
from agent_daemon.clone import clone_lock
from agent_daemon.failpoints import reach
from agent_daemon.git import GitError, git_text
from agent_daemon.parting import REMOVED, StillUsedError, put_away, refuse_if_used, size_bytes
from agent_daemon.protocol.codec import decode, decode_framed, encode
from agent_daemon.protocol.errors import ProtocolError
from agent_daemon.protocol.files import Signature, make_folder, read_file, ring, signature, write_file
from agent_daemon.protocol.model import (
    Cleanup,
    CleanupDone,
    CleanupItem,
    CleanupReport,
    Reporting,
    ReportStatus,
)
from agent_daemon.protocol.paths import (
    CLEANUP_DONE,
    CLEANUP_WANTED,
    REPORTING,
    TASKING,
    Root,
    is_project,
    is_task_id,
)
from agent_daemon.reclaiming import reclaim


class _KeptError(Exception):
    """It stays; the message says why."""


@dataclass
class Cleaner:
    """Carries out `in/cleanup/wanted.yaml` in a thread of its own, and answers in `out/cleanup/done.yaml`."""

    root: Root
    workstation: str
    _seen: Signature | None = field(default=None, init=False)
    _thread: threading.Thread | None = field(default=None, init=False)

    def begin(self) -> None:
        """At the start, before anything is written there: what a removal that was cut short left empty goes."""
        with contextlib.suppress(OSError):
            for entry in self.root.mail_out(self.workstation).iterdir():
                if is_task_id(entry.name):
                    _remove_if_empty(entry)

    def look(self) -> None:
        """Begin with what is asked, if that is new; called from the daemon's loop."""
        found = signature(self.root.mail_in(self.workstation) / CLEANUP_WANTED)
        if found is None or found == self._seen or (self._thread is not None and self._thread.is_alive()):
            return
        self._seen = found
        self._thread = threading.Thread(target=self.run, name="clean-up", daemon=True)
        self._thread.start()

    def wait(self, timeout_seconds: float) -> None:
        """Wait for what is under way."""
        if self._thread is not None:
            self._thread.join(timeout_seconds)

    def run(self) -> None:
        """Remove what is asked for, and report each item; what cannot be read is passed over with a warning."""
        folder, out = self.root.mail_in(self.workstation), self.root.mail_out(self.workstation)
        try:
            asked = decode(Cleanup, read_file(folder, CLEANUP_WANTED).data, file=f"in/{CLEANUP_WANTED}")
            reclaim(out, self.root.workspace(self.workstation))
            self._finish_removals()
            items = tuple(self._carry_out(item) for item in asked.items)
            reach("daemon.cleaned_before_answer")
            revision = self._last_revision() + 1
            answer = CleanupReport(revision=revision, observed_revision=asked.revision, items=items)
            make_folder((out / CLEANUP_DONE).parent)
            write_file(out / CLEANUP_DONE, encode(answer, end=True))
            ring(self.root.bell_out(self.workstation))
        except (ProtocolError, FileNotFoundError) as error:
            logger.warning("in/{} is not read: {}", CLEANUP_WANTED, error)
        except OSError as error:
            logger.error("the clean-up is not reported, and done again later: {}", error)
            self._seen = None

    def clones(self) -> tuple[str, ...]:
        """The projects of which this workstation has a clone that every task of it shares."""
        folder = self.root.workspace(self.workstation)
        with contextlib.suppress(OSError):
            return tuple(sorted(e.name for e in folder.iterdir() if is_project(e.name) and (e / ".git").is_dir()))
        return ()

    def _last_revision(self) -> int:
        with contextlib.suppress(ProtocolError, FileNotFoundError):
            data = read_file(self.root.mail_out(self.workstation), CLEANUP_DONE).data
            return decode_framed(CleanupReport, data, file=f"out/{CLEANUP_DONE}").revision
        return 0

    def _carry_out(self, item: CleanupItem) -> CleanupDone:
        named = item.model_dump(include=set(CleanupItem.model_fields))
        try:
            return CleanupDone(**named, done=True, bytes=self._remove(item))
        except (_KeptError, StillUsedError, OSError, GitError, ProtocolError, TimeoutError) as error:
            logger.warning("clean-up keeps {} {}: {}", item.kind, item.task or item.project, error)
            return CleanupDone(**named, done=False, reason=" ".join(str(error).split())[:1000])

    def _remove(self, item: CleanupItem) -> int:
        """The bytes that the item took; 0 where it was gone already."""
        if item.kind == "output" and item.task and item.attempt and is_task_id(item.task):
            return self._remove_output(item.task, item.attempt)
        if item.kind == "clone" and item.project and is_project(item.project):
            return self._remove_clone(item.project)
        raise _KeptError("it is not said what it is")

    # --- outputs ------------------------------------------------------------------------------------------

    def _remove_output(self, task_id: str, attempt: int) -> int:
        folder = self.root.attempt_out(self.workstation, task_id, attempt)
        if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
            raise _KeptError(f"{folder} is no folder")
        if not folder.exists():
            return 0
        status = self._reported_status(task_id, attempt)
        if status is not ReportStatus.RELEASED:
            raise _KeptError(f"attempt {attempt} of {task_id} is {status.value}, not released")
        tasking = self.root.attempt_in(self.workstation, task_id, attempt) / TASKING
        if tasking.exists() or tasking.is_symlink():  # without a report, it would be begun anew
            raise _KeptError(f"attempt {attempt} of {task_id} is still spoken of in in/")
        taken = size_bytes(folder)
        put_away(folder)
        _remove_if_empty(folder.parent)
        return taken

    def _reported_status(self, task_id: str, attempt: int) -> ReportStatus:
        name = f"{task_id}/{attempt}/{REPORTING}"
        try:
            data = read_file(self.root.mail_out(self.workstation), name).data
        except FileNotFoundError:
            raise _KeptError(f"there is no report in out/{task_id}/{attempt}: whose is it?") from None
        entry = decode_framed(Reporting, data, file=f"out/{name}").tasks.get(task_id)
        if entry is None or entry.attempt != attempt:
            raise _KeptError(f"the report in out/{task_id}/{attempt} speaks of something else")
        return entry.status

    # --- clones -------------------------------------------------------------------------------------------

    def _remove_clone(self, project: str) -> int:
        clone = self.root.clone(self.workstation, project)
        if not clone.exists() and not clone.is_symlink():
            return 0
        with clone_lock(clone):
            for reason in _needed(clone):
                raise _KeptError(reason)
            taken = size_bytes(clone)
            put_away(clone)
            _remove_if_empty(clone.with_name(f"{project}.worktrees"))
        return taken

    def _finish_removals(self) -> None:
        """What an earlier removal was cut short of."""
        places = [self.root.workspace(self.workstation), *self.root.mail_out(self.workstation).glob("*")]
        for place in places:
            if place.is_dir() and not place.is_symlink():
                for left in place.glob(f".*{REMOVED}*"):
                    with contextlib.suppress(OSError):
                        remove_folder(left)
                        place.rmdir()  # unless something else is there


def _needed(clone: Path) -> Iterator[str]:
    """Why a clone must stay."""
    if clone.is_symlink() or not (clone / ".git").is_dir():
        yield f"{clone} is no clone"
        return
    registered = [entry.name for entry in (clone / ".git/worktrees").glob("*")]
    if registered:
        yield f"a worktree of it is registered: {registered[0]}"
    beside = clone.with_name(f"{clone.name}.worktrees")
    strangers = [e.name for e in beside.iterdir() if not e.name.startswith(".")] if beside.is_dir() else []
    if strangers:
        yield f"{beside / strangers[0]} is there, and may be a worktree of it"
    refuse_if_used(clone)
    nowhere_else = git_text("rev-list", "--max-count=1", "--all", "--not", "--remotes", folder=clone)
    if nowhere_else:
        yield f"the commit {nowhere_else[:12]} is on a branch of it, and nowhere else"


def _remove_if_empty(folder: Path) -> None:
    with contextlib.suppress(OSError):
        folder.rmdir()
