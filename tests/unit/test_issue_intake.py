"""From an issue to a task: who may ask, which text counts."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_daemon.protocol.model import WaitReason
from supervisor.core.commands import Actor, Command, CommandRefusedError, apply_command
from supervisor.core.decision import Decision, Event
from supervisor.core.forge import IssueSeen, Person, Trigger, text_digest
from supervisor.core.issue_intake import draft_of, is_allowed, take_issue
from supervisor.core.record import TaskRecord, Wait
from supervisor.core.settings import Config, TriggerSettings
from supervisor.core.states import State

NOW = datetime(2026, 1, 7, 10, 30, tzinfo=UTC)
ADA = Person(login="ada", can_write=True)
EVE = Person(login="eve")
CONFIG = Config.model_validate(
    {
        "projects": {"acme": {"forge": "github", "repository": "acme/app", "base_branch": "main"}},
        "workstations": {"backend": {"clis": ["codex"]}, "reviewer": {"clis": ["codex"]}},
    }
)


def issue(**changes: Any) -> IssueSeen:
    values: dict[str, Any] = {
        "ref": "7",
        "url": "https://github.com/acme/app/issues/7",
        "title": "Fix it",
        "body": "one",
        "labels": ("cloud-code",),
        "author": EVE,
        "updated_at": NOW,
        "trigger": Trigger(id="1", kind="label", by=ADA, at=NOW),
    }
    return IssueSeen(**(values | changes))


def take(seen: IssueSeen, known: TaskRecord | None = None) -> Decision | Event | None:
    return take_issue(seen, known, "acme", CONFIG, NOW)


def taken(seen: IssueSeen, known: TaskRecord | None = None) -> TaskRecord:
    decision = take(seen, known)
    assert isinstance(decision, Decision)
    return decision.task


def command(task: TaskRecord, kind: str, **args: str) -> Decision:
    asked = Command.model_validate(
        {
            "id": f"comment-{kind}",
            "at": NOW,
            "actor": Actor(kind="forge", id="ada"),
            "channel": "comment",
            "kind": kind,
            "target": task.id,
            "args": args,
        }
    )
    return apply_command(task, asked, NOW)


@pytest.mark.parametrize(
    ("person", "allowed"),
    [
        (ADA, True),
        (EVE, False),
        (Person(login="us", can_write=True, is_self=True), False),
        (Person(login="dependabot[bot]", is_bot=True, can_write=True), False),
        (Person(login="renovate[bot]", is_bot=True), True),
        (Person(login="renovate", is_bot=True, can_write=True), False),
    ],
)
def test_who_may_start_and_steer(person: Person, allowed: bool) -> None:
    assert is_allowed(person, TriggerSettings(bots=("renovate[bot]",))) is allowed


def test_a_trigger_makes_one_task_however_often_it_is_seen() -> None:
    task = taken(issue())
    assert (task.id, task.source.requested_by, task.source.trigger) == ("acme.7", "ada", "1")
    assert take(issue(), task) is None
    ended = task.moved(State.CANCELLED, reason="x", actor="ada", at=NOW)
    assert take(issue(), ended) is None
    later = NOW + timedelta(seconds=5)
    again = taken(issue(trigger=Trigger(id="2", kind="label", by=ADA, at=later)), ended)
    assert (again.state, again.rerun) == (State.PENDING, 2)


def test_what_was_asked_while_it_was_under_way_or_before_does_not_start_it_again() -> None:
    task = taken(issue())
    again = Trigger(id="2", kind="label", by=ADA, at=NOW + timedelta(seconds=5))
    heard = taken(issue(trigger=again), task)
    ended = heard.moved(State.CANCELLED, reason="x", actor="ada", at=NOW)
    assert take(issue(trigger=again), ended) is None
    old = Trigger(id="9", kind="assignment", by=ADA, at=NOW - timedelta(days=30))
    assert take(issue(trigger=old), ended) is None


@pytest.mark.parametrize(
    ("seen", "why"),
    [
        (issue(trigger=Trigger(id="1", kind="label", by=EVE, at=NOW)), "may not start"),
        (issue(labels=("cloud-code", "wontfix")), "wontfix"),
        (issue(kind="request", branch=""), "other repositories"),
    ],
)
def test_what_is_not_taken_is_told_with_the_reason(seen: IssueSeen, why: str) -> None:
    told = take(seen)
    assert isinstance(told, Event) and why in told.details["message"]


def test_nothing_follows_from_what_asks_for_nothing() -> None:
    assert take(issue(trigger=None)) is None
    assert take(issue(open=False)) is None


def test_a_closed_issue_cancels() -> None:
    assert taken(issue(open=False), taken(issue())).state is State.CANCELLED


def test_a_change_by_who_may_steer_is_taken_and_one_by_others_holds() -> None:
    task = taken(issue())
    assert taken(issue(body="two", editors=(ADA,)), task).description == "two"
    held = taken(issue(body="two", editors=(EVE,)), task)
    assert (held.state, held.description, held.paused_from) == (State.PAUSED, "one", State.PENDING)
    assert take(issue(body="two", editors=(EVE,)), held) is None, "asked once"
    assert taken(issue(body="one"), held).state is State.PENDING, "it was put back"


def test_a_text_that_changed_between_label_and_look_is_held_from_the_start() -> None:
    held = taken(issue(editors=(EVE,)))
    assert held.state is State.PAUSED and held.offered is not None
    assert command(held, "approve", approval="a1").task.state is State.PENDING
    denied = command(held, "deny", approval="a1").task
    assert denied.state is State.CANCELLED, "no other text was ever approved"


def test_a_change_does_not_let_go_on_what_a_person_has_paused() -> None:
    paused = command(taken(issue()), "pause").task
    held = taken(issue(body="two", editors=(EVE,)), paused)
    assert held.offered is not None and held.waits_for[0].ref == "a1"
    for free in (taken(issue(), held), command(held, "deny", approval="a1").task):
        assert (free.state, free.offered, free.paused_from) == (State.PAUSED, None, State.PENDING)
    assert taken(issue(body="three", editors=(ADA,)), held).state is State.PAUSED


def test_what_a_paused_task_waited_for_is_not_forgotten_over_a_change() -> None:
    wait = Wait(reason=WaitReason.QUESTION, message="Which port?")
    paused = command(taken(issue()).evolve(state=State.BLOCKED, waits_for=(wait,)), "pause").task
    held = taken(issue(body="three", editors=(EVE,)), taken(issue(body="two", editors=(EVE,)), paused))
    assert [w.ref for w in held.waits_for] == ["a2"]
    for word in ("approve", "deny"):
        free = command(command(held, word, approval="a2").task, "resume").task
        assert (free.state, free.waits_for) == (State.BLOCKED, (wait,))


def test_a_changed_text_is_approved_with_its_criteria_and_may_be_changed_back() -> None:
    one, two = "one\n\n## Done when\n- a", "two\n\n## Done when\n- b"
    held = taken(issue(body=two, editors=(EVE,)), taken(issue(body=one)))
    assert held.acceptance_criteria == ("a",)
    took = command(held, "approve", approval="a1").task
    assert took.acceptance_criteria == ("b",)
    back = taken(issue(body=one, editors=(ADA,)), took)
    assert (back.description, back.acceptance_criteria) == (one, ("a",))


def test_nobody_who_changed_the_text_is_passed_over() -> None:
    task = taken(issue())
    assert taken(issue(title="Two", body="two", editors=(ADA, EVE)), task).state is State.PAUSED
    assert taken(issue(body="two"), task).state is State.PAUSED, "it is not known who did it"


def test_a_comment_asks_for_a_run_as_a_label_does() -> None:
    asked = Trigger(id="comment-5", kind="comment", by=ADA, at=NOW)
    assert taken(issue(trigger=asked, labels=())).source.trigger == "comment-5"
    assert isinstance(take(issue(trigger=asked, labels=("wontfix",))), Event)
    assert taken(issue(trigger=asked, editors=(EVE,))).state is State.PAUSED


def test_a_held_text_is_taken_or_left_by_a_person_and_never_resumed_by_accident() -> None:
    held = taken(issue(body="two", editors=(EVE,)), taken(issue()))
    with pytest.raises(CommandRefusedError, match="approve a1"):
        command(held, "resume")
    took = command(held, "approve", approval="a1").task
    assert (took.description, took.source.text_hash) == ("two", text_digest("Fix it", "two"))
    left = command(held, "deny", approval="a1").task
    assert (left.description, left.state) == ("one", State.PENDING)
    assert take(issue(body="two", editors=(EVE,)), left) is None, "it was looked at"
    again = taken(issue(body="three", editors=(EVE,)), left)
    assert (again.state, again.waits_for[0].ref) == (State.PAUSED, "a2")
    more = taken(issue(body="four", editors=(EVE,)), again)
    assert (more.waits_for[0].ref, len(more.approvals)) == ("a3", 2), "the record does not grow with each change"


def test_a_forge_gives_commands_for_tasks_alone() -> None:
    with pytest.raises(CommandRefusedError, match="may not drop"):
        command(taken(issue()), "drop", attempt="1")


def test_criteria_and_priority_are_read_from_the_issue() -> None:
    body = "Why.\n\n## Acceptance criteria\n- [ ] it adds\n* it is told\n\n## Notes\n- not this\n<!-- nor this -->"
    task = taken(issue(body=body, labels=("cloud-code", "priority: high")))
    assert task.acceptance_criteria == ("it adds", "it is told")
    assert task.priority == "high" and "nor this" not in task.description
    assert "cloud-code" not in task.labels


def test_numbered_items_are_criteria_too() -> None:
    wanted = "### Done when:\n1. it adds\n2) [ ] it is told\n   more of it\n30. `x`"
    body = f"1. not this\n\n{wanted}\n\n# 4. Notes\n1. nor this"
    assert taken(issue(body=body)).acceptance_criteria == ("it adds", "it is told", "`x`")


@pytest.mark.parametrize("heading", ["**Acceptance criteria**", "__Done when__:", "**Acceptance criteria:**"])
def test_a_heading_in_bold_is_one_and_code_holds_no_criteria(heading: str) -> None:
    body = f"{heading}\n- [ ] it adds\n- [ ]\n\n```sh\n# a\n- not this\n```\n1. [x] told\n\n**Notes**\n- nor this"
    assert taken(issue(body=body)).acceptance_criteria == ("it adds", "told")


def test_the_case_of_a_label_makes_no_difference() -> None:
    found = take(issue(labels=("Cloud-Code", "WontFix")))
    assert isinstance(found, Event) and "WontFix" in found.details["message"]
    assert "Cloud-Code" not in taken(issue(labels=("Cloud-Code",))).labels


def test_what_a_reader_would_not_see_is_left_out_and_code_is_not() -> None:
    body = "one <!-- hidden --> two\n`<!--` stays\n[//]: # (hidden)\nz\u200bw\U000e0041\n<!-- to the end"
    assert taken(issue(body=body)).description == "one  two\n`<!--` stays\n\nzw"
    other = "  [note]: <> (hidden)\n[docs]: https://example.org\na\ufe01\U000e0121 \u2764\ufe0f"
    odd = issue(title="Fix\U000e0041\U000e0101 it", body=other)
    assert taken(odd).description == "[docs]: https://example.org\na \u2764\ufe0f"
    assert taken(odd).title == "Fix it"


def test_a_request_is_reviewed_on_its_own_branch() -> None:
    task = taken(issue(kind="request", branch="feature", base="main", labels=()))
    assert (task.id, task.role, task.expects, task.base_branch) == ("acme.pr7", "reviewer", "document", "feature")
    assert task.specialist == "reviewer"


@given(st.text(), st.text(), st.lists(st.text(), max_size=60))
def test_whatever_is_written_becomes_a_draft(title: str, body: str, labels: list[str]) -> None:
    seen = issue(title=title, body=body, labels=tuple(labels), updated_at=NOW + timedelta(seconds=1))
    draft = draft_of(seen, "acme", CONFIG.projects["acme"], Trigger(id="1", kind="label", by=ADA, at=NOW))
    assert draft.text.title and "\x00" not in draft.text.description
    assert draft.source.text_hash == text_digest(title, body)


def test_a_project_that_wants_plans_wants_none_of_a_review() -> None:
    planned = CONFIG.model_copy(
        update={"projects": {"acme": CONFIG.projects["acme"].model_copy(update={"plan_approval": True})}}
    )
    for kind in ("issue", "request"):
        decision = take_issue(issue(kind=kind, branch="b", base="main"), None, "acme", planned, NOW)
        assert isinstance(decision, Decision)
        assert (decision.task.next_phase == "plan") == (kind == "issue")
