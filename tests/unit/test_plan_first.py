"""A task that is planned first: what each word of a person makes of it. Pure."""

from typing import Any

import pytest

from agent_daemon.protocol.codec import decode, encode
from agent_daemon.protocol.errors import ProtocolError
from agent_daemon.protocol.model import (
    MAX_PLAN_BYTES,
    BlockedReason,
    Limits,
    ReportStatus,
    SupervisorIdentity,
    Tasking,
    TaskReport,
    WaitReason,
)
from supervisor.cli.task_show import _attempt_line
from supervisor.core.answers import answers
from supervisor.core.attempts import NO_PLAN, claim_problems, take_report
from supervisor.core.commands import Actor, Command, CommandRefusedError, apply_command
from supervisor.core.decided import what_was_decided
from supervisor.core.explain import headline
from supervisor.core.plan import Seen, needed_jobs
from supervisor.core.planning import MAX_DENIED
from supervisor.core.record import Approval, TaskRecord
from supervisor.core.settings import ProjectSettings, RetrySettings
from supervisor.core.slash import parse_slash
from supervisor.core.states import State
from supervisor.core.story import steering
from supervisor.core.surroundings import Surroundings
from supervisor.core.tasking import Places, render_tasking
from supervisor.core.telling import announce
from tests.unit.conftest import DIGEST, NOW, make_attempt, make_task

PLAN = "1. Turn it into a plus.\n```\n/cloud-code cancel\n```"


def planning_task(**changes: Any) -> TaskRecord:
    attempt = make_attempt(number=1, phase="plan")
    task = make_task(state=State.IN_PROGRESS, attempt=1, attempts=(attempt,), plan_approval=True, limits=Limits())
    return task.evolve(**changes)


def planned(task: TaskRecord | None = None, text: str = PLAN) -> TaskRecord:
    report = TaskReport(
        attempt=1,
        status=ReportStatus.BLOCKED,
        blocked_reason=BlockedReason(reason=WaitReason.APPROVAL),
        plan=text,
    )
    return take_report(task or planning_task(), report, RetrySettings(), NOW).task


def again(task: TaskRecord) -> TaskRecord:
    """The next attempt plans, too, and its plan is handed in."""
    assert (task.state, task.next_phase) == (State.PENDING, "plan")
    return planned(planning_task(plan=task.plan, approvals=task.approvals, feedback=task.feedback))


def do(task: TaskRecord, kind: str, **args: Any) -> TaskRecord:
    command = Command(
        id=f"c{len(task.applied_commands)}-{task.attempt}-{len(task.approvals)}",
        at=NOW,
        actor=Actor(id="ada"),
        channel="cli",
        kind=kind,  # type: ignore[arg-type]
        target=task.id,
        args=args,
    )
    return apply_command(task, command, NOW).task


def test_a_plan_waits_for_a_person_and_is_no_failure() -> None:
    task = planned()
    (wait,) = task.waits_for
    assert (task.state, task.failures, wait.reason, wait.ref) == (State.BLOCKED, 0, "approval", "plan-001")
    assert task.attempts[0].verdict == "planned" and task.attempts[0].saved
    assert task.plan is not None and (task.plan.text, task.plan.status) == (PLAN, "pending")
    commands = [action.command.partition("task ")[2] for action in answers(task)]
    assert f"approve {task.id} plan-001" in commands and f"deny {task.id} plan-001 --reason '…'" in commands
    assert steering(task) == ["approve plan-001", "answer AMENDMENT", "deny plan-001 REASON", "cancel"]


def test_approved_it_is_what_the_next_attempt_works_by() -> None:
    task = do(planned(), "approve", approval="plan-001")
    assert (task.state, task.next_phase, task.waits_for) == (State.PENDING, "work", ())
    assert task.plan is not None and (task.plan.status, task.plan.amendments) == ("approved", "")
    assert (task.approvals[0].status, task.approvals[0].by) == ("approved", "ada")


