"""Before work is handed in: the base branch may have moved while it was done."""

from agent_daemon import handover, workplace
from agent_daemon.attempt import Attempt
from agent_daemon.git import GitError, commit_of
from agent_daemon.protocol.model import Rebase, ReportError, TaskingTask
from agent_daemon.rebase import Followed, follow_base

_MAX_FILES = 20


def follow_base_branch(attempt: Attempt) -> Rebase | None:
    """Put the committed work on top of what the base branch is now, where that is asked for.

    None where nothing had to be done, or nothing could be: that is told, and the work is handed in on its old
    base, which is legal. GitError when the worktree could not be switched.
    """
    task, worktree = attempt.task, attempt.places.worktree
    if task.rebase != "before_result" or task.expects != "commits":
        return None
    try:
        workplace.refresh_branches(attempt)
    except (GitError, OSError) as error:
        attempt.tell({}, f"The newest {task.base_branch} cannot be had, the work stays on its base: {error}")
        return None
    onto = commit_of(worktree, f"refs/remotes/origin/{task.base_branch}")
    if onto is None:
        return None
    base = handover.result_base(worktree, task.base_branch, task.base_commit)
    followed = follow_base(worktree, base=base, onto=onto)
    if followed.outcome == "current":
        return None
    attempt.tell({}, f"{task.base_branch} has moved to {onto[:12]}: {_told(followed)}")
    return Rebase(
        outcome=followed.outcome,
        onto=onto,
        files=tuple(path[:300] for path in followed.files[:_MAX_FILES]),
        files_total=len(followed.files),
        reason=followed.reason,
    )


def conflict_error(task: TaskingTask, rebase: Rebase) -> ReportError:
    """Only another attempt, or a person, can tell how both go together."""
    where = f" in {', '.join(rebase.files)}" if rebase.files else ""
    message = f"{task.base_branch} has moved to {rebase.onto[:12]}, and the work conflicts with it{where}"
    return ReportError(code="E_BASE_CONFLICT", message=message)


def _told(followed: Followed) -> str:
    if followed.outcome == "rebased":
        return "the work was put on top of it"
    if followed.outcome == "conflict":
        return f"the work conflicts with it in {', '.join(followed.files[:5])}"
    return f"the work stays on its base, with which it merges without a conflict: {followed.reason}"
