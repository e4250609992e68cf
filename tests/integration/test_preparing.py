"""What happens to a task while its next attempt is being prepared."""

from collections.abc import Iterator

import pytest

from supervisor.core.assign import Prepared
from supervisor.core.decision import Prepare
from tests.desk import Desk
from tests.site import Site
from tests.unit.conftest import SHA_A, make_attempt


@pytest.fixture
def desk(site: Site) -> Iterator[Desk]:
    site.config["workstations"]["backend"]["clis"] = ["scripted", "second"]
    site.config["clis"]["second"] = site.config["clis"]["scripted"]
    made = Desk(site)
    yield made
    made.close()


@pytest.mark.parametrize(("handed_to", "begins"), [("second", False), ("scripted", True)])
def test_a_hand_over_meanwhile_is_heeded(desk: Desk, handed_to: str, begins: bool) -> None:
    """What was laid ready is for the CLI that it was laid ready for: the task is prepared anew."""
    desk.keep("one", attempt=1, attempts=(make_attempt(verdict="failed", saved=True),))
    supervisor = desk.start()
    task, work = supervisor.ledger.tasks["demo.one"], supervisor.work
    (name,) = supervisor.fleet.stations
    supervisor.fleet.usable = lambda _: True  # type: ignore[method-assign]
    job = Prepare(task_id=task.id, workstation=name, cli="scripted", attempt=2, rerun=task.rerun)
    work._open[job.key], work._reserved[task.id] = job, name
    assert desk.command("handoff", task.id, cli=handed_to).done
    prepared = Prepared(base_branch="main", base_commit=SHA_A)
    work.settle(job.key, prepared, supervisor.ledger)
    after = supervisor.ledger.tasks["demo.one"]
    assert (after.attempt == 2) is begins and after.cli == handed_to
    assert not work.preparing(task.id)
