"""Pools: never too few or too many, none that is needed goes, and nothing goes to and fro."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from pydantic import ValidationError

from supervisor.core.pool_size import Member, holds_work, to_raise, to_remove
from supervisor.core.schedule import Assignment
from supervisor.core.settings import WorkstationSettings
from tests.thorough import examples
from tests.unit.conftest import NOW, make_attempt, make_task

LIMIT = 900.0


def member(number: int, **changes: Any) -> Member:
    return Member(name=f"backend-{number}", **({"up": True, "idle_seconds": LIMIT} | changes))


def wish(*numbers: int) -> list[Assignment]:
    return [Assignment(task_id=f"a.{n}", workstation=f"backend-{n}", cli="codex") for n in numbers]


@pytest.mark.parametrize(
    ("given_", "least", "most"),
    [({}, 1, 1), ({"count": 3}, 3, 3), ({"max": 4}, 1, 4), ({"min": 0, "max": 2}, 0, 2)],
)
def test_how_many_a_configuration_means(given_: dict[str, int], least: int, most: int) -> None:
    found = WorkstationSettings(clis=("codex",), **given_)  # type: ignore[arg-type]
    assert (found.least, found.most, found.is_pool) == (least, most, "max" in given_)


@pytest.mark.parametrize("wrong", [{"min": 1}, {"min": 3, "max": 2}, {"count": 2, "max": 3}])
def test_what_makes_no_sense_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValidationError):
        WorkstationSettings(clis=("codex",), **wrong)  # type: ignore[arg-type]


def test_one_is_brought_back_for_each_task_that_waits_but_for_those_that_are_coming() -> None:
    pool = [member(1, needed=True), member(2, coming=True), member(3, up=False), member(4, up=False)]
    assert to_raise(pool, 1, 4, wish(2)) == []
    assert to_raise(pool, 1, 4, wish(2, 4)) == ["backend-4"], "the one that has its worktree"
    assert to_raise(pool, 1, 4, wish(2, 3, 4)) == ["backend-3", "backend-4"]


def test_one_that_is_asked_for_something_comes_back_and_the_pool_is_never_too_small() -> None:
    assert to_raise([member(1), member(2, up=False, needed=True)], 1, 2) == ["backend-2"]
    assert to_raise([member(1, up=False), member(2, up=False), member(3)], 2, 3) == ["backend-1"]


def test_the_last_ones_go_once_they_were_idle_for_long_enough() -> None:
    pool = [member(1), member(2), member(3, idle_seconds=LIMIT - 1), member(4)]
    assert to_remove(pool, 1, LIMIT, waiting=False) == ["backend-4", "backend-2", "backend-1"]
    assert to_remove(pool, 3, LIMIT, waiting=False) == ["backend-4"]
    assert to_remove(pool, 1, LIMIT, waiting=True) == []


@pytest.mark.parametrize(
    ("changes", "holds"),
    [
        ({}, True),
        ({"ended_at": NOW, "verdict": "failed"}, True),
        ({"ended_at": NOW, "verdict": "completed", "saved": True}, False),
        ({"ended_at": NOW, "verdict": "failed", "save_error": "no"}, True),
        ({"ended_at": NOW, "verdict": "failed", "save_error": "no", "dropped_by": "ada"}, False),
        ({"ended_at": NOW, "verdict": "completed", "saved": True, "let_go": True}, True),
        ({"ended_at": NOW, "verdict": "completed", "saved": True, "let_go": True, "released": True}, False),
        ({"abandoned": True}, False),
    ],
)
def test_what_a_workstation_still_has_to_do_with(changes: dict[str, Any], holds: bool) -> None:
    attempt = make_attempt(**changes)
    assert holds_work(make_task(attempts=(attempt,)), attempt) is holds


@st.composite
def pools(draw: st.DrawFn) -> tuple[list[Member], int, int]:
    most = draw(st.integers(1, 6))
    least = draw(st.integers(0, most))
    flags = st.tuples(st.booleans(), st.booleans(), st.booleans(), st.floats(0, 2 * LIMIT))
    drawn = [draw(flags) for _ in range(most)]
    members = [
        member(n + 1, up=up, coming=coming and up and not needed, needed=needed, idle_seconds=idle)
        for n, (up, coming, needed, idle) in enumerate(drawn)
    ]
    return members, least, most


@given(pools(), st.integers(0, 8), st.booleans())
def test_whatever_a_pool_looks_like(pool: tuple[list[Member], int, int], tasks: int, waiting: bool) -> None:
    members, least, most = pool
    open_ = [m for m in members if m.coming or not m.up]
    wished = [Assignment(task_id=f"a.{n}", workstation=m.name, cli="x") for n, m in enumerate(open_[:tasks])]
    raised = to_raise(members, least, most, wished)
    removed = to_remove(members, least, LIMIT, waiting=waiting)
    by_name = {m.name: m for m in members}
    up = sum(m.up for m in members)
    assert len(set(raised)) == len(raised) and all(not by_name[name].up for name in raised)
    assert least <= up + len(raised) <= most
    coming = sum(m.coming for m in members)
    assert up + len(raised) == most or len(raised) >= len(wished) - coming, "a task waits, and there is room"
    assert all(by_name[n].up and not by_name[n].needed and by_name[n].idle_seconds >= LIMIT for n in removed)
    assert not removed or up - len(removed) >= least
    assert not (removed and waiting)

    after = [replace(m, up=True, coming=True, idle_seconds=0) if m.name in raised else m for m in members]
    assert to_raise(after, least, most, wished) == [], "what was done once is not done again"
    assert not set(raised) & set(to_remove(after, least, LIMIT, waiting=False)), "nor undone at once"


class Pool(RuleBasedStateMachine):
    """A pool of four over time: what comes stays for as long as it may be idle."""

    least, most = 1, 4

    @initialize()
    def begin(self) -> None:
        self.now, self.waiting = 0.0, 0
        self.up: dict[int, float] = {1: 0.0}  # since when each was not needed any more
        self.busy: set[int] = set()

    def members(self) -> Iterator[Member]:
        for n in range(1, self.most + 1):
            idle = self.now - self.up.get(n, self.now)
            yield member(n, up=n in self.up, needed=n in self.busy, idle_seconds=0 if n in self.busy else idle)

    @rule(count=st.integers(1, 3))
    def tasks_come(self, count: int) -> None:
        self.waiting += count

    @rule(seconds=st.sampled_from([1.0, 60.0, LIMIT]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def one_is_done(self) -> None:
        if self.busy:
            self.up[self.busy.pop()] = self.now

    @rule()
    def looked_at(self) -> None:
        for n in sorted(set(self.up) - self.busy)[: self.waiting]:
            self.busy.add(n)
            self.waiting -= 1
        down = [n for n in range(1, self.most + 1) if n not in self.up]
        for name in to_raise(list(self.members()), self.least, self.most, wish(*down[: self.waiting])):
            self.up[int(name[-1])] = self.now
        for name in to_remove(list(self.members()), self.least, LIMIT, waiting=self.waiting > 0):
            assert self.now - self.up[int(name[-1])] >= LIMIT, "none goes that has just come or worked"
            del self.up[int(name[-1])]
        assert not self.waiting or len(self.up) == self.most or len(self.up) - len(self.busy) >= 1

    @invariant()
    def it_is_never_too_small_nor_too_large(self) -> None:
        assert self.least <= len(self.up) <= self.most and self.busy <= set(self.up)


TestPool = Pool.TestCase
TestPool.settings = settings(max_examples=examples(25), stateful_step_count=30, deadline=None)