@pytest.mark.parametrize(("kind", "args"), [("answer", {}), ("approve", {"approval": "plan-001"})])
def test_an_amendment_approves_it(kind: str, args: dict[str, str]) -> None:
    task = do(planned(), kind, note="and leave the blank", **args)
    assert task.plan is not None and (task.plan.status, task.plan.amendments) == (
        "approved",
        "and leave the blank",
    )


def test_denied_it_is_planned_anew_and_told_why() -> None:
    task = do(planned(), "deny", approval="plan-001", reason="which file?")
    assert task.failures == 0 and "which file?" in task.feedback[-1].message
    assert "1. Turn it into a plus." in task.feedback[-1].message
    second = again(task)
    assert second.plan is not None and (second.plan.id, second.plan.number) == ("plan-002", 2)
    with pytest.raises(CommandRefusedError, match="open: plan-002"):
        do(second, "approve", approval="plan-001")
    approved = do(second, "approve")
    assert approved.next_phase == "work" and approved.feedback == ()


def test_whoever_decides_is_told_what_and_a_reason_is_kept() -> None:
    task = planned()
    assert what_was_decided(task, do(task, "approve")) == "plan-001: approved; the next attempt carries it out"
    bare = do(task, "deny")
    assert what_was_decided(task, bare).startswith("plan-001: denied; the next attempt plans anew (a reason helps")
    told = do(task, "deny", reason="which file?")
    assert what_was_decided(task, told) == "plan-001: denied; the next attempt plans anew"
    line = _attempt_line(told, told.attempts[0])
    assert "planned (plan-001: denied by ada: which file?)" in line
    assert "planned (plan-001: waits for approval)" in _attempt_line(task, task.attempts[0])


def test_denials_are_bounded_and_a_retry_begins_anew() -> None:
    task = planned()
    for _ in range(MAX_DENIED - 1):
        task = again(do(task, "deny", reason="no"))
    task = do(task, "deny", reason="no and no")
    assert (task.state, task.waits_for[0].reason) == (State.BLOCKED, WaitReason.HUMAN)
    assert task.waits_for[0].message == "5 plans were denied; the last one: no and no"
    retried = do(task, "retry", note="I have said more in the task")
    assert (retried.next_phase, retried.plan) == ("plan", None)
    following = again(retried).plan
    assert following is not None and (following.id, following.number) == ("plan-006", 1)


@pytest.mark.parametrize("ended", [False, True])
def test_an_old_answer_opens_no_plan_that_came_after_it(ended: bool) -> None:
    first = planned()
    second = again(do(first.evolve(state=State.COMPLETED) if ended else first, "retry"))
    assert second.plan is not None and (second.plan.id, second.plan.number) == ("plan-002", 1)
    with pytest.raises(CommandRefusedError, match="open: plan-002"):
        do(second, "approve", approval="plan-001")
    assert second.approvals[0].status == "over"


@pytest.mark.parametrize("kind", ["approve", "answer"])
def test_a_plan_is_not_approved_for_a_text_that_it_was_not_made_for(kind: str) -> None:
    task = do(planned(), "edit", description="Turn it into a product, then.")
    with pytest.raises(CommandRefusedError, match="changed after plan-001 was made: `retry`"):
        do(task, kind, note="yes")
    assert answers(task)[0].command == f"cloud-code task retry {task.id}"
    assert steering(task) == ["retry NOTE", "deny plan-001 REASON", "cancel"]
    assert headline(task, Surroundings(now=NOW, running=True)).endswith("its text was changed after that")
    assert do(task, "retry").plan is None
    back = do(task, "edit", description=planning_task().description)
    assert do(back, "approve").next_phase == "work"


def test_a_plan_is_approved_whatever_became_of_limits_and_priority() -> None:
    task = do(planned(), "edit", limits={"cost_usd": 5}, priority="high")
    assert do(task, "approve").next_phase == "work"


