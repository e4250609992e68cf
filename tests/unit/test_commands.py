"""What a person's command does, and the sentence when it cannot be done."""

from datetime import timedelta
from typing import Any

import pytest

from agent_daemon.protocol.model import Limits, Priority, TaskingStatus, TaskingTask
from supervisor.core.commands import Actor, Command, CommandRefusedError, apply_command
from supervisor.core.delivery import HELD, NOT_INSPECTED
from supervisor.core.hand_edit import Edit, read_edit
from supervisor.core.intake import when_told
from supervisor.core.record import Approval, TaskRecord
from supervisor.core.states import State
from tests.unit.conftest import DIGEST, NOW, SHA_A, make_attempt, make_task


def command(kind: str, number: int = 1, if_revision: int | None = None, **args: Any) -> Command:
    return Command.model_validate(
        {
            "id": f"c{number}",
            "at": NOW,
            "actor": Actor(id="ada"),
            "channel": "cli",
            "kind": kind,
            "target": "acme.login",
            "args": args,
            "if_revision": if_revision,
        }
    )


def do(task: TaskRecord, kind: str, **args: Any) -> TaskRecord:
    return apply_command(task, command(kind, **args), NOW).task


def test_retry_of_a_blocked_task_starts_counting_anew_and_carries_the_note() -> None:
    after = do(make_task(state=State.BLOCKED, failures=3, attempt=3), "retry", note="mind the sign")
    assert (after.state, after.failures, after.attempt) == (State.PENDING, 0, 3)
    assert after.feedback[-1].message == "mind the sign"
    assert after.history[-1].actor == "ada"


@pytest.mark.parametrize("number", ["9" * 5000, 10**5000, "1" * 400, "no number"], ids=range(4))
def test_an_attempt_that_is_named_by_nonsense_is_refused(number: object) -> None:
    for kind, name in (("retry", "from_salvage"), ("drop", "attempt")):
        with pytest.raises(CommandRefusedError, match="has no attempt"):
            do(make_task(state=State.BLOCKED), kind, **{name: number})


def test_retry_of_an_ended_task_is_a_new_run_on_a_branch_of_its_own() -> None:
    after = do(make_task(state=State.CANCELLED, attempt=1), "retry")
    assert (after.state, after.rerun) == (State.PENDING, 2)
    assert after.branch.endswith("-r2")


@pytest.mark.parametrize(
    ("state", "kind", "words"),
    [
        (State.IN_PROGRESS, "retry", "under way"),
        (State.COMPLETED, "cancel", "nothing to cancel"),
        (State.COMPLETED, "pause", "nothing to pause"),
        (State.PENDING, "resume", "nothing to resume"),
        (State.BLOCKED, "resume", "task retry"),
        (State.PENDING, "approve", "no open approval"),
        (State.COMPLETED, "edit", "task retry"),
    ],
)
def test_what_cannot_be_done_is_refused_with_a_sentence(state: State, kind: str, words: str) -> None:
    with pytest.raises(CommandRefusedError, match=words):
        do(make_task(state=state), kind)


def test_a_command_counts_once_and_not_on_a_changed_record() -> None:
    task = make_task(revision=4)
    paused = apply_command(task, command("pause", if_revision=4), NOW).task
    assert paused.state is State.PAUSED
    assert apply_command(paused, command("pause"), NOW).task == paused
    with pytest.raises(CommandRefusedError, match="changed meanwhile"):
        apply_command(task, command("pause", 2, if_revision=3), NOW)


@pytest.mark.parametrize("state", [State.PENDING, State.REVIEW, State.BLOCKED, State.FAILED])
def test_pause_and_resume_lead_back(state: State) -> None:
    paused = do(make_task(state=state), "pause")
    assert apply_command(paused, command("resume", 2), NOW).task.state is state


def test_resume_of_an_attempt_that_ended_meanwhile_waits_for_the_next() -> None:
    ended = make_attempt(ended_at=NOW, verdict="failed", saved=True)
    task = make_task(state=State.PAUSED, paused_from=State.IN_PROGRESS, attempt=1, attempts=(ended,))
    assert do(task, "resume").state is State.PENDING


@pytest.mark.parametrize("verdict", [NOT_INSPECTED, HELD])
def test_resume_goes_on_with_a_claim_that_is_looked_at_once_more(verdict: str) -> None:
    ended = make_attempt(ended_at=NOW, verdict=verdict, bundle="result.bundle", bundle_sha256=DIGEST)
    task = make_task(state=State.IN_PROGRESS, attempt=1, attempts=(ended,))
    paused = do(task, "pause")
    assert apply_command(paused, command("resume", 2), NOW).task.state is State.IN_PROGRESS


