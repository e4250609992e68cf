"""What people are told of a task: complete, true to its state, and with the command that helps."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_daemon.protocol.model import (
    Activity,
    Feedback,
    ReportStatus,
    TaskReport,
    VerificationCommand,
    WaitReason,
)
from supervisor.core.answers import answers
from supervisor.core.delivery import push_key, request_key
from supervisor.core.explain import explain, headline
from supervisor.core.life import StationState
from supervisor.core.record import (
    Approval,
    Delivery,
    Effect,
    HistoryEntry,
    Interrupted,
    Request,
    Suspicion,
    TaskRecord,
    Wait,
)
from supervisor.core.states import ENDED, State
from supervisor.core.surroundings import StationSeen, Surroundings
from supervisor.core.times import duration
from tests.unit.conftest import DIGEST, NOW, SHA_A, SHA_B, make_attempt, make_task

FREE = StationSeen(name="backend-1", state=StationState.IDLE)
BUSY = StationSeen(name="backend-2", state=StationState.WORKING, task="acme.other")
STOPPED = StationSeen(name="backend-3", state=StationState.STOPPED)
DELIVERY = Delivery(
    attempt=1, claimed_head=SHA_A, pushed_head=SHA_B, base=SHA_A, bundle_sha256=DIGEST, diff_stat="1 file changed"
)


def around(**changes: object) -> Surroundings:
    return Surroundings(**({"now": NOW, "running": True, "stations": (FREE,)} | changes))  # type: ignore[arg-type]


def told(task: TaskRecord, **changes: object) -> str:
    """Everything that `task explain` prints, on one line."""
    found = explain(task, around(**changes))
    return " ".join([*found.why, *found.next, *(f"{a.text}: {a.command}" for a in found.can)])


def test_what_waits_for_a_budget_is_told_with_the_command_that_adds_what_is_missing() -> None:
    more = "cloud-code budget top-up daily 0.06"
    said = told(make_task(state=State.PENDING), no_money=("the budget daily",), top_ups=(more,))
    assert f"Let there be as much as it needs: {more}" in said
    cheap = told(make_task(state=State.PENDING), cost_limit_usd=0.008)
    assert "It may cost 0.0080 USD in all, and has cost 0.00." in cheap


def test_an_ended_attempt_whose_report_cannot_be_taken_is_named_as_long_as_it_matters() -> None:
    left = make_attempt(ended_at=NOW, verdict="handed over", salvage_since=NOW)
    task = make_task(state=State.PENDING, attempt=1, attempts=(left,))
    problem = "mail/backend-1/out/acme.login/1/reporting.yaml: E_YAML: it is broken"
    said = told(task, report_problem=problem)
    assert "The report of attempt 1 could not be taken" in said and problem in said
    assert "the next attempt begins without its work" in said
    saved = task.with_attempt(1, saved=True, salvage_since=None)
    assert problem not in told(saved, report_problem=problem)


def test_a_text_that_no_agent_has_been_told_is_explained() -> None:
    ended = make_attempt(ended_at=NOW, verdict="completed", saved=True)
    task = make_task(state=State.REVIEW, attempt=1, attempts=(ended,), delivery=DELIVERY)
    assert "text was changed" not in told(task.evolve(edited_at=NOW - timedelta(minutes=1)))
    said = told(task.evolve(edited_at=NOW + timedelta(minutes=1)))
    assert "changed after attempt 1" in said and "cloud-code task retry acme.login" in said
    commands = [action.command for action in answers(task.evolve(edited_at=NOW + timedelta(minutes=1)))]
    assert commands == ["cloud-code task diff acme.login", "cloud-code task retry acme.login", ""], (
        "so says status"
    )


def moved(task: TaskRecord, *states: State, reason: str = "so it is") -> TaskRecord:
    for state in states:
        task = task.moved(state, reason=reason, actor="supervisor", at=NOW)
    return task


@pytest.mark.parametrize("state", list(State))
@pytest.mark.parametrize("running", [True, False])
def test_every_state_has_a_reason_a_future_and_something_to_do(state: State, running: bool) -> None:
    step = HistoryEntry(at=NOW, source=State.PENDING, target=state, reason="so it is", actor="supervisor")
    task = make_task(state=state, history=(step,), attempt=1, attempts=(make_attempt(),), workstation="backend-1")
    found = explain(task, around(running=running))
    assert found.why and found.next and found.can
    assert all(sentence.endswith((".", "?", "!", "…")) for sentence in (*found.why, *found.next))
    assert found.since == NOW
    assert headline(task, around(running=running))
    stopped = any("No supervisor is running" in sentence for sentence in found.next)
    assert stopped == (not running and task.state not in ENDED | {State.BLOCKED, State.PAUSED})


@given(
    state=st.sampled_from(State),
    waits=st.lists(st.sampled_from(WaitReason), max_size=3),
    message=st.text(max_size=30),
    attempts=st.integers(0, 2),
    delivered=st.booleans(),
)
def test_no_record_is_beyond_words(
    state: State, waits: list[WaitReason], message: str, attempts: int, delivered: bool
) -> None:
    task = make_task(
        state=state,
        waits_for=tuple(Wait(reason=reason, message=message) for reason in waits),
        attempt=attempts,
        attempts=tuple(make_attempt(number=n + 1) for n in range(attempts)),
        feedback=(Feedback(message=message),),
        delivery=DELIVERY if delivered else None,
    )
    found = explain(task, around())
    assert found.why and found.next
    assert all("\n" not in action.text + action.command for action in found.can)


class TestPending:
    def test_a_free_workstation_gets_it(self) -> None:
        assert headline(make_task(), around()) == "is being made ready for backend-1"

    def test_all_are_busy(self) -> None:
        said = headline(make_task(), around(stations=(BUSY, STOPPED)))
        assert said == "waits for a free workstation of the type backend (busy: backend-2 with acme.other)"

    def test_none_runs_and_one_can_be_started(self) -> None:
        assert "backend-3 is stopped" in told(make_task(), stations=(STOPPED,))
        assert "cloud-code workstation start backend-3" in told(make_task(), stations=(STOPPED,))

    def test_none_is_configured(self) -> None:
        assert "and none is configured" in told(make_task(), stations=())

    def test_why_one_does_not_start_is_passed_on(self) -> None:
        refused = StationSeen(name="backend-1", state=StationState.PROVISIONING, note="E_LOCAL_UNDER_SERVICE: no")
        assert "E_LOCAL_UNDER_SERVICE" in headline(make_task(), around(stations=(refused,)))

    def test_dependencies_come_before_workstations(self) -> None:
        said = headline(make_task(), around(unmet=("acme.api, which is blocked (needed: verified)",)))
        assert said == "waits for acme.api, which is blocked (needed: verified)"

    def test_a_cancelled_dependency_waits_for_a_person(self) -> None:
        task = make_task()
        assert answers(task) == ()
        assert [a.command for a in answers(task, ["acme.api"])] == [
            "cloud-code task retry acme.api",
            "cloud-code task edit acme.login",
        ]

    def test_the_backoff_of_a_failed_preparation_says_when(self) -> None:
        task = make_task(not_before=NOW + timedelta(seconds=15))
        assert headline(task, around()) == "gets its next attempt at 10:30:15 UTC (in 15 s)"
        assert "cloud-code task retry acme.login" in told(task)

    def test_an_attempt_that_is_still_being_stopped_is_named(self) -> None:
        task = make_task(attempt=1, attempts=(make_attempt(),))
        assert "attempt 1 has been stopped and saved on backend-1" in headline(task, around())


class TestInProgress:
    def task(self, **changes: object) -> TaskRecord:
        return make_task(
            state=State.IN_PROGRESS, attempt=1, attempts=(make_attempt(**changes),), workstation="backend-1"
        )

    def test_the_step_of_the_report_is_shown(self) -> None:
        report = TaskReport(attempt=1, status=ReportStatus.VERIFYING, current_step="Running\ntests", percent=80)
        assert headline(self.task(), around(report=report)) == "verifying: Running tests (80 %)"

    def test_a_claim_is_called_a_claim(self) -> None:
        report = TaskReport(attempt=1, status=ReportStatus.COMPLETED)
        assert "claims to be done" in headline(self.task(), around(report=report))

    def test_who_brought_it_where_it_is_reads_as_a_sentence(self) -> None:
        entry = HistoryEntry(
            at=NOW, source=State.IN_PROGRESS, target=State.CANCELLED, actor="ann", reason="asked for"
        )
        said = told(make_task(state=State.CANCELLED, history=(entry,)))
        assert "It was in progress before; ann changed that: asked for." in said

    def test_the_state_is_not_said_twice(self) -> None:
        report = TaskReport(attempt=1, status=ReportStatus.IN_PROGRESS, current_step="Reading", percent=5)
        assert headline(self.task(), around(report=report)) == "Reading (5 %)"

    def test_a_report_that_cannot_be_taken_is_told_and_what_follows(self) -> None:
        problem = "x.yaml: E_UNFINISHED: it breaks off"
        said = told(self.task(), report_problem=problem)
        assert problem in said and "If that lasts 10 min, the attempt is ended" in said
        assert "no report yet" not in said, "there were reports, and this one is there"
        assert headline(self.task(), around(report_problem=problem)) == "its report cannot be taken"

    def test_a_failing_push_says_why_and_when_it_is_tried_again(self) -> None:
        ended = self.task(ended_at=NOW, verdict="completed").evolve(delivery=DELIVERY)
        push = Effect(key=push_key(ended), kind="push", tries=2, error="unreachable")
        task = ended.with_effect(push.evolve(not_before=NOW + timedelta(minutes=5)))
        assert headline(task, around()) == "pushing to cloud-code/login; try 2 failed: unreachable"
        assert "It is tried again at 10:35:00 UTC (in 5 min)." in told(task)
        done = task.with_effect(push.evolve(status="done"))
        done = done.with_effect(Effect(key=request_key(done), kind="request"))
        assert headline(done, around()) == "opening the request"


class TestSignsOfLife:
    SUSPECT = Suspicion(rule="input", since=NOW - timedelta(seconds=45), due=NOW + timedelta(seconds=75))

    def task(self, failures: int = 0, **changes: object) -> TaskRecord:
        attempt = make_attempt(**changes)
        return make_task(
            state=State.IN_PROGRESS, attempt=1, attempts=(attempt,), workstation="backend-1", failures=failures
        )

    def test_what_the_cli_is_seen_to_do_is_told_of_this_very_attempt(self) -> None:
        found = Activity(task="acme.login", attempt=1, run=1, cpu_seconds=95, quiet_seconds=12)
        station = StationSeen(name="backend-1", state=StationState.IDLE, activity=found)
        said = told(self.task(), stations=(station,))
        assert "codex wrote or did something 12 s ago; it has used 2 min of processor time." in said
        other = StationSeen(
            name="backend-1", state=StationState.IDLE, activity=found.model_copy(update={"attempt": 2})
        )
        assert "processor time" not in told(self.task(), stations=(other,))

    def test_a_suspicion_says_since_when_by_which_rule_and_what_comes_when(self) -> None:
        task = self.task(suspicion=self.SUSPECT)
        said = told(task)
        assert "codex waits for somebody to type something for 45 s, since 10:29:15 UTC (rule input)." in said
        assert "Without a sign of life it is interrupted at 10:31:15 UTC (in 75 s)." in said
        assert "goes on in the same session" in said
        assert "Should the attempt fail, another one follows after a pause; 2 more may fail with codex." in said
        assert "cloud-code workstation restart backend-1" in said
        assert headline(task, around()) == "codex waits for somebody to type something for 45 s"

    def test_the_second_time_the_attempt_ends_and_the_chain_is_named(self) -> None:
        before = Interrupted(number=1, rule="quiet", then="resume", at=NOW - timedelta(minutes=5), heeded=True)
        task = self.task(failures=2, suspicion=self.SUSPECT, interruption=before, next_cli="aider")
        said = told(task)
        assert "It was interrupted 5 min ago, for it neither wrote nor worked (rule quiet): what it had" in said
        assert "this attempt ends as failed" in said
        assert "Should the attempt end so, the next one is made with aider." in said
        last = told(self.task(failures=2, suspicion=self.SUSPECT, interruption=before))
        assert "Should the attempt fail, a person is asked." in last

    def test_an_interruption_that_is_not_done_yet_is_told_as_such(self) -> None:
        asked = Interrupted(number=1, rule="quiet", then="resume", at=NOW - timedelta(seconds=3))
        assert "its workstation has not done it yet" in told(self.task(interruption=asked))

    def test_a_silent_workstation_is_told_with_what_follows_and_when(self) -> None:
        silent = StationSeen(name="backend-1", state=StationState.UNHEALTHY, silent_seconds=45.0)
        for state in (State.ASSIGNED, State.IN_PROGRESS):
            said = told(self.task().evolve(state=state), stations=(silent,))
            assert "backend-1 has given no sign of life for 45 s (rule silent)." in said
            assert "its daemon is restarted in 75 s and goes on with the attempt" in said
        assert "is restarted" not in told(self.task(), stations=(silent,), running=False)

    def test_another_cli_that_takes_over_is_told(self) -> None:
        task = self.task().evolve(state=State.FAILED, cli="aider", not_before=NOW + timedelta(seconds=10))
        said = told(task)
        assert "It could not be done with the CLI before: aider takes over." in said
        assert "The next attempt starts at 10:30:10 UTC (in 10 s), with aider." in said


@pytest.mark.parametrize("state", sorted(set(State) - ENDED))
def test_a_resting_task_is_not_told_to_be_worked_on(state: State) -> None:
    task = make_task(state=state, attempt=1, attempts=(make_attempt(),), workstation="backend-1")
    said = told(task, resting=True, running=False)
    assert "its project, acme, is not configured" in said and "No supervisor is running" not in said
    assert headline(task, around(resting=True)) == "resting: the project acme is not configured"


class TestBlocked:
    def task(self, reason: WaitReason, message: str = "it is so", ref: str | None = None) -> TaskRecord:
        wait = Wait(reason=reason, message=message, ref=ref)
        return make_task(state=State.BLOCKED, waits_for=(wait,), attempt=1, attempts=(make_attempt(),))

    @pytest.mark.parametrize("reason", list(WaitReason))
    def test_every_reason_has_an_answer_with_a_command(self, reason: WaitReason) -> None:
        assert any(action.command for action in answers(self.task(reason)))

    def test_an_approval_is_looked_at_before_it_is_given(self) -> None:
        task = self.task(WaitReason.APPROVAL, ref="a1").evolve(
            approvals=(Approval(id="a1", gate="protected_paths", subject_hash=DIGEST),)
        )
        assert [action.command for action in answers(task)] == [
            "cloud-code task diff acme.login",
            "cloud-code task approve acme.login a1",
            "cloud-code task deny acme.login a1 --reason '…'",
        ]

    def test_a_question_is_answered(self) -> None:
        task = self.task(WaitReason.QUESTION, "Which one?\nThe left one")
        assert "It waits for an answer: Which one? The left one." in explain(task, around()).why
        assert [a.command for a in answers(task)] == ["cloud-code task answer acme.login '…'"]

    def test_a_verification_that_failed_leads_to_what_it_printed(self) -> None:
        checks = tuple(VerificationCommand(name=name, command=name) for name in ("lint", "tests"))
        failed = Feedback(
            code="E_VERIFICATION_FAILED", message="verification 'tests' failed with exit code 1\nboom"
        )
        not_run = Feedback(code="E_VERIFICATION_FAILED", message="verification 'lint' was not run")
        task = self.task(WaitReason.HUMAN).evolve(verification=checks, feedback=(not_run, failed))
        assert [action.command for action in answers(task)][:2] == [
            "cloud-code task logs acme.login --log verify-2",
            "cloud-code task logs acme.login",
        ]
        assert "--log verify-2" in told(task.evolve(state=State.FAILED, waits_for=()))

    def test_what_the_text_of_a_task_can_mend_is_offered(self) -> None:
        hung = Feedback(code="E_CLI_HUNG", message="it was ended at its time limit of 30 minutes")
        found = answers(self.task(WaitReason.HUMAN).evolve(feedback=(hung,)))
        assert [action.command for action in found][-2:] == [
            "cloud-code task edit acme.login",
            "cloud-code task retry acme.login --note '…'",
        ]
        assert "limits.timeout_minutes" in found[-2].text

    def test_a_repository_that_is_not_there_is_corrected_before_anything_is_tried_again(self) -> None:
        task = self.task(WaitReason.HUMAN, "E_NO_REPOSITORY: /path: There is no such repository.")
        found = answers(task)
        assert "projects.acme.repository in config.yaml" in found[0].text
        assert [action.command for action in found[1:]] == [
            "cloud-code doctor",
            "cloud-code task retry acme.login",
        ]

    def test_a_branch_that_exists_is_renamed_first(self) -> None:
        task = self.task(WaitReason.CONFLICT, "E_BRANCH_EXISTS: it is there")
        assert "cloud-code/login" in answers(task)[0].text
        assert answers(task)[1].command == "cloud-code task retry acme.login"


def test_what_the_next_attempt_is_told_is_told_to_people_too() -> None:
    failed = make_task(
        state=State.FAILED, failures=1, not_before=NOW, feedback=(Feedback(message="tests failed\n1 of 3"),)
    )
    assert "The next attempt is told: tests failed" in told(failed)
    assert "1 attempt has failed; after 3 a person is asked." in told(failed)


def test_a_review_leads_to_the_request_and_to_the_merge() -> None:
    task = make_task(
        state=State.REVIEW, delivery=DELIVERY, request=Request(url="/r/state/requests/acme.login.md", head=SHA_B)
    )
    assert "/r/state/requests/acme.login.md" in told(task)
    assert "merged into main on the remote" in told(task)
    assert "cloud-code task retry acme.login --note" in told(task)


def test_an_ended_task_names_what_is_left_of_it() -> None:
    task = make_task(state=State.CANCELLED, attempt=1, attempts=(make_attempt(ended_at=NOW),))
    assert "attempt 1 on backend-1" in told(task)
    clean = make_task(state=State.CANCELLED, attempt=1, attempts=(make_attempt(ended_at=NOW, released=True),))
    assert "cleaned up" not in told(clean)


def test_what_could_not_be_saved_is_named_with_its_place_in_every_state() -> None:
    left = make_attempt(ended_at=NOW, verdict="failed", save_error="E_NO_BUNDLE: it is gone")
    for state in (State.CANCELLED, State.BLOCKED, State.FAILED):
        task = make_task(state=state, attempt=1, attempts=(left,))
        said = told(task)
        assert "What attempt 1 left could not be saved: E_NO_BUNDLE: it is gone." in said
        assert "untouched on backend-1, in workspaces/backend-1/acme.worktrees/acme.login." in said
    elsewhere = make_attempt(number=2, workstation="backend-2", ended_at=NOW, saved=True, released=True)
    assert "It lies untouched" in told(task.evolve(attempt=2, attempts=(left, elsewhere)))
    said = told(task.evolve(attempt=2, attempts=(left, elsewhere.evolve(workstation="backend-1"))))
    assert "attempt 2 went on in it if it could" in said and "acme.login.kept-before-2" in said
    assert "could not be saved" not in told(task.evolve(attempts=(left.evolve(dropped_by="ada"),)))


def test_times_are_given_in_the_unit_that_people_think_in() -> None:
    spans = (-3, 0.4, 45, 89, 100, 3599, 7200, 7500, 3 * 86400)
    assert [duration(s) for s in spans] == [
        "0 s",
        "0 s",
        "45 s",
        "89 s",
        "2 min",
        "60 min",
        "2 h",
        "2 h 5 min",
        "3 d",
    ]
