"""Before an attempt: the mirror fetched, the commits chosen, `start.bundle` laid ready."""

from agent_daemon.protocol.paths import Root
from supervisor.core.assign import Prepared
from supervisor.core.decision import Failed, Prepare
from supervisor.core.record import TaskRecord
from supervisor.git import mirror as mirrors
from supervisor.git.errors import GitError, looks_damaged
from supervisor.git.mirror_repair import find_damage
from supervisor.jobs.project import Project
from supervisor.jobs.starting import Setting, lay_start
from supervisor.packets import lay_packet

_MISSING_OBJECTS = frozenset({"E_START_COMMIT", "E_NOT_CLOSED"})
_WORDS_OF_GIT = frozenset({"E_DAEMON", "E_NOT_BUNDLED"})  # other feedback may quote what an agent's programs print


def prepare(
    root: Root, project: Project, task: TaskRecord, job: Prepare, dependency: TaskRecord | None
) -> Prepared | Failed:
    """Fetch the mirror, choose the commits, and lay `start.bundle` ready in the attempt's mail."""
    host, mirror = project.host, project.mirror
    damage = find_damage(mirror) if mirror.path.exists() and _hints_at_damage(task) else None
    if damage is not None:
        return Failed(code="E_OBJECTS_DAMAGED", message=f"the mirror is damaged: {damage}", retryable=True)
    try:
        host.fetch_mirror(mirror)
    except GitError as error:
        return Failed(code=error.code, message=f"{host.url()}: {error.message}", retryable=error.retryable)
    base_branch = task.base_branch or host.default_branch()
    base = task.base_commit or mirrors.resolve(mirror, f"refs/heads/{base_branch}")
    if base is None:
        return Failed(code="E_NO_BRANCH", message=f"{host.url()} has no branch '{base_branch}'.")
    mirrors.pin(mirror, task.id, base)
    tip = host.remote_tip(task.branch)
    if tip is not None and task.remote_head is None and not _is_own_push(task, tip):
        return Failed(
            code="E_BRANCH_EXISTS",
            message=f"the branch {task.branch} exists on the remote already and is not this task's work.",
        )
    setting = Setting(root=root, project=project, task=task, job=job, base_branch=base_branch, base=base, tip=tip)
    start = lay_start(setting, dependency)
    lay_packet(root, task, job, start.commit)
    if start.base != base:
        mirrors.pin(mirror, task.id, start.base)
    return Prepared(
        base_branch=base_branch,
        base_commit=start.base,
        start_commit=start.commit,
        start_squashed=start.squashed,
        remote_head=start.shared_tip if start.shared_branch == task.branch and start.shared_tip else tip,
        shared_branch=start.shared_branch,
        shared_tip=start.shared_tip,
        left_out=start.left_out,
    )


def _hints_at_damage(task: TaskRecord) -> bool:
    """Whether the attempt before failed as it would if objects that it borrowed from the mirror were not whole."""
    return any(
        item.code in _MISSING_OBJECTS or (item.code in _WORDS_OF_GIT and looks_damaged(item.message))
        for item in task.feedback
    )


def _is_own_push(task: TaskRecord, tip: str) -> bool:
    """A push whose record was lost in a crash still carries the head that was recorded before it."""
    return task.delivery is not None and task.delivery.pushed_head == tip
