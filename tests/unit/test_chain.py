"""Who makes the next attempt: the chain of a workstation, what an agent recommends, one try to get it unstuck."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_daemon.protocol.model import BlockedReason, ReportError, ReportStatus, TaskReport, WaitReason
from agent_daemon.protocol.outcomes import NOT_STARTED
from supervisor.core.answers import answers
from supervisor.core.assign import Prepared, assign
from supervisor.core.attempts import take_report
from supervisor.core.chain import cli_for, session_to_resume, what_was_tried
from supervisor.core.commands import Actor, Command, CommandRefusedError, apply_command, refuse_unknown_cli
from supervisor.core.intake import rerun
from supervisor.core.record import TaskRecord
from supervisor.core.settings import Config, RetrySettings
from supervisor.core.states import State
from supervisor.core.tasking import render_agent_config
from tests.unit.conftest import NOW, SHA_A, make_task

RETRY = RetrySettings()
CHAIN, STRONGEST = ("codex", "aider"), "claude-code"


def begin(task: TaskRecord, chain: tuple[str, ...] = CHAIN, unstuck: str | None = STRONGEST) -> TaskRecord:
    """The next attempt under way, by whoever's turn it is."""
    pending = task.evolve(state=State.PENDING)
    prepared = Prepared(base_branch="main", base_commit=SHA_A)
    cli = cli_for(task, chain, unstuck)
    made = assign(
        pending, prepared, workstation="backend-1", cli=cli, model=None, now=NOW, clis=chain, unstuck=unstuck
    )
    return made.task.evolve(state=State.IN_PROGRESS)


def fail(task: TaskRecord, code: str = "E_CLI_CRASHED", **more: Any) -> TaskRecord:
    error = ReportError(code=code, message="it says why")
    report = TaskReport(attempt=task.attempt, status=ReportStatus.FAILED, error=error, **more)
    return take_report(task, report, RETRY, NOW).task


def recommend(task: TaskRecord, cli: str | None) -> tuple[TaskRecord, list[str]]:
    report = TaskReport(
        attempt=task.attempt,
        status=ReportStatus.BLOCKED,
        blocked_reason=BlockedReason(reason=WaitReason.HANDOFF),
        recommend_handoff=cli,
        question="it is nothing for me",
    )
    decision = take_report(task, report, RETRY, NOW)
    return decision.task, [event.name for event in decision.events]


def command(task: TaskRecord, cli: str, kind: Any = "handoff", **args: Any) -> TaskRecord:
    wish = Command(
        id="c1", at=NOW, actor=Actor(id="ada"), channel="cli", kind=kind, target=task.id, args={"cli": cli} | args
    )
    refuse_unknown_cli(task, wish, (*CHAIN, STRONGEST))
    return apply_command(task, wish, NOW).task


def test_one_that_is_stuck_hands_over_at_once_and_at_the_end_the_strongest_has_one_try() -> None:
    task = begin(make_task(max_failures=3))
    for expected, role in (("aider", "specialist"), ("claude-code", "unstuck")):
        task = fail(task, "E_CLI_HUNG")
        assert (task.state, task.not_before, task.failures, task.cli) == (State.FAILED, NOW, 0, expected)
        task = begin(task)
        assert (task.attempts[-1].cli, task.attempts[-1].role) == (expected, role)
    task = fail(task, "E_VERIFICATION_FAILED")
    assert (task.state, task.waits_for[0].reason) == (State.BLOCKED, WaitReason.HUMAN)
    assert task.waits_for[0].message.endswith(
        "tried: codex (attempt 1: E_CLI_HUNG), aider (attempt 2: E_CLI_HUNG), "
        "claude-code to get it unstuck (attempt 3: E_VERIFICATION_FAILED)"
    )
    assert [(a.code, a.why) for a in task.attempts] == [
        ("E_CLI_HUNG", "it says why"),
        ("E_CLI_HUNG", "it says why"),
        ("E_VERIFICATION_FAILED", "it says why"),
    ]


def test_without_a_next_cli_one_that_is_stuck_is_tried_again() -> None:
    task = fail(begin(make_task(), ("codex",), None), "E_CLI_HUNG")
    assert (task.state, task.failures, task.cli) == (State.FAILED, 1, None)


