"""The folder `tasks/` as people treat it: files deleted, moved, renamed, together and one by one."""

import copy
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor.clock import Clock
from supervisor.control import new_command
from supervisor.core.settings import Config
from supervisor.core.states import State
from supervisor.forges.task_folder import RESTLESS_SECONDS, ROUND_POLLS, TaskFolder
from tests.desk import Desk
from tests.site import Site, wait_for

LOOKS = 20  # (a busy machine takes long for each)


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
    take_in(desk, *"abcdef")
    (desk.site.root.archive / "demo.ended.yaml").write_text("{")
    for stem in ("ended", "a"):
        (desk.site.root.tasks / f"{stem}.yaml").unlink()
    desk.see("demo.a", State.CANCELLED)
    assert desk.codes() == ["E_RECORD_DAMAGED"]
    assert not desk.site.events("supervisor.bug")


def keep_looking(desk: Desk, seconds: float = 1.0) -> None:
    """Look for longer than the grace of deletions (0.2 s), and so often that all has come that is to come."""
    until, looks = time.monotonic() + seconds, 0
    while time.monotonic() < until or looks < LOOKS:
        desk.look()
        looks += 1
        time.sleep(0.02)


def take_in(desk: Desk, *stems: str) -> list[Path]:
    paths = [desk.site.write_task(stem) for stem in stems]
    for stem in stems:
        desk.see(f"demo.{stem}")
    return paths


def held(desk: Desk, stem: str) -> bool:
    task = desk.site.record(f"demo.{stem}")
    assert task is not None and task.state is State.PENDING
    return task.source.held


def test_tasks_whose_files_vanished_together_are_held_over_a_restart(desk: Desk) -> None:
    desk.start()
    paths = take_in(desk, "a", "b", "c")
    for path in paths[:2]:
        path.rename(path.with_name(f".{path.name}"))
    keep_looking(desk)
    assert desk.codes() == ["E_TASKS_VANISHED"]
    take_in(desk, "d", "e", "f")
    desk.restart()
    keep_looking(desk)
    assert [held(desk, stem) for stem in "abcdef"] == [True, True, False, False, False, False]

    paths[0].with_name(".a.yaml").rename(paths[0])
    wait_for(lambda: desk.look() or not held(desk, "a"), what="a file that is there again is no longer held")
    assert [event["task"] for event in desk.site.events("source.returned")] == ["demo.a"]
    paths[0].unlink()
    desk.see("demo.a", State.CANCELLED)
    assert held(desk, "b")
    desk.site.cli("task", "cancel", "b")
    desk.restart()
    desk.see("demo.b", State.CANCELLED)
    paths[1].with_name(".b.yaml").rename(paths[1])
    keep_looking(desk)
    desk.see("demo.b", State.CANCELLED)


def test_a_hold_that_could_not_be_kept_is_told_again(desk: Desk) -> None:
    supervisor = desk.start()
    for path in take_in(desk, "a", "b"):
        path.unlink()
    folder = TaskFolder(desk.site.root.tasks, supervisor.config, supervisor.clock)
    folder.remember(supervisor.ledger.sources())
    assert sorted(folder.poll().held) == ["a", "b"] and folder.settled
    assert folder.poll().held == ()
    folder.look_again(supervisor.ledger.sources())
    assert sorted(folder.poll().held) == ["a", "b"]


def test_files_that_are_away_at_the_start_count_unless_they_are_too_many(desk: Desk) -> None:
    desk.start()
    paths = take_in(desk, "a", "b", "c", "d", "e")
    paths[0].unlink()
    desk.restart()
    desk.see("demo.a", State.CANCELLED)
    for path in paths[1:4]:
        path.unlink()
    desk.restart()
    keep_looking(desk)
    assert [held(desk, stem) for stem in "bcde"] == [True, True, True, False]


def test_a_folder_that_is_gone_is_not_made_anew_and_cancels_nothing(desk: Desk) -> None:
    desk.start()
    (path,) = take_in(desk, "only")
    away = path.parent.rename(path.parent.with_name("elsewhere"))
    keep_looking(desk)
    desk.restart()
    keep_looking(desk)
    assert not path.parent.exists() and desk.codes() == ["E_TASKS_VANISHED", "E_TASKS_VANISHED"]
    assert "E_TASKS_VANISHED" in desk.site.cli("task", "add", "Another", check=False).stderr
    away.rename(path.parent)
    keep_looking(desk)
    assert not held(desk, "only")
    path.unlink()
    desk.see("demo.only", State.CANCELLED)


def test_once_ends_although_files_have_vanished(site: Site) -> None:
    site.write_config()
    paths = [site.write_task(stem, depends_on=["never"]) for stem in "abc"]
    site.cli("run", "--once")
    for path in paths[:2]:
        path.unlink()
    assert "E_TASKS_VANISHED" in site.cli("run", "--once").stderr
    paths[2].parent.rename(site.folder / "elsewhere")
    assert "E_TASKS_VANISHED" in site.cli("run", "--once").stderr
    task = site.record("demo.a")
    assert task is not None and task.state is State.PENDING and task.source.held


