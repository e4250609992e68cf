"""What every job needs to know of a project, and what any bundle of a task is held against."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent_daemon.protocol.errors import Problem
from agent_daemon.protocol.model import Feedback
from agent_daemon.protocol.paths import Root
from supervisor.core.record import Attempt, TaskRecord
from supervisor.core.settings import ProjectSettings
from supervisor.git.mirror import Mirror
from supervisor.git.rewrite import Identity
from supervisor.ports import CodeHost


@dataclass(frozen=True, kw_only=True)
class Project:
    """What the jobs need to know of a task's project."""

    settings: ProjectSettings
    host: CodeHost
    mirror: Mirror


def quarantine_path(root: Root, task_id: str, attempt: int) -> Path:
    return root.quarantine / f"{task_id}.{attempt}.git"


def import_grounds(project: Project, task: TaskRecord, attempt: Attempt) -> dict[str, Any]:
    """What any bundle of this attempt is held against."""
    bot, requester = project.settings.bot, task.source.requested_by
    return {
        "mirror": project.mirror.path,
        "base_branch": attempt.base_branch,
        "base_commit": attempt.base_commit,
        "branch_url": project.host.url() if attempt.shared_tip else None,
        "branch": attempt.shared_branch if attempt.shared_tip else None,
        "remote_tip": attempt.shared_tip,
        "identity": Identity(
            bot_name=bot.name, bot_email=bot.email, coauthors=(requester,) if "<" in requester else ()
        ),
    }


def feedback(problem: Problem) -> Feedback:
    return Feedback(
        code=problem.code,
        message=problem.message,
        file=problem.place or problem.file,
        line=problem.line,
        expected=problem.expected,
        mend=problem.mend,
    )
