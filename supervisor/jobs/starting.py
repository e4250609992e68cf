"""Where an attempt starts: the task's branch, saved work, or both together, laid ready in its mail."""

import secrets
from dataclasses import dataclass, replace
from pathlib import Path

from agent_daemon.protocol.files import copy_file, make_folder
from agent_daemon.protocol.paths import Root
from supervisor.core.decision import Prepare, Save
from supervisor.core.record import Attempt, LeftOut, TaskRecord
from supervisor.core.states import State
from supervisor.errors import CloudCodeError
from supervisor.git import mirror as mirrors
from supervisor.git.bundle import Rejected
from supervisor.git.combining import Combined, combine, write_bundle
from supervisor.git.quarantine import discard, import_bundle
from supervisor.git.request import SALVAGE_LIMITS, ImportRequest
from supervisor.jobs.project import Project, import_grounds, replace_durably, shared_path
from supervisor.jobs.salvage import save


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What is known before an attempt: its base, and the tip that the task's branch has on the remote, if any."""

    root: Root
    project: Project
    task: TaskRecord
    job: Prepare
    base_branch: str
    base: str
    tip: str | None

    @property
    def inbox(self) -> Path:
        return self.root.attempt_in(self.job.workstation, self.task.id, self.job.attempt)

    @property
    def scratch(self) -> Path:
        return self.root.quarantine / f"{self.task.id}.{self.job.attempt}.start.git"


@dataclass(frozen=True, kw_only=True)
class Start:
    """Where an attempt starts; without `commit` at `base`, which is the upstream commit below it.

    `shared_branch` and `shared_tip` name a remote branch whose commits the start contains. `squashed`: the
    start's own commits were refused. `left_out` is earlier work that the start does not contain.
    """

    base: str
    commit: str | None = None
    shared_branch: str | None = None
    shared_tip: str | None = None
    squashed: bool = False
    left_out: tuple[LeftOut, ...] = ()


def lay_start(setting: Setting, dependency: TaskRecord | None) -> Start:
    """Choose, and write `start.bundle` and the bundles of what is left out. GitError, CloudCodeError, Rejected."""
    task, asked = setting.task, setting.task.start_from
    work = _asked_for(setting, asked) if asked is not None else _work_at_hand(setting)
    owed = () if asked is not None else _owed(setting)
    if work is None:
        start = _without_work(setting, dependency)
    elif setting.tip is None or (setting.tip == work.shared_tip and not task.start_squashed):
        start = _from_saved(setting, work)
    else:
        start = _from_both(setting, work)
    left_out = (*(left for left in owed if left.attempt != getattr(work, "number", None)), *start.left_out)
    for left in left_out:
        path = setting.root.salvaged(task.id, left.attempt)
        if path.exists():
            copy_whole(path, setting.inbox / f"earlier-{left.attempt}.bundle")
    return replace(start, left_out=left_out)


def _asked_for(setting: Setting, number: int) -> Attempt:
    """The attempt, be it of an earlier run, whose saved work a person wants to go on with."""
    attempt, path = setting.task.attempt_number(number), setting.root.salvaged(setting.task.id, number)
    if attempt is None or attempt.bundle_head is None or not path.is_file():
        raise CloudCodeError("E_NO_SALVAGE", f"the saved work of attempt {number} is not in {path}")
    return attempt


def _work_at_hand(setting: Setting) -> Attempt | None:
    """The newest attempt of this run whose work is saved here and not on the remote."""
    task = setting.task
    for attempt in reversed(task.attempts):
        path = setting.root.salvaged(task.id, attempt.number)
        if attempt.rerun != task.rerun:
            return None
        if attempt.pushed_head is not None:
            if setting.tip is not None:
                return None
            if not path.exists():  # its branch was deleted on the remote: the workstation still has it
                save(setting.root, setting.project, task, attempt, Save(task_id=task.id, attempt=attempt.number))
        if attempt.saved and attempt.bundle_head and path.exists():
            return attempt
    return None


def _owed(setting: Setting) -> tuple[LeftOut, ...]:
    """What the attempt before was started without; one whose work was accepted has had its chance."""
    task = setting.task
    newest = task.attempts[-1] if task.attempts else None
    if newest is None or newest.rerun != task.rerun or newest.verdict == "completed":
        return ()
    return newest.left_out


