"""What the agent told while it works, taken from `notes/` into the report, each file once.

The report names the files whose content it has, so that a daemon that starts again takes none twice. Files stay
where they are, for people; one that is written again under its name is not read again.
"""

import itertools
import os
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from loguru import logger

from agent_daemon.attempt import Attempt
from agent_daemon.protocol.codec import decode_framed
from agent_daemon.protocol.errors import ProtocolError
from agent_daemon.protocol.files import read_file
from agent_daemon.protocol.model import (
    BlockedReason,
    CredentialRequest,
    Criterion,
    TaskReport,
    WaitReason,
)
from agent_daemon.protocol.notes import MAX_NOTE_BYTES, MAX_NOTES, MAX_NOTES_BYTES, NOTE_NAME, Note
from agent_daemon.protocol.paths import NOTES

LOOK_SECONDS = 0.3
# A file that cannot be read is given so long: whoever writes it may not have finished.
PATIENCE_SECONDS = 2.0
_MAX_LISTED = 1000
# Stand among the names of files that were taken, for what is told once; no file is called so.
_ODD, _NO_FOLDER, _FULL = "an odd name", "no folder", "too many"

Fields = dict[str, Any]


def take_notes(attempt: Attempt, *, last: bool = False) -> None:
    """Tell what is new in the attempt's notes; `last`: nobody is writing any more. Never raises."""
    taken = set(attempt.known.notes_taken)
    if _FULL in taken:
        return
    try:
        names = list(_listed(attempt.places.notes))
    except OSError as error:
        logger.warning("the notes of {} are not read: {}", attempt.task.id, error)
        return
    for name in names:
        if name in taken:
            continue
        mark, fields, said = _read(attempt, name, taken, last)
        if mark and mark not in taken:
            taken.add(mark)
            attempt.know({"notes_taken": (*attempt.known.notes_taken, mark), **fields}, said)


def forget_what_it_waits_for(attempt: Attempt) -> None:
    """What an agent asked before its task was changed is not asked any more."""
    if attempt.known.blocked_reason is not None or attempt.known.recommend_handoff is not None:
        attempt.know({"blocked_reason": None, "question": None, "recommend_handoff": None}, None)


def _listed(folder: Path) -> Iterator[str]:
    """The names in the folder, in order; of very many only some. A link is no folder."""
    try:
        if not stat.S_ISDIR(os.lstat(folder).st_mode):
            yield _NO_FOLDER
            return
    except FileNotFoundError:
        return
    with os.scandir(folder) as entries:
        names = [entry.name for entry in itertools.islice(entries, _MAX_LISTED)]
    yield from sorted(name for name in names if not name.startswith("."))


def _read(attempt: Attempt, name: str, taken: set[str], last: bool) -> tuple[str, Fields, str]:
    """How the file is remembered, what it changes in the report, what is told of it; no mark: not yet."""
    if name == _NO_FOLDER:
        return _NO_FOLDER, {}, f"Notes are not read: {NOTES} is no folder any more"
    if not NOTE_NAME.fullmatch(name):
        return _ODD, {}, f"A note is not taken: a file in {NOTES}/ has a name that is not allowed"
    if len(taken) >= MAX_NOTES:
        return _FULL, {}, f"More than {MAX_NOTES} notes: the rest is not read"
    try:
        data = read_file(attempt.places.outbox, f"{NOTES}/{name}", max_bytes=MAX_NOTE_BYTES).data
        note = decode_framed(Note, data, file=name)
    except FileNotFoundError:
        return "", {}, ""
    except (ProtocolError, OSError) as error:
        if not last and _is_fresh(attempt.places.notes / name):
            return "", {}, ""
        why = error.problem if isinstance(error, ProtocolError) else error
        return name, {}, attempt.mask.hide(f"A note is not taken: {why}")
    hidden = {key: attempt.mask.hide(value) for key, value in note if isinstance(value, str) and key != "kind"}
    fields, said = fold(attempt.known, note.model_copy(update=hidden))
    if fields and _told_bytes(attempt.known.model_copy(update=fields)) > MAX_NOTES_BYTES:
        return name, {}, f"A note is not taken: all notes have more than {MAX_NOTES_BYTES // 1024} KiB"
    return name, fields, said


