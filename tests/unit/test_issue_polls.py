"""When a forge is asked what is new."""

from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_daemon.protocol.paths import Root
from supervisor.clock import Clock
from supervisor.core.forge import CALLS_AT_ONCE, Budget, ForgeNews, calls_left, rest_after
from supervisor.core.settings import ProjectSettings
from supervisor.desks import open_desks
from supervisor.issues import Issues
from tests.unit.conftest import NOW


@pytest.mark.parametrize("by_timer", [True, False], ids=["timer", "webhook"])
@pytest.mark.parametrize(("ended", "asked"), [(False, 0), (True, 1)], ids=["limited", "over"])
def test_a_pause_that_the_forge_asks_for_holds_for_webhooks_too(
    tmp_path: Path, by_timer: bool, ended: bool, asked: int
) -> None:
    submitted: list[Any] = []
    pool: Any = SimpleNamespace(submit=lambda key, work: submitted.append(key) or True)
    clock: Any = SimpleNamespace(now=lambda: NOW)
    settings = ProjectSettings(forge="github", repository="acme/app")
    project: Any = SimpleNamespace(settings=settings, forge=SimpleNamespace(read=print))
    ledger: Any = SimpleNamespace(tasks={})
    issues = Issues(clock, ledger, pool, open_desks(Root(tmp_path), {"hub": project}))
    issues.desks["hub"].not_before = NOW + timedelta(seconds=-1 if ended else 60)
    issues.poll("hub", by_timer=by_timer)
    assert len(submitted) == asked


class Moving:
    """A clock that a test sets on."""

    def __init__(self) -> None:
        self.at = NOW

    def now(self) -> datetime:
        return self.at


def test_deliveries_read_a_forge_no_faster_than_it_bears(tmp_path: Path) -> None:
    """A read with many open requests is many calls: the next waits, and is made as soon as it may."""
    submitted: list[str] = []
    clock = Moving()
    pool: Any = SimpleNamespace(submit=lambda key, work: submitted.append(key) or True)
    settings = ProjectSettings(forge="github", repository="acme/app")
    project: Any = SimpleNamespace(settings=settings, forge=SimpleNamespace(read=print))
    ledger: Any = SimpleNamespace(tasks={}, log=print)
    root = Root(tmp_path)
    root.projects.mkdir(parents=True)
    issues = Issues(cast("Clock", clock), ledger, pool, open_desks(root, {"hub": project}))

    def read_with(calls: int) -> None:
        made = issues.desks["hub"].state.budget.calls + calls
        issues.settle_read("hub", ForgeNews(budget=Budget(calls=made)))

    for _ in range(5):  # (what may be made at once, and 20 more)
        read_with(49)
        clock.at += timedelta(seconds=0.2)
    issues.poll("hub", by_timer=False)
    issues.look()
    assert not submitted
    clock.at += timedelta(seconds=5)
    issues.look()
    issues.look()
    assert submitted == ["Read:hub"]


def test_projects_of_one_account_share_what_its_forge_bears(tmp_path: Path) -> None:
    def project(repository: str, login: str) -> Any:
        auth: Any = {"token": {"secret": "forges/github"}, "login": login}
        return SimpleNamespace(
            settings=ProjectSettings(forge="github", repository=repository, auth=auth), forge=object()
        )

    named = {"app": project("acme/app", "bot"), "web": project("acme/web", "bot"), "own": project("me/own", "me")}
    desks, calls = open_desks(Root(tmp_path), named), int(CALLS_AT_ONCE)
    for desk in desks.values():
        desk.note_read(Budget(calls=calls), NOW)
    rests = {name: desk.rests_until - NOW for name, desk in desks.items() if desk.rests_until is not None}
    assert rests == {"app": timedelta(0), "web": timedelta(seconds=calls / 5), "own": timedelta(0)}


@given(st.lists(st.tuples(st.integers(0, 1500), st.floats(0, 120)), max_size=60))
def test_deliveries_make_no_more_calls_than_come_back(readings: list[tuple[int, float]]) -> None:
    """Each reading begins once the forge has rested, whenever it was asked for."""
    left, made, seconds = CALLS_AT_ONCE, 0, 0.0
    for calls, pause in readings:
        waited = max(rest_after(left).total_seconds(), pause)
        seconds += waited
        assert made <= CALLS_AT_ONCE + 5 * seconds + 0.01 and rest_after(left) <= timedelta(seconds=300)
        left = calls_left(left, calls, timedelta(seconds=waited))
        made += calls


def test_a_few_calls_now_and_then_make_nobody_wait() -> None:
    assert rest_after(calls_left(CALLS_AT_ONCE, 200, timedelta(0))) == timedelta(0)
    assert calls_left(0, -5, timedelta(seconds=90)) == CALLS_AT_ONCE


def test_a_rest_brings_no_turn_of_the_timer_forward(tmp_path: Path) -> None:
    settings = ProjectSettings(forge="github", repository="acme/app")
    project: Any = SimpleNamespace(settings=settings, forge=object())
    (desk,) = open_desks(Root(tmp_path), {"hub": project}).values()
    desk.rests_until = NOW + timedelta(seconds=60)
    assert not desk.is_due(NOW, by_timer=True, busy=True) and not desk.again
    assert not desk.is_due(NOW, by_timer=False, busy=True) and desk.again
