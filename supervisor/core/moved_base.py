"""A base branch that moved on while work was done, or waits for a merge: what is said, and what follows."""

from datetime import datetime

from agent_daemon.protocol.model import Feedback, TaskReport
from supervisor.core.decision import Decision, Event
from supervisor.core.record import Attempt, BaseConflict, TaskRecord
from supervisor.core.retry import BASE_CONFLICT
from supervisor.core.settings import ConflictInReview
from supervisor.core.states import State


def in_words(base_branch: str, conflict: BaseConflict) -> str:
    """Where the base branch is, and in which files the work conflicts with it."""
    shown = ", ".join(conflict.files[:10])
    more = conflict.files_total - min(len(conflict.files), 10)
    where = f" in {shown}{f' and {more} more' if more > 0 else ''}" if shown else ""
    return f"{base_branch} has moved to {conflict.base[:12]}, and the work conflicts with it{where}"


def conflict_feedback(base_branch: str, conflict: BaseConflict, *, on_remote: bool) -> Feedback:
    """What the next attempt is told. `on_remote`: commits of the work are on the remote, and must stay."""
    how = (
        f"merge origin/{base_branch} into the branch (no rebase: its commits are on the remote already)"
        if on_remote
        else f"put the work on top of origin/{base_branch}, by a rebase or a merge"
    )
    return Feedback(
        code=BASE_CONFLICT,
        message=in_words(base_branch, conflict),
        expected=f"what the task asks for, and all that came to {base_branch} meanwhile",
        mend=f"{how}, and settle each conflict so that both sides' intent holds",
    )


def is_on_remote(task: TaskRecord, attempt: Attempt) -> bool:
    """Whether commits of this attempt's work are on the remote: pushed earlier, or of the task it builds on."""
    return attempt.shared_tip is not None or task.remote_head is not None


def reported_conflict(report: TaskReport) -> BaseConflict | None:
    """The conflict that an attempt failed with, by its report."""
    rebase = report.rebase
    if report.error is None or report.error.code != BASE_CONFLICT or rebase is None:
        return None
    head = report.salvage.head if report.salvage else ""
    return BaseConflict(base=rebase.onto, head=head, files=rebase.files, files_total=rebase.files_total)


def settle_base_check(
    task: TaskRecord, conflict: BaseConflict | None, policy: ConflictInReview, now: datetime
) -> Decision:
    """What follows for a task in review when its branch was held against the newest base branch."""
    known = task.base_conflict
    if task.state is not State.REVIEW or conflict == known:
        return Decision(task=task)
    if conflict is None:
        fits = Event(name="request.mergeable", details={"base_branch": task.base_branch})
        return Decision(task=task.evolve(base_conflict=None), events=(fits,))
    told = task.evolve(base_conflict=conflict)
    if known is not None and known.files == conflict.files:
        return Decision(task=told)  # the base branch moved again, and nothing else is different
    details = {"base_branch": task.base_branch, "base": conflict.base, "files": list(conflict.files)}
    event = Event(name="request.conflicts", details=details)
    if policy == "report" or known is not None:
        return Decision(task=told, events=(event,))
    pending = told.moved(
        State.PENDING,
        reason=in_words(task.base_branch, conflict),
        actor="supervisor",
        at=now,
        waits_for=(),
        delivery=None,
        effects=(),
        feedback=(conflict_feedback(task.base_branch, conflict, on_remote=True),),
    )
    return Decision(task=pending, events=(event, Event(name="task.retried", actor="supervisor")))