def test_trouble_that_passes_by_itself_is_not_the_one_try() -> None:
    task = begin(make_task(cli="claude-code", unstuck=True, max_failures=3))
    assert task.attempts[-1].role == "unstuck"
    task = fail(task, "E_CLI_OVERLOADED")
    assert (task.state, task.cli, task.unstuck) == (State.FAILED, "claude-code", True)
    assert begin(task).attempts[-1].role == "unstuck"
    asked = fail(begin(task))
    assert asked.state is State.BLOCKED
    again = command(asked, "", kind="retry")
    assert (again.cli, again.unstuck, begin(again).attempts[-1].cli) == (None, False, "codex")


def test_a_task_that_is_run_again_begins_with_the_first_as_what_it_is() -> None:
    ended = begin(make_task(cli="claude-code", unstuck=True)).moved(
        State.CANCELLED, reason="", actor="ada", at=NOW
    )
    again = rerun(ended, reason="once more", actor="ada", now=NOW).task
    assert not again.unstuck
    attempt = begin(again, ("claude-code", "codex")).attempts[-1]
    assert (attempt.cli, attempt.role) == ("claude-code", "specialist")


@pytest.mark.parametrize(("cli", "role"), [("aider", "specialist"), ("claude-code", "unstuck")])
def test_what_an_agent_recommends_is_followed_at_once(cli: str, role: str) -> None:
    task, events = recommend(begin(make_task()), cli)
    assert (task.state, task.failures, task.cli, task.not_before) == (State.FAILED, 0, cli, NOW)
    assert events[-1] == "task.cli_changed"
    assert "it is nothing for me" in task.feedback[0].message
    assert (begin(task).attempts[-1].cli, begin(task).attempts[-1].role) == (cli, role)


@pytest.mark.parametrize(
    ("cli", "why"), [("unheard-of", "there are aider, claude-code"), ("codex", "is the one that is at work")]
)
def test_a_recommendation_that_cannot_be_followed_is_told_and_the_next_goes_on(cli: str, why: str) -> None:
    task, events = recommend(begin(make_task()), cli)
    assert "handoff.ignored" in events
    assert task.cli == "aider"
    assert why in task.feedback[-1].message


def test_after_the_last_one_a_person_is_told_that_nothing_failed_but_a_recommendation_is_not_taken() -> None:
    task, events = recommend(begin(make_task(), ("codex",), None), "unheard-of")
    assert (task.state, task.failures) == (State.BLOCKED, 0)
    assert "handoff.ignored" in events
    assert task.waits_for[0].message == (
        "codex recommends unheard-of, which is not taken: there is no coding CLI of that name here: "
        "there are none besides; it says: it is nothing for me"
    )


def test_one_that_is_not_there_is_passed_over_at_once_and_a_person_is_asked_after_the_last() -> None:
    task = begin(make_task(max_failures=1), unstuck=None)
    error = ReportError(code=NOT_STARTED, message="codex: could not start codex; install it")
    decision = take_report(task, TaskReport(attempt=1, status=ReportStatus.FAILED, error=error), RETRY, NOW)
    task = decision.task
    assert (task.state, task.not_before, task.failures, task.cli) == (State.FAILED, NOW, 0, "aider")
    assert decision.events[-1].details["rule"] == "not_started"
    assert "could not start codex" in task.feedback[0].message
    task = fail(begin(task, unstuck=None), NOT_STARTED)
    assert task.waits_for[0].reason is WaitReason.HUMAN
    assert "tried: codex (attempt 1: E_CLI_NOT_STARTED)" in task.waits_for[0].message
    told = answers(task)
    assert told[0].command == "cloud-code workstation clis" and "correct `clis`" in told[1].text


def test_nobody_is_recommended_twice() -> None:
    task, _ = recommend(begin(make_task()), "aider")
    task, events = recommend(begin(task), "codex")
    assert "handoff.ignored" in events
    assert (task.cli, task.unstuck) == ("claude-code", True)


_ENDS = st.sampled_from(
    ["E_CLI_HUNG", "E_CLI_CRASHED", "E_CLI_REFUSED", "E_CLI_OVERLOADED", "codex", "aider", "x"]
)


