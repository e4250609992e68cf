"""What a request on a forge is to say and be."""

from types import SimpleNamespace
from typing import Any

import pytest

from agent_daemon.protocol.model import CommitMade, VerificationCommand, VerificationResult
from supervisor.core.forge import ForgeRequest
from supervisor.core.record import Delivery, TaskRecord
from supervisor.core.render import clipped, render_body
from supervisor.core.settings import RequestSettings
from supervisor.forges.errors import ForgeError
from supervisor.forges.request_host import RequestHost
from tests.unit.conftest import DIGEST, SHA_A, SHA_B, make_task

CHECK = VerificationCommand(name="tests", command="true")
RAN = VerificationResult(name="tests", command="true", exit_code=0, duration_seconds=1.0)


def delivered(**changes: Any) -> TaskRecord:
    values = {"attempt": 1, "claimed_head": SHA_B, "pushed_head": SHA_B, "base": SHA_A, "bundle_sha256": DIGEST}
    return make_task(title="Fix it", delivery=Delivery(**(values | changes)), verification=(CHECK,))


def host(forge: Any) -> RequestHost:
    return RequestHost(forge, RequestSettings(), "https://example.org/a/b.git", lambda: None)


def draft(number: int = 3) -> ForgeRequest:
    return ForgeRequest(number=number, url="u", branch="b", base="main", head=SHA_B, state="open", draft=True)


def test_a_text_that_is_too_long_is_cut_between_lines() -> None:
    """Half a line would leave its code open, and what follows would take effect."""
    commits = tuple(CommitMade(sha=SHA_B, message=f"{n} closes #7 @everyone {'x' * 400}") for n in range(50))
    body = render_body(delivered(commits=commits, commits_total=50, summary="y" * 16_000))
    for most in range(len(body) - 3000, len(body) - 100, 37):
        cut = clipped(body, most)
        lines = [line for line in cut.splitlines() if not line.startswith("```")]
        assert len(cut) <= most + 4 and all(line.count("`") % 2 == 0 for line in lines)
    assert clipped(body, len(body)) == body and clipped("one", 1) == "\n[…]"


def test_a_request_closes_the_issue_that_it_is_for_and_no_other() -> None:
    """GitLab heeds such words in code, and what a squashed commit says may be made of it."""
    opened: list[Any] = []
    forge = SimpleNamespace(
        login="bot", find_request=lambda branch: None, open_request=lambda text: opened.append(text) or draft()
    )
    words = "This fixes #99 and closes https://git.example.org/a/b/-/issues/7 [skip ci]"
    task = delivered(summary=words, decisions=(words,)).evolve(acceptance_criteria=(words,), verification=())
    issue = task.source.evolve(kind="issue", ref="12")
    host(forge).open_request(task.evolve(source=issue))
    host(forge).open_request(task)
    body, of_a_file = (text.body for text in opened)
    assert body.startswith("Closes #12\n\n") and body.count("#") - body.count("##") * 2 == 1
    assert "#99" not in of_a_file and "[skip ci]" not in body and "fixes issue 99" in body


@pytest.mark.parametrize("title", ["Draft: Draft: fix", "WIP: [draft] fix", "(draft)  DRAFT:fix", "fix"])
def test_no_title_makes_a_draft_of_it(title: str) -> None:
    opened: list[Any] = []
    forge = SimpleNamespace(
        login="bot", find_request=lambda branch: None, open_request=lambda text: opened.append(text) or draft()
    )
    host(forge).open_request(delivered().evolve(title=title, verification=()))
    assert opened[0].title == "fix"


@pytest.mark.parametrize(("retryable", "stays"), [(False, True), (True, None)], ids=["refused", "away"])
def test_a_draft_that_the_forge_will_not_make_ready_stays_one(retryable: bool, stays: bool | None) -> None:
    def refuse(number: int) -> None:
        raise ForgeError("E_FORGE_DENIED", "not with this token", retryable=retryable)

    forge = SimpleNamespace(
        login="bot", find_request=lambda branch: draft(), edit_request=lambda number, text: None, mark_ready=refuse
    )
    task = delivered(verification=(RAN,))
    if stays is None:
        with pytest.raises(ForgeError):
            host(forge).open_request(task)
    else:
        assert host(forge).open_request(task).draft is stays


def test_all_commits_of_the_branch_are_listed_and_how_many_were_there() -> None:
    commits = (CommitMade(sha=SHA_A, message="one"), CommitMade(sha=SHA_B, message="two"))
    body = render_body(delivered(commits=commits, commits_total=2, earlier_total=1))
    assert "2 commits, 1 of them there before" in body and "`one`" in body and "`two`" in body