def test_approve_and_deny() -> None:
    approval = Approval(id="a1", gate="protected_paths", subject_hash="h", message="m")
    held = make_task(state=State.BLOCKED, approvals=(approval,))
    approved = do(held, "approve", approval="a1")
    assert approved.state is State.IN_PROGRESS and approved.approvals[0].by == "ada"
    denied = do(held, "deny", reason="not the workflows")
    assert denied.state is State.PENDING and denied.start_squashed
    assert denied.feedback[0].message == "not the workflows"
    with pytest.raises(CommandRefusedError, match=r"open: a1"):
        do(held, "approve", approval="a9")


def test_edit_takes_valid_values_and_refuses_others_whole() -> None:
    task = make_task()
    edited = do(task, "edit", priority="high", limits={"timeout_minutes": 5}, acceptance_criteria=["x"])
    assert (edited.priority, edited.limits, edited.acceptance_criteria) == (
        Priority.HIGH,
        Limits(timeout_minutes=5),
        ("x",),
    )
    with pytest.raises(CommandRefusedError, match="priority"):
        do(task, "edit", priority="urgent", title="new")
    with pytest.raises(CommandRefusedError, match="state"):
        do(task, "edit", state="completed")


def tasking(**changes: Any) -> TaskingTask:
    values = {
        "id": "acme.login",
        "attempt": 1,
        "title": "Fix the login",
        "status": "assigned",
        "workspace_source": "/m",
        "branch": "cloud-code/login",
        "base_branch": "main",
        "base_commit": SHA_A,
    }
    return TaskingTask.model_validate(values | changes)


def edit(changes: dict[str, Any], keys: set[str] | None = None, **wanted: Any) -> Any:
    return list(whole_edit(changes, keys, **wanted).commands)


def whole_edit(changes: dict[str, Any], keys: set[str] | None = None, **wanted: Any) -> Edit:
    return read_edit(tasking(**(wanted | changes)), tasking(**wanted), keys or set(changes))


def test_an_edited_tasking_is_commands_text_first() -> None:
    assert edit({"title": "Other", "status": "paused"}) == [("edit", {"title": "Other"}), ("pause", {})]
    assert edit({"status": "assigned"}, status="paused") == [("resume", {})]
    assert edit({"status": "cancelled"}) == [("cancel", {})]
    assert edit({}) == []


@pytest.mark.parametrize(
    "changes", [{"attempt": 7}, {"branch": "main"}, {"base_commit": "b" * 40}, {"id": "acme.x"}]
)
def test_what_is_not_a_persons_to_change_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(CommandRefusedError, match=f"'{next(iter(changes))}' cannot be changed here"):
        edit(changes)


def test_a_mistyped_key_names_the_right_one() -> None:
    with pytest.raises(CommandRefusedError, match="did you mean 'description'"):
        edit({}, {"desciption"})


def test_released_cannot_be_asked_for_by_hand() -> None:
    with pytest.raises(CommandRefusedError, match="status"):
        edit({"status": TaskingStatus.RELEASED.value})


@pytest.mark.parametrize("changed", [{"description": "short"}, {"description_sha256": None}])
def test_a_description_that_is_cut_is_not_edited_and_the_rest_is(changed: dict[str, Any]) -> None:
    cut = {"description": "the beginning …", "description_sha256": DIGEST}
    found = whole_edit({"title": "Other", "status": "paused", **changed}, **cut)
    assert found.commands == (("edit", {"title": "Other"}), ("pause", {}))
    assert "cloud-code task edit acme.login" in found.refused[0]
    assert whole_edit({"title": "Other"}, **cut).refused == ()


@pytest.mark.parametrize(
    ("state", "told"),
    [
        (State.REVIEW, "taken for the next attempt; `cloud-code task retry acme.login` starts one"),
        (State.BLOCKED, "taken for the next attempt; `cloud-code task retry acme.login` starts one"),
        (State.FAILED, "taken for the next attempt"),
        (State.PENDING, "taken for the next attempt"),
    ],
)
def test_an_edit_says_when_an_agent_is_told(state: State, told: str) -> None:
    ended = make_attempt(ended_at=NOW, verdict="completed", saved=True)
    task = make_task(state=state, attempt=1, attempts=(ended,))
    later = apply_command(task, command("edit", title="Other"), NOW + timedelta(seconds=1))
    assert later.events[0].details == {"fields": ["title"], "note": told}
    assert when_told(later.task) == told and when_told(task) == ""


def test_an_edit_that_an_agent_is_told_at_once_says_nothing() -> None:
    working = make_task(state=State.IN_PROGRESS, attempt=1, attempts=(make_attempt(),))
    for task in (working, make_task()):
        assert apply_command(task, command("edit", title="Other"), NOW).events[0].details == {"fields": ["title"]}
