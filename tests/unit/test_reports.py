"""What a report means for its task, and what a request says."""

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_daemon.protocol.model import (
    BlockedReason,
    Criterion,
    Feedback,
    ReportError,
    ReportStatus,
    Result,
    SupervisorIdentity,
    TaskingStatus,
    TaskReport,
    VerificationCommand,
    VerificationResult,
    WaitReason,
)
from supervisor.core.answers import answers
from supervisor.core.assign import fail_preparation
from supervisor.core.attempts import occupies, take_report
from supervisor.core.commands import Actor, Command, apply_command
from supervisor.core.decision import Failed, Inspect
from supervisor.core.delivery import (
    Inspected,
    fail_inspection,
    fail_saving,
    push_key,
    request_key,
    settle_inspection,
    settle_push,
    settle_request,
)
from supervisor.core.plan import Seen, next_deadline, plan_task
from supervisor.core.record import (
    MAX_REASON_CHARACTERS,
    Approval,
    Delivery,
    Effect,
    Mail,
    Request,
    TaskRecord,
    Tries,
)
from supervisor.core.render import fence, one_line_code, render_request
from supervisor.core.schedule import is_due
from supervisor.core.settings import Config, RetrySettings
from supervisor.core.states import State
from supervisor.core.tasking import Places, clip_text, render_tasking, wanted_status
from tests.unit.conftest import DIGEST, NOW, SHA_A, SHA_B, make_attempt, make_task

RETRY = RetrySettings()
CHECK = VerificationCommand(name="tests", command="pytest -q")
RESULT = Result(kind="commits", bundle="result.bundle", sha256=DIGEST, head=SHA_B, base=SHA_A)


def working(**changes: Any) -> TaskRecord:
    return make_task(state=State.IN_PROGRESS, attempt=1, attempts=(make_attempt(),), **changes)


def report(status: str, **fields: Any) -> TaskReport:
    return TaskReport(attempt=1, status=ReportStatus(status), **fields)


def passed(exit_code: int = 0, commit: str = SHA_B, output: str = "") -> VerificationResult:
    return VerificationResult(name="tests", exit_code=exit_code, commit=commit, output_tail=output)


def test_the_first_report_starts_the_task() -> None:
    task = make_task(state=State.ASSIGNED, attempt=1, attempts=(make_attempt(),))
    assert take_report(task, report("planning"), RETRY, NOW).task.state is State.IN_PROGRESS


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, "nothing was changed"),
        ({"result": RESULT}, "'tests' was not run"),
        ({"result": RESULT, "verification": (passed(2, output="E  assert 1 == 2"),)}, "exit code 2"),
        ({"result": RESULT, "verification": (passed(commit=SHA_A),)}, "another commit"),
        ({"result": Result(kind="document", document="d.md", sha256=DIGEST)}, "expects commits"),
    ],
)
def test_a_claim_without_evidence_is_a_failure_with_feedback(fields: dict[str, Any], words: str) -> None:
    task = take_report(working(verification=(CHECK,)), report("completed", **fields), RETRY, NOW).task
    assert task.state is State.FAILED
    assert words in task.feedback[0].message
    assert task.attempts[0].verdict == "claim refused"


def test_a_claim_with_evidence_is_inspected(config: Config) -> None:
    claim = report("completed", result=RESULT, verification=(passed(1), passed(0)))
    decision = plan_task(working(verification=(CHECK,)), Seen(reports={1: claim}), config, NOW)
    assert decision.task.state is State.IN_PROGRESS
    assert decision.jobs == (Inspect(task_id="acme.login", attempt=1),)


def test_a_claim_whose_daemon_has_not_read_the_new_commands_is_waited_for(config: Config) -> None:
    """A newer tasking stands in the mail than the report knows of."""
    task = working(verification=(CHECK,)).with_attempt(1, mail=Mail(revision=3))
    ran = passed().model_copy(update={"command": "pytest"})
    old = report("completed", result=RESULT, verification=(ran,), observed_revision=2)
    waiting = plan_task(task, Seen(reports={1: old}), config, NOW)
    assert (waiting.task, waiting.jobs) == (task, ()) and occupies(task, task.attempts[0], old)

    inspected = Inspected(attempt=1, problems=(Feedback(code="E_PATH_GIT"),))
    for now in (old, old.model_copy(update={"status": ReportStatus.VERIFYING})):
        assert settle_inspection(task, inspected, now, RETRY, NOW).task == task, "that claim is none any more"

    heeded = old.model_copy(update={"observed_revision": 3})
    assert plan_task(task, Seen(reports={1: heeded}), config, NOW).task.failures == 1
    failed = old.model_copy(update={"verification": (passed(exit_code=1),)})
    assert plan_task(task, Seen(reports={1: failed}), config, NOW).task.failures == 1, "it was run, and failed"


