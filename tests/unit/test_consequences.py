"""What follows from each end of a coding CLI: one table, from the daemon's report to the next attempt."""

from datetime import datetime, timedelta
from typing import Any

import pytest

from agent_daemon.clis.base import OUTCOMES
from agent_daemon.protocol.model import BlockedReason, ReportError, ReportStatus, TaskReport, WaitReason
from agent_daemon.protocol.outcomes import ENDS, Consequence, code_of, follows_from
from supervisor.core.answers import answers
from supervisor.core.attempts import take_report
from supervisor.core.decision import Decision
from supervisor.core.explain import explain, headline
from supervisor.core.plan import Seen, next_deadline, plan_task
from supervisor.core.record import TaskRecord
from supervisor.core.retry import parked_until
from supervisor.core.settings import Config, RetrySettings
from supervisor.core.states import State
from tests.unit.conftest import NOW, make_attempt, make_task
from tests.unit.test_explain import around

RETRY = RetrySettings()
HOUR = timedelta(hours=1)


def working(next_cli: str | None = None, **changes: Any) -> TaskRecord:
    attempt = make_attempt(cli="claude-code", next_cli=next_cli)
    return make_task(state=State.IN_PROGRESS, attempt=1, attempts=(attempt,), **changes)


def ended(outcome: str, until: datetime | None = None, attempt: int = 1) -> TaskReport:
    """What a daemon reports of a run that came to this end."""
    reason = ENDS[outcome].reason
    if reason is not None:
        blocked = BlockedReason(reason=reason, until=until)
        return TaskReport(
            attempt=attempt, status=ReportStatus.BLOCKED, blocked_reason=blocked, blockers=("it says why",)
        )
    error = ReportError(code=code_of(outcome), message="it says why")
    return TaskReport(attempt=attempt, status=ReportStatus.FAILED, error=error)


def after(outcome: str, task: TaskRecord | None = None, **more: Any) -> Decision:
    return take_report(task or working(), ended(outcome, **more), RETRY, NOW)


def test_every_end_is_in_the_table() -> None:
    assert set(ENDS) == OUTCOMES
    blocking = {outcome for outcome, end in ENDS.items() if end.reason is not None}
    assert {ENDS[outcome].then for outcome in blocking} == {Consequence.ASK, Consequence.PARK}
    assert follows_from("E_VERIFICATION_FAILED") is follows_from(None) is Consequence.AGAIN


@pytest.mark.parametrize(
    ("outcome", "pause"),
    [("turn_limit", 0), ("interrupted", 0), ("crashed", 10), ("hung", 10), ("no_result", 10), ("overloaded", 90)],
)
def test_tried_again_after_a_pause_of_its_own(outcome: str, pause: int) -> None:
    task = after(outcome).task
    assert (task.state, task.failures) == (State.FAILED, 1)
    assert task.not_before == NOW + timedelta(seconds=pause)


@pytest.mark.parametrize("outcome", ["context_too_long", "refused"])
def test_handed_over_at_once_and_to_a_person_at_the_end_of_the_chain(outcome: str) -> None:
    decision = after(outcome, working(next_cli="codex"))
    task = decision.task
    assert (task.state, task.failures, task.cli, task.not_before) == (State.FAILED, 0, "codex", NOW)
    assert decision.events[-1].details == {
        "rule": "hand_over",
        "failures": 1,
        "from": "claude-code",
        "to": "codex",
    }
    last = after(outcome).task
    assert (last.state, last.waits_for[0].reason) == (State.BLOCKED, WaitReason.HUMAN)


@pytest.mark.parametrize("outcome", ["needs_input", "authentication", "budget", "quota"])
def test_a_person_is_asked(outcome: str) -> None:
    task = after(outcome).task
    assert (task.state, task.failures) == (State.BLOCKED, 0)
    assert task.waits_for[0].reason is ENDS[outcome].reason
    assert parked_until(task) is None
    assert answers(task)


# --- a quota that lasts again ------------------------------------------------------------------------


@pytest.fixture
def config() -> Config:
    return Config.model_validate({"projects": {"acme": {"repository": "/r", "base_branch": "main"}}})


def test_it_is_waited_for_without_a_failure_and_without_a_person(config: Config) -> None:
    task = after("quota", until=NOW + HOUR).task
    assert (task.state, task.failures, task.attempts[0].verdict) == (State.BLOCKED, 0, "quota")
    assert parked_until(task) == NOW + HOUR
    assert next_deadline(task, Seen(reports={}), config) == NOW + HOUR
    assert answers(task) == ()
    assert headline(task, around()) == "waits for the provider's quota, next attempt at 11:30:00 UTC (in 60 min)"
    said = explain(task, around())
    assert "It waits for the provider's quota: it says why." in said.why
    assert "counts as no failure" in said.next[0]

    assert plan_task(task, Seen(reports={}), config, NOW + HOUR / 2).task.state is State.BLOCKED
    again = plan_task(task, Seen(reports={}), config, NOW + HOUR).task
    assert (again.state, again.failures, again.waits_for) == (State.PENDING, 0, ())


def test_a_time_that_is_told_wrong_makes_no_circle_and_no_endless_wait() -> None:
    task = working(max_failures=1)
    for number, seconds in ((1, 10), (2, 30), (3, 90)):
        task = after("quota", task, until=NOW - HOUR, attempt=number).task
        assert parked_until(task) == NOW + timedelta(seconds=seconds)
        following = make_attempt(number=number + 1)
        task = task.evolve(
            state=State.IN_PROGRESS, waits_for=(), attempt=number + 1, attempts=(*task.attempts, following)
        )
    far = after("quota", until=NOW + 1000 * 24 * HOUR).task
    assert parked_until(far) == NOW + timedelta(days=8)


@pytest.mark.parametrize("until", [None, NOW + HOUR])
def test_or_the_next_cli_goes_on_where_that_is_configured(until: datetime | None) -> None:
    retry = RetrySettings(quota="next_cli")
    decision = take_report(working(next_cli="codex", failures=1), ended("quota", until), retry, NOW)
    task = decision.task
    assert (task.state, task.failures, task.cli, task.not_before) == (State.FAILED, 0, "codex", NOW)
    assert decision.events[-1].details["rule"] == "quota"
    last = take_report(working(), ended("quota", until), retry, NOW).task
    assert parked_until(last) == until
