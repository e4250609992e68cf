"""What was spent stays known: over restarts, after tasks are gone, when the day turns, when it is told late."""

import json
from collections.abc import Iterator
from datetime import timedelta

import pytest
import yaml

from agent_daemon.protocol.model import Limits, ReportStatus, TaskReport, Usage
from supervisor.clock import Clock
from supervisor.control import new_command
from supervisor.core.assign import Prepared
from supervisor.core.decision import Decision, Prepare
from supervisor.core.record import TaskRecord
from supervisor.core.states import State
from tests.desk import Desk
from tests.site import Site
from tests.unit.conftest import make_attempt


@pytest.fixture
def desk(site: Site) -> Iterator[Desk]:
    site.config["budgets"] = {"day": {"usd": 5}, "ever": {"usd": 50, "per": "total", "project": "demo"}}
    made = Desk(site)
    yield made
    made.close()


def under_way(desk: Desk, stem: str, reserved_usd: float = 2.0) -> TaskRecord:
    """A task with an attempt that no daemon is at."""
    attempt = make_attempt(reserved_usd=reserved_usd, budgets=("day", "ever"), saved=True)
    limits = Limits(cost_usd=reserved_usd)
    return desk.keep(stem, state=State.IN_PROGRESS, attempt=1, attempts=(attempt,), limits=limits)


def ended(task: TaskRecord, desk: Desk, usage: Usage) -> TaskRecord:
    assert desk.supervisor is not None
    now = desk.supervisor.clock.now()
    after = task.with_attempt(1, ended_at=now, verdict="failed", usage=usage)
    return desk.supervisor.ledger.apply(Decision(task=after.evolve(state=State.REVIEW)))


def spent(desk: Desk) -> dict[str, float]:
    rows = json.loads(desk.site.cli("budget", "--json").stdout)
    return {row["name"]: round(row["spent_usd"], 4) for row in rows}


def test_it_survives_a_restart_and_the_record_itself(desk: Desk) -> None:
    desk.site.write_config()
    under_way(desk, "one")
    supervisor = desk.start()
    task = ended(supervisor.ledger.tasks["demo.one"], desk, Usage(cost_usd=1.25))
    assert spent(desk) == {"day": 1.25, "ever": 1.25}
    supervisor.ledger.apply(Decision(task=task))  # once more, and nothing new
    desk.restart()
    assert spent(desk) == {"day": 1.25, "ever": 1.25}
    desk.close()
    (desk.site.root.records / "demo.one.yaml").unlink()
    desk.start()
    assert spent(desk) == {"day": 1.25, "ever": 1.25}


def test_what_was_not_written_in_time_is_found_again_in_the_record(desk: Desk) -> None:
    """Killed between the record and the file of the day."""
    desk.site.write_config()
    under_way(desk, "one")
    supervisor = desk.start()
    ended(supervisor.ledger.tasks["demo.one"], desk, Usage(cost_usd=1.25))
    (file,) = desk.site.root.spending.iterdir()
    file.unlink()
    assert spent(desk) == {"day": 0, "ever": 0}
    desk.restart()
    assert spent(desk) == {"day": 1.25, "ever": 1.25}


def test_a_late_word_corrects_what_is_known(desk: Desk) -> None:
    desk.site.write_config()
    under_way(desk, "one")
    supervisor = desk.start()
    ended(supervisor.ledger.tasks["demo.one"], desk, Usage())
    usage = Usage(input_tokens=10, cost_usd=0.75)
    report = TaskReport(attempt=1, status=ReportStatus.FAILED, usage=usage)
    supervisor.ledger.reports["demo.one"] = {1: report}
    supervisor.ledger.dirty.add("demo.one")
    desk.look()
    assert spent(desk)["day"] == 0.75


def test_a_cost_that_nobody_told_counts_as_what_was_reserved(desk: Desk) -> None:
    desk.site.write_config()
    under_way(desk, "one")
    supervisor = desk.start()
    ended(supervisor.ledger.tasks["demo.one"], desk, Usage(input_tokens=5, cost_unknown="no price for x"))
    assert spent(desk)["day"] == 2.0
    (file,) = desk.site.root.spending.iterdir()
    assert yaml.safe_load(file.read_text())["charges"].popitem()[1]["assumed"] is True