@given(ends=st.lists(_ENDS, min_size=20, max_size=20), unstuck=st.sampled_from([None, "codex", STRONGEST]))
def test_however_attempts_end_a_person_is_asked_at_last(ends: list[str], unstuck: str | None) -> None:
    task, roles = make_task(max_failures=2), []
    for end in ends:
        task = begin(task, CHAIN, unstuck)
        roles.append(task.attempts[-1].role)
        task = fail(task, end) if end.startswith("E_") else recommend(task, end)[0]
        if task.state is State.BLOCKED:
            break
    assert task.state is State.BLOCKED
    assert len(roles) <= 3 * task.max_failures
    assert what_was_tried(task).startswith("codex")
    assert roles.count("unstuck") <= task.max_failures * (unstuck is not None)


# --- a person hands over -------------------------------------------------------------------------------


def test_a_person_hands_over_in_the_middle_of_a_run() -> None:
    task = command(begin(make_task()), "aider", note="the tests are slow")
    assert (task.state, task.cli, task.attempts[-1].verdict) == (State.PENDING, "aider", "handed over")
    assert [item.code for item in task.feedback] == ["HANDOFF", "NOTE"]
    assert begin(task).attempts[-1].cli == "aider"


def test_a_person_hands_over_to_what_is_there() -> None:
    with pytest.raises(CommandRefusedError, match="no coding CLI unheard-of: there are codex, aider, claude-code"):
        command(begin(make_task()), "unheard-of")


def test_what_the_daemon_says_afterwards_of_session_and_usage_is_kept() -> None:
    task = command(begin(make_task()), "aider")
    said = TaskReport.model_validate(
        {"attempt": 1, "status": "cancelled", "session": {"cli": "codex", "id": "s1"}, "usage": {"turns": 3}}
    )
    kept = take_report(task, said, RETRY, NOW).task.attempts[0]
    assert (kept.session, kept.usage.turns) == ("s1", 3)


# --- which session goes on -----------------------------------------------------------------------------


def session_of_next(task: TaskRecord) -> str | None:
    following = begin(task)
    return session_to_resume(following, following.attempts[-1])


@pytest.mark.parametrize(
    ("code", "resumed"), [("E_CLI_CRASHED", "s1"), ("E_VERIFICATION_FAILED", "s1"), ("E_CLI_HUNG", None)]
)
def test_a_session_goes_on_unless_it_led_nowhere(code: str, resumed: str | None) -> None:
    task = fail(begin(make_task()), code, session={"cli": "codex", "id": "s1"}).evolve(cli="codex")
    assert session_of_next(task) == resumed


def test_no_session_goes_on_after_another_cli_has_worked_nor_elsewhere() -> None:
    task = fail(begin(make_task()), session={"cli": "codex", "id": "s1"})
    assert session_of_next(task.evolve(cli="aider")) is None
    elsewhere = task.with_attempt(1, workstation="backend-2")
    assert session_of_next(elsewhere) is None
    between = fail(begin(task.evolve(cli="aider"))).evolve(cli="codex")
    assert session_of_next(between) is None


def test_the_daemon_is_told_whom_it_may_recommend(config: Config) -> None:
    task = begin(make_task())
    told = render_agent_config(task, task.attempts[-1], config, revision=1)
    assert told.handoff_clis == ("aider", "claude-code")


def test_the_strongest_is_named_by_project_or_workstation() -> None:
    settings = {
        "projects": {"one": {"repository": "/r"}, "two": {"repository": "/r", "unstuck": "codex"}},
        "workstations": {"backend": {"clis": ["aider"], "unstuck": "claude-code"}},
    }
    config = Config.model_validate(settings)
    assert config.unstuck_for("one", "backend") == "claude-code"
    assert config.clis_for("two", "backend") == ("aider", "codex")
    assert config.clis_of_station("backend") == ("aider", "claude-code", "codex")


def test_a_run_that_names_no_cli_takes_nothing_from_the_one_that_was_named() -> None:
    task = make_task(cli="aider", not_before=NOW)
    again = command(task, "", "run")
    assert (again.state, again.cli, again.not_before) == (State.PENDING, "aider", None)
