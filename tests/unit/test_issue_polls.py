"""When a forge is asked what is new."""

from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from agent_daemon.protocol.paths import Root
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
