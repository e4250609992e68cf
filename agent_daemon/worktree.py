"""The task's work on disk, from the hot clone to the bundle: everything the daemon needs, in one place."""

from agent_daemon.checkout import (
    WorktreeRequest,
    dirt,
    ensure_worktree,
    head,
    link_protocol_files,
    put_on_branch,
    remove_stale_locks,
    remove_worktree,
)
from agent_daemon.clone import ensure_clone
from agent_daemon.git import GitError, Identity
from agent_daemon.handover import (
    BundleMade,
    Changes,
    Commit,
    FileChange,
    changes,
    commit_leftovers,
    make_bundle,
    make_salvage,
    result_base,
)

__all__ = [
    "BundleMade",
    "Changes",
    "Commit",
    "FileChange",
    "GitError",
    "Identity",
    "WorktreeRequest",
    "changes",
    "commit_leftovers",
    "dirt",
    "ensure_clone",
    "ensure_worktree",
    "head",
    "link_protocol_files",
    "make_bundle",
    "make_salvage",
    "put_on_branch",
    "remove_stale_locks",
    "remove_worktree",
    "result_base",
]
