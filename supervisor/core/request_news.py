"""What happens to a task's request on a forge: reviewed, checked, merged, closed."""

import itertools
from collections.abc import Iterable, Iterator
from datetime import datetime

from agent_daemon.protocol.model import Feedback
from supervisor.core.decision import Decision, Event
from supervisor.core.forge import CommentSeen, ForgeRequest, ReviewSeen
from supervisor.core.intake import cancel, clean_line, clean_text
from supervisor.core.record import Post, Remark, TaskRecord, Tries
from supervisor.core.render import one_line_code
from supervisor.core.settings import RequestSettings
from supervisor.core.states import State

# What waits for the next attempts: a record that is too long is not read again.
_MAX_REMARKS, _MAX_REMARKS_BYTES = 500, 1024 * 1024
# So many go to one attempt; what is left is for the next one.
_AT_ONCE = 40
_MAX_CHARACTERS = 8000


def take_review(task: TaskRecord, review: ReviewSeen, now: datetime) -> Decision:
    """One submitted review by somebody who may steer: one more attempt, told of each comment with its place."""
    remarks = [Remark(feedback=_remark(comment), thread=comment.thread) for comment in review.comments]
    if review.body.strip():
        message = _clean(f"{review.author.login} says of the whole:\n{review.body}")
        whole = Feedback(code="REVIEW", message=message, mend="do what it asks for")
        remarks.insert(0, Remark(feedback=whole))
    details = {"by": review.author.login, "verdict": review.verdict, "comments": len(review.comments)}
    event = Event(name="request.reviewed", details=details, actor=review.author.login)
    if task.ended or not remarks or (review.verdict == "approved" and not review.comments):
        return Decision(task=task, events=(event,))
    told = task.evolve(remarks=tuple(_bounded((*task.remarks, *remarks))))
    return Decision(task=told, events=(event,)).then(take_up_remarks(told, now))


def _bounded(remarks: Iterable[Remark]) -> Iterator[Remark]:
    left = _MAX_REMARKS_BYTES
    for remark in itertools.islice(remarks, _MAX_REMARKS):
        left -= len(remark.feedback.message.encode())
        if left < 0:
            return
        yield remark


def _clean(text: str) -> str:
    return clean_text(text[:_MAX_CHARACTERS])


def _remark(comment: CommentSeen) -> Feedback:
    return Feedback(
        code="REVIEW_COMMENT",
        message=_clean(f"{comment.author.login} says:\n{comment.body}"),
        file=clean_line(comment.path)[:1000] if comment.path else "",
        line=comment.line,
        mend="do what it asks for, or say in your summary why not",
    )


def take_up_remarks(task: TaskRecord, now: datetime) -> Decision:
    """In review, and reviewers have said what is to be changed: the next attempt goes on from the branch."""
    if task.state is not State.REVIEW or not task.remarks:
        return Decision(task=task)
    told, left = task.remarks[:_AT_ONCE], task.remarks[_AT_ONCE:]
    threads = dict.fromkeys((*task.threads, *(remark.thread for remark in told if remark.thread)))
    taken = task.evolve(remarks=left, threads=tuple(threads))
    return _again(taken, tuple(remark.feedback for remark in told), "a review asks for changes", now)


def _again(task: TaskRecord, told: tuple[Feedback, ...], reason: str, now: datetime) -> Decision:
    again = task.moved(
        State.PENDING,
        reason=reason,
        actor="forge",
        at=now,
        failures=0,
        waits_for=(),
        not_before=None,
        preparing=Tries(),
        feedback=told,
        delivery=None,
        effects=(),
    )
    return Decision(task=again, events=(Event(name="task.retried", actor="forge"),))


def take_request(task: TaskRecord, seen: ForgeRequest, settings: RequestSettings, now: datetime) -> Decision:
    """A look at the task's own request; one at another request changes nothing."""
    request = task.request
    if task.ended or request is None or request.number != seen.number:
        return Decision(task=task)
    if seen.state == "merged":
        return _merged(task, seen, now)
    if seen.state == "closed":
        by = seen.closed_by.login if seen.closed_by is not None else "a person"
        closed = task.evolve(request=request.evolve(state="closed"))
        return cancel(closed, reason=f"its request was closed by {by}", actor="forge", now=now)
    known = task.evolve(request=request.evolve(draft=seen.draft, url=seen.url))
    return _checked(known, seen, settings, now)


def _merged(task: TaskRecord, seen: ForgeRequest, now: datetime) -> Decision:
    reason = f"its request was merged into {seen.base}"
    assert task.request is not None  # noqa: S101 (take_request has looked)
    done = task.moved(
        State.COMPLETED,
        reason=reason,
        actor="forge",
        at=now,
        request=task.request.evolve(state="merged", draft=False),
        waits_for=(),
        not_before=None,
        paused_from=None,
        remarks=(),
    )
    return Decision(task=done, events=(Event(name="task.completed", details={"reason": reason}, actor="forge"),))


def _checked(task: TaskRecord, seen: ForgeRequest, settings: RequestSettings, now: datetime) -> Decision:
    """All checks of the very head that was delivered have ended: those that failed send it back, so many times."""
    delivered = task.delivery.pushed_head if task.delivery is not None else None
    settled = seen.checks and all(check.conclusion != "pending" for check in seen.checks)
    if task.state is not State.REVIEW or not settled or seen.head != delivered or task.checked_head == seen.head:
        return Decision(task=task)
    failed = [check for check in seen.checks if check.conclusion == "failure"]
    if not failed:
        return Decision(task=task)  # (others may begin yet)
    looked, shown = task.evolve(checked_head=seen.head), failed[:_AT_ONCE]
    details = {"head": seen.head, "failed": [check.name for check in shown]}
    event = Event(name="request.checked", details=details, actor="forge")
    if task.fix_rounds >= settings.fix_rounds:
        names = ", ".join(one_line_code(check.name) for check in shown)
        names += f" and {len(failed) - len(shown)} more" if len(failed) > len(shown) else ""
        text = f"✋ Checks of the request fail, and no more attempts are made by themselves: {names}"
        return Decision(
            task=looked.with_post(Post(key="", kind="comment", on="request", text=text)), events=(event,)
        )
    told = tuple(
        Feedback(
            code="E_CHECK_FAILED",
            message=_clean(f"the check '{check.name}' failed on {seen.head[:12]}\n{check.summary}"),
            expected="it succeeds",
            mend="make it pass",
        )
        for check in shown
    )
    rounds = looked.evolve(fix_rounds=task.fix_rounds + 1)
    return Decision(task=rounds, events=(event,)).then(_again(rounds, told, "checks of the request failed", now))
