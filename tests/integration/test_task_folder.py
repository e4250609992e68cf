"""The folder `tasks/` as people treat it: files deleted, moved, renamed, together and one by one."""

from collections.abc import Iterator

import pytest

from supervisor.core.states import State
from tests.desk import Desk
from tests.site import Site


@pytest.fixture
def desk(site: Site) -> Iterator[Desk]:
    site.config["timing"]["deletion_grace_seconds"] = 0.2
    made = Desk(site)
    yield made
    made.close()


def test_one_damaged_record_keeps_no_other_deletion_back(desk: Desk) -> None:
    desk.site.write_task("ended")
    desk.keep("ended", archived=True, state=State.COMPLETED)
    desk.start()
    for stem in "abcdef":
        desk.site.write_task(stem)
        desk.see(f"demo.{stem}")
    (desk.site.root.archive / "demo.ended.yaml").write_text("{")
    for stem in ("ended", "a"):
        (desk.site.root.tasks / f"{stem}.yaml").unlink()
    desk.see("demo.a", State.CANCELLED)
    assert desk.codes() == ["E_RECORD_DAMAGED"]
    assert not desk.site.events("supervisor.bug")