def _is_fresh(path: Path) -> bool:
    try:
        return 0 <= time.time() - os.lstat(path).st_mtime < PATIENCE_SECONDS
    except OSError:
        return False


def _told_bytes(report: TaskReport) -> int:
    """What a report repeats of notes each time it is written."""
    requests = ((request.scope, request.reason) for request in report.credential_requests)
    evidence = (criterion.evidence for criterion in report.acceptance_criteria)
    texts = itertools.chain(report.decisions, evidence, *requests)
    return sum(len(text.encode(errors="replace")) for text in texts)


def fold(report: TaskReport, note: Note) -> tuple[Fields, str]:
    """The report's fields that a note changes, and what is told of it. Pure."""
    return _FOLD[note.kind](report, note)


def _note(report: TaskReport, note: Note) -> tuple[Fields, str]:
    return {}, note.text


def _decision(report: TaskReport, note: Note) -> tuple[Fields, str]:
    return {"decisions": (*report.decisions, note.text.strip())}, f"Decided: {note.text}"


def _criterion(report: TaskReport, note: Note) -> tuple[Fields, str]:
    number, known = note.number or 0, report.acceptance_criteria
    if not 1 <= number <= len(known):
        return {}, f"A note is not taken: it is about criterion {number}, and the task has {len(known)}"
    status = "done" if note.status == "done" else "pending"
    met = Criterion(criterion=known[number - 1].criterion, status=status, evidence=note.text.strip())
    said = f"Criterion {number} is {'done' if status == 'done' else 'left'}" + (f": {note.text}" * bool(note.text))
    return {"acceptance_criteria": (*known[: number - 1], met, *known[number:])}, said


def _credential(report: TaskReport, note: Note) -> tuple[Fields, str]:
    wanted = CredentialRequest(
        id=f"cred-{len(report.credential_requests) + 1:03d}",
        type=note.type or "",
        access=note.access or "read",
        scope=note.scope or "",
        reason=note.text.strip(),
    )
    scope = f" for {wanted.scope}" if wanted.scope else ""
    said = f"Asks for a credential ({wanted.id}): {wanted.type}, {wanted.access}{scope}: {wanted.reason}"
    return {"credential_requests": (*report.credential_requests, wanted)}, said


def _blocked(report: TaskReport, note: Note) -> tuple[Fields, str]:
    reason = WaitReason(note.reason or WaitReason.HUMAN)
    ref = next((request.id for request in report.credential_requests[::-1]), None)
    asked = BlockedReason(reason=reason, ref=ref if reason is WaitReason.CREDENTIAL else None)
    return _waits(asked, note.text.strip()), f"Cannot go on ({reason.value}): {note.text}"


def _handoff(report: TaskReport, note: Note) -> tuple[Fields, str]:
    said = f"Asks that {note.to} takes over" + (f": {note.text}" if note.text.strip() else "")
    asked = BlockedReason(reason=WaitReason.HANDOFF, ref=note.to)
    return _waits(asked, said) | {"recommend_handoff": note.to}, said


def _specialist(report: TaskReport, note: Note) -> tuple[Fields, str]:
    said = f"Asks for the {note.to} specialist: {note.text}"
    return _waits(BlockedReason(reason=WaitReason.HUMAN, ref=note.to), said), said


def _waits(reason: BlockedReason, question: str) -> Fields:
    return {"blocked_reason": reason, "question": question, "blockers": (question,), "recommend_handoff": None}


_FOLD: dict[str, Callable[[TaskReport, Note], tuple[Fields, str]]] = {
    "note": _note,
    "decision": _decision,
    "criterion": _criterion,
    "credential": _credential,
    "blocked": _blocked,
    "handoff": _handoff,
    "specialist": _specialist,
}
