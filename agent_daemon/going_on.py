"""How a run of the coding CLI goes on from what was before: in its session, or with a packet of what was done."""

import os
import stat
from pathlib import Path

from loguru import logger

from agent_daemon import handover
from agent_daemon.attempt import Attempt
from agent_daemon.git import GitError
from agent_daemon.packet import TAIL_BYTES, Chapter, render_packet
from agent_daemon.protocol.errors import ProtocolError
from agent_daemon.protocol.files import read_file
from agent_daemon.protocol.model import TaskReport

_LOGS = ("transcript.log", "cli.log")
# Of the supervisor's page; it writes a smaller one.
_MAX_FILE_BYTES = 256 * 1024


def session_to_resume(attempt: Attempt) -> str | None:
    """The session of an earlier run of this attempt, or of the attempt before."""
    known = attempt.known.session
    return (
        known.id if known is not None and known.cli == attempt.config.cli.name else attempt.config.resume_session
    )


def packet_for(attempt: Attempt, session: str | None) -> str:
    """What a new session is told of what was done before; empty for a resumed one, which knows, and at first."""
    if session is not None:
        return ""
    own = _earlier_runs(attempt) if attempt.resumed else ""
    return "\n".join(part for part in (own, _earlier_attempts(attempt)) if part)


def _earlier_attempts(attempt: Attempt) -> str:
    """The page that the supervisor has laid into the attempt's mail."""
    name = attempt.task.context.handoff
    if name is None:
        return ""
    try:
        return read_file(attempt.places.inbox, name, max_bytes=_MAX_FILE_BYTES).data.decode(errors="replace")
    except (OSError, ProtocolError) as error:
        logger.warning("{} of {} is not read: {}", name, attempt.task.id, error)
        return ""


def _earlier_runs(attempt: Attempt) -> str:
    """The same about the runs of this very attempt that were interrupted, as they lie in its folder."""
    cli, report = attempt.config.cli, _with_changes(attempt)
    transcript = next(filter(None, (_tail(attempt.places.logs / name) for name in _LOGS)), "")
    if not (transcript or report.files_modified or report.decisions):
        return ""
    chapter = Chapter(
        attempt=attempt.task.attempt,
        cli=cli.name,
        model=cli.model,
        end="interrupted; this is the same attempt, in a new session",
        report=report,
        transcript=transcript,
        places=("the worktree is as it was left",),
    )
    return render_packet(attempt.task.id, [chapter], attempt.task.acceptance_criteria)


def _with_changes(attempt: Attempt) -> TaskReport:
    worktree, task = attempt.places.worktree, attempt.task
    try:
        base = handover.result_base(worktree, task.base_branch, task.base_commit)
        return attempt.known.model_copy(update=handover.changes(worktree, base).hidden_by(attempt.mask))
    except (GitError, OSError) as error:
        logger.warning("what {} has changed so far is not known: {}", task.id, error)
        return attempt.known


def _tail(log: Path) -> str:
    """The end of a log; of whatever else an agent has put in its place, nothing."""
    try:
        descriptor = os.open(log, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            return ""
        return os.pread(descriptor, TAIL_BYTES, max(0, status.st_size - TAIL_BYTES)).decode(errors="replace")
    finally:
        os.close(descriptor)
