"""The host's side of `mail/`: writes what the workstations are told, takes in what they report."""

import contextlib
import dataclasses
import hashlib
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from agent_daemon.protocol.codec import decode, decode_framed, encode
from agent_daemon.protocol.errors import Problem, ProtocolError
from agent_daemon.protocol.files import (
    Signature,
    look_beneath,
    make_folder,
    read_file,
    ring,
    signature,
    signature_of,
    write_file,
)
from agent_daemon.protocol.model import (
    UNDERSTOOD,
    AgentConfig,
    Cleanup,
    CleanupReport,
    Feedback,
    FeedbackFile,
    Reporting,
    Tasking,
    TaskingStatus,
    TaskReport,
    WorkstationFile,
)
from agent_daemon.protocol.paths import CLEANUP_DONE, CLEANUP_WANTED, NAME, Root
from agent_daemon.protocol.yaml_reader import clip

# A file written less than this before it was read may change again without a visible trace (design §3).
FRESH_SECONDS = 0.05

# Stands before a tasking that `hold` wrote, with the digest of what follows: it is told from an edit by that.
_HELD = "# held, for the record of this task is damaged: "


class Box(NamedTuple):
    """One attempt's place in the mail."""

    workstation: str
    task_id: str
    attempt: int

    @property
    def relative(self) -> str:
        return f"{self.task_id}/{self.attempt}"


@dataclass(frozen=True, kw_only=True)
class Taken:
    """A report that changed since the last sweep: its content, or why it could not be taken.

    `fell_from`: its revision is lower than one that was seen before; said once of an attempt.
    """

    box: Box
    report: TaskReport | None = None
    revision: int = 0
    fell_from: int | None = None
    problem: Problem | None = None


