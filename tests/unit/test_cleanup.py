"""Clean-up names nothing that is not recorded, ended and saved, whatever the records say."""

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent_daemon.protocol.model import WorkspaceMode
from supervisor.core.cleanup import DAY_SECONDS, CloneFound, Found, Room, decide, let_go, let_go_at_once
from supervisor.core.record import Attempt, TaskRecord
from supervisor.core.settings import CleanupSettings, Config
from supervisor.core.states import ENDED, State
from supervisor.core.tasking import wanted_status
from tests.unit.conftest import NOW, SHA_A, SHA_B, make_attempt, make_task

OLD = 400 * DAY_SECONDS
PLENTY = Room(total_bytes=10**12, low=False)
SETTINGS = CleanupSettings()


def done(**changes: Any) -> Attempt:
    """An attempt that ended, whose work lies in state/salvage/, and whose worktree is still there."""
    values: dict[str, Any] = {"verdict": "completed", "ended_at": NOW, "saved": True, "saved_in": "salvage"}
    values |= {"bundle": "salvage.bundle", "bundle_head": SHA_B, "bundle_base": SHA_A}
    return make_attempt(**(values | changes))


def ended(*attempts: Attempt, **changes: Any) -> TaskRecord:
    values: dict[str, Any] = {"state": State.CANCELLED, "attempt": len(attempts), "attempts": attempts}
    return make_task(**(values | changes))


def found(task: TaskRecord, age_seconds: float = OLD, **changes: Any) -> Found:
    values: dict[str, Any] = {"archived": True, "salvage": {a.number: 1000 for a in task.attempts}}
    return Found(task=task, age_seconds=age_seconds, **(values | changes))


def verdicts(*everything: Found, room: Room = PLENTY) -> dict[tuple[str, int | None], tuple[str, str]]:
    return {(c.kind, c.attempt): (c.verdict, c.rule) for c in decide(everything, (), room, SETTINGS)}


def test_saved_work_that_holds_a_secret_goes_once_its_task_has_ended() -> None:
    young = found(ended(done(number=1, released=True), done(number=2, released=True, holds_secret=True)), 1.0)
    told = verdicts(young)
    assert told["salvage", 1][0] == "keep" and told["salvage", 2] == ("remove", "age")
    kept = found(make_task(state=State.BLOCKED, attempt=1, attempts=(done(holds_secret=True),)), OLD)
    assert ("salvage", 1) not in verdicts(kept)


# --- the property ---------------------------------------------------------------------------------------

FLAGS = st.booleans()
NUMBERS = st.dictionaries(st.integers(1, 4), st.integers(0, 10**11), max_size=4)
ATTEMPT = st.fixed_dictionaries(
    {
        "saved": FLAGS,
        "saved_in": st.sampled_from(["salvage", "remote", "nothing", None]),
        "save_error": st.sampled_from([None, "no"]),
        "ended_at": st.sampled_from([None, NOW]),
        "released": FLAGS,
        "let_go": FLAGS,
        "abandoned": FLAGS,
        "workstation": st.sampled_from(["backend-1", "backend-2"]),
    }
)


@st.composite
def findings(draw: st.DrawFn, number: int) -> Found:
    made = draw(st.lists(ATTEMPT, max_size=3))
    attempts = tuple(
        make_attempt(number=n, verdict="failed" if one["ended_at"] else None, **one)
        for n, one in enumerate(made, start=1)
    )
    state = draw(st.sampled_from(list(State)))
    task = make_task(id=f"acme.t{number}", state=state, attempts=attempts, attempt=len(attempts))
    task = task.evolve(source=task.source.evolve(present=draw(FLAGS)))
    return Found(
        task=task,
        archived=draw(FLAGS),
        age_seconds=draw(st.floats(0, 2 * OLD)),
        salvage=draw(NUMBERS),
        start=draw(NUMBERS),
        held=draw(NUMBERS),
        outputs=draw(NUMBERS),
        wanted_by=draw(st.sampled_from([(), ("acme.other",)])),
    )


DAYS = st.sampled_from([0.0, 0.5, 1.0, 7.0, 365.0])
CLEANUP = st.builds(
    CleanupSettings,
    grace_days=DAYS,
    worktree_days=DAYS,
    worktree_count=st.integers(0, 3),
    output_days=DAYS,
    salvage_days=DAYS,
    salvage_share=st.sampled_from([0, 0.01, 1]),
    record_days=DAYS,
    clone_days=DAYS,
)
CLONE = st.builds(
    CloneFound,
    workstation=st.just("backend-1"),
    project=st.just("acme"),
    age_seconds=st.floats(0, 2 * OLD),
    used_by=st.sampled_from([None, (), ("acme.t1",)]),
    unreadable=st.sampled_from([(), ("acme.odd",)]),
)