def test_failures_wait_longer_and_longer_then_ask_a_person() -> None:
    task, waits = working(max_failures=3), []
    for number in (1, 2):
        failed = take_report(task, TaskReport(attempt=number, status=ReportStatus.FAILED), RETRY, NOW).task
        waits.append((failed.not_before or NOW) - NOW)
        task = failed.evolve(
            state=State.IN_PROGRESS,
            attempt=number + 1,
            attempts=(*failed.attempts, make_attempt(number=number + 1)),
        )
    assert waits == [timedelta(seconds=10), timedelta(seconds=30)]
    error = ReportError(code="E_CLI_CRASHED", message="it crashed")
    last = TaskReport(attempt=3, status=ReportStatus.FAILED, error=error)
    blocked = take_report(task, last, RETRY, NOW).task
    assert blocked.state is State.BLOCKED
    assert blocked.waits_for[0].message == "3 attempts failed; the last one: it crashed"


def test_a_question_blocks_with_its_reason() -> None:
    asked = report("blocked", question="which table?", blocked_reason=BlockedReason(reason=WaitReason.QUESTION))
    task = take_report(working(), asked, RETRY, NOW).task
    assert (task.state, task.waits_for[0].reason) == (State.BLOCKED, WaitReason.QUESTION)
    assert task.waits_for[0].message == "which table?"


def test_reports_of_paused_and_ended_tasks_change_no_state() -> None:
    paused = working(paused_from=State.IN_PROGRESS).evolve(state=State.PAUSED)
    assert take_report(paused, report("completed", result=RESULT), RETRY, NOW).task == paused
    cancelled = working().evolve(state=State.CANCELLED)
    after = take_report(cancelled, report("completed", result=RESULT), RETRY, NOW).task
    assert after.state is State.CANCELLED and after.attempts[0].bundle == "result.bundle"


@pytest.mark.parametrize(
    ("status", "busy"),
    [("received", True), ("verifying", True), ("paused", False), ("completed", False), ("blocked", False)],
)
def test_who_keeps_a_workstation_busy(status: str, busy: bool) -> None:
    task = working()
    assert occupies(task, task.attempts[0], report(status)) is busy
    assert occupies(task, task.attempts[0], None)
    assert not occupies(task, make_attempt(ended_at=NOW, verdict="failed"), report("in_progress"))


def test_what_is_wanted_of_an_attempt() -> None:
    done = make_attempt(ended_at=NOW, verdict="completed", saved=True)
    newer = make_attempt(number=2)
    lost = make_attempt(ended_at=NOW, verdict="workstation lost")
    cases = [
        (working(), make_attempt(), TaskingStatus.ASSIGNED),
        (working().evolve(state=State.PAUSED), make_attempt(), TaskingStatus.PAUSED),
        (working().evolve(state=State.CANCELLED), make_attempt(), TaskingStatus.CANCELLED),
        (working().evolve(state=State.REVIEW), done, TaskingStatus.ASSIGNED),
        (working().evolve(state=State.COMPLETED), done, TaskingStatus.CANCELLED),
        (working().evolve(state=State.COMPLETED), done.evolve(let_go=True), TaskingStatus.RELEASED),
        (working().evolve(attempt=2, attempts=(done, newer)), done, TaskingStatus.RELEASED),
        (working().evolve(attempt=2, attempts=(lost, newer)), lost, TaskingStatus.CANCELLED),
    ]
    for task, attempt, wanted in cases:
        assert wanted_status(task, attempt) is wanted


