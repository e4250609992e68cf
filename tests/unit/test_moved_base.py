"""A base branch that moved on: what is decided and said, without any repository."""

from datetime import UTC, datetime
from typing import Any

import pytest

from agent_daemon.protocol.model import Feedback, Rebase, ReportError, ReportStatus, TaskReport
from supervisor.core.assign import Prepared, assign
from supervisor.core.attempts import failure_feedback
from supervisor.core.delivery import Inspected, settle_inspection
from supervisor.core.moved_base import conflict_feedback, in_words, settle_base_check
from supervisor.core.record import BaseConflict, Delivery, Source, TaskRecord
from supervisor.core.settings import RetrySettings
from supervisor.core.states import State

NOW = datetime(2026, 1, 7, 10, 30, tzinfo=UTC)
CONFLICT = BaseConflict(base="b" * 40, head="c" * 40, files=("a.py",), files_total=1)


def task(state: State = State.REVIEW, **changes: Any) -> TaskRecord:
    source = Source(tracker="local", kind="file", ref="fix.yaml", key="local:fix")
    delivery = Delivery(
        attempt=1, claimed_head="c" * 40, pushed_head="c" * 40, base="a" * 40, bundle_sha256="0" * 64
    )
    fields: dict[str, Any] = {"delivery": delivery, "attempt": 1} | changes
    return TaskRecord(
        id="demo.fix",
        project="demo",
        source=source,
        created_at=NOW,
        title="Fix",
        specialist="backend",
        base_branch="main",
        branch="cloud-code/fix",
        state=state,
        **fields,
    )


def assigned(prepared: Prepared, **changes: Any) -> TaskRecord:
    pending = task(State.PENDING, delivery=None, attempt=0, **changes)
    given = assign(
        pending, prepared, workstation="backend-1", cli="codex", model=None, rebase="before_result", now=NOW
    )
    return given.task


@pytest.mark.parametrize(
    ("known", "rebase"),
    [
        ({}, "before_result"),
        ({"start_commit": "d" * 40}, "before_result"),
        ({"remote_head": "d" * 40}, "never"),
        ({"shared_branch": "cloud-code/other", "shared_tip": "d" * 40}, "never"),
    ],
    ids=["fresh", "from saved work", "pushed before", "on another task"],
)
def test_only_what_is_nowhere_on_the_remote_is_put_elsewhere(known: dict[str, Any], rebase: str) -> None:
    given = assigned(Prepared(base_branch="main", base_commit="a" * 40, **known))
    assert given.attempts[0].rebase == rebase


def test_a_document_is_put_nowhere() -> None:
    given = assigned(Prepared(base_branch="main", base_commit="a" * 40), expects="document")
    assert given.attempts[0].rebase == "never"


def test_a_conflict_in_review_is_told_once_and_forgotten_when_it_is_gone() -> None:
    told = settle_base_check(task(), CONFLICT, "report", NOW)
    assert told.task.state is State.REVIEW and [e.name for e in told.events] == ["request.conflicts"]
    again = settle_base_check(told.task, CONFLICT, "report", NOW)
    assert again.task == told.task and not again.events
    moved = settle_base_check(told.task, CONFLICT.evolve(base="e" * 40), "attempt", NOW)
    assert moved.task.base_conflict != CONFLICT and not moved.events
    gone = settle_base_check(moved.task, None, "report", NOW)
    assert gone.task.base_conflict is None and [e.name for e in gone.events] == ["request.mergeable"]
    assert settle_base_check(gone.task, None, "report", NOW).task == gone.task


def test_an_attempt_for_it_is_started_where_that_is_wanted() -> None:
    started = settle_base_check(task(), CONFLICT, "attempt", NOW).task
    assert started.state is State.PENDING and started.delivery is None
    assert "no rebase" in started.feedback[0].mend and started.base_conflict == CONFLICT


@pytest.mark.parametrize("state", [State.PENDING, State.IN_PROGRESS, State.COMPLETED, State.PAUSED])
def test_a_check_that_comes_too_late_changes_nothing(state: State) -> None:
    assert settle_base_check(task(state), CONFLICT, "attempt", NOW).task == task(state)


def test_work_that_conflicts_goes_back_until_the_attempts_are_used_up() -> None:
    retry = RetrySettings()
    working = assigned(Prepared(base_branch="main", base_commit="a" * 40), max_failures=2)
    for state, failures in ((State.FAILED, 1), (State.BLOCKED, 2)):
        running = working.moved(State.IN_PROGRESS, reason="", actor="", at=NOW, failures=failures - 1)
        sent_back = settle_inspection(running, Inspected(attempt=1, conflict=CONFLICT), None, retry, NOW).task
        assert sent_back.state is state and sent_back.failures == failures
        assert sent_back.attempts[0].verdict == "conflict" and not sent_back.start_squashed
        assert sent_back.feedback[0].code == "E_BASE_CONFLICT"
    assert sent_back.waits_for[0].reason == "conflict"


def test_what_the_daemon_reports_of_a_conflict_is_said_in_our_words() -> None:
    given = assigned(Prepared(base_branch="main", base_commit="a" * 40))
    report = TaskReport(
        attempt=1,
        status=ReportStatus.FAILED,
        error=ReportError(code="E_BASE_CONFLICT", message="whatever"),
        rebase=Rebase(outcome="conflict", onto="b" * 40, files=("a.py",), files_total=1),
    )
    (told,) = failure_feedback(given.attempts[0], report, "whatever")
    assert told.message.startswith("main has moved to bbbbbbbbbbbb") and "rebase or a merge" in told.mend
    without = report.model_copy(update={"rebase": None})
    assert failure_feedback(given.attempts[0], without, "why") == (
        Feedback(code="E_BASE_CONFLICT", message="why"),
    )


def test_many_files_are_counted() -> None:
    many = BaseConflict(base="b" * 40, head="", files=tuple(f"{n}.py" for n in range(20)), files_total=300)
    assert "and 290 more" in in_words("main", many)
    assert in_words("main", CONFLICT.evolve(files=(), files_total=0)).endswith("conflicts with it")
    assert conflict_feedback("main", CONFLICT, on_remote=False).expected
