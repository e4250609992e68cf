"""What the supervisor looks after beside the tasks: its configuration, its spool, its own name."""

import os
import time
from collections.abc import Iterator
from typing import Any

import pytest

from supervisor import spool
from supervisor.control import new_command
from tests.desk import Desk
from tests.site import Site


@pytest.fixture
def desk(site: Site) -> Iterator[Desk]:
    made = Desk(site)
    yield made
    made.close()


def told(desk: Desk) -> list[dict[str, Any]]:
    """The events about the configuration, after as many looks as one needs to come to rest."""
    for _ in range(3):
        desk.look()
    return desk.site.events("config.changed", "config.restored")


def test_a_changed_configuration_is_told_once_and_so_is_its_return(desk: Desk) -> None:
    desk.start()
    assert told(desk) == []
    config = desk.site.root.config
    before = config.read_text()
    config.write_text("# a comment means nothing\n" + before)
    assert told(desk) == []
    config.write_text(before.replace("max_failures: 2", "max_failures: 3"))
    (changed,) = told(desk)
    assert changed["event"] == "config.changed" and changed["details"]["code"] == "E_CONFIG_CHANGED"
    assert "kill -HUP" in changed["details"]["mend"] and "reason" not in changed["details"]
    assert len(told(desk)) == 1
    config.write_text("projekts: {}\n")
    assert "E_UNKNOWN_KEY" in told(desk)[-1]["details"]["reason"]
    config.unlink()
    assert "E_NO_CONFIG" in told(desk)[-1]["details"]["reason"]
    config.write_text(before)
    assert [event["event"] for event in told(desk)] == ["config.changed"] * 3 + ["config.restored"]


def test_answers_that_nobody_fetched_are_removed_and_nothing_else(desk: Desk) -> None:
    desk.start()
    folder = desk.site.root.commands
    old = time.time() - 3600
    names = ("a.answer.yaml", ".0123.new", "a.yaml.txt", "notes", "late.answer.yaml", ".late.new")
    for name in names:
        (folder / name).write_text("x: 1\n")
        os.utime(folder / name, (old, old) if not name.strip(".").startswith("late") else None)
    (folder / "folder.answer.yaml").mkdir()
    os.utime(folder / "folder.answer.yaml", (old, old))
    desk.look()
    left = sorted(path.name for path in folder.iterdir())
    assert left == sorted(["a.yaml.txt", "notes", "late.answer.yaml", ".late.new", "folder.answer.yaml"])


@pytest.mark.parametrize("content", ["", "id: [", "epoch: 3\n", "id: a\nepoch: many\n"])
def test_a_damaged_name_of_the_root_is_one_sentence(site: Site, content: str) -> None:
    site.write_config()
    site.cli("run", "--once")
    site.root.root_id.write_text(content)
    done = site.cli("run", "--once", check=False)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "E_ROOT_ID" in done.stderr and "state/root-id" in done.stderr and "tasking.yaml" in done.stderr
    site.root.root_id.unlink()
    site.cli("run", "--once")


def test_a_command_that_meets_a_mistake_in_this_program_holds_no_other_one_up(desk: Desk) -> None:
    supervisor, folder = desk.start(), desk.site.root.commands

    def broken() -> str:
        raise ZeroDivisionError("a mistake")

    supervisor.people.clean = broken
    for number, (kind, target) in enumerate([("clean", "all"), ("cancel", "demo.none")]):
        command = new_command(kind, target, "ada", {}).model_copy(update={"id": f"c{number}"})
        spool.post(folder, command)
        os.utime(folder / f"c{number}.yaml", (number, number))
    endless = (
        (folder / "c1.yaml").read_text().replace("args: {}", f"args: {{usd: {'9' * 5000}}}").replace("c1", "c2")
    )
    (folder / "c2.yaml").write_text(endless)
    for _ in range(2):
        desk.look()
    answers = [spool.wait_for_answer(folder, f"c{number}", 5) for number in range(3)]
    assert [answer is not None and answer.done for answer in answers] == [False] * 3
    assert answers[0] is not None and answers[0].message == "E_BUG: clean all: ZeroDivisionError: a mistake"
    assert answers[1] is not None and "there is no task demo.none" in answers[1].message
    (told,) = desk.site.events("supervisor.bug")
    assert told["details"]["code"] == "E_BUG"
