"""What every job needs to know of a project, and what any bundle of a task is held against."""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from loguru import logger

from agent_daemon.protocol.errors import Problem
from agent_daemon.protocol.model import Feedback
from agent_daemon.protocol.paths import Root
from supervisor.core.record import Attempt, TaskRecord
from supervisor.core.settings import ProjectSettings
from supervisor.git.bundle import Rejected, parse_header
from supervisor.git.mirror import Mirror
from supervisor.git.rewrite import Identity
from supervisor.ports import CodeHost, Forge, Scan


@dataclass(frozen=True, kw_only=True)
class Project:
    """What the jobs need to know of a task's project; `forge` is None where its tasks are files alone."""

    settings: ProjectSettings
    host: CodeHost
    mirror: Mirror
    forge: Forge | None = None
    scan: Scan | None = None
    hide: Callable[[str], str] = str


def hidden_text(project: Project, text: str, place: str) -> str:
    """A text that is about to leave, without what must not; that is noted in the log.

    What is found in it all the same holds it: Rejected; CloudCodeError where what to look for is not known yet.
    """
    hidden = project.hide(text)
    check_text(project, hidden.encode(errors="replace"), place)
    if hidden != text:
        logger.warning("E_SECRET_IN_OUTPUT: what must not leave is hidden in {}", place)
    return hidden


def check_text(project: Project, text: bytes, place: str) -> None:
    """Show a text that is about to leave to the project's scan; Rejected with what it finds."""
    found = project.scan(iter([text])) if project.scan is not None else None
    if found is not None:
        raise Rejected(replace(found, place=found.place or place))


def quarantine_path(root: Root, task_id: str, attempt: int) -> Path:
    return root.quarantine / f"{task_id}.{attempt}.git"


def shared_path(root: Root, task_id: str, attempt: int) -> Path:
    """Our copy of the commits of a remote branch that an attempt started from, should the branch go away."""
    return root.salvage / task_id / f"{attempt}.start.bundle"


def import_grounds(root: Root, project: Project, task: TaskRecord, attempt: Attempt) -> dict[str, Any]:
    """What any bundle of this attempt is held against."""
    shared = _shared_bundle(root, task.id, attempt) if attempt.shared_tip else None
    bot, requester = project.settings.bot, task.source.requested_by
    return {
        "mirror": project.mirror.path,
        "base_branch": attempt.base_branch,
        "base_commit": attempt.base_commit,
        "branch_url": str(shared.resolve()) if shared else None,
        "branch": attempt.shared_branch if shared else None,
        "remote_tip": attempt.shared_tip,
        "identity": Identity(
            bot_name=bot.name, bot_email=bot.email, coauthors=(requester,) if "<" in requester else ()
        ),
    }


def _shared_bundle(root: Root, task_id: str, attempt: Attempt) -> Path | None:
    """Our copy of the branch that this attempt or the one whose work it goes on with began from."""
    for number in range(attempt.number, 0, -1):
        path = shared_path(root, task_id, number)
        try:
            with path.open("rb") as file:
                if parse_header(file).tip == attempt.shared_tip:
                    return path
        except (FileNotFoundError, Rejected):
            continue
    return None


def replace_durably(source: Path, target: Path) -> None:
    """Rename what `copy_file` has synced, and sync the folders: the other copy may go after this."""
    os.replace(source, target)
    for folder in {source.parent, target.parent}:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def feedback(problem: Problem) -> Feedback:
    """A problem as the next attempt is told of it."""
    return Feedback(
        code=problem.code,
        message=problem.message,
        file=problem.file[:1000],
        line=problem.line,
        place=problem.place[:1000],
        expected=problem.expected,
        mend=problem.mend,
    )