class Mail:
    """Reads reports by the safe read; writes taskings durably; remembers only what it last looked at."""

    def __init__(self, root: Root) -> None:
        self._root = root
        # How each report looked when it was read last; or which error (errno) kept it from being looked at.
        self._seen: dict[Box, Signature | int | None] = {}
        # What was taken of files that were too fresh for their times to tell one content from the next.
        self._taken_fresh: dict[Box, str] = {}
        self._considered: dict[Box, str] = {}
        self._revisions: dict[Box, int | None] = {}
        self._stations: dict[str, Signature | None] = {}
        self._station_paths: dict[str, Path] = {}
        self._cleanups: dict[str, Signature | None] = {}

    # --- from the workstations ---------------------------------------------------------------------

    def sweep(self, boxes: Iterable[Box]) -> Iterator[Taken]:
        """The reports among these boxes that are not as they were when last read.

        An agent can bend every path in `out/`: even a look at one never leaves that folder.
        """
        with contextlib.ExitStack() as closing:
            folders: dict[str, int | None] = {}
            for box in boxes:
                if box.workstation not in folders:
                    folders[box.workstation] = self._open_out(box.workstation, closing)
                folder = folders[box.workstation]
                taken = self._take_changed(box, folder) if folder is not None else None
                if taken is not None:
                    yield taken

    def _open_out(self, workstation: str, closing: contextlib.ExitStack) -> int | None:
        try:
            folder = os.open(self._root.mail_out(workstation), os.O_PATH | os.O_DIRECTORY)
        except OSError:
            return None
        closing.callback(os.close, folder)
        return folder

    def _take_changed(self, box: Box, folder: int) -> Taken | None:
        last = self._seen.get(box)
        try:
            found = look_beneath(folder, f"{box.relative}/reporting.yaml")
        except OSError as error:
            return self._take(box, error.errno) if last != error.errno else None
        if found is None or (isinstance(last, Signature) and _same(last, found)):
            return None
        return self._take(box, signature_of(found))

    def _take(self, box: Box, look: Signature | int | None) -> Taken | None:
        """What lies there now; None when it is, to the byte, what was taken already.

        `look` is from before it is read. What is refused is remembered so: were it looked at afterwards, a good
        report that came meanwhile would be taken for the bad one, and never be read.
        """
        name = f"{box.relative}/reporting.yaml"
        shown = f"mail/{box.workstation}/out/{name}"
        try:
            content = read_file(self._root.mail_out(box.workstation), name)
            fresh = time.time_ns() - content.signature.modified_ns < FRESH_SECONDS * 1e9
            self._seen[box] = None if fresh else content.signature
            found, known = digest(content.data), self._taken_fresh.pop(box, None)
            if fresh:
                self._taken_fresh[box] = found
            if found == known:
                return None
            reporting = decode_framed(Reporting, content.data, file=shown)
            report = own_entry(reporting, box, shown)
            fell_from = self._note_revision(box, reporting.revision)
            return Taken(box=box, report=report, revision=reporting.revision, fell_from=fell_from)
        except FileNotFoundError:
            return Taken(box=box)
        except ProtocolError as error:
            self._taken_fresh.pop(box, None)
            self._seen[box] = look if _is_settled(look) else None
            return Taken(box=box, problem=dataclasses.replace(error.problem, file=shown))
        except OSError as error:
            problem = Problem(code="E_UNREADABLE", message=f"it cannot be read: {error.strerror}", file=shown)
            return Taken(box=box, problem=problem)

    def _note_revision(self, box: Box, revision: int) -> int | None:
        """The revision seen last if this one is lower: told once, or a daemon could fill the log with it."""
        last = self._revisions.get(box, 0)
        if last is None or revision >= last:
            self._revisions[box] = None if last is None else revision
            return None
        self._revisions[box] = None
        return last

    def forget(self, box: Box) -> None:
        self._seen.pop(box, None)
        self._taken_fresh.pop(box, None)
        self._considered.pop(box, None)
        self._revisions.pop(box, None)

    def read_workstation(self, name: str) -> WorkstationFile | Problem | None:
        """The workstation's sign of life if it has changed since last asked, or why it cannot be taken."""
        path = self._station_paths.get(name)
        if path is None:
            path = self._station_paths[name] = self._root.mail_out(name) / "workstation.yaml"
        try:
            found = signature(path)
            if found is None or self._stations.get(name) == found:
                return None
            content = read_file(self._root.mail_out(name), "workstation.yaml")
            self._stations[name] = content.signature
            return decode_sign(content.data, name)
        except PermissionError as error:  # the folder itself is somebody else's
            shown = f"mail/{name}/out/workstation.yaml"
            return Problem(code="E_UNREADABLE", message=f"it cannot be read: {error.strerror}", file=shown)
        except OSError:
            return None
        except ProtocolError as error:
            return dataclasses.replace(error.problem, file=f"mail/{name}/out/workstation.yaml")

    def workstations(self) -> list[str]:
        """The workstations that have a folder in the mail, configured or not."""
        try:
            return sorted(name for name in os.listdir(self._root.mail) if NAME.fullmatch(name))
        except FileNotFoundError:
            return []

    def read_cleanup(self, name: str) -> CleanupReport | None:
        """The workstation's answer about its clean-up if it has changed since last asked and can be read."""
        try:
            found = signature(self._root.mail_out(name) / CLEANUP_DONE)
            if found is None or self._cleanups.get(name) == found:
                return None
            content = read_file(self._root.mail_out(name), CLEANUP_DONE)
            self._cleanups[name] = content.signature
            return decode_framed(CleanupReport, content.data, file=f"mail/{name}/out/{CLEANUP_DONE}")
        except (OSError, ProtocolError):
            return None

    # --- to the workstations -----------------------------------------------------------------------

    def prepare_folders(self, workstation: str) -> None:
        """The folders of a workstation; those that the workstation fills stay empty here."""
        for folder in (
            self._root.mail_in(workstation),
            self._root.mail_out(workstation),
            self._root.workspace(workstation),
        ):
            make_folder(folder)
        ring(self._root.bell_in(workstation))

    def write_attempt(self, box: Box, config: AgentConfig, description: str) -> None:
        """Everything of an attempt but the tasking itself, which is written last."""
        folder = self._root.attempt_in(box.workstation, box.task_id, box.attempt)
        make_folder(folder)
        write_file(folder / "config.yaml", encode(config))
        write_file(folder / "description.md", description.encode(errors="replace"))

    def write_tasking(self, box: Box, data: bytes, ours: tuple[str, ...]) -> None:
        """`tasking.yaml`, then the bell. `ours` are digests of what we wrote there before.

        What a person has put there in this very moment, and nobody has looked at, is kept beside it.
        """
        folder = self._root.attempt_in(box.workstation, box.task_id, box.attempt)
        make_folder(folder)
        self.keep_unseen_edit(box, (*ours, digest(data)))
        write_file(folder / "tasking.yaml", data)
        ring(self._root.bell_in(box.workstation))

    def keep_unseen_edit(self, box: Box, ours: tuple[str, ...]) -> None:
        """Before a tasking goes: what lies there is kept beside it, unless it is ours (digests) or was seen."""
        found = self.read_tasking(box)
        if found is None or is_held(found):
            return
        if digest(found) not in (*ours, self._considered.get(box)):
            self.reject_tasking(box, found, "The task changed in the same moment: look at it, then edit again.")

    def write_cleanup(self, name: str, cleanup: Cleanup) -> None:
        """What a workstation is to remove of ended tasks."""
        path = self._root.mail_in(name) / CLEANUP_WANTED
        make_folder(path.parent)
        write_file(path, encode(cleanup))
        ring(self._root.bell_in(name))

    def asked_cleanup(self, name: str) -> Cleanup | None:
        """What it was asked last; None when that was nothing, or nobody can read it any more."""
        try:
            data = read_file(self._root.mail_in(name), CLEANUP_WANTED).data
            return decode(Cleanup, data, file=f"mail/{name}/in/{CLEANUP_WANTED}")
        except (FileNotFoundError, ProtocolError):
            return None

    def write_feedback(self, box: Box, items: tuple[Feedback, ...], revision: int) -> None:
        folder = self._root.attempt_in(box.workstation, box.task_id, box.attempt)
        document = FeedbackFile(revision=revision, items=items)
        write_file(folder / "feedback.yaml", encode(document))
        ring(self._root.bell_in(box.workstation))

    def read_tasking(self, box: Box) -> bytes | None:
        """The bytes of the tasking as they lie there now, for telling a person's edit; None when absent.

        Something else than a file in its place reads as empty, which no tasking is.
        """
        try:
            return read_file(self._root.mail_in(box.workstation), f"{box.relative}/tasking.yaml").data
        except FileNotFoundError:
            return None
        except ProtocolError:
            return b""

    def consider(self, box: Box, data: bytes) -> None:
        """A person's edit has been looked at: it may be written over now."""
        self._considered[box] = digest(data)

    def hold(self, task_id: str) -> None:
        """Pause the attempts of a task that nobody can answer for: its record is damaged."""
        for path in sorted(self._root.mail.glob(f"*/in/{task_id}/*/tasking.yaml")):
            try:
                tasking = decode_tasking(path.read_bytes(), str(path))
            except (ProtocolError, OSError):
                continue
            if tasking.task.status is not TaskingStatus.ASSIGNED:
                continue
            paused = tasking.task.model_copy(update={"status": TaskingStatus.PAUSED})
            held = tasking.model_copy(update={"revision": tasking.revision + 1, "tasks": (paused,)})
            data = encode_tasking(held, self._root)
            write_file(path, f"{_HELD}{digest(data)}\n".encode() + data)
            ring(self._root.bell_in(path.parents[2].parent.name))

    def reject_tasking(self, box: Box, data: bytes, reason: str) -> None:
        """Keep a person's edit that could not be taken, with one sentence why."""
        folder = self._root.attempt_in(box.workstation, box.task_id, box.attempt)
        comment = "".join(f"# {line}\n" for line in reason.splitlines())
        write_file(folder / "tasking.yaml.rejected", comment.encode() + data)

    def tasking_signature(self, box: Box) -> Signature | None:
        return signature(self._root.attempt_in(box.workstation, box.task_id, box.attempt) / "tasking.yaml")

    def tasking_path(self, box: Box) -> str:
        return str(self._root.attempt_in(box.workstation, box.task_id, box.attempt) / "tasking.yaml")


