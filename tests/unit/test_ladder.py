"""What is done about a CLI that gives no sign of life, told as histories; and that every order comes to an end."""

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_daemon.protocol.model import ReportStatus, Salvage, SupervisorIdentity, TaskReport
from supervisor.core.chain import cli_after, cli_for
from supervisor.core.ladder import MAX_RESUMES, climb, heed, is_ignored, reminder
from supervisor.core.liveness import Finding
from supervisor.core.record import Concern, Suspicion, TaskRecord
from supervisor.core.retry import fail_attempt
from supervisor.core.settings import RetrySettings, TimingSettings
from supervisor.core.states import State
from supervisor.core.tasking import Places, digest_of_wanted, render_tasking
from tests.unit.conftest import DIGEST, NOW, SHA_A, SHA_B, make_attempt, make_task

PLACES = Places(workspace="/w", workspace_source="/m")


def working(**changes: Any) -> TaskRecord:
    return make_task(state=State.IN_PROGRESS, attempt=1, attempts=(make_attempt(**changes),))


def quiet(seconds: float, rule: Concern = "quiet", limit: float = 600) -> Finding:
    return Finding(rule=rule, seconds=seconds, limit_seconds=limit)


def said(interruptions: int = 0, **fields: Any) -> TaskReport:
    return TaskReport(attempt=1, status=ReportStatus.IN_PROGRESS, interruptions=interruptions, **fields)


def test_reminded_then_interrupted_then_resumed_then_ended() -> None:
    task, told = working(session="s-1"), []
    salvage = Salvage(bundle="salvage.bundle", sha256=DIGEST, head=SHA_B, base=SHA_A)
    history: list[tuple[Finding | None, TaskReport]] = [
        (None, said()),
        (quiet(300), said()),
        (quiet(400), said()),
        (quiet(600), said()),
        (quiet(601), said()),
        (quiet(602), said(1, salvage=salvage)),
        (None, said(1)),
        (quiet(130, "input", 120), said(1)),
        (quiet(131, "input", 120), said(1)),
        (None, said(2)),
    ]
    for finding, report in history:
        heeded = heed(task, report)
        decision = heeded.then(climb(heeded.task, None if heeded.events else finding, NOW))
        task = decision.task
        told += [(event.name, event.details) for event in decision.events]
    assert told == [
        ("attempt.reminded", {"attempt": 1, "rule": "quiet", "seconds": 300, "interrupted_in_seconds": 300}),
        ("attempt.interrupted", {"attempt": 1, "rule": "quiet", "seconds": 600, "then": "resume"}),
        ("attempt.resumed", {"attempt": 1, "rule": "quiet", "session": "s-1", "saved": True}),
        ("attempt.interrupted", {"attempt": 1, "rule": "input", "seconds": 130, "then": "end"}),
    ]


def test_a_suspicion_says_since_when_and_until_when() -> None:
    task = climb(working(), quiet(300), NOW).task
    assert task.live is not None
    assert task.live.suspicion == Suspicion(
        rule="quiet", since=NOW - timedelta(seconds=300), due=NOW + timedelta(seconds=300)
    )
    after = climb(task, None, NOW)
    assert [event.name for event in after.events] == ["attempt.recovered"]
    assert after.task.live is not None and after.task.live.suspicion is None


def test_the_workstation_is_told_in_the_tasking_and_reminded_in_words() -> None:
    before = working()
    task = climb(before, quiet(600), NOW).task

    def tasking(record: TaskRecord) -> Any:
        supervisor = SupervisorIdentity(id="a", epoch=1)
        return render_tasking(record, record.attempts[0], PLACES, supervisor, revision=1, now=NOW)

    asked = tasking(task).task.interruption
    assert (asked.number, asked.rule, asked.then) == (1, "quiet", "resume")
    assert digest_of_wanted(tasking(task)) != digest_of_wanted(tasking(before)), "so it is written anew"
    words = reminder(quiet(45, "input", 120))
    assert words.code == "E_CLI_WAITS" and "45 s" in words.message and "75 s" in words.mend


@pytest.mark.parametrize("state", [State.PAUSED, State.BLOCKED, State.CANCELLED, State.REVIEW])
def test_only_an_attempt_under_way_is_looked_after(state: State) -> None:
    task = working().evolve(state=state)
    assert climb(task, quiet(900), NOW).task == task
    assert climb(make_task(), quiet(900), NOW).task == make_task()


def test_a_daemon_that_does_not_do_it_is_restarted_in_the_end() -> None:
    timing = TimingSettings()
    task = climb(working(), quiet(600), NOW).task
    assert not is_ignored(working(), quiet(10_000), timing)
    assert [is_ignored(task, quiet(seconds), timing) for seconds in (600, 719, 720)] == [False, False, True]
    done = heed(task, said(1)).task
    assert heed(done, said(1)).task == done and heed(working(), said(1)).task == working()
    assert not is_ignored(done, quiet(10_000), timing)


FINDINGS = st.one_of(
    st.none(), st.builds(quiet, st.floats(0, 2000), st.sampled_from(["quiet", "input"]), st.just(600.0))
)


@given(st.lists(st.tuples(FINDINGS, st.booleans()), max_size=40))
def test_however_it_goes_each_rung_is_taken_once_and_the_last_ends_it(
    history: list[tuple[Finding | None, bool]],
) -> None:
    task, heeded, asked = working(), 0, []
    for finding, obeys in history:
        task = heed(task, said(heeded)).task
        decision = climb(task, finding, NOW)
        again = climb(decision.task, finding, NOW)
        assert again.task == decision.task and not again.events, "the same look again asks for nothing"
        assert TaskRecord.model_validate(decision.task.model_dump()) == decision.task
        task = decision.task
        asked += [event.details["then"] for event in decision.events if event.name == "attempt.interrupted"]
        live = task.live
        if obeys and live is not None and live.interruption is not None:
            heeded = live.interruption.number
            if live.interruption.then == "end":
                break
    assert asked[:MAX_RESUMES] == ["resume"] * min(len(asked), MAX_RESUMES)
    assert asked[MAX_RESUMES:] in ([], ["end"])


def test_after_too_many_failures_the_next_cli_takes_over_and_at_last_a_person() -> None:
    chain, used, now = ("codex", "aider"), [], NOW
    task = make_task(max_failures=2)
    for number in range(1, 6):
        if task.state is State.BLOCKED:
            break
        cli = cli_for(task, chain)
        used.append(cli)
        attempt = make_attempt(number=number, cli=cli, next_cli=cli_after(cli, chain))
        task = task.evolve(state=State.IN_PROGRESS, attempt=number, attempts=(*task.attempts, attempt))
        decision = fail_attempt(task, why="it hung", feedback=(), retry=RetrySettings(), now=now)
        changed = [event.details for event in decision.events if event.name == "task.cli_changed"]
        assert bool(changed) == (number == 2)
        task = decision.task
    assert used == ["codex", "codex", "aider", "aider"]
    assert task.state is State.BLOCKED and task.waits_for[0].reason == "human"


def test_a_chain_that_was_changed_meanwhile_begins_anew() -> None:
    assert cli_for(make_task(cli="gone"), ("codex", "aider")) == "codex"
    assert cli_after("gone", ("codex", "aider")) is None
