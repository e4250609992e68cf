"""When a forge is asked what is new."""

from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from agent_daemon.protocol.paths import Root
from supervisor.clock import Clock
from supervisor.core.forge import Budget, ForgeNews, rest_after
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

    read_with(3)
    clock.at += timedelta(seconds=2)
    read_with(45)  # (six seconds' worth, two of which have passed)
    issues.poll("hub", by_timer=False)
    issues.look()
    assert not submitted
    clock.at += timedelta(seconds=5)
    issues.look()
    issues.look()
    assert submitted == ["Read:hub"]


def test_a_few_calls_now_and_then_make_nobody_wait() -> None:
    assert rest_after(60, timedelta(seconds=30)) == timedelta(0)
    assert rest_after(-5, timedelta(seconds=0)) == timedelta(0)
    assert rest_after(10_000, timedelta(seconds=1)) == timedelta(seconds=60)
