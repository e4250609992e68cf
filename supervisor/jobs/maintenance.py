"""The nightly work on a mirror."""

from agent_daemon.protocol.errors import ProtocolError
from supervisor.git import mirror as mirrors
from supervisor.git.mirror import Mirror
from supervisor.records import RecordStore


def maintain_mirror(store: RecordStore, mirror: Mirror) -> None:
    """Forget the pins of tasks that are over, then pack what has accumulated. Nothing is pruned. GitError."""
    if not mirror.path.exists():
        return
    pinned = mirrors.pins(mirror)  # listed first: a task that begins meanwhile is not among them
    for task_id in pinned:
        if not _may_borrow(store, task_id):
            mirrors.unpin(mirror, task_id)
    mirrors.maintain(mirror)


def _may_borrow(store: RecordStore, task_id: str) -> bool:
    """Whether the task lives, or a worktree of it may still lie with a workstation, or nobody can tell."""
    try:
        task = store.find(task_id)
    except (ProtocolError, FileNotFoundError):
        return True
    if task is None:
        return task_id in store.damaged_ids()
    return not (task.ended and all(attempt.released for attempt in task.attempts))
