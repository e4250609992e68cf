"""What an earlier attempt pushed: has somebody merged it, while a later attempt was at work?"""

import shutil

from agent_daemon.protocol.paths import Root
from supervisor.core.record import Attempt, TaskRecord
from supervisor.git import mirror as mirrors
from supervisor.git.merging import is_contained
from supervisor.git.mirror import Mirror
from supervisor.git.request import SALVAGE_LIMITS
from supervisor.jobs.project import Project, import_grounds


def is_merged(root: Root, project: Project, task: TaskRecord, attempt: Attempt) -> bool:
    """Whether the base branch, as of now, has all that was pushed before this attempt, under whatever commits.

    GitError, also where the remote cannot be asked: nobody knows then.
    """
    head, mirror = task.pushed_head, project.mirror
    if head is None:
        return False
    project.host.fetch_mirror(mirror)
    if mirrors.contained(mirror, [head], attempt.base_branch):
        return True
    tip = mirrors.resolve(mirror, f"refs/heads/{attempt.base_branch}")
    grounds = import_grounds(root, project, task, attempt)
    if tip is None or grounds["branch_url"] is None:
        return False
    scratch = root.quarantine / f"{task.id}.{attempt.number}.earlier.git"
    shutil.rmtree(scratch, ignore_errors=True)
    try:
        mirrors.make_repository(scratch, mirror)
        ref = f"refs/heads/{grounds['branch']}"
        mirrors.fetch(scratch, grounds["branch_url"], (f"+{ref}:{ref}",), None)
        known = mirrors.resolve(Mirror(scratch), head) is not None
        return known and is_contained(scratch, head, tip, SALVAGE_LIMITS.process)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