def decode_sign(data: bytes, workstation: str) -> WorkstationFile:
    """A workstation's sign of life; ProtocolError, also when it is another one's."""
    file = f"mail/{workstation}/out/workstation.yaml"
    sign = decode_framed(WorkstationFile, data, file=file)
    if sign.agent_id != workstation:
        raise ProtocolError(
            Problem(
                code="E_WRONG_WORKSTATION",
                message=f"the sign of life is that of {clip(sign.agent_id)}",
                file=file,
                place="agent_id",
                expected=workstation,
                mend="let each workstation write in its own folder only",
            )
        )
    return sign


def encode_tasking(tasking: Tasking, root: Root) -> bytes:
    """The file's bytes, with its schema named for the editor of a person who changes it."""
    return encode(tasking, schema=str(root.schemas / "tasking.schema.json"))


def decode_tasking(data: bytes, file: str) -> Tasking:
    return decode(Tasking, data, file=file, understood=UNDERSTOOD)


def is_held(data: bytes) -> bool:
    """Whether this tasking is as `Mail.hold` wrote it, and no person's edit."""
    line, _, rest = data.partition(b"\n")
    return line == f"{_HELD}{digest(rest)}".encode()


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def feedback_of(problem: Problem, at: datetime) -> Feedback:
    """A problem as the workstation is told of it."""
    return Feedback(
        code=problem.code,
        message=problem.message,
        file=problem.file,
        line=problem.line,
        place=problem.place[:1000],
        expected=problem.expected,
        mend=problem.mend or f"write the file again (noticed at {at:%H:%M:%S} UTC)",
    )


def _is_settled(look: Signature | int | None) -> bool:
    """Whether a change since would show: times tell, or what stands there cannot be looked at at all."""
    if isinstance(look, Signature):
        return time.time_ns() - look.modified_ns > FRESH_SECONDS * 1e9
    return look is not None


def _same(last: Signature, found: os.stat_result) -> bool:
    return (last.inode, last.size, last.modified_ns, last.changed_ns, last.device) == (
        found.st_ino,
        found.st_size,
        found.st_mtime_ns,
        found.st_ctime_ns,
        found.st_dev,
    )


def own_entry(reporting: Reporting, box: Box, file: str) -> TaskReport:
    """The entry of this box; a report that speaks of another task or attempt is not taken."""
    entry = reporting.tasks.get(box.task_id)
    if entry is None or entry.attempt != box.attempt:
        found = (
            ", ".join(f"{task} attempt {report.attempt}" for task, report in reporting.tasks.items()) or "nothing"
        )
        raise ProtocolError(
            Problem(
                code="E_WRONG_TASK",
                message=f"the report speaks of {found[:200]}",
                file=file,
                place="tasks",
                expected=f"exactly one entry: {box.task_id}, attempt {box.attempt}",
                mend="report each attempt in its own folder",
            )
        )
    return entry