def test_the_day_turns_while_an_attempt_is_under_way(desk: Desk) -> None:
    """What it has cost till then stays with the day that ends; only the rest is of the new one."""
    desk.site.write_config()
    under_way(desk, "one")
    supervisor = desk.start()
    usage = Usage(cost_usd=0.5)
    report = TaskReport(attempt=1, status=ReportStatus.IN_PROGRESS, usage=usage)
    supervisor.ledger.reports["demo.one"] = {1: report}
    days = {budget.name: budget for budget in supervisor.money.budgets()}
    assert (days["day"].spent_usd, days["day"].reserved_usd) == (0.5, 1.5)
    supervisor.clock._wall += timedelta(days=1)
    desk.look()
    days = {budget.name: budget for budget in supervisor.money.budgets()}
    assert (days["day"].spent_usd, days["day"].reserved_usd) == (0.0, 1.5)
    assert days["ever"].spent_usd == 0.5
    assert desk.site.events("budget.day_began")
    ended(supervisor.ledger.tasks["demo.one"], desk, Usage(cost_usd=0.8))
    days = {budget.name: budget for budget in supervisor.money.budgets()}
    assert days["day"].spent_usd == pytest.approx(0.3)
    assert days["ever"].spent_usd == pytest.approx(0.8)


def test_a_top_up_counts_once_and_stays(desk: Desk) -> None:
    supervisor = desk.start()
    command = new_command("budget-top-up", "day", "ada", {"usd": 2})
    for _ in range(2):
        answer = supervisor.people.carry_out(supervisor.ledger, command)
        assert (answer.done, answer.message) == (True, "day has 7.00 USD for today, of which 7.00 are left")
    desk.restart()
    rows = {row["name"]: row for row in json.loads(desk.site.cli("budget", "--json").stdout)}
    assert (rows["day"]["limit_usd"], rows["ever"]["limit_usd"]) == (7.0, 50.0)
    assert len(desk.site.events("budget.topped_up")) == 1


def test_a_budget_that_came_into_the_file_after_the_start_needs_another_start(desk: Desk) -> None:
    supervisor = desk.start()
    desk.site.config["budgets"]["whole"] = {"usd": 9, "per": "total"}
    desk.site.write_config()
    for name, said in (("whole", "restart `cloud-code run` first"), ("none", "there is no budget none in config")):
        command = new_command("budget-top-up", name, "ada", {"usd": 1})
        answer = supervisor.people.carry_out(supervisor.ledger, command)
        assert not answer.done and said in answer.message


def test_a_task_that_may_cost_more_than_its_budget_has_is_said_to_wait_for_it(desk: Desk) -> None:
    desk.site.write_config()
    desk.keep("one", limits=Limits(cost_usd=2))
    desk.start()
    answer = desk.command("top-up", "demo.one", usd=4)
    assert answer.done
    assert "it may cost 6.00 USD, and has cost 0.00; but it waits for the budget day" in answer.message
    assert "1.00 missing: `cloud-code budget top-up day 1.00`" in answer.message


@pytest.mark.parametrize("usd", ["nan", "inf", "-inf", "-1", "-0.5", "0", "1e9", "abc"])
def test_what_is_no_sum_is_refused_in_a_sentence(desk: Desk, usd: str) -> None:
    for words in (("budget", "top-up", "day", usd), ("task", "top-up", "one", usd)):
        done = desk.site.cli(*words, check=False)
        said = " ".join(done.stderr.split())
        assert done.returncode == 2, said
        assert f"'{usd}' is no sum: give US dollars, more than 0 and at most 1000000, such as 2.50." in said


def test_more_for_an_attempt_under_way_must_fit_into_its_budgets(desk: Desk) -> None:
    desk.site.write_config()
    under_way(desk, "one")
    desk.start()
    refused = desk.command("top-up", "demo.one", usd=4)
    assert not refused.done
    assert "only 3.00 USD are left of the budget day: `cloud-code budget top-up day 1.00` first" in refused.message
    done = desk.command("top-up", "demo.one", usd=3)
    assert done.done and "it may cost 5.00 USD" in done.message


def preparing(desk: Desk, stem: str, limit_usd: float) -> Prepare:
    """A task whose next attempt is being made ready for a workstation that runs."""
    desk.site.write_config()
    desk.keep(stem, limits=Limits(cost_usd=limit_usd))
    supervisor = desk.start()
    name = next(iter(supervisor.fleet.stations))
    station = supervisor.fleet.stations[name]
    station.file = station.file.evolve(wanted="running", run="1")
    job = Prepare(task_id=f"demo.{stem}", workstation=name, cli=station.settings.clis[0], attempt=1, rerun=1)
    supervisor.work._reserved[job.task_id], supervisor.work._open[job.key] = name, job
    return job


