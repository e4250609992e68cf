"""What is found of a project's access to its forge, judged."""

from datetime import timedelta

import pytest

from supervisor.core.access import (
    HookSeen,
    judge_end,
    judge_hook,
    judge_labels,
    judge_name,
    judge_push,
    unseen_hook,
)
from supervisor.core.forge import Budget, Finding, budget_line, is_scarce
from supervisor.core.settings import WebhookListener
from supervisor.doctor import listener_check, project_check
from tests.unit.conftest import NOW

WANTED = frozenset({"issues", "note"})
URL = "https://example.org/hooks/acme"


@pytest.mark.parametrize(
    ("budget", "line"),
    [
        (Budget(), ""),
        (Budget(calls=1, charged=1), "1 call made, 1 charged"),
        (Budget(limit=5000, remaining=4871), "4871 of 5000 calls left"),
        (
            Budget(limit=5000, remaining=12, resets_at=NOW + timedelta(minutes=32), calls=120, charged=3),
            "12 of 5000 calls left for 32 min; 120 calls made, 3 charged",
        ),
        (Budget(limit=5000, remaining=0, resets_at=NOW - timedelta(seconds=1)), "5000 calls left"),
    ],
)
def test_a_budget_in_words(budget: Budget, line: str) -> None:
    assert budget_line(budget, NOW) == line


@pytest.mark.parametrize(
    ("remaining", "ends_in", "scarce"), [(499, 60, True), (500, 60, False), (0, -1, False), (None, 60, False)]
)
def test_a_budget_is_scarce_until_its_period_ends(remaining: int | None, ends_in: int, scarce: bool) -> None:
    budget = Budget(limit=5000, remaining=remaining, resets_at=NOW + timedelta(seconds=ends_in))
    assert is_scarce(budget, NOW) == scarce


@pytest.mark.parametrize(
    ("hooks", "ok", "message"),
    [
        ([], False, "none points here"),
        ([HookSeen(url="https://example.org/hooks/other", events=WANTED)], False, "none points here"),
        ([HookSeen(url=URL, events=WANTED)], True, "points here"),
        ([HookSeen(url=URL, events=frozenset({"*"}))], True, "points here"),
        ([HookSeen(url=f"{URL}?x=1", events=WANTED)], True, "points here"),
        ([HookSeen(url=URL, events=frozenset({"note", "push"}))], False, "tells nothing of issues"),
        ([HookSeen(url=URL, events=WANTED, trouble="it was answered with 401")], False, "answered with 401"),
        ([HookSeen(url=URL, active=False)], False, "switched off"),
        ([HookSeen(url=URL, active=False), HookSeen(url=URL, events=WANTED)], True, "points here"),
    ],
)
def test_a_webhook_points_here_and_tells_what_is_wanted(hooks: list[HookSeen], ok: bool, message: str) -> None:
    found = judge_hook(hooks, "/hooks/acme", WANTED)
    assert (found.ok, message in found.message, bool(found.mend)) == (ok, True, not ok)
    assert found.status == ("ok" if ok else "warning"), "the poll does without"


def test_what_cannot_be_seen_is_no_lack() -> None:
    assert unseen_hook("/hooks/acme", "somebody").ok


def test_labels_differ_by_more_than_their_case() -> None:
    found = list(judge_labels(["Cloud-Code", "other"], ["cloud-code", "bug"]))
    assert [finding.ok for finding in found] == [True, False]


@pytest.mark.parametrize(("days", "told"), [(None, False), (8, False), (6, True), (-1, True)])
def test_a_token_that_ends_soon_is_told_of(days: int | None, told: bool) -> None:
    assert (judge_end(NOW + timedelta(days=days) if days is not None else None, NOW) is not None) == told


def test_a_renamed_repository_and_an_archived_one() -> None:
    assert judge_name("acme/app", "Acme/App").ok
    assert "acme/new" in judge_name("acme/app", "acme/new").mend
    assert not judge_push(True, True, "").ok and not judge_push(False, False, "").ok
    assert judge_push(True, False, "").ok


class TestDoctor:
    def test_a_project_without_a_lack_is_one_line(self) -> None:
        found = [
            Finding(what="account", ok=True, message="signed in as bot"),
            Finding(what="push", ok=True, message="may push"),
            Finding(what="base branch", ok=True, message="main is at abc"),
        ]
        check = project_check("acme", found)
        assert (check.name, check.status, check.detail) == (
            "project acme",
            "ok",
            "signed in as bot; main is at abc",
        )

    def test_the_gravest_lack_is_told_and_the_others_are_counted(self) -> None:
        found = [
            Finding(what="label x", ok=False, message="not there", mend="make it", grave=False),
            Finding(what="push", ok=False, message="may not push", mend="let it"),
            Finding(what="issues", ok=False, message="off", mend="turn them on"),
        ]
        check = project_check("acme", found)
        assert (check.status, check.mend) == ("error", "let it")
        assert check.detail == "push: may not push (and 2 more lacks: `cloud-code project check acme`)"
        assert project_check("acme", found[:1]).status == "warning"

    @pytest.mark.parametrize(
        ("open_there", "runs", "status"),
        [(True, True, "ok"), (False, False, "ok"), (False, True, "warning"), (True, False, "warning")],
    )
    def test_webhooks_are_heard_while_a_supervisor_runs(self, open_there: bool, runs: bool, status: str) -> None:
        check = listener_check(WebhookListener(), open_there, runs=runs)
        assert check.status == status and bool(check.mend) == (status != "ok")