def test_a_push_is_tried_again_later_and_a_moved_branch_asks_a_person() -> None:
    delivery = Delivery(attempt=1, claimed_head=SHA_B, pushed_head=SHA_B, base=SHA_A, bundle_sha256=DIGEST)
    task = working(delivery=delivery)
    task = task.with_effect(Effect(key=push_key(task), kind="push", status="sending"))
    failed = Failed(code="E_UNREACHABLE", message="no route", retryable=True)
    later = settle_push(task, push_key(task), failed, NOW).task
    effect = later.effect(push_key(task))
    assert later.state is State.IN_PROGRESS and effect is not None
    assert effect.not_before == NOW + timedelta(seconds=2) and effect.error == "E_UNREACHABLE: no route"
    moved = settle_push(task, push_key(task), Failed(code="E_BRANCH_MOVED", message="stale info"), NOW).task
    assert (moved.state, moved.waits_for[0].reason) == (State.BLOCKED, WaitReason.CONFLICT)
    done = settle_push(later, push_key(task), None, NOW).task
    assert [(e.kind, e.status) for e in done.effects] == [("push", "done"), ("request", "pending")]


@given(st.text())
def test_nothing_in_a_fence_takes_effect(text: str) -> None:
    lines = fence(text).split("\n")
    ticks = lines[-1]
    assert set(ticks) == {"`"} and lines[0] == f"{ticks}text"
    assert ticks not in text and not any(line.lstrip("\r").startswith("/") for line in lines)
    inline = one_line_code(text)
    assert "\n" not in inline and "|" not in inline


def test_a_request_tells_claimed_from_verified() -> None:
    delivery = Delivery(
        attempt=1,
        claimed_head=SHA_A,
        pushed_head=SHA_B,
        base=SHA_A,
        bundle_sha256=DIGEST,
        verification=(passed(),),
        summary="closes #1 ```\n@everyone",
        files_total=70,
        commits_total=1,
    )
    text = render_request(working(delivery=delivery, verification=(CHECK,), acceptance_criteria=("a | b `c`",)))
    assert "| `tests`: `pytest -q` | exit code 0 in 0.0 s | not re-run |" in text
    assert f"pushed as `{SHA_B}`" in text and "… and 70 more" in text
    assert "````text\ncloses #1 ```\n@everyone\n````" in text


def test_a_request_tells_what_the_agent_said_of_each_criterion() -> None:
    delivery = Delivery(
        attempt=1,
        claimed_head=SHA_A,
        pushed_head=SHA_B,
        base=SHA_A,
        bundle_sha256=DIGEST,
        criteria=(
            Criterion(criterion="it adds", status="done", evidence="test_add `passes`\n- [x] it pays"),
            Criterion(criterion="not asked for", status="done"),
        ),
    )
    text = render_request(working(delivery=delivery, acceptance_criteria=("it adds", "it is fast", "it pays")))
    shown = "- [x] `it adds`: ``test_add `passes` - [x] it pays``\n- [ ] `it is fast`\n- [ ] `it pays`\n"
    assert shown in text and "the agent's word" in text and "not asked for" not in text
    silent = render_request(working(delivery=delivery.evolve(criteria=()), acceptance_criteria=("it adds",)))
    assert "\n- `it adds`\n" in silent and "the agent's word" not in silent


def test_a_request_tells_what_was_asked_for_and_who_let_it_pass() -> None:
    delivery = Delivery(attempt=1, claimed_head=SHA_A, pushed_head=SHA_B, base=SHA_A, bundle_sha256=DIGEST)
    held = Approval(
        id="a1",
        gate="protected_paths",
        subject_hash=DIGEST,
        status="approved",
        message="the work changes protected files: CODEOWNERS",
        by="ada",
        at=NOW,
    )
    other = held.evolve(id="a2", subject_hash="e" * 64, by="bob")
    denied = held.evolve(id="a3", status="denied", by="cleo")
    asked = "Do it.\n```\ncloses #7"
    text = render_request(working(description=asked, delivery=delivery, approvals=(held, other, denied)))
    assert f"## Asked for\n\n````text\n{asked}\n````" in text
    assert "`the work changes protected files: CODEOWNERS`: approved by `ada` at 2026-01-07 10:30:00 UTC" in text
    assert "bob" not in text and "cleo" not in text
    long = render_request(working(description="x" * 50_000, delivery=delivery))
    assert len(long) < 12_000 and "[…]" in long and "Approved by a person" not in long


@given(st.text(max_size=400), st.integers(100, 300))
def test_a_long_text_is_cut_at_a_character(text: str, size: int) -> None:
    clean = text.encode(errors="replace").decode()
    cut = clip_text(clean, size)
    assert len(cut.encode()) <= size
    assert cut == clean or cut.endswith("[… the whole text is in description.md]\n")