@settings(max_examples=500)
@given(
    st.integers(0, 4).flatmap(lambda size: st.tuples(*(findings(number) for number in range(size)))),
    st.lists(CLONE, max_size=3),
    st.builds(Room, total_bytes=st.integers(0, 10**12), low=FLAGS),
    CLEANUP,
)
def test_only_what_is_recorded_ended_and_saved_is_ever_named(
    everything: tuple[Found, ...], clones: list[CloneFound], room: Room, cleanup: CleanupSettings
) -> None:
    known = {one.task.id: one for one in everything}
    candidates = decide(everything, clones, room, cleanup)
    for candidate in candidates:
        assert candidate.reason, "each verdict says why"
        if candidate.verdict != "remove":
            continue
        assert candidate.rule, "each removal says by which rule"
        if candidate.kind == "clone":
            assert any(c.used_by == () and not c.unreadable for c in clones)
            continue
        one = known[candidate.task or ""]
        assert one.task.state in ENDED
        if candidate.kind == "record":
            assert one.archived and not one.task.source.present and not one.wanted_by
            assert all(attempt.released for attempt in one.task.attempts)
            continue
        attempt = one.task.attempt_number(candidate.attempt or 0)
        assert attempt is not None
        if candidate.kind == "worktree":
            assert attempt.ended_at is not None and attempt.saved and not attempt.released
            assert attempt.saved_in in ("remote", "nothing") or attempt.number in one.salvage
            after = let_go(one.task, attempt.number)
            assert wanted_status(after, after.attempts[attempt.number - 1]).value == "released"
        elif candidate.kind == "output":
            assert attempt.released
        else:
            assert all(other.released for other in one.task.attempts)
        limit = min(cleanup.grace_days, cleanup.worktree_days, cleanup.output_days, cleanup.salvage_days)
        assert candidate.age_seconds >= limit * DAY_SECONDS
    removed = {(c.task, c.kind, c.attempt) for c in candidates if c.verdict == "remove"}
    for task, kind, _ in removed:
        if kind == "record":
            assert all(c.verdict == "remove" for c in candidates if c.task == task), "nothing is left unrecorded"


# --- each rule, literally ---------------------------------------------------------------------------------


def test_worktrees_of_ended_tasks_go_after_a_week() -> None:
    task = ended(done())
    assert verdicts(found(task, 6 * DAY_SECONDS))["worktree", 1] == ("keep", "")
    assert verdicts(found(task, 7 * DAY_SECONDS))["worktree", 1] == (
        "remove",
        "age",
    )
    asked = decide([found(task.with_attempt(1, let_go=True))], (), PLENTY, SETTINGS)[0]
    assert asked.verdict == "keep" and "has been told" in asked.reason
    assert not [
        c for c in decide([found(ended(done(released=True)))], (), PLENTY, SETTINGS) if c.kind == "worktree"
    ]


@pytest.mark.parametrize(
    ("attempt", "salvage", "why"),
    [
        (done(), {}, "state/salvage/acme.login/1.bundle is not there"),
        (done(saved=False, save_error="E_DIGEST: odd"), {}, "E_DIGEST: odd"),
        (done(saved=False), {1: 5}, "being saved"),
        (make_attempt(), {1: 5}, "has not said yet"),
        (done(saved_in=None), {}, "is not there"),
    ],
)
def test_in_doubt_it_stops_and_says_why(attempt: Attempt, salvage: dict[int, int], why: str) -> None:
    candidate = decide([found(ended(attempt), salvage=salvage)], (), PLENTY, SETTINGS)[0]
    assert candidate.kind == "worktree" and candidate.verdict == "doubt" and why in candidate.reason


def test_pushed_work_needs_no_file_here() -> None:
    task = ended(done(saved_in="remote", bundle="result.bundle"), state=State.COMPLETED)
    assert verdicts(found(task, salvage={}))["worktree", 1] == ("remove", "age")


def test_each_workstation_keeps_so_many_worktrees_and_the_oldest_go() -> None:
    some = [found(ended(done(), id=f"acme.t{n}"), n * DAY_SECONDS) for n in (1, 2, 3)]
    some.append(found(ended(done(workstation="backend-2"), id="acme.t4"), 5 * DAY_SECONDS))
    few = CleanupSettings(worktree_count=1)
    told = {c.task: (c.verdict, c.rule) for c in decide(some, (), PLENTY, few) if c.kind == "worktree"}
    assert told == {
        "acme.t1": ("keep", ""),
        "acme.t2": ("remove", "count"),
        "acme.t3": ("remove", "count"),
        "acme.t4": ("keep", ""),
    }
    young = decide([found(ended(done(), id=f"acme.t{n}"), 3600) for n in range(5)], (), PLENTY, few)
    assert all(c.verdict == "keep" for c in young), "the grace period comes before the count"


