"""The start of an attempt: what a prepared task and a free workstation become."""

from dataclasses import dataclass
from datetime import datetime

from agent_daemon.protocol.model import RebaseWhen, Role, WaitReason
from supervisor.core.chain import who_follows
from supervisor.core.decision import Decision, Event, Failed
from supervisor.core.record import Attempt, LeftOut, TaskRecord, Tries
from supervisor.core.retry import block, is_told, needs_person, note_failure, told_of
from supervisor.core.states import State


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """The commits that an attempt starts from; `start.bundle` lies in its mail when `start_commit` is given."""

    base_branch: str
    base_commit: str
    start_commit: str | None = None
    remote_head: str | None = None
    shared_branch: str | None = None
    shared_tip: str | None = None
    start_squashed: bool = False
    left_out: tuple[LeftOut, ...] = ()


def assign(
    task: TaskRecord,
    prepared: Prepared,
    *,
    workstation: str,
    cli: str,
    model: str | None,
    now: datetime,
    clis: tuple[str, ...] = (),
    unstuck: str | None = None,
    rebase: RebaseWhen = "never",
    reserved_usd: float | None = None,
    budgets: tuple[str, ...] = (),
) -> Decision:
    """The next attempt, on this workstation, from these commits; the number only ever grows.

    `clis` is the chain of the workstation, `unstuck` has a try after its last. `rebase` is the project's wish:
    commits that are on the remote, ours or people's, are never put elsewhere. `reserved_usd`, if any, is
    reserved in `budgets`.
    """
    number = task.attempt + 1
    role: Role = "unstuck" if task.unstuck and cli == task.cli else task.role
    next_cli, next_role = who_follows(cli, role, clis, unstuck)
    on_remote = prepared.remote_head is not None or prepared.shared_tip is not None
    attempt = Attempt(
        number=number,
        rerun=task.rerun,
        workstation=workstation,
        branch=task.branch,
        base_branch=prepared.base_branch,
        base_commit=prepared.base_commit,
        start_commit=prepared.start_commit,
        start_squashed=prepared.start_squashed,
        workspace_mode=task.workspace_mode,
        rebase="never" if on_remote or task.expects != "commits" else rebase,
        shared_branch=prepared.shared_branch,
        shared_tip=prepared.shared_tip,
        left_out=prepared.left_out,
        role=role,
        phase=task.next_phase,
        cli=cli,
        clis=clis,
        unstuck=unstuck,
        next_cli=next_cli,
        next_role=next_role,
        model=model,
        reserved_usd=reserved_usd,
        budgets=budgets,
        started_at=now,
    )
    assigned = task.moved(
        State.ASSIGNED,
        reason=f"attempt {number} goes to {workstation}",
        actor="supervisor",
        at=now,
        attempt=number,
        attempts=(*task.attempts, attempt),
        workstation=workstation,
        base_branch=prepared.base_branch,
        base_commit=prepared.base_commit,
        remote_head=prepared.remote_head,
        start_squashed=False,
        start_from=None,
        base_conflict=None,
        not_before=None,
        preparing=Tries(),
        waits_for=(),
    )
    details = {
        "cli": cli,
        "role": role,
        "base_commit": prepared.base_commit,
        "start_commit": prepared.start_commit,
        "workspace_mode": attempt.workspace_mode.value,
    }
    events = [Event(name="task.assigned", details=details)]
    events += [Event(name="work.left_out", details=left.model_dump()) for left in prepared.left_out]
    return Decision(task=assigned, events=tuple(events))


def fail_preparation(task: TaskRecord, outcome: Failed, now: datetime) -> Decision:
    """The attempt cannot start: later again, or blocked with the reason."""
    if task.state is not State.PENDING:
        return Decision(task=task)
    event = Event(name="task.not_prepared", details={"code": outcome.code, "message": outcome.message})
    tried = note_failure(task.preparing, outcome, now)
    events = () if is_told(task.preparing, outcome) else (event,)
    later = Decision(task=task.evolve(preparing=tried), events=events)
    if not needs_person(tried, outcome):
        return later
    reason = WaitReason.CONFLICT if outcome.code == "E_BRANCH_EXISTS" else WaitReason.HUMAN
    return later.then(block(task, reason=reason, message=told_of(tried, outcome), now=now, preparing=Tries()))
