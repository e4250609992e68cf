"""People edit `tasking.yaml` of attempts under way, of ended ones, and of such as nobody reads any more."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from supervisor.core.record import TaskRecord
from supervisor.core.states import State
from supervisor.turns import ROUND_SWEEPS
from tests.desk import Desk
from tests.site import Site, wait_for
from tests.unit.conftest import NOW, make_attempt

LONG = "A line of a long description.\n" * 1000  # 30 KiB
UNDER_WAY = make_attempt()
ENDED = make_attempt(ended_at=NOW, verdict="completed", saved=True)


@pytest.fixture
def desk(site: Site) -> Iterator[Desk]:
    made = Desk(site)
    yield made
    made.close()


def begin(desk: Desk, state: State, *attempts: Any, **fields: Any) -> Path:
    """A task with these attempts, its file, and the tasking of the first of them as the supervisor wrote it."""
    desk.keep("login", state=state, attempt=len(attempts), attempts=attempts, **fields)
    desk.start()
    tasking = desk.site.root.attempt_in("backend-1", "demo.login", 1) / "tasking.yaml"
    wait_for(lambda: desk.look() or tasking.exists())
    return tasking


def change(tasking: Path, *changes: tuple[str, str]) -> None:
    text = tasking.read_text()
    for before, after in changes:
        assert before in text
        text = text.replace(before, after)
    tasking.write_text(text)


def look_until(desk: Desk, condition: Callable[[TaskRecord], object]) -> TaskRecord:
    """Look, as often as it takes for every tasking to have its turn twice, until the record is so."""
    for _ in range(3 * ROUND_SWEEPS):
        desk.look()
        task = desk.site.record("demo.login")
        assert task is not None
        if condition(task):
            return task
    raise AssertionError(desk.site.story("demo.login"))


def rejected(tasking: Path) -> str:
    return tasking.with_name("tasking.yaml.rejected").read_text()


@pytest.mark.parametrize(("state", "attempt"), [(State.IN_PROGRESS, UNDER_WAY), (State.REVIEW, ENDED)])
def test_a_description_that_is_cut_survives_an_edit_and_the_rest_is_taken(
    desk: Desk, state: State, attempt: Any
) -> None:
    tasking = begin(desk, state, attempt, description=LONG)
    change(tasking, ("Fix the login", "Fix the logout"), ("A line of", "A word of"))
    task = look_until(desk, lambda task: task.title == "Fix the logout")
    assert task.description == LONG
    assert "cloud-code task edit demo.login" in rejected(tasking) and "A word of" in rejected(tasking)
    assert "Fix the logout" in tasking.read_text() and "A word of" not in tasking.read_text()
    (refused,) = desk.site.events("edit.refused")
    assert refused["details"]["kept"].endswith("tasking.yaml.rejected")
    for _ in range(3 * ROUND_SWEEPS):
        desk.look()
    assert len(desk.site.events("edit.refused")) == 1


def test_an_edit_in_review_is_taken_for_the_next_attempt_and_says_so(desk: Desk) -> None:
    tasking = begin(desk, State.REVIEW, ENDED)
    change(tasking, ("Fix the login", "Fix the logout"))
    task = look_until(desk, lambda task: task.title == "Fix the logout")
    assert task.state is State.REVIEW and not desk.site.events("edit.refused")
    (edited,) = desk.site.events("task.edited")
    assert "cloud-code task retry demo.login" in edited["details"]["note"]
    shown = desk.site.cli("task", "explain", "login").stdout
    assert "changed after attempt 1" in shown and "taken for the next attempt" in shown


def test_an_ended_attempt_can_be_cancelled_where_it_stands(desk: Desk) -> None:
    tasking = begin(desk, State.REVIEW, ENDED)
    change(tasking, ("status: assigned", "status: cancelled"))
    look_until(desk, lambda task: task.state is State.CANCELLED)


@pytest.mark.parametrize(
    ("state", "attempts", "said"),
    [
        (State.IN_PROGRESS, (ENDED, make_attempt(number=2)), "attempt 1 of demo.login is over"),
        (State.COMPLETED, (ENDED,), "has ended (completed)"),
    ],
)
def test_an_edit_that_nobody_reads_is_answered(
    desk: Desk, state: State, attempts: tuple[Any, ...], said: str
) -> None:
    tasking = begin(desk, state, *attempts)
    before = tasking.read_text()
    change(tasking, ("Fix the login", "Fix the logout"))
    look_until(desk, lambda _: desk.site.events("edit.refused"))
    task = look_until(desk, lambda _: "Fix the logout" not in tasking.read_text())
    assert task.title == "Fix the login" and task.state is state
    assert said in rejected(tasking) and "Fix the logout" in rejected(tasking)
    assert next(line for line in before.splitlines() if "title" in line) in tasking.read_text()


def test_an_edit_that_was_made_while_no_supervisor_ran_is_taken_too(desk: Desk) -> None:
    tasking = begin(desk, State.REVIEW, ENDED)
    desk.close()
    change(tasking, ("Fix the login", "Fix the logout"))
    desk.restart()
    look_until(desk, lambda task: task.title == "Fix the logout")
    assert not tasking.with_name("tasking.yaml.rejected").exists()


def test_what_ended_is_forgotten(desk: Desk) -> None:
    begin(desk, State.REVIEW, ENDED)
    supervisor = desk.supervisor
    assert supervisor is not None
    edits = supervisor.loop.edits
    wait_for(lambda: desk.look() or edits._known)
    supervisor.ledger.boxes["backend-1"].clear()
    wait_for(lambda: desk.look() or not (edits._known or edits._changing))