def test_a_tasking_names_one_task_and_its_own_attempts_commits() -> None:
    task = working(description="x" * 20_000).evolve(base_commit=None, branch="cloud-code/login-r2")
    tasking = render_tasking(
        task,
        task.attempts[0],
        Places(workspace="/w", workspace_source="/m"),
        SupervisorIdentity(id="r", epoch=3),
        revision=7,
        now=NOW,
    )
    assert (tasking.task.branch, tasking.task.base_commit) == ("cloud-code/login", SHA_A)
    assert len(tasking.task.description.encode()) <= 12 * 1024


def test_a_paused_delivery_arrives_when_resumed(
    config: Config,
) -> None:
    delivery = Delivery(attempt=1, claimed_head=SHA_B, pushed_head=SHA_B, base=SHA_A, bundle_sha256=DIGEST)
    ended = make_attempt(ended_at=NOW, verdict="completed", saved=True)
    task = make_task(state=State.IN_PROGRESS, attempt=1, attempts=(ended,), delivery=delivery)
    task = task.with_effect(Effect(key=push_key(task), kind="push", status="done"))
    assert settle_push(task.evolve(delivery=None), push_key(task), None, NOW).task.delivery is None
    waiting = task.with_effect(Effect(key=request_key(task), kind="request", status="sending"))
    paused = waiting.moved(State.PAUSED, reason="r", actor="a", at=NOW, paused_from=State.IN_PROGRESS)
    opened = settle_request(paused, request_key(task), Request(url="u", head=SHA_B), NOW).task
    assert opened.state is State.PAUSED and opened.request is not None
    resumed = opened.moved(State.IN_PROGRESS, reason="r", actor="a", at=NOW)
    assert plan_task(resumed, Seen(reports={}), config, NOW).task.state is State.REVIEW


def test_a_claim_that_cannot_be_looked_at_asks_a_person() -> None:
    gone = Failed(code="E_URL", message="it is not allowed")
    claim = report("completed", result=RESULT)
    blocked = fail_inspection(working(), 1, gone, claim, NOW).task
    assert (blocked.state, blocked.attempts[0].verdict) == (State.BLOCKED, "not inspected")
    assert "E_URL" in blocked.waits_for[0].message and blocked.attempts[0].bundle == "result.bundle"


@pytest.mark.parametrize(("code", "most"), [("E_BUG", 5), ("E_UNREACHABLE", 100)])
def test_a_claim_whose_inspection_fails_on_and_on_asks_a_person(code: str, most: int, config: Config) -> None:
    claim, now, task = report("completed", result=RESULT), NOW, working()
    failed, tries = Failed(code=code, message="no luck", retryable=True), 0
    while task.state is State.IN_PROGRESS:
        seen = Seen(reports={1: claim})
        planned = plan_task(task, seen, config, now)
        task = TaskRecord.model_validate(planned.task.model_dump())  # as after a restart
        if not planned.jobs:
            now = next_deadline(task, seen, config) or pytest.fail("nothing would ever happen again")
            continue
        assert planned.jobs == (Inspect(task_id=task.id, attempt=1),)
        decision = fail_inspection(task, 1, failed, claim, now)
        task, tries = decision.task, tries + 1
        assert decision.events[0].details["code"] == code
    assert tries == most and now - NOW > timedelta(seconds=80)
    assert (task.state, task.waits_for[0].reason) == (State.BLOCKED, WaitReason.HUMAN)
    assert f"{code}: no luck (tried {most} times)" in task.waits_for[0].message
    assert f"cloud-code task retry {task.id}" in [action.command for action in answers(task)]


def test_a_retry_has_the_same_claim_inspected_again(config: Config) -> None:
    claim = report("completed", result=RESULT)
    task = fail_inspection(working(), 1, Failed(code="E_GIT", message="no"), claim, NOW).task
    task = task.with_attempt(1, saved=True)
    retry = Command(id="c1", at=NOW, actor=Actor(id="ada"), channel="cli", kind="retry", target=task.id, args={})
    again = apply_command(task, retry, NOW).task
    assert plan_task(again, Seen(reports={}), config, NOW).jobs == (Inspect(task_id=task.id, attempt=1),)
    delivery = Delivery(attempt=1, claimed_head=SHA_B, pushed_head=SHA_B, base=SHA_A, bundle_sha256=DIGEST)
    accepted = settle_inspection(again, Inspected(attempt=1, delivery=delivery), claim, RETRY, NOW).task
    assert accepted.state is State.IN_PROGRESS and accepted.attempts[0].verdict == "completed"
    noted = apply_command(task, retry.evolve(args={"note": "do it otherwise"}), NOW).task
    assert noted.state is State.PENDING


