"""Hand-over packets: what attempts left to read, gathered from their folders for whoever goes on."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

from agent_daemon.packet import TAIL_BYTES, Chapter, render_packet
from agent_daemon.protocol.codec import decode_framed
from agent_daemon.protocol.errors import ProtocolError
from agent_daemon.protocol.files import make_folder, read_file, write_file
from agent_daemon.protocol.model import Reporting, TaskReport
from agent_daemon.protocol.paths import REPORTING, Root
from supervisor.core.chain import run_so_far
from supervisor.core.decision import Prepare
from supervisor.core.record import Attempt, TaskRecord
from supervisor.core.tasking import HANDOVER
from supervisor.tail import GrowingFile

_LOGS = ("transcript.log", "cli.log")
MAX_FILE_BYTES = 256 * 1024


@dataclass(frozen=True, kw_only=True)
class Told:
    """One attempt as a packet tells of it, for programs."""

    attempt: int
    cli: str
    model: str | None
    role: str
    workstation: str
    session: str | None
    started_at: datetime
    ended_at: datetime | None
    verdict: str
    code: str
    why: str
    places: tuple[str, ...]


def compose_packet(
    root: Root, task: TaskRecord, attempts: Sequence[Attempt], *, whole: bool, start_commit: str | None = None
) -> str:
    """The packet about these attempts. What is not there any more, or cannot be read, is left out.

    `start_commit`: where whoever reads it starts.
    """
    chapters = [_chapter(root, task, attempt, start_commit) for attempt in attempts]
    return render_packet(task.id, chapters, task.acceptance_criteria, whole=whole)


def lay_packet(root: Root, task: TaskRecord, job: Prepare, start_commit: str | None) -> None:
    """Write the packet for the attempt that is being made ready into its mail; nothing for the first of a run."""
    attempts = run_so_far(task)
    if not attempts:
        return
    folder = root.attempt_in(job.workstation, task.id, job.attempt)
    text = compose_packet(root, task, attempts, whole=task.unstuck, start_commit=start_commit)
    make_folder(folder)
    write_file(folder / HANDOVER, text.encode())


def read_packet(root: Root, task: TaskRecord, attempt: Attempt) -> str | None:
    """The packet that an attempt was given, as long as it lies in its mail."""
    with suppress(FileNotFoundError):
        found = read_file(
            root.mail_in(attempt.workstation),
            f"{task.id}/{attempt.number}/{HANDOVER}",
            max_bytes=MAX_FILE_BYTES,
        )
        return found.data.decode(errors="replace")
    return None


def told_of(root: Root, task: TaskRecord, attempt: Attempt) -> Told:
    return Told(
        attempt=attempt.number,
        cli=attempt.cli,
        model=attempt.model,
        role=attempt.role,
        workstation=attempt.workstation,
        session=attempt.session,
        started_at=attempt.started_at,
        ended_at=attempt.ended_at,
        verdict=attempt.verdict or "under way",
        code=attempt.code,
        why=attempt.why,
        places=_places(root, task, attempt, None),
    )


def _chapter(root: Root, task: TaskRecord, attempt: Attempt, start_commit: str | None) -> Chapter:
    report = _report(root, task, attempt)
    verdict = attempt.verdict or "under way"
    return Chapter(
        attempt=attempt.number,
        cli=attempt.cli,
        model=attempt.model or (report.usage.model if report is not None else None),
        role=attempt.role,
        workstation=attempt.workstation,
        session=attempt.session,
        began=attempt.started_at,
        ended=attempt.ended_at,
        end=f"{verdict}, {attempt.code}" if attempt.code and attempt.code != verdict else verdict,
        why=attempt.why,
        report=report,
        transcript=_transcript(root, task, attempt),
        places=_places(root, task, attempt, start_commit),
    )


def _places(root: Root, task: TaskRecord, attempt: Attempt, start_commit: str | None) -> tuple[str, ...]:
    """Where an attempt's work lies."""
    head, places = attempt.bundle_head, []
    if attempt.pushed_head is not None:
        places.append(f"pushed to {attempt.branch} as {attempt.pushed_head[:12]}")
    if attempt.saved_in == "salvage" and head is not None:
        places.append(f"its work is saved as commit {head[:12]} in {root.salvaged(task.id, attempt.number)}")
    if attempt.saved_in == "nothing":
        places.append("it left no work")
    if head is not None and head == start_commit:
        places.append("the worktree starts from its work")
    if attempt.save_error is not None:
        places.append(f"its work could not be saved: {attempt.save_error}")
    return tuple(places)


def _report(root: Root, task: TaskRecord, attempt: Attempt) -> TaskReport | None:
    name = f"{task.id}/{attempt.number}/{REPORTING}"
    try:
        reporting = decode_framed(Reporting, read_file(root.mail_out(attempt.workstation), name).data, file=name)
    except (OSError, ProtocolError):
        return None
    found = reporting.tasks.get(task.id)
    return found if found is not None and found.attempt == attempt.number else None


def _transcript(root: Root, task: TaskRecord, attempt: Attempt) -> str:
    """The end of what its CLI said and did; an agent can bend the file, which is read as such."""
    for name in _LOGS:
        relative = f"{task.id}/{attempt.number}/logs/{name}"
        with (
            suppress(OSError, ProtocolError),
            GrowingFile(root.mail_out(attempt.workstation), relative, TAIL_BYTES) as file,
        ):
            text = file.read().decode(errors="replace")
            if text.strip():
                return text
    return ""
