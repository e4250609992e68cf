"""What a lost attempt left behind: waited for, bundled for a dead daemon, taken in, given up."""

from datetime import timedelta

import pytest

from agent_daemon.protocol.model import ReportError, ReportStatus, Salvage, TaskReport
from supervisor.core.attempts import take_report
from supervisor.core.decision import Bundle, Failed
from supervisor.core.plan import Seen, lose_attempt, plan_task
from supervisor.core.record import TaskRecord
from supervisor.core.salvage import must_hand_in, settle_salvage
from supervisor.core.schedule import is_due
from supervisor.core.settings import Config
from supervisor.core.states import State
from tests.unit.conftest import DIGEST, NOW, SHA_A, SHA_B, make_attempt, make_task

LATER = NOW + timedelta(hours=1)
REFUSED = Failed(code="E_NOT_BUNDLED", message="no room", retryable=True)


def working(state: State = State.IN_PROGRESS) -> TaskRecord:
    return make_task(state=state, attempt=1, attempts=(make_attempt(),), workstation="backend-1")


def jobs(task: TaskRecord, config: Config) -> list[Bundle]:
    found = plan_task(task, Seen(reports={}), config, NOW).jobs
    return [job for job in found if isinstance(job, Bundle)]


def test_the_next_attempt_waits_for_what_a_lost_one_left(config: Config) -> None:
    lost = lose_attempt(working(), verdict="workstation lost", now=NOW, config=config).task
    assert lost.attempts[0].to_be_bundled and [job.attempt for job in jobs(lost, config)] == [1]
    pending = lost.evolve(state=State.PENDING, not_before=None)
    assert not is_due(pending, LATER)
    made = Salvage(bundle="salvage.bundle", sha256=DIGEST, head=SHA_B, base=SHA_A)
    report = TaskReport(attempt=1, status=ReportStatus.CANCELLED, salvage=made)
    taken = take_report(pending, report, config.retry, NOW).task
    assert taken.attempts[0].bundle == "salvage.bundle" and not taken.attempts[0].to_be_bundled
    assert is_due(taken.with_attempt(1, saved=True), LATER)


def test_one_that_never_reported_left_nothing(config: Config) -> None:
    lost = lose_attempt(working(State.ASSIGNED), verdict="no report", now=NOW, config=config).task
    assert lost.attempts[0].settled and not lost.attempts[0].saved and not jobs(lost, config)


def test_an_attempt_that_left_nothing_is_saved_by_its_word(config: Config) -> None:
    lost = lose_attempt(working(), verdict="workstation lost", now=NOW, config=config).task
    nothing = TaskReport(attempt=1, status=ReportStatus.CANCELLED)
    assert take_report(lost, nothing, config.retry, NOW).task.attempts[0].saved
    error = ReportError(code="E_NOT_BUNDLED", message="odd")
    failed = TaskReport(attempt=1, status=ReportStatus.FAILED, error=error)
    not_bundled = take_report(lost, failed, config.retry, NOW).task.attempts[0]
    assert not not_bundled.saved and "odd" in str(not_bundled.save_error)


def test_it_is_given_up_after_a_while_and_taken_in_all_the_same_when_it_comes(config: Config) -> None:
    lost = lose_attempt(working(), verdict="workstation lost", now=NOW, config=config).task
    limit = timedelta(seconds=config.timing.salvage_timeout_seconds)
    seen = Seen(reports={}, watched_since=NOW + timedelta(minutes=30))
    assert plan_task(lost, seen, config, seen.watched_since or NOW).task.attempts[0].to_be_bundled
    given_up = plan_task(lost, Seen(reports={}), config, NOW + limit + timedelta(seconds=1)).task.attempts[0]
    assert given_up.settled and not given_up.saved and "within 300 s" in str(given_up.save_error)
    late = lost.with_attempt(1, save_error=given_up.save_error)
    made = Salvage(bundle="salvage.bundle", sha256=DIGEST, head=SHA_B, base=SHA_A)
    report = TaskReport(attempt=1, status=ReportStatus.CANCELLED, salvage=made)
    assert take_report(late, report, config.retry, NOW).task.attempts[0].save_error is None


def test_a_refusal_is_tried_again_and_then_said(config: Config) -> None:
    task, now = lose_attempt(working(), verdict="workstation lost", now=NOW, config=config).task, NOW
    for _ in range(4):
        task = settle_salvage(task, 1, REFUSED, now).task
        assert task.attempts[0].to_be_bundled and not task.attempts[0].saving.due(now)
        now += timedelta(minutes=5)
    task = settle_salvage(task, 1, REFUSED, now).task
    assert "no room" in str(task.attempts[0].save_error)


@pytest.mark.parametrize(
    ("status", "wanted"), [(ReportStatus.IN_PROGRESS, True), (ReportStatus.CANCELLED, False), (None, True)]
)
def test_a_cancelled_attempt_hands_in_what_it_has(status: ReportStatus | None, wanted: bool) -> None:
    task = working(State.CANCELLED)
    report = TaskReport(attempt=1, status=status) if status else None
    assert must_hand_in(task, task.attempts[0], report) is wanted
    assert not must_hand_in(working(), working().attempts[0], report)
    assert not must_hand_in(working(State.PAUSED), working().attempts[0], report)
