"""When there is nothing left to do without a person."""

from supervisor.core.progress import progressing
from supervisor.core.record import Dependency, TaskRecord
from supervisor.core.schedule import DependencyState
from supervisor.core.states import State
from tests.unit.conftest import NOW, make_attempt, make_task


def moving(*tasks: TaskRecord, types: tuple[str, ...] = ("backend",), stations: tuple[str, ...] = ()) -> set[str]:
    known = {task.id: DependencyState(state=task.state) for task in tasks}
    return progressing(tasks, known, types=types, workstations=stations)


def after(task_id: str, needed: str, until: str = "verified") -> TaskRecord:
    return make_task(id=task_id, depends_on=(Dependency.model_validate({"task": needed, "until": until}),))


def test_what_is_worked_on_or_waits_out_a_backoff_moves() -> None:
    tasks = [make_task(id=f"acme.t{n}", state=state) for n, state in enumerate(State)]
    assert {t.state for t in tasks if t.id in moving(*tasks)} == {
        State.PENDING,
        State.ASSIGNED,
        State.IN_PROGRESS,
        State.FAILED,
    }


def test_a_task_that_nobody_can_take_up_does_not_move() -> None:
    assert moving(make_task(), types=("frontend",)) == set()


def test_a_chain_moves_with_its_first_link_only() -> None:
    chain = [after("acme.b", "acme.a"), after("acme.c", "acme.b")]
    assert moving(make_task(id="acme.a", state=State.IN_PROGRESS), *chain) == {"acme.a", "acme.b", "acme.c"}
    assert moving(make_task(id="acme.a", state=State.BLOCKED), *chain) == set()
    assert moving(*chain) == set()
    assert moving(make_task(id="acme.a", state=State.REVIEW), *chain) == {"acme.b", "acme.c"}


def test_a_merge_does_not_come_by_itself() -> None:
    assert moving(make_task(id="acme.a", state=State.REVIEW), after("acme.b", "acme.a", "merged")) == set()


def test_an_ended_task_moves_while_a_running_workstation_has_something_of_it() -> None:
    task = make_task(state=State.CANCELLED, attempt=1, attempts=(make_attempt(ended_at=NOW),))
    assert moving(task, stations=("backend-1",)) == {task.id}
    assert moving(task, stations=("backend-2",)) == set()
    assert moving(task.with_attempt(1, released=True), stations=("backend-1",)) == set()
