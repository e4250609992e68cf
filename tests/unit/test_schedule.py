"""Who works on what next."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_daemon.protocol.model import Priority
from supervisor.core.record import Dependency, Grant, TaskRecord, Tries
from supervisor.core.retry import backoff_seconds, bounded
from supervisor.core.routing import route
from supervisor.core.schedule import (
    DependencyState,
    WorkstationView,
    dependency_cycle,
    schedule,
    stop_circle,
    unmet,
)
from supervisor.core.settings import RetrySettings
from supervisor.core.states import TRANSITIONS, State, TransitionError
from tests.unit.conftest import NOW, make_attempt, make_task

DOMAINS = {"acme": "default"}


def station(name: str, kind: str = "backend", domain: str = "default") -> WorkstationView:
    return WorkstationView(name=name, type=kind, trust_domain=domain, clis=("codex",))


def test_highest_priority_first_then_oldest() -> None:
    tasks = [
        make_task(id="acme.late", created_at=NOW + timedelta(seconds=5)),
        make_task(id="acme.early"),
        make_task(id="acme.urgent", priority=Priority.CRITICAL, created_at=NOW + timedelta(hours=1)),
    ]
    given_out = schedule(
        tasks, [station("backend-1"), station("backend-2")], {}, DOMAINS, NOW + timedelta(hours=2)
    )
    assert [a.task_id for a in given_out] == ["acme.urgent", "acme.early"]


def test_a_task_goes_back_to_the_workstation_that_has_its_worktree() -> None:
    task = make_task(workstation="backend-2")
    (only,) = schedule([task], [station("backend-1"), station("backend-2")], {}, DOMAINS, NOW)
    assert only.workstation == "backend-2"


def test_an_attempt_that_was_lost_is_followed_by_one_elsewhere_if_there_is_an_elsewhere() -> None:
    lost = make_attempt(ended_at=NOW, verdict="workstation lost", save_error="nothing was heard")
    task = make_task(attempts=(lost,), attempt=1)
    (given,) = schedule([task], [station("backend-1"), station("backend-2")], {}, DOMAINS, NOW)
    assert given.workstation == "backend-2"
    (given,) = schedule([task], [station("backend-1")], {}, DOMAINS, NOW)
    assert given.workstation == "backend-1"


def test_a_clock_that_was_set_back_holds_nothing_up() -> None:
    ahead = NOW + timedelta(days=365)
    tried = Tries(tries=1, not_before=ahead)
    asked = {"id": "cred-001", "asked_as": "cred-001", "type": "npm_token", "access": "read"}
    grant = Grant(**asked, attempt=1, asked_at=NOW, status="granted", giving=tried)
    attempts = (make_attempt(started_at=ahead),)
    task = make_task(attempts=attempts, not_before=ahead, preparing=tried, grants=(grant,))
    mended = bounded(task, RetrySettings(cap_seconds=60), NOW)
    assert mended.attempts[0].started_at == NOW
    assert mended.not_before == mended.preparing.not_before == NOW + timedelta(seconds=60)
    assert mended.grants[0].giving.not_before == NOW + timedelta(seconds=60)
    soon = task.evolve(
        attempts=(make_attempt(),), not_before=NOW + timedelta(seconds=5), preparing=Tries(), grants=()
    )
    assert bounded(soon, RetrySettings(cap_seconds=60), NOW) == soon


@pytest.mark.parametrize("other", [station("frontend-1", "frontend"), station("backend-1", domain="secret")])
def test_type_and_trust_domain_must_fit(other: WorkstationView) -> None:
    assert schedule([make_task()], [other], {}, DOMAINS, NOW) == []


def test_backoff_and_unsettled_attempts_hold_a_task_back() -> None:
    waiting = make_task(not_before=NOW + timedelta(seconds=1))
    attempt = make_attempt(ended_at=NOW, verdict="failed", bundle="b")
    unsaved = make_task(attempts=(attempt,), attempt=1)
    for task in (waiting, unsaved):
        assert schedule([task], [station("backend-1")], {}, DOMAINS, NOW) == []
    saved = unsaved.with_attempt(1, saved=True)
    assert len(schedule([saved], [station("backend-1")], {}, DOMAINS, NOW)) == 1


@pytest.mark.parametrize(
    ("until", "state", "free"),
    [
        ("verified", State.REVIEW, True),
        ("verified", State.COMPLETED, True),
        ("verified", State.IN_PROGRESS, False),
        ("merged", State.REVIEW, False),
        ("merged", State.COMPLETED, True),
        ("merged", State.CANCELLED, False),
    ],
)
def test_dependencies(until: str, state: State, free: bool) -> None:
    task = make_task(depends_on=(Dependency(task="acme.db", until=until),))
    assert (unmet(task, {"acme.db": DependencyState(state=state)}) == []) is free


def test_an_unknown_dependency_holds_the_task_and_is_named() -> None:
    task = make_task(depends_on=(Dependency(task="acme.db"),))
    assert "acme.db" in unmet(task, {})[0]


def test_cycles_are_found_and_told_in_order() -> None:
    graph = {"a": ["b"], "b": ["c", "x"], "c": ["a"], "x": []}
    assert dependency_cycle("a", graph.__getitem__) == ["a", "b", "c", "a"]
    assert dependency_cycle("x", graph.__getitem__) is None
    long = {str(n): [str(n + 1)] for n in range(20_000)} | {"20000": []}
    assert dependency_cycle("0", long.__getitem__) is None
    assert len(dependency_cycle("0", (long | {"20000": ["0"]}).__getitem__) or []) == 20_002


def test_a_circle_of_pending_tasks_blocks_with_the_way_round() -> None:
    def task(name: str, *needs: str, state: State = State.PENDING) -> TaskRecord:
        depends_on = tuple(Dependency(task=f"acme.{need}") for need in needs)
        return make_task(id=f"acme.{name}", depends_on=depends_on, state=state)

    made = (task("a", "b"), task("b", "none", "c"), task("c", "a"), task("own", "own"))
    tasks = {one.id: one for one in made}
    blocked = stop_circle(tasks["acme.b"], tasks, NOW).task
    assert blocked.state is State.BLOCKED
    assert "acme.b → acme.c → acme.a → acme.b" in blocked.waits_for[0].message
    assert stop_circle(tasks["acme.own"], tasks, NOW).task.state is State.BLOCKED
    tasks["acme.c"] = task("c", "a", state=State.IN_PROGRESS)
    assert stop_circle(tasks["acme.b"], tasks, NOW).task is tasks["acme.b"], "what is under way waits for nothing"
    assert stop_circle(tasks["acme.c"], tasks, NOW).events == ()


def test_a_name_that_nothing_has_is_told_with_the_nearest_that_something_has() -> None:
    task = make_task(depends_on=(Dependency(task="acme.fix-lgoin"),))
    assert "did you mean acme.fix-login?" in unmet(task, {}, unknown={"acme.fix-lgoin": "acme.fix-login"})[0]
    assert "neither a task nor a file" in unmet(task, {}, unknown={"acme.fix-lgoin": ""})[0]


def test_routing_takes_the_first_match_then_the_first_type() -> None:
    table = {"frontend": ("css", "ui"), "backend": ("api",)}
    types = ["backend", "frontend"]
    assert route(["API", "css"], table, types) == "frontend"
    assert route(["api"], table, types) == "backend"
    assert route(["backend"], {}, types) == "backend"
    assert route([], table, types) == "backend"
    assert route([], table, [*types, "planner"]) == "planner"


@given(st.integers(1, 10_000))
def test_backoff_grows_and_is_capped(failures: int) -> None:
    retry = RetrySettings(first_seconds=10, factor=3, cap_seconds=900)
    seconds = backoff_seconds(failures, retry)
    assert 10 <= seconds <= 900
    assert backoff_seconds(failures + 1, retry) >= seconds


def test_the_table_names_every_state_and_ended_ones_only_start_again() -> None:
    assert set(TRANSITIONS) == set(State)
    assert TRANSITIONS[State.COMPLETED] == TRANSITIONS[State.CANCELLED] == {State.PENDING}
    assert all(state not in targets for state, targets in TRANSITIONS.items())


@given(st.sampled_from(list(State)), st.sampled_from(list(State)))
def test_a_transition_that_the_table_lacks_raises(source: State, target: State) -> None:
    task = make_task(state=source)
    if target in TRANSITIONS[source]:
        moved = task.moved(target, reason="r", actor="a", at=NOW)
        assert moved.state is target
        assert moved.history[-1].source is source
    else:
        with pytest.raises(TransitionError, match=source.value):
            task.moved(target, reason="r", actor="a", at=NOW)