def test_a_retry_of_a_task_whose_plan_is_approved_keeps_it() -> None:
    approved = do(planned(), "approve").evolve(state=State.BLOCKED)
    assert do(approved, "retry", note="a hint").next_phase == "work"


def test_another_run_plans_anew() -> None:
    ended = do(planned(), "approve").evolve(state=State.COMPLETED)
    task = do(ended, "retry")
    assert (task.plan, task.approvals[0].status, task.next_phase) == (None, "over", "plan")


def test_an_answer_is_refused_where_nothing_is_asked() -> None:
    with pytest.raises(CommandRefusedError, match="asks nothing"):
        do(make_task(state=State.BLOCKED), "answer", note="x")


def test_what_an_agent_is_told_stays_within_what_a_reader_takes() -> None:
    task = do(planned(text="ж" * 8_000), "answer", note="ж" * 8_000)
    assert task.plan is not None and len(task.plan.text.encode()) <= MAX_PLAN_BYTES
    attempt = make_attempt(number=2)
    identity = SupervisorIdentity(id="x", epoch=1)
    places = Places(workspace="/w", workspace_source="/m")
    working = task.evolve(attempts=(*task.attempts, attempt), attempt=2)
    tasking = render_tasking(working, attempt, places, identity, revision=1, now=NOW)
    read = decode(Tasking, encode(tasking), file="tasking.yaml")
    assert read.task.context.plan is not None and read.task.context.plan.amendments.startswith("жж")
    plans = render_tasking(planning_task(), make_attempt(phase="plan"), places, identity, revision=1, now=NOW)
    assert plans.requires == ("plan",) and plans.task.phase == "plan"
    with pytest.raises(ProtocolError, match="E_REQUIRES"):
        decode(Tasking, encode(plans), file="tasking.yaml")


def test_work_of_an_attempt_that_was_to_plan_is_no_claim() -> None:
    report = TaskReport(attempt=1, status=ReportStatus.COMPLETED)
    assert claim_problems(planning_task(allow_empty=True), report) == (NO_PLAN,)


def test_a_plan_that_nobody_asked_for_is_no_plan() -> None:
    attempt = make_attempt(number=1)
    task = planned(planning_task(attempts=(attempt,)))
    assert (task.plan, task.attempts[0].verdict) == (None, "blocked")


def test_an_approved_plan_lets_no_protected_files_through() -> None:
    task = do(planned(), "approve")
    held = make_attempt(number=2, verdict="held", ended_at=NOW, bundle="result.bundle", bundle_sha256=DIGEST)
    held = held.evolve(saved=True, saved_in="salvage")
    working = task.evolve(state=State.IN_PROGRESS, attempt=2, attempts=(*task.attempts, held))
    assert needed_jobs(working, Seen(reports={}), NOW) == ()
    gate = Approval(id="a1", gate="protected_paths", subject_hash=DIGEST, status="approved")
    assert len(needed_jobs(working.evolve(approvals=(*task.approvals, gate)), Seen(reports={}), NOW)) == 1


def test_on_a_forge_it_is_shown_in_a_fence_that_it_cannot_close() -> None:
    settings = ProjectSettings(forge="github", repository="acme/app")
    source = make_task().source.evolve(kind="issue", requested_by="ann")
    before = planning_task(source=source)
    (post,) = [post for post in announce(before, planned(before), settings).posts if post.kind == "comment"]
    shown = PLAN.replace("\n/", "\n /")  # (so that no forge takes it for an action)
    assert f"````\n{shown}\n````" in post.text.replace("````text", "````")
    assert parse_slash(post.text.partition(shown)[0] + PLAN) is None
    assert "- `/cloud-code approve plan-001`" in post.text


def test_an_amendment_may_stand_below_the_command() -> None:
    slash = parse_slash("/cloud-code approve plan-001\nbut keep the blank")
    assert slash is not None and (slash.word, slash.text) == ("plan-001", "plan-001\nbut keep the blank")
