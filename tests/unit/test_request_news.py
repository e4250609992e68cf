"""A request that is reviewed, checked, merged or closed."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from agent_daemon.protocol.paths import Root
from supervisor.core.decision import Decision
from supervisor.core.forge import CheckSeen, CommentSeen, ForgeRequest, Person, ReviewSeen
from supervisor.core.record import Delivery, Request, TaskRecord
from supervisor.core.request_news import take_request, take_review, take_up_remarks
from supervisor.core.settings import RequestSettings
from supervisor.core.states import State
from supervisor.records import RecordStore
from tests.unit.conftest import DIGEST, SHA_A, SHA_B, make_task

NOW = datetime(2026, 1, 7, 10, 30, tzinfo=UTC)
ADA = Person(login="ada", can_write=True)
DELIVERY = Delivery(attempt=1, claimed_head=SHA_B, pushed_head=SHA_B, base=SHA_A, bundle_sha256=DIGEST)


def in_review(**changes: Any) -> TaskRecord:
    values = {"state": State.REVIEW, "attempt": 1, "request": Request(number=3, head=SHA_B), "delivery": DELIVERY}
    return make_task(**(values | changes))


def review(verdict: str = "changes_requested", body: str = "No.", lines: tuple[int, ...] = (1, 2)) -> ReviewSeen:
    comments = tuple(
        CommentSeen(
            id=str(n), issue="3", author=ADA, at=NOW, body=f"remark {n}", path="a.py", line=n, thread=f"t{n}"
        )
        for n in lines
    )
    return ReviewSeen.model_validate(
        {"id": "1", "request": 3, "author": ADA, "at": NOW, "verdict": verdict, "body": body, "comments": comments}
    )


def seen(state: str = "open", *conclusions: str, head: str = SHA_B) -> ForgeRequest:
    checks = tuple(CheckSeen.model_validate({"name": f"c{n}", "conclusion": c}) for n, c in enumerate(conclusions))
    return ForgeRequest.model_validate(
        {"number": 3, "url": "u", "branch": "b", "base": "main", "head": head, "state": state, "checks": checks}
    )


def look(task: TaskRecord, found: ForgeRequest, rounds: int = 2) -> Decision:
    return take_request(task, found, RequestSettings(fix_rounds=rounds), NOW)


def test_a_review_is_one_more_attempt_with_every_remark_in_its_place() -> None:
    after = take_review(in_review(), review(), NOW).task
    assert (after.state, after.delivery, after.threads) == (State.PENDING, None, ("t1", "t2"))
    assert [(item.file, item.line) for item in after.feedback] == [("", None), ("a.py", 1), ("a.py", 2)]


def test_a_review_while_an_attempt_works_waits_for_its_end() -> None:
    working = take_review(in_review(state=State.IN_PROGRESS), review(), NOW).task
    assert working.state is State.IN_PROGRESS and len(working.remarks) == 3
    back = take_up_remarks(working.evolve(state=State.REVIEW), NOW).task
    assert (back.state, back.remarks, len(back.feedback)) == (State.PENDING, (), 3)


def test_what_one_attempt_cannot_be_told_is_for_the_next_and_answered_then() -> None:
    many = take_review(in_review(), review(lines=tuple(range(1, 61))), NOW).task
    assert (len(many.feedback), len(many.threads), len(many.remarks)) == (40, 39, 21)
    rest = take_up_remarks(many.evolve(state=State.REVIEW, threads=()), NOW).task
    assert (len(rest.feedback), len(rest.threads), rest.remarks) == (21, 21, ())


def test_a_review_without_end_leaves_a_record_that_can_be_read(tmp_path: Path) -> None:
    (one,) = review(lines=(1,)).comments
    remarks = tuple(one.evolve(id=str(number), body="\u6f22" * 8000) for number in range(500))
    after = take_review(in_review(state=State.IN_PROGRESS), review().evolve(comments=remarks), NOW).task
    root = Root(tmp_path)
    root.records.mkdir(parents=True)
    store = RecordStore(root)
    store.save(after)
    assert len(after.remarks) > 40 and after.id in store.load().tasks


@pytest.mark.parametrize(
    "given", [review("approved", "Well done!", ()), review("commented", "", ()), review("approved", "", ())]
)
def test_a_review_that_asks_for_nothing_changes_nothing(given: ReviewSeen) -> None:
    assert take_review(in_review(), given, NOW).task == in_review()


def test_merged_completes_and_closed_cancels_wherever_the_task_is() -> None:
    for state in (State.REVIEW, State.IN_PROGRESS, State.PENDING, State.BLOCKED, State.PAUSED, State.FAILED):
        assert look(in_review(state=state), seen("merged")).task.state is State.COMPLETED
        assert look(in_review(state=state), seen("closed")).task.state is State.CANCELLED
    ended = in_review(state=State.CANCELLED)
    assert look(ended, seen("merged")).task == ended


def test_checks_that_fail_send_it_back_so_often_and_then_ask_a_person() -> None:
    back = look(in_review(), seen("open", "success", "failure")).task
    assert (back.state, back.fix_rounds, back.feedback[0].code) == (State.PENDING, 1, "E_CHECK_FAILED")
    asked = look(in_review(fix_rounds=2), seen("open", "failure")).task
    assert (asked.state, [post.on for post in asked.posts]) == (State.REVIEW, ["request"])
    assert look(asked, seen("open", "failure")).task == asked, "once for each head"


def test_of_hundreds_of_checks_that_fail_the_first_are_told() -> None:
    found = seen("open", *["failure"] * 500)
    assert len(look(in_review(), found).task.feedback) == 40
    (post,) = look(in_review(fix_rounds=2), found).task.posts
    assert post.text.endswith("`c39` and 460 more")


@pytest.mark.parametrize(
    "found",
    [
        seen("open"),
        seen("open", "pending", "failure"),
        seen("open", "failure", head=SHA_A),
        seen("open", "success", "waiting"),
    ],
)
def test_checks_that_are_not_ours_or_not_over_change_nothing(found: ForgeRequest) -> None:
    assert look(in_review(), found).task.state is State.REVIEW