def _without_work(setting: Setting, dependency: TaskRecord | None) -> Start:
    """The task's own branch, the branch of the task that it builds on, or the base."""
    if setting.tip is not None:
        return _from_branch(setting, setting.task.branch, setting.base)
    if dependency is not None and dependency.delivery is not None and dependency.state is not State.COMPLETED:
        head = dependency.delivery.pushed_head
        if not mirrors.is_ancestor(setting.project.mirror, head, setting.base_branch):
            # Its work stands on the base of its time: what came to the base branch since is not under it.
            return _from_branch(setting, dependency.branch, dependency.delivery.base)
    return Start(base=setting.base)


def _from_branch(setting: Setting, branch: str, base: str) -> Start:
    kept = shared_path(setting.root, setting.task.id, setting.job.attempt)
    make_folder(kept.parent)
    made = setting.project.host.make_start_bundle(
        setting.project.mirror, branch, base, scratch=setting.scratch, target=kept
    )
    if made is None:
        return Start(base=base, shared_branch=branch)
    copy_whole(kept, setting.inbox / "start.bundle")
    return Start(base=base, commit=made.tip, shared_branch=branch, shared_tip=made.tip)


def _from_saved(setting: Setting, work: Attempt) -> Start:
    copy_whole(setting.root.salvaged(setting.task.id, work.number), setting.inbox / "start.bundle")
    return Start(
        base=work.base_commit,
        commit=work.bundle_head,
        shared_branch=work.shared_branch,
        shared_tip=work.shared_tip,
        squashed=setting.task.start_squashed,
    )


def _from_both(setting: Setting, work: Attempt) -> Start:
    """Saved work and what the branch is by now: together if that can be, else the branch with the work beside."""
    task, base, scratch = setting.task, work.base_commit, setting.scratch
    try:
        combined, tip = _try_both(setting, work)
        if combined.commit == work.bundle_head:
            return _from_saved(setting, work)
        if combined.commit is not None and combined.commit != tip:
            kept, both = shared_path(setting.root, task.id, setting.job.attempt), scratch / "both.bundle"
            make_folder(kept.parent)
            write_bundle(scratch, tip, task.branch, base, kept)
            write_bundle(scratch, combined.commit, task.branch, base, both)
            copy_whole(both, setting.inbox / "start.bundle")
            return Start(base=base, commit=combined.commit, shared_branch=task.branch, shared_tip=tip)
    finally:
        discard(scratch)
    start = _from_branch(setting, task.branch, base)
    if combined.commit is not None:
        return start
    if task.start_from is not None:
        raise CloudCodeError(
            "E_BRANCH_MOVED",
            f"the work of attempt {work.number} does not fit what is on {task.branch} by now: {combined.reason}; "
            f"bring the two together by hand (`cloud-code task salvage restore {task.id} "
            f"--attempt {work.number}`), or retry without --from-salvage",
        )
    left = LeftOut(attempt=work.number, head=work.bundle_head or "", reason=combined.reason, files=combined.files)
    return replace(start, left_out=(left,))


def _try_both(setting: Setting, work: Attempt) -> tuple[Combined, str]:
    """The outcome, in the scratch repository, and the tip that the branch has at this moment."""
    task, scratch = setting.task, setting.scratch
    bundle = setting.root.salvaged(task.id, work.number)
    refused = None
    try:
        import_bundle(
            ImportRequest(
                quarantine=scratch,
                bundle=bundle,
                claimed_head=work.bundle_head,
                purpose="salvage",
                limits=SALVAGE_LIMITS,
                **import_grounds(setting.root, setting.project, task, work),
            )
        )
    except Rejected as error:
        refused = Combined(commit=None, reason=f"it cannot be read: {error.problem.message}")
        mirrors.make_repository(scratch, setting.project.mirror)
    ref = f"refs/heads/{task.branch}"
    setting.project.host.fetch(scratch, (f"+{ref}:{ref}",))
    tip = mirrors.resolve(mirrors.Mirror(scratch), ref)
    if tip is None:
        raise CloudCodeError("E_NO_BRANCH", f"the branch {task.branch} has just gone from the remote")
    if refused is not None:
        return refused, tip
    limits = SALVAGE_LIMITS.process
    squash = task.start_squashed and mirrors.descends(scratch, work.base_commit, tip, limits)
    head = work.bundle_head or ""
    return combine(scratch, tip, head, work.shared_tip, squash=squash, limits=limits), tip


def copy_whole(source: Path, target: Path) -> None:
    """Copy so that the target is there whole or not at all, durably, by a name that nobody can have planted."""
    make_folder(target.parent)
    staged = target.with_name(f".{secrets.token_hex(8)}.new")
    copy_file(source.parent, source.name, staged, max_bytes=source.stat().st_size)
    replace_durably(staged, target)
