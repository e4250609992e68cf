"""From a claim to a request: what the import found, then the push, then the request, each exactly once."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from agent_daemon.protocol.model import Feedback, TaskReport, WaitReason
from supervisor.core.attempts import end_attempt, still_claimed
from supervisor.core.decision import Decision, Event, Failed, claim_refused, problem_of
from supervisor.core.moved_base import conflict_feedback, is_on_remote
from supervisor.core.record import Approval, Attempt, BaseConflict, Delivery, Effect, Request, TaskRecord, Tries
from supervisor.core.retry import block, fail_attempt, is_told, needs_person, note_failure, told_of
from supervisor.core.settings import RetrySettings
from supervisor.core.states import ACTIVE, State

# What a person is asked for when trying again would meet the same refusal.
_REASONS = {"E_BRANCH_MOVED": WaitReason.CONFLICT, "E_BRANCH_EXISTS": WaitReason.CONFLICT}

# The verdict on an attempt whose claim could not be looked at: it may be looked at again as it is.
NOT_INSPECTED = "not inspected"
HELD = "held"  # the verdict on one whose claim waits for a person's approval


@dataclass(frozen=True, kw_only=True)
class Inspected:
    """What the import of a claim found: a delivery, or problems, or paths that a person must look at first.

    `document` says that a document was taken instead of commits; `merged` that nothing new was handed in, and
    what was pushed before is in the base branch by now.
    `conflict` is one with the newest base branch: alone it sends the work back, with a delivery it is told.
    """

    attempt: int
    delivery: Delivery | None = None
    problems: tuple[Feedback, ...] = ()
    held: tuple[str, ...] = ()
    bundle_sha256: str = ""
    document: bool = False
    merged: bool = False
    conflict: BaseConflict | None = None


@dataclass(frozen=True, kw_only=True)
class RequestSeen:
    """The request of `head` is decided: merged (`commits`: by its very commits), or its branch is gone."""

    state: Literal["merged", "closed"]
    head: str
    base_branch: str
    commits: bool = True


def push_key(task: TaskRecord) -> str:
    return f"push:{task.delivery.pushed_head if task.delivery else ''}"


def request_key(task: TaskRecord) -> str:
    """A request is opened once a run, and brought up to date once for each pushed head."""
    return f"request:{task.rerun}:{task.delivery.pushed_head if task.delivery else ''}"


def settle_inspection(
    task: TaskRecord, outcome: Inspected, report: TaskReport | None, retry: RetrySettings, now: datetime
) -> Decision:
    """What follows from an inspected claim; an outcome that came too late changes nothing."""
    attempt = task.attempt_number(outcome.attempt)
    if task.state is not State.IN_PROGRESS or attempt is None or attempt.number != task.attempt:
        return Decision(task=task)
    if attempt.ended_at is None and report is not None and not still_claimed(task, report):
        return Decision(task=task)
    if outcome.problems:
        refused = _end(task, attempt, "claim refused", report, now).evolve(start_squashed=True)
        problems = [problem_of(feedback) for feedback in outcome.problems]
        failed = fail_attempt(refused, why=str(problems[0]), feedback=outcome.problems, retry=retry, now=now)
        return Decision(task=refused, events=(claim_refused(attempt.number, problems),)).then(failed)
    if outcome.conflict is not None and outcome.delivery is None:
        return _send_back(task, attempt, outcome.conflict, report, retry, now)
    if outcome.held:
        return _hold(_end(task, attempt, HELD, report, now), outcome, now)
    if outcome.delivery is None:
        return _complete_without_push(_end(task, attempt, "completed", report, now), outcome, now)
    ended = _end(task, attempt, "completed", report, now).evolve(
        delivery=outcome.delivery, base_conflict=outcome.conflict, feedback=(), failures=0
    )
    ready = ended.with_effect(Effect(key=push_key(ended), kind="push"))
    details = {
        "attempt": attempt.number,
        "claimed_head": outcome.delivery.claimed_head,
        "pushed_head": outcome.delivery.pushed_head,
        "files": outcome.delivery.files_total,
        "commits": outcome.delivery.commits_total - outcome.delivery.earlier_total,
    }
    return Decision(task=ready, events=(Event(name="claim.accepted", details=details),))


def _send_back(
    task: TaskRecord,
    attempt: Attempt,
    conflict: BaseConflict,
    report: TaskReport | None,
    retry: RetrySettings,
    now: datetime,
) -> Decision:
    """The work is sound, but does not fit what came to the base branch meanwhile: another attempt goes on."""
    ended = _end(task, attempt, "conflict", report, now)
    told = conflict_feedback(attempt.base_branch, conflict, on_remote=is_on_remote(task, attempt))
    details = {"attempt": attempt.number, "base": conflict.base, "files": list(conflict.files)}
    event = Event(name="claim.conflicts", details=details)
    failed = fail_attempt(ended, why=told.message, feedback=(told,), retry=retry, now=now)
    return Decision(task=ended, events=(event,)).then(failed)


def fail_inspection(
    task: TaskRecord, number: int, outcome: Failed, report: TaskReport | None, now: datetime
) -> Decision:
    """A claim that cannot be looked at: later again, or its attempt ends and a person is asked."""
    attempt = task.attempt_number(number)
    if task.state is not State.IN_PROGRESS or attempt is None or number != task.attempt:
        return Decision(task=task)
    tried = note_failure(attempt.inspecting, outcome, now)
    events = () if is_told(attempt.inspecting, outcome) else (job_failed("Inspect", outcome),)
    noted = Decision(task=task.with_attempt(number, inspecting=tried), events=events)
    if not needs_person(tried, outcome):
        return noted
    ended = _end(noted.task, attempt, NOT_INSPECTED, report, now)
    return noted.then(block(ended, reason=WaitReason.HUMAN, message=told_of(tried, outcome), now=now))


def fail_saving(task: TaskRecord, number: int, outcome: Failed, now: datetime) -> Decision:
    """Work that cannot be copied to `state/salvage/`: later again, or it is known why it cannot be."""
    attempt = task.attempt_number(number)
    if attempt is None or attempt.saved:
        return Decision(task=task)
    tried = note_failure(attempt.saving, outcome, now)
    error = told_of(tried, outcome) if needs_person(tried, outcome) else None
    failed = task.with_attempt(number, saving=tried, save_error=error)
    return Decision(task=failed, events=(job_failed("Save", outcome),))


def job_failed(name: str, outcome: Failed) -> Event:
    return Event(name="job.failed", details={"job": name, "code": outcome.code, "message": outcome.message})


def _end(task: TaskRecord, attempt: Attempt, verdict: str, report: TaskReport | None, now: datetime) -> TaskRecord:
    """End the attempt with this verdict; one that ended before (held, then approved) keeps its work fields."""
    if attempt.ended_at is not None:
        return task.with_attempt(attempt.number, verdict=verdict)
    return end_attempt(task, attempt, verdict=verdict, report=report, now=now)


def _hold(task: TaskRecord, outcome: Inspected, now: datetime) -> Decision:
    approval_id = task.next_approval
    shown = ", ".join(outcome.held[:5]) + (f" and {len(outcome.held) - 5} more" if len(outcome.held) > 5 else "")
    message = f"the work changes protected files: {shown}"
    approval = Approval(
        id=approval_id, gate="protected_paths", subject_hash=outcome.bundle_sha256, message=message
    )
    return block(
        task,
        reason=WaitReason.APPROVAL,
        ref=approval_id,
        message=message,
        now=now,
        approvals=(*task.approvals, approval),
    )


def _complete_without_push(task: TaskRecord, outcome: Inspected, now: datetime) -> Decision:
    what = "the document was handed in" if outcome.document else "there was nothing to change"
    request = task.request
    if outcome.merged:
        what = f"merged into {task.base_branch}, and attempt {outcome.attempt} had nothing to add"
        request = request.evolve(state="merged") if request is not None else None
    done = task.moved(
        State.COMPLETED, reason=what, actor="supervisor", at=now, feedback=(), failures=0, request=request
    )
    if not done.with_attempt(outcome.attempt).attempts[-1].bundle:
        done = done.with_attempt(outcome.attempt, saved=True, saved_in="nothing")
    return Decision(task=done, events=(Event(name="task.completed", details={"reason": what}),))


def settle_push(task: TaskRecord, key: str, outcome: Failed | None, now: datetime) -> Decision:
    """The push of this key succeeded (None), will be tried again, or needs a person.

    That of a cancelled task, or of an earlier run, is only noted.
    """
    effect, delivery = task.effect(key), task.delivery
    if effect is None or effect.status == "done":
        return Decision(task=task)
    if outcome is not None:
        return _effect_failed(task, effect, outcome, now)
    done = task.with_effect(effect.evolve(status="done", error=None, not_before=None))
    if delivery is None or key != push_key(task):
        return _of_an_earlier_run(task, effect, "branch.pushed", {"head": key.partition(":")[2]})
    head = delivery.pushed_head
    pushed = done.evolve(remote_head=head).with_attempt(
        delivery.attempt, saved=True, saved_in="remote", pushed_head=head
    )
    if pushed.effect(request_key(pushed)) is None and not task.ended:
        pushed = pushed.with_effect(Effect(key=request_key(pushed), kind="request"))
    details = {"branch": task.branch, "head": delivery.pushed_head} | _state_if_over(task)
    return Decision(task=pushed, events=(Event(name="branch.pushed", details=details),))


def settle_request(task: TaskRecord, key: str, outcome: Request | Failed, now: datetime) -> Decision:
    """The request of this key is open: the task is in review. Or it will be tried again, or needs a person."""
    effect = task.effect(key)
    if effect is None or effect.status == "done":
        return Decision(task=task)
    if isinstance(outcome, Failed):
        return _effect_failed(task, effect, outcome, now)
    details = {"url": outcome.url, "head": outcome.head} | _state_if_over(task)
    if key != request_key(task):
        return _of_an_earlier_run(task, effect, "request.opened", details)
    opened = task.with_effect(effect.evolve(status="done", error=None, not_before=None)).evolve(request=outcome)
    return Decision(task=opened, events=(Event(name="request.opened", details=details),)).then(arrive(opened, now))


def settle_look(task: TaskRecord, key: str, found: Request | str | Failed | None, now: datetime) -> Decision:
    """What a look at the remote says of something that was being sent when the task was cancelled.

    `found` is the tip of the branch, or the request; None when there is none.
    """
    effect = task.effect(key)
    if effect is None or effect.status != "sending":
        return Decision(task=task)
    if isinstance(found, Failed):
        return _effect_failed(task, effect, found, now)
    if effect.kind == "request" and isinstance(found, Request):
        return settle_request(task, key, found, now)
    if effect.kind == "push" and found == key.partition(":")[2]:
        return settle_push(task, key, None, now)
    return _never_sent(task, effect, "it had not arrived when the task was cancelled")


def _state_if_over(task: TaskRecord) -> dict[str, str]:
    return {"state": task.state.value} if task.ended else {}


def _of_an_earlier_run(task: TaskRecord, effect: Effect, name: str, details: dict[str, str]) -> Decision:
    event = Event(name=name, details=details | {"run": "an earlier one, which was cancelled"})
    return Decision(task=_without(task, effect), events=(event,))


def _never_sent(task: TaskRecord, effect: Effect, why: str) -> Decision:
    event = Event(name=f"{effect.kind}.given_up", details={"message": why})
    if effect.key in (push_key(task), request_key(task)):
        return Decision(task=task.with_effect(effect.evolve(status="pending", error=why)), events=(event,))
    return Decision(task=_without(task, effect), events=(event,))


def _without(task: TaskRecord, effect: Effect) -> TaskRecord:
    return task.evolve(effects=tuple(e for e in task.effects if e.key != effect.key))


def arrive(task: TaskRecord, now: datetime) -> Decision:
    """In review once all that was delivered is pushed and requested; a paused task when it goes on."""
    effect = task.effect(request_key(task)) if task.delivery is not None else None
    if task.state is not State.IN_PROGRESS or effect is None or effect.status != "done":
        return Decision(task=task)
    review = task.moved(State.REVIEW, reason="the request is open", actor="supervisor", at=now)
    return Decision(task=review, events=(Event(name="task.review"),))


def settle_review(task: TaskRecord, seen: RequestSeen, now: datetime) -> Decision:
    """What was seen of a request on the remote: completed, or a person is asked what is to become of it.

    What was seen of work that was delivered before changes nothing.
    """
    if task.state is not State.REVIEW or task.request is None or task.delivery is None:
        return Decision(task=task)
    if seen.head != task.delivery.pushed_head:
        return Decision(task=task)
    if seen.state == "closed":
        return _closed_unmerged(task, task.request, seen.base_branch, now)
    reason = f"merged into {seen.base_branch}" if seen.commits else f"its changes are in {seen.base_branch}"
    done = task.moved(
        State.COMPLETED,
        reason=reason,
        actor="remote",
        at=now,
        request=task.request.evolve(state="merged"),
        waits_for=(),
    )
    return Decision(task=done, events=(Event(name="task.completed", details={"reason": reason}, actor="remote"),))


def _closed_unmerged(task: TaskRecord, request: Request, base_branch: str, now: datetime) -> Decision:
    """Its branch was deleted. Whether on purpose nobody can tell here; what the remote had is saved here again."""
    closed = task.evolve(request=request.evolve(state="closed"))
    if task.delivery is not None:
        closed = closed.with_attempt(
            task.delivery.attempt, pushed_head=None, saved=False, save_error=None, saving=Tries()
        )
    message = (
        f"closed unmerged: {task.branch} was deleted on the remote, and {base_branch} does not have its changes"
    )
    return block(closed, reason=WaitReason.HUMAN, message=message, now=now)


def is_to_be_inspected(task: TaskRecord) -> bool:
    """In progress, or paused from there, with an attempt that has ended and whose claim is looked at again."""
    newest = task.attempt_number(task.attempt)
    return task.delivery is None and newest is not None and newest.verdict in (NOT_INSPECTED, HELD)


def go_on(task: TaskRecord, reason: str, actor: str, now: datetime) -> Decision:
    """A paused task is back where it was; pending where its attempt has ended meanwhile and left no claim."""
    back = task.paused_from or State.PENDING
    if back in ACTIVE and task.live is None and task.delivery is None and not is_to_be_inspected(task):
        back = State.PENDING
    resumed = task.moved(back, reason=reason, actor=actor, at=now, paused_from=None)
    return Decision(task=resumed, events=(Event(name="task.resumed", actor=actor),))


def is_work_done(task: TaskRecord) -> bool:
    """Blocked although its agent is done: the claim could not be inspected, or the delivery not be made."""
    newest = task.attempt_number(task.attempt)
    sending = task.delivery is not None and any(effect.status != "done" for effect in task.effects)
    done = sending or (task.delivery is None and newest is not None and newest.verdict == NOT_INSPECTED)
    return task.state is State.BLOCKED and done and all(w.reason is WaitReason.HUMAN for w in task.waits_for)


def _effect_failed(task: TaskRecord, effect: Effect, outcome: Failed, now: datetime) -> Decision:
    event = Event(name=f"{effect.kind}.failed", details={"code": outcome.code, "message": outcome.message})
    tried = note_failure(effect, outcome, now)
    later = Decision(task=task.with_effect(tried), events=() if is_told(effect, outcome) else (event,))
    if task.ended or effect.key not in (push_key(task), request_key(task)):
        return later.then(_never_sent(task, tried, str(outcome))) if needs_person(tried, outcome) else later
    if task.state is not State.IN_PROGRESS or not needs_person(tried, outcome):
        return later
    reason = _REASONS.get(outcome.code, WaitReason.HUMAN)
    waiting = task.with_effect(tried.evolve(status="pending", not_before=None))
    return later.then(block(waiting, reason=reason, message=told_of(tried, outcome), now=now))
