"""What was seen of a request counts for the work that was delivered then, and for no other."""

from typing import Literal

import pytest

from supervisor.core.delivery import RequestSeen, settle_review
from supervisor.core.record import Delivery, Request
from supervisor.core.states import State
from tests.unit.conftest import DIGEST, NOW, SHA_A, SHA_B, SHA_C, make_attempt, make_task


@pytest.mark.parametrize("state", ["merged", "closed"])
def test_a_late_look_does_not_decide_what_was_delivered_since(
    state: Literal["merged", "closed"],
) -> None:
    newer = Delivery(attempt=1, claimed_head=SHA_C, pushed_head=SHA_C, base=SHA_A, bundle_sha256=DIGEST)
    ended = make_attempt(ended_at=NOW, verdict="completed", saved=True)
    task = make_task(
        state=State.REVIEW, attempt=1, attempts=(ended,), delivery=newer, request=Request(head=SHA_C, draft=False)
    )
    late, own = (RequestSeen(state=state, head=head, base_branch="main") for head in (SHA_B, SHA_C))
    assert settle_review(task, late, NOW).task == task
    assert settle_review(task, own, NOW).task.state is (State.COMPLETED if state == "merged" else State.BLOCKED)
