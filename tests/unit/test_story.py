"""The comment that tells a task's story."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import example, given
from hypothesis import strategies as st

from agent_daemon.protocol.model import Criterion, ProgressEntry, ReportStatus, TaskReport, WaitReason
from supervisor.core.record import Grant, Wait
from supervisor.core.states import State
from supervisor.core.story import marker, render_story, steering, story_due, story_gap_seconds, text_hash
from supervisor.core.surroundings import Surroundings
from tests.unit.conftest import make_attempt, make_task

NOW = datetime(2026, 1, 7, 10, 30, tzinfo=UTC)


def around(report: TaskReport | None = None) -> Surroundings:
    return Surroundings(now=NOW, running=True, report=report)


def report_of(message: str, done: str = "") -> TaskReport:
    return TaskReport(
        attempt=1,
        status=ReportStatus.IN_PROGRESS,
        progress=(ProgressEntry(timestamp=NOW, status="in_progress", message=message),),
        acceptance_criteria=(Criterion(criterion=done, status="done"),) if done else (),
    )


def test_it_ticks_what_is_done_and_offers_what_makes_sense() -> None:
    task = make_task(
        state=State.IN_PROGRESS,
        attempts=(make_attempt(),),
        attempt=1,
        acceptance_criteria=("it adds", "it is told"),
    )
    told = render_story(task, around(report_of("Running the tests", done="it adds")))
    assert "- [x] `it adds`" in told and "- [ ] `it is told`" in told
    assert "`Running the tests`" in told
    assert "`/cloud-code pause`" in told and "`/cloud-code resume`" not in told


def test_time_alone_does_not_change_the_text() -> None:
    task = make_task(state=State.IN_PROGRESS, attempts=(make_attempt(started_at=NOW),), attempt=1)
    later = Surroundings(now=NOW + timedelta(seconds=250), running=True)
    assert text_hash(render_story(task, around())) == text_hash(render_story(task, later))
    other = make_task(state=State.PAUSED, paused_from=State.IN_PROGRESS)
    assert text_hash(render_story(other, around())) != text_hash(render_story(task, around()))


def test_a_question_can_be_answered_from_the_comment() -> None:
    wait = Wait(reason=WaitReason.QUESTION, message="Which port?")
    told = render_story(make_task(state=State.BLOCKED, waits_for=(wait,)), around())
    assert "Which port?" in told and "`/cloud-code answer TEXT`" in told


def test_what_the_agent_asks_for_in_secret_can_be_decided_from_the_comment() -> None:
    grant = Grant(
        id="cred-001",
        asked_as="cred-001",
        type="npm_token",
        access="publish",
        attempt=1,
        asked_at=NOW,
        status="asked",
    )
    wait = Wait(reason=WaitReason.CREDENTIAL, message="I need it")
    task = make_task(state=State.BLOCKED, waits_for=(wait,), grants=(grant,))
    assert steering(task) == ["approve cred-001", "deny cred-001 REASON", "retry NOTE", "cancel"]
    decided = task.evolve(grants=(grant.evolve(status="denied"),))
    assert steering(decided) == ["retry NOTE", "cancel"]


def test_a_task_that_waits_for_money_says_for_which() -> None:
    poor = replace(around(), no_money=("the budget everything",))
    told = render_story(make_task(), poor)
    assert "- `waits for the budget everything`" in told and "its turn" not in told


def test_it_is_edited_rarely_when_a_task_takes_long_and_at_once_when_somebody_is_needed() -> None:
    young = make_task(state=State.IN_PROGRESS, attempts=(make_attempt(started_at=NOW),), attempt=1)
    old = make_task(
        state=State.IN_PROGRESS, attempts=(make_attempt(started_at=NOW - timedelta(hours=3)),), attempt=1
    )
    assert story_gap_seconds(young, NOW) == 15
    assert story_gap_seconds(old, NOW) == 120
    assert story_due(old, NOW, NOW) == NOW + timedelta(seconds=120)
    assert story_due(make_task(state=State.BLOCKED), NOW, NOW) == NOW
    assert story_due(young, None, NOW) == NOW


@given(st.text(max_size=300))
@example(" ")
@example(" " * 300 + "x")
def test_an_agents_words_stand_in_code_only(words: str) -> None:
    task = make_task(state=State.IN_PROGRESS, attempts=(make_attempt(),), attempt=1)
    plain = render_story(task, around(report_of("x")))
    told = render_story(task, around(report_of(words.replace("\x00", "") or "x")))
    # Outside of the one line with the agent's words nothing differs: they open no block and close none.
    differing = [line for line in told.splitlines() if line not in plain.splitlines()]
    assert len(differing) <= 1
    assert all(line.startswith("- `") for line in differing)


def test_the_marker_names_root_task_and_purpose() -> None:
    assert marker("abc", "acme.7", "story") == "<!-- cloud-code:abc:acme.7:story -->"