def test_a_low_disk_takes_what_is_past_the_grace_period_but_no_saved_work() -> None:
    low = Room(total_bytes=10**12, low=True)
    old = [
        found(ended(done(), id="acme.worktree"), 2 * DAY_SECONDS),
        found(ended(done(released=True), id="acme.output"), 2 * DAY_SECONDS, outputs={1: 10}),
    ]
    told = {(c.task, c.kind): (c.verdict, c.rule) for c in decide(old, (), low, SETTINGS)}
    assert told["acme.worktree", "worktree"] == told["acme.output", "output"] == ("remove", "disk")
    assert told["acme.output", "salvage"] == ("keep", "")
    young = decide([found(ended(done()), 3600)], (), low, SETTINGS)
    assert all(c.verdict == "keep" for c in young)


def test_saved_work_goes_after_its_worktree_and_takes_its_start_along() -> None:
    task = ended(done(released=True), done(number=2, released=False))
    told = verdicts(found(task, start={1: 5}))
    assert told["salvage", 1] == told["salvage", 2] == ("keep", "")
    gone = ended(done(released=True), done(number=2, released=True))
    sizes = {
        c.attempt: (c.verdict, c.size_bytes) for c in decide([found(gone, start={1: 5})], (), PLENTY, SETTINGS)
    }
    assert sizes == {1: ("remove", 1005), 2: ("remove", 1000), None: ("keep", 0)}


def test_too_large_a_share_takes_the_oldest_of_completed_tasks_only() -> None:
    small = Room(total_bytes=10_000, low=False)
    some = [
        found(ended(done(released=True), id=f"acme.t{n}", state=state), n * DAY_SECONDS)
        for n, state in ((2, State.COMPLETED), (3, State.COMPLETED), (4, State.CANCELLED))
    ]
    told = {c.task: (c.verdict, c.rule) for c in decide(some, (), small, SETTINGS) if c.kind == "salvage"}
    assert told == {"acme.t2": ("keep", ""), "acme.t3": ("remove", "share"), "acme.t4": ("keep", "")}


def test_a_record_goes_last_and_never_while_its_source_is_there() -> None:
    task = ended(done(released=True))
    gone = task.evolve(source=task.source.evolve(present=False))

    def told(one: Found) -> str:
        return next(c.verdict for c in decide([one], (), PLENTY, SETTINGS) if c.kind == "record")

    assert told(found(task)) == "keep" and told(found(gone)) == "remove"
    assert told(found(gone, wanted_by=("acme.other",))) == "keep"
    assert told(found(gone, 364 * DAY_SECONDS)) == "keep"
    assert not [c for c in decide([found(gone, archived=False)], (), PLENTY, SETTINGS) if c.kind == "record"]
    younger = CleanupSettings(record_days=10)
    kept = [c for c in decide([found(gone, 20 * DAY_SECONDS)], (), PLENTY, younger) if c.kind == "record"]
    assert kept[0].verdict == "keep", "its saved work is still there"


def test_a_clone_goes_when_no_record_may_need_it() -> None:
    def told(**changes: Any) -> tuple[str, str]:
        values: dict[str, Any] = {"workstation": "backend-1", "project": "acme", "age_seconds": OLD, "used_by": ()}
        candidate = decide((), [CloneFound(**(values | changes))], PLENTY, SETTINGS)[0]
        return candidate.verdict, candidate.rule

    assert told() == ("remove", "age")
    assert told(used_by=None) == told(unreadable=("acme.odd",)) == ("doubt", "")
    assert told(used_by=("acme.x",)) == told(age_seconds=DAY_SECONDS) == ("keep", "")


def test_isolated_worktrees_and_those_without_a_week_go_at_once(config: Config) -> None:
    task = ended(done(), done(number=2, workspace_mode=WorkspaceMode.ISOLATED))
    assert [a.let_go for a in let_go_at_once(task, config).attempts] == [False, True]
    at_once = config.model_copy(update={"cleanup": CleanupSettings(worktree_days=0)})
    assert all(a.let_go for a in let_go_at_once(task, at_once).attempts)
    unsaved = task.with_attempt(2, saved=False)
    assert not let_go_at_once(unsaved, at_once).attempts[1].let_go
    running = task.evolve(state=State.REVIEW)
    assert let_go_at_once(running, at_once) == running


def test_a_year_more_on_the_clock_makes_nothing_older() -> None:
    """Ages come from `core.observed`; whatever the wall clock says, `decide` does not see it."""
    task = ended(done(ended_at=NOW - timedelta(days=365)))
    assert all(c.verdict != "remove" for c in decide([found(task, DAY_SECONDS)], (), PLENTY, SETTINGS))