@pytest.mark.parametrize(("more", "state"), [(3.0, State.ASSIGNED), (100.0, State.PENDING)])
def test_what_is_allowed_while_a_task_is_prepared_must_fit_before_it_begins(
    desk: Desk, more: float, state: State
) -> None:
    job = preparing(desk, "one", limit_usd=2)
    answer = desk.command("top-up", "demo.one", usd=more)
    assert answer.done and ("but it waits for the budget day" in answer.message) == (more == 100)
    assert desk.supervisor is not None
    prepared = Prepared(base_branch="main", base_commit="c" * 40)
    desk.supervisor.work.settle(job.key, prepared, desk.supervisor.ledger)
    task = desk.supervisor.ledger.tasks["demo.one"]
    assert (task.state, [a.reserved_usd for a in task.attempts]) == (state, [5.0] if more == 3 else [])


def test_what_is_being_prepared_is_not_left_for_a_top_up(desk: Desk) -> None:
    under_way(desk, "one")
    preparing(desk, "two", limit_usd=2.5)
    refused = desk.command("top-up", "demo.one", usd=1)
    assert not refused.done and "only 0.50 USD are left of the budget day" in refused.message
    assert desk.supervisor is not None
    more = new_command("budget-top-up", "day", "ada", {"usd": 2})
    answer = desk.supervisor.people.carry_out(desk.supervisor.ledger, more)
    assert answer.message == "day has 7.00 USD for today, of which 2.50 are left"


def test_a_file_that_cannot_be_read_is_not_taken_for_nothing_spent(desk: Desk) -> None:
    desk.site.write_config()
    desk.site.root.spending.mkdir(parents=True)
    damaged = desk.site.root.spending / "2026-01-01.yaml"
    damaged.write_text("version: [")
    desk.keep("one")
    supervisor = desk.start()
    assert not supervisor.people.carry_out(
        supervisor.ledger, new_command("budget-top-up", "day", "ada", {"usd": 2})
    ).done
    assert "E_SPENDING_DAMAGED" in desk.site.cli("status").stdout
    assert "of which nobody knows what is spent" in " ".join(
        desk.site.cli("task", "explain", "one").stdout.split()
    )
    assert damaged.read_text() == "version: ["


@pytest.mark.parametrize("damaged_day", ["2026-01-01", "today"])
def test_what_is_spent_while_a_file_cannot_be_read_is_not_lost(desk: Desk, damaged_day: str) -> None:
    """It is written where it can be; where it belongs into that very file, the record stays until it is mended."""
    desk.site.write_config()
    desk.site.root.spending.mkdir(parents=True)
    under_way(desk, "one")
    day = Clock().now().date() if damaged_day == "today" else damaged_day
    damaged = desk.site.root.spending / f"{day}.yaml"
    damaged.write_text("version: [")
    supervisor = desk.start()
    task = supervisor.ledger.tasks["demo.one"].with_attempt(
        1, ended_at=supervisor.clock.now(), verdict="failed", usage=Usage(cost_usd=1.25), released=True
    )
    supervisor.ledger.apply(Decision(task=task.evolve(state=State.CANCELLED)))
    assert supervisor.store.is_archived("demo.one") is (damaged_day != "today")
    assert damaged.read_text() == "version: ["
    desk.close()
    damaged.unlink()
    desk.start()
    assert spent(desk) == {"day": 1.25, "ever": 1.25}
    assert desk.supervisor is not None and desk.supervisor.store.is_archived("demo.one")


def test_a_file_of_an_older_version_is_read_and_its_charges_count_once(desk: Desk) -> None:
    desk.site.write_config()
    under_way(desk, "one")
    supervisor = desk.start()
    ended(supervisor.ledger.tasks["demo.one"], desk, Usage(cost_usd=1.25))
    (file,) = desk.site.root.spending.iterdir()
    written = yaml.safe_load(file.read_text())
    ((name, charge),) = written["charges"].items()
    assert name.startswith("demo.one/1/")
    desk.close()
    file.write_text(yaml.safe_dump(written | {"charges": {"demo.one/1": charge}}))
    supervisor = desk.start()
    assert spent(desk) == {"day": 1.25, "ever": 1.25}
    ended(supervisor.ledger.tasks["demo.one"], desk, Usage(cost_usd=1.5))
    assert spent(desk) == {"day": 1.5, "ever": 1.5}