def test_only_the_work_that_was_approved_counts_as_approved_when_it_is_inspected_again(config: Config) -> None:
    approval = Approval(id="a1", gate="protected_paths", subject_hash="e" * 64, status="approved")
    claim = report("completed", result=RESULT)
    task = fail_inspection(working(approvals=(approval,)), 1, Failed(code="E_GIT", message="no"), claim, NOW).task
    again = task.moved(State.IN_PROGRESS, reason="r", actor="a", at=NOW).with_attempt(1, inspecting=Tries())
    (job,) = [job for job in plan_task(again, Seen(reports={}), config, NOW).jobs if isinstance(job, Inspect)]
    assert not job.approved
    same = again.evolve(approvals=(approval.evolve(subject_hash=DIGEST),))
    (job,) = [job for job in plan_task(same, Seen(reports={}), config, NOW).jobs if isinstance(job, Inspect)]
    assert job.approved


@pytest.mark.parametrize("kind", ["push", "request"])
def test_a_delivery_that_fails_again_and_again_asks_a_person_and_is_tried_again_then(kind: str) -> None:
    delivery = Delivery(attempt=1, claimed_head=SHA_B, pushed_head=SHA_B, base=SHA_A, bundle_sha256=DIGEST)
    task = working(delivery=delivery)
    key = push_key(task) if kind == "push" else request_key(task)
    task = task.with_effect(Effect(key=key, kind=kind, status="sending"))
    failed = Failed(code="E_BUG", message="KeyError", retryable=True)
    settle = settle_push if kind == "push" else settle_request
    for _ in range(4):
        task = settle(task, key, failed, NOW).task
        assert task.state is State.IN_PROGRESS
    task = settle(task, key, failed, NOW).task
    assert task.state is State.BLOCKED and "tried 5 times" in task.waits_for[0].message
    retry = Command(id="c1", at=NOW, actor=Actor(id="ada"), channel="cli", kind="retry", target=task.id)
    again = apply_command(task, retry, NOW).task
    effect = again.effect(key)
    assert again.state is State.IN_PROGRESS and effect is not None and effect.due(NOW) and effect.tries == 0


@pytest.mark.parametrize(
    ("failed", "most"),
    [
        (Failed(code="E_BUG", message="KeyError", retryable=True), 5),
        (Failed(code="E_NO_REPOSITORY", message="/mnt/x.git: There is no such repository."), 4),
    ],
)
def test_a_task_that_cannot_be_made_ready_asks_a_person_in_the_end(failed: Failed, most: int) -> None:
    task, now = make_task(), NOW
    for _ in range(most - 1):
        task = fail_preparation(task, failed, now).task
        assert task.state is State.PENDING and not is_due(task, now)
        now = task.preparing.not_before or now
        assert is_due(task, now)
    task = fail_preparation(task, failed, now).task
    assert task.state is State.BLOCKED and f"tried {most} times" in task.waits_for[0].message
    assert task.preparing == Tries()


def test_work_that_cannot_be_saved_is_given_up_in_the_end(config: Config) -> None:
    ended = make_attempt(ended_at=NOW, verdict="failed", bundle="salvage.bundle")
    task = make_task(attempt=1, attempts=(ended,))
    failed = Failed(code="E_BUG", message="KeyError", retryable=True)
    for _ in range(5):
        assert task.attempts[0].save_error is None
        task = fail_saving(task, 1, failed, NOW).task
        assert plan_task(task, Seen(reports={}), config, NOW).jobs == ()
    assert task.attempts[0].save_error == "E_BUG: KeyError (tried 5 times)"


def test_long_words_of_an_agent_do_not_fill_the_record() -> None:
    question = "why? " * 3000
    task = take_report(working(), report("blocked", question=question), RETRY, NOW).task
    assert task.waits_for[0].message == question
    assert len(task.history[-1].reason) == MAX_REASON_CHARACTERS
