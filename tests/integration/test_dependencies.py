"""Tasks that depend on each other, as people write and change them."""

import copy
import json
from collections.abc import Callable, Iterator

import pytest
import yaml

from supervisor.core.record import Dependency
from supervisor.core.states import State
from tests.desk import Desk
from tests.site import Site, wait_for


@pytest.fixture
def desk(site: Site) -> Iterator[Desk]:
    site.config["projects"]["other"] = copy.deepcopy(site.config["projects"]["demo"])
    made = Desk(site)
    yield made
    made.close()


def write(desk: Desk, stem: str, **fields: object) -> None:
    desk.site.write_task(stem, **({"project": "demo"} | fields))


def look_until(desk: Desk, condition: Callable[[], bool]) -> None:
    def reached() -> bool:
        desk.look()
        return condition()

    wait_for(reached)


def test_a_circle_is_noticed_when_the_files_come_and_again_when_nothing_was_changed(desk: Desk) -> None:
    desk.start()
    write(desk, "a", depends_on=["b"])
    desk.see("demo.a")
    write(desk, "b", depends_on=["a"])
    blocked = desk.see("demo.b", State.BLOCKED)
    assert "demo.b → demo.a → demo.b" in blocked.waits_for[0].message
    desk.command("retry", "demo.b")
    again = desk.see("demo.b", State.BLOCKED)
    assert [entry.target for entry in again.history[-2:]] == [State.PENDING, State.BLOCKED]
    write(desk, "b")
    look_until(desk, lambda: not desk.see("demo.b", State.BLOCKED).depends_on)
    desk.command("retry", "demo.b")
    assert desk.see("demo.b").waits_for == ()


def test_a_circle_that_a_new_run_brings_up_is_noticed(desk: Desk) -> None:
    """Both were over; each is run again while the other waits for it."""
    for stem, needs in (("a", "demo.b"), ("b", "demo.a")):
        desk.keep(stem, archived=True, state=State.CANCELLED, depends_on=(Dependency(task=needs),))
    desk.start()
    desk.command("retry", "demo.a")
    desk.see("demo.a")
    desk.command("retry", "demo.b")
    assert "demo.b → demo.a → demo.b" in desk.see("demo.b", State.BLOCKED).waits_for[0].message
    shown = desk.site.cli("task", "explain", "b").stdout
    assert "task edit demo.b" in shown and "task retry demo.b" in shown


def test_a_misspelt_dependency_waits_for_a_person_and_goes_on_when_the_task_appears(desk: Desk) -> None:
    desk.start()
    write(desk, "fix-login")
    write(desk, "second", depends_on=["fix-lgoin"])
    desk.see("demo.fix-login")
    desk.see("demo.second")
    waiting = json.loads(desk.site.cli("status", "--json").stdout)["waiting"]
    assert [entry["task"] for entry in waiting] == ["demo.second"]
    explained = desk.site.cli("task", "explain", "second").stdout
    assert "did you mean demo.fix-login?" in explained and "task edit demo.second" in explained
    write(desk, "fix-lgoin")
    desk.see("demo.fix-lgoin")
    assert "did you mean" not in desk.site.cli("task", "explain", "second").stdout


def test_a_dependency_whose_file_has_a_mistake_is_not_called_misspelt(desk: Desk) -> None:
    desk.start()
    (desk.site.root.tasks / "first.yaml").write_text("titel: oops\n")
    write(desk, "second", depends_on=["first"])
    desk.see("demo.second")
    assert "did you mean" not in desk.site.cli("task", "explain", "second").stdout


def test_a_branch_of_another_project_cannot_be_started_from(desk: Desk) -> None:
    desk.start()
    write(desk, "wrong", depends_on=[{"task": "other.base", "use": "head"}])
    look_until(desk, lambda: desk.codes() == ["E_OTHER_PROJECT_HEAD"])
    write(desk, "right", depends_on=["other.base", {"task": "demo.x", "use": "head"}])
    task = desk.see("demo.right")
    assert [dependency.use for dependency in task.depends_on] == ["none", "head"]
    assert "use: none" in yaml.safe_dump(desk.site.events("input.refused")[0]["details"])