def test_a_file_renamed_to_yml_is_misnamed_and_not_deleted(desk: Desk) -> None:
    desk.start()
    (path, _other) = take_in(desk, "a", "b")
    misnamed = path.rename(path.with_suffix(".yml"))
    keep_looking(desk, 1.5)
    assert desk.codes() == ["E_SUFFIX"] and not held(desk, "a")
    (problem,) = desk.site.events("input.refused")
    assert "a.yaml" in problem["details"]["expected"] and "rename" in problem["details"]["mend"]
    desk.restart()
    keep_looking(desk)
    assert not held(desk, "a")
    misnamed.unlink()
    desk.see("demo.a", State.CANCELLED)


@pytest.mark.parametrize("state", [State.PENDING, State.COMPLETED])
@pytest.mark.parametrize("renamed", [False, True])
def test_a_file_does_not_become_a_second_task_in_another_project(desk: Desk, state: State, renamed: bool) -> None:
    projects = desk.site.config["projects"]
    projects["other"] = copy.deepcopy(projects["demo"])
    desk.site.write_task("moved", project="other")
    desk.site.write_task("fresh", project="other")
    desk.keep("moved", archived=state is State.COMPLETED, state=state)
    if renamed:
        del projects["demo"]
    desk.start()
    desk.see("other.fresh")
    assert desk.codes() == ["E_PROJECT_CHANGED"]
    (refused,) = desk.site.events("input.refused")
    assert "demo.moved" in refused["details"]["message"]
    assert desk.site.record("other.moved") is None
    task = desk.site.record("demo.moved")
    assert task is not None and task.state is state
    assert "E_PROJECT_CHANGED" in desk.site.cli("check", "tasks", check=False).stdout
    shown = desk.site.cli("status").stdout
    assert "demo.moved" in shown and "new task" not in shown


def test_a_deleted_file_written_again_for_another_project_is_a_new_task(desk: Desk) -> None:
    projects = desk.site.config["projects"]
    projects["other"] = copy.deepcopy(projects["demo"])
    desk.start()
    path = desk.site.write_task("moved", project="demo")
    desk.see("demo.moved")
    path.unlink()
    desk.see("demo.moved", State.CANCELLED)
    desk.site.write_task("moved", project="other")
    desk.see("other.moved")
    assert desk.codes() == []


class SteppedClock(Clock):
    """A clock that goes on when it is told to."""

    seconds = 0.0

    def monotonic(self) -> float:
        return self.seconds


@pytest.mark.parametrize("how", ["in place", "in place, with an event", "replaced", "deleted"])
def test_files_that_rest_are_looked_at_in_turns_and_no_change_is_missed(site: Site, how: str) -> None:
    config, clock = Config.model_validate(site.config), SteppedClock()
    paths = [site.write_task(f"task-{number}") for number in range(20)]
    folder = TaskFolder(site.root.tasks, config, clock)
    drafts: list[str] = []

    def poll(times: int) -> tuple[str, ...]:
        gone: tuple[str, ...] = ()
        for _ in range(times):
            clock.seconds += 1
            news = folder.poll()
            drafts.extend(draft.source.ref for draft in news.drafts)
            gone += news.gone
        return gone

    poll(2)
    assert sorted(drafts) == sorted(path.name for path in paths)
    drafts.clear()
    clock.seconds += 2 * RESTLESS_SECONDS
    poll(2 * ROUND_POLLS)
    assert drafts == []
    path = paths[7]
    if how == "replaced":
        site.write_task("task-7", description="another")
    elif how == "deleted":
        path.unlink()
    else:
        with path.open("a") as file:
            file.write("description: another\n")
    if how == "in place, with an event":
        folder.wake()
    gone = poll(2 if how != "in place" else ROUND_POLLS + 1)
    if how == "deleted":
        assert poll(2) == ("task-7",)
    else:
        assert drafts == ["task-7.yaml"] and gone == ()


def test_an_edit_in_place_is_noticed_at_once(site: Site) -> None:
    site.write_config()
    path = site.write_task("long", depends_on=["never"])
    site.start()
    site.wait_state("demo.long", "pending")
    with path.open("a") as file:
        file.write("priority: high\n")
    wait_for(lambda: (task := site.record("demo.long")) and task.priority == "high")


def test_an_ended_task_is_run_again_as_its_file_says_now(desk: Desk) -> None:
    desk.start()
    (path,) = take_in(desk, "login")
    desk.close()
    desk.site.cli("task", "cancel", "login")
    supervisor = desk.start()
    desk.see("demo.login", State.CANCELLED)
    desk.site.write_task("login", description="what is wanted now")
    keep_looking(desk, 1.5)
    desk.see("demo.login", State.CANCELLED)
    command = new_command("retry", "demo.login", "ada", {})
    assert supervisor.people.carry_out(supervisor.ledger, command).done
    wait_for(lambda: desk.look() or supervisor.ledger.tasks["demo.login"].description == "what is wanted now")
    assert path.exists() and supervisor.ledger.tasks["demo.login"].rerun == 2
