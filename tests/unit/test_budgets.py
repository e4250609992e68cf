"""Budgets: nothing begins that does not fit, nothing that will fit waits for ever, each attempt counts once."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_daemon.protocol.model import BlockedReason, Limits, Price, TaskReport, Usage, WaitReason
from agent_daemon.protocol.money import amount, rounded_up
from supervisor.config import parse_config
from supervisor.core.attempts import end_attempt, take_report
from supervisor.core.budgets import (
    Purse,
    allowance_usd,
    budgets_now,
    cost_limit_usd,
    spent_usd,
    stop_if_spent,
    waiting_for_money,
)
from supervisor.core.commands import Actor, Command, CommandRefusedError, apply_command
from supervisor.core.record import TaskRecord, Wait
from supervisor.core.schedule import WorkstationView, schedule
from supervisor.core.settings import Config, RetrySettings
from supervisor.core.spending import Spending, TopUp, cost_of, more_used
from supervisor.core.states import State
from supervisor.doctor import price_check
from supervisor.errors import CloudCodeError
from tests.unit.conftest import NOW, make_attempt, make_task

TODAY = NOW.date()


def config_of(budgets: dict[str, dict[str, Any]], **more: Any) -> Config:
    values: dict[str, Any] = {
        "projects": {"acme-app": {"repository": "/a"}, "other": {"repository": "/b"}},
        "workstations": {"backend": {"clis": ["codex"]}, "frontend": {"clis": ["codex"]}},
        "budgets": budgets,
    }
    return Config.model_validate(values | more)


def states(config: Config, *tasks: TaskRecord, spending: Spending | None = None, **used: float) -> Purse:
    """The purse for these tasks; `used` is what the attempt under way of a task reports, by the end of its id."""
    reports = {
        (task.id, task.live.number): TaskReport(
            attempt=task.live.number, status="in_progress", usage=Usage(cost_usd=used[task.id.partition(".")[2]])
        )
        for task in tasks
        if task.live is not None and task.id.partition(".")[2] in used
    }
    known = {task.id: task for task in tasks}
    budgets = budgets_now(config, spending or Spending(), known, reports, NOW)
    return Purse(config, {budget.name: budget for budget in budgets})


def task_of(stem: str, limit: float | None, *, running: float | None = None, **fields: Any) -> TaskRecord:
    """A pending task, or one with an attempt that has reserved so much."""
    changes: dict[str, Any] = {"limits": Limits(cost_usd=limit), "project": "acme-app"}
    if running is not None:
        attempt = make_attempt(reserved_usd=running, budgets=("all",), ended_at=None, verdict=None)
        changes |= {"state": State.IN_PROGRESS, "attempt": 1, "attempts": (attempt,)}
    return make_task(id=f"acme-app.{stem}", **(changes | fields))


def command(usd: object, id_: str = "c1") -> Command:
    actor = Actor(id="ada")
    return Command(id=id_, at=NOW, actor=actor, channel="cli", kind="top-up", target="x", args={"usd": usd})


# --- the limit of a task ------------------------------------------------------------------------------


def test_all_attempts_of_a_run_count_against_the_limit_of_the_task() -> None:
    ended = {"ended_at": NOW, "verdict": "failed"}
    attempts = (
        make_attempt(number=1, rerun=1, usage=Usage(cost_usd=5.0), **ended),
        make_attempt(number=2, rerun=2, usage=Usage(cost_usd=0.5), **ended),
        make_attempt(number=3, rerun=2, usage=Usage(cost_usd=0.3), **ended),
        make_attempt(number=4, rerun=2, ended_at=None, verdict=None, reserved_usd=1.2),
    )
    task = make_task(limits=Limits(cost_usd=2), rerun=2, attempt=4, attempts=attempts)
    assert spent_usd(task) == pytest.approx(0.8)
    assert allowance_usd(task, attempts[3]) == pytest.approx(1.2)
    raised = task.evolve(limits=Limits(cost_usd=3))
    assert allowance_usd(raised, attempts[3]) == pytest.approx(2.2), "an edit counts at once"
    bounded = attempts[3].evolve(budgets=("all",))
    assert allowance_usd(raised, bounded) == pytest.approx(1.2), "but never more than was reserved in a budget"


def test_a_task_without_a_limit_has_what_its_budgets_reserve() -> None:
    config = config_of({"all": {"usd": 9, "reserve_usd": 3}, "other": {"usd": 9, "project": "other"}})
    assert cost_limit_usd(task_of("a", None), config) == 3
    assert cost_limit_usd(task_of("a", None), config_of({})) is None
    assert cost_limit_usd(task_of("a", 5, topped_up_usd=0.5), config) == 5.5


def test_a_limit_that_is_used_up_ends_the_trying() -> None:
    ended = make_attempt(ended_at=NOW, verdict="failed", usage=Usage(cost_usd=2.01))
    task = task_of("a", 2, attempts=(ended,), attempt=1)
    blocked = stop_if_spent(task, config_of({}), NOW).task
    assert (blocked.state, blocked.waits_for[0].reason) == (State.BLOCKED, WaitReason.BUDGET)
    assert blocked.waits_for[0].message == "1 attempt cost 2.01 of 2.00 USD"
    assert stop_if_spent(task.evolve(topped_up_usd=0.5), config_of({}), NOW).task.state is State.PENDING


def test_what_nobody_told_counts_as_all_that_was_reserved() -> None:
    usage = Usage(cost_usd=0.1, cost_unknown="no price for x")
    unknown = make_attempt(ended_at=NOW, verdict="failed", usage=usage, reserved_usd=2.0)
    assert cost_of(unknown) == (2.0, True)
    message = stop_if_spent(task_of("a", 2, attempts=(unknown,)), config_of({}), NOW).task.waits_for[0].message
    assert "what attempt 1 cost is not known" in message


def test_what_an_attempt_cost_is_unknown_until_its_end_is_reported() -> None:
    attempt = make_attempt(ended_at=None, verdict=None, reserved_usd=2.0)
    task = task_of("a", 2, state=State.IN_PROGRESS, attempt=1, attempts=(attempt,))
    lost = end_attempt(task, attempt, verdict="handed over", report=None, now=NOW).evolve(state=State.PENDING)
    assert cost_of(lost.attempts[0]) == (2.0, True)
    assert stop_if_spent(lost, config_of({}), NOW).task.state is State.PENDING, "it may still say"
    given_up = lost.with_attempt(1, save_error="nothing was heard")
    assert stop_if_spent(given_up, config_of({}), NOW).task.state is State.BLOCKED

    def heard(status: str) -> TaskRecord:
        report = TaskReport(attempt=1, status=status, usage=Usage(input_tokens=5, cost_usd=0.5))
        return take_report(lost, report, RetrySettings(), NOW).task

    assert cost_of(heard("in_progress").attempts[0]) == (2.0, True), "it may have gone on since"
    assert cost_of(heard("cancelled").attempts[0]) == (0.5, False)
    never = task.evolve(state=State.ASSIGNED)
    assert cost_of(end_attempt(never, attempt, verdict="no report", report=None, now=NOW).attempts[0]) == (
        0,
        False,
    )


def test_a_top_up_lets_a_task_go_on_with_the_cli_that_it_had_and_counts_once() -> None:
    wait = Wait(reason=WaitReason.BUDGET, message="its limit of 2.00 USD is reached")
    task = task_of("a", 2, state=State.BLOCKED, waits_for=(wait,), cli="codex", failures=1)
    once = apply_command(task, command(1.5), NOW)
    assert (once.task.state, once.task.topped_up_usd, once.task.cli) == (State.PENDING, 1.5, "codex")
    assert apply_command(once.task, command(1.5), NOW).task == once.task
    again = apply_command(once.task, command("0.5", "c2"), NOW).task
    assert (again.state, again.topped_up_usd) == (State.PENDING, 2.0)


def test_a_top_up_of_a_paused_task_that_waits_for_it_lets_it_go_on_when_it_is_resumed() -> None:
    for reason, back in ((WaitReason.BUDGET, State.PENDING), (WaitReason.QUESTION, State.BLOCKED)):
        waits = (Wait(reason=reason, message="it waits"),)
        task = task_of("a", 2, state=State.PAUSED, paused_from=State.BLOCKED, waits_for=waits)
        topped_up = apply_command(task, command(1.5), NOW).task
        assert (topped_up.state, topped_up.topped_up_usd) == (State.PAUSED, 1.5)
        resume = command(None, "c2").evolve(kind="resume", args={})
        resumed = apply_command(topped_up, resume, NOW).task
        assert (resumed.state, resumed.waits_for) == (back, () if back is State.PENDING else waits)


@pytest.mark.parametrize("told", ["2.000000", "3.000000", None, "much"])
def test_a_top_up_in_the_moment_in_which_an_attempt_comes_to_its_limit_counts(told: str | None) -> None:
    running = apply_command(task_of("a", 2, running=2.0), command(1), NOW).task
    report = TaskReport(
        attempt=1,
        status="blocked",
        blocked_reason=BlockedReason(reason=WaitReason.BUDGET, ref=told),
        usage=Usage(input_tokens=5, cost_usd=1.9),
        blockers=("its limit is reached",),
    )
    ended = take_report(running, report, RetrySettings(), NOW).task
    assert ended.state is (State.PENDING if told == "2.000000" else State.BLOCKED)
    assert ended.failures == 0 and ended.attempts[0].ended_at is not None
    assert all(wait.ref is None for wait in ended.waits_for)
    nobody = take_report(task_of("a", 2, running=2.0), report, RetrySettings(), NOW).task
    assert nobody.state is State.BLOCKED


def test_a_top_up_of_what_waits_for_something_else_leaves_it_there() -> None:
    wait = Wait(reason=WaitReason.QUESTION, message="which?")
    task = task_of("a", 2, state=State.BLOCKED, waits_for=(wait,))
    assert apply_command(task, command(1), NOW).task.state is State.BLOCKED
    running = apply_command(task_of("a", 2, running=2.0), command(1), NOW).task
    assert running.live is not None and running.live.reserved_usd == 3.0
    assert allowance_usd(running, running.live) == 3.0
    for wrong in (0, -1, "much", None, float("nan"), 1e9, 10**400, 10**5000):
        with pytest.raises(CommandRefusedError, match="no amount"):
            apply_command(task, command(wrong), NOW)
    with pytest.raises(CommandRefusedError, match="has ended"):
        apply_command(task_of("a", 2, state=State.CANCELLED), command(1), NOW)


# --- budgets ------------------------------------------------------------------------------------------


def test_what_is_spent_and_what_is_reserved_is_not_left() -> None:
    config = config_of({"all": {"usd": 10}})
    spending = Spending()
    spending.note(task_of("old", 1), make_attempt(started_at=NOW), 4.0, assumed=False, today=TODAY)
    purse = states(config, task_of("a", 3, running=3.0), spending=spending, a=1.0)
    budget = purse.budgets["all"]
    assert (budget.spent_usd, budget.reserved_usd, budget.left_usd) == (5.0, 2.0, 3.0)
    assert budget.resets_at == datetime.combine(TODAY + timedelta(days=1), datetime.min.time(), UTC)


def test_a_budget_is_for_what_it_names() -> None:
    config = config_of(
        {
            "app": {"usd": 1, "project": "acme-app"},
            "front": {"usd": 1, "workstation": "frontend"},
            "both": {"usd": 1, "project": "other", "workstation": "frontend"},
        }
    )
    assert [b.name for b in states(config).lacking(task_of("a", 2))] == ["app"]
    assert [b.name for b in states(config).lacking(task_of("a", 2, specialist="frontend"))] == ["app", "front"]
    other = task_of("a", 2, project="other", specialist="frontend")
    assert [b.name for b in states(config).lacking(other)] == ["front", "both"]


def test_why_a_task_waits_is_said_with_what_is_left_and_when_there_is_more() -> None:
    config = config_of({"all": {"usd": 3}, "app": {"usd": 50, "per": "total", "project": "acme-app"}})
    running, waiting, small = task_of("r", 2, running=2.0), task_of("w", 2), task_of("s", 0.5)
    purse = states(config, running)
    said = waiting_for_money([waiting, small], purse, NOW)
    assert said[waiting.id][0].words.startswith(
        "the budget all of 3.00 USD a day: 1.00 left, 2.00 are reserved by others, 2.00 needed, 1.00 missing: "
        "`cloud-code budget top-up all 1.00`; a new day begins"
    )
    kept = [f"the budget {name}, which acme-app.w waits for before it" for name in ("all", "app")]
    assert [(lack.words, lack.command) for lack in said[small.id]] == [(words, "") for words in kept]


def test_what_is_missing_counts_what_was_spent_beyond_the_budget_and_is_enough() -> None:
    config, spending, task = config_of({"all": {"usd": 0.05}}), Spending(), task_of("a", 0.04)
    spending.note(task_of("old", 1), make_attempt(started_at=NOW), 0.064, assumed=False, today=TODAY)
    (lack,) = waiting_for_money([task], states(config, spending=spending), NOW)[task.id]
    assert "0.00 left, 0.04 needed, 0.0540 missing: `cloud-code budget top-up all 0.06`" in lack.words
    spending.top_up(TopUp(id="c1", budget="all", usd=float(lack.command.split()[-1]), by="ada", at=NOW))
    assert not waiting_for_money([task], states(config, spending=spending), NOW)


@pytest.mark.parametrize(
    ("usd", "said"),
    [(0, "0.00"), (-1e-9, "0.00"), (0.05, "0.05"), (0.008, "0.0080"), (0.000012, "0.000012"), (12.345, "12.35")],
)
def test_a_small_sum_is_not_rounded_away(usd: float, said: str) -> None:
    assert amount(usd) == said


@given(st.floats(0, 100))
def test_what_is_rounded_up_is_enough(usd: float) -> None:
    assert usd - 1e-6 <= float(rounded_up(usd)) <= usd + 0.0101


def test_what_can_never_fit_today_keeps_nothing_from_others() -> None:
    config = config_of({"all": {"usd": 3}})
    big, small = task_of("big", 5), task_of("small", 1, created_at=NOW + timedelta(seconds=1))
    chosen = schedule([big, small], stations(1), {}, {"acme-app": "default"}, NOW, states(config))
    assert [assignment.task_id for assignment in chosen] == [small.id]


def test_what_will_fit_is_not_overtaken() -> None:
    config = config_of({"all": {"usd": 3}})
    running = task_of("running", 2, running=2.0)
    first, small = task_of("first", 2), task_of("small", 0.5, created_at=NOW + timedelta(seconds=1))
    purse = states(config, running)
    assert schedule([first, small], stations(2), {}, {"acme-app": "default"}, NOW, purse) == []


def test_what_waits_for_a_paused_attempt_keeps_its_budget_and_no_workstation() -> None:
    """A paused attempt may rest without end."""
    config = config_of({"app": {"usd": 6, "per": "total", "project": "acme-app"}})
    running, waiting = task_of("running", 5, running=5.0), task_of("waiting", 2)
    other = task_of("other", None, project="other", created_at=NOW + timedelta(hours=1))
    domains = {"acme-app": "default", "other": "default"}
    for state, begun in ((State.IN_PROGRESS, []), (State.PAUSED, [other.id])):
        purse = states(config, running.evolve(state=state, paused_from=State.IN_PROGRESS))
        chosen = schedule([waiting, other], stations(1), {}, domains, NOW + timedelta(days=1), purse)
        assert [assignment.task_id for assignment in chosen] == begun
    small = task_of("small", 0.5, created_at=NOW + timedelta(hours=1))
    assert schedule([waiting, small], stations(2), {}, domains, NOW + timedelta(days=1), purse) == []


def test_unknown_spending_lets_nothing_begin_that_is_paid_from_a_budget() -> None:
    spending = Spending(unreadable="state/spending/2026-01-01.yaml: broken")
    purse = states(config_of({"app": {"usd": 3, "project": "acme-app"}}), spending=spending)
    assert purse.lacking(task_of("a", 1))
    assert not purse.lacking(task_of("a", 1, project="other"))


def test_names_that_lead_nowhere_are_refused() -> None:
    text = "projects: {app: {repository: /a}}\nbudgets: {x: {usd: 1, project: ap}, y: {usd: 2, workstation: z}}\n"
    with pytest.raises(CloudCodeError) as caught:
        parse_config(text.encode(), file="config.yaml")
    assert [problem.place for problem in caught.value.problems] == ["budgets.x.project", "budgets.y.workstation"]
    assert "did you mean `app`" in str(caught.value.problems[0])


def test_doctor_names_what_would_be_refused_for_want_of_a_price() -> None:
    bounded = config_of({"all": {"usd": 1}}, clis={"codex": {"model": "gpt-5.5"}})
    found = price_check(bounded)
    assert (found.status, "codex (acme-app with backend)" in found.detail) == ("error", True)
    priced = bounded.model_copy(update={"prices": {"gpt-5": Price(input=1, output=2)}})
    assert price_check(priced).status == "ok"
    assert price_check(config_of({})).status == "ok"


def stations(number: int) -> list[WorkstationView]:
    return [
        WorkstationView(name=f"backend-{n}", type="backend", trust_domain="default", clis=("codex",))
        for n in range(1, number + 1)
    ]


# --- the whole of it, as a game -----------------------------------------------------------------------

STEP_USD = 0.25


@dataclass
class Game:
    """Tasks begin, spend step by step, end; the daemon stops each at its reservation, a step too late at worst."""

    config: Config
    tasks: dict[str, TaskRecord]
    spending: Spending = field(default_factory=Spending)
    used: dict[str, float] = field(default_factory=dict)
    begun: list[str] = field(default_factory=list)

    def purse(self) -> Purse:
        names = {key.partition(".")[2]: usd for key, usd in self.used.items()}
        return states(self.config, *self.tasks.values(), spending=self.spending, **names)

    def begin(self, free: int) -> None:
        pending = [task for task in self.tasks.values() if task.state is State.PENDING]
        for chosen in schedule(pending, stations(free), {}, {"acme-app": "default"}, NOW, self.purse()):
            task = self.tasks[chosen.task_id]
            need = cost_limit_usd(task, self.config)
            attempt = make_attempt(reserved_usd=need, budgets=("all",), ended_at=None, verdict=None)
            self.tasks[task.id] = task.evolve(state=State.IN_PROGRESS, attempt=1, attempts=(attempt,))
            self.used[task.id] = 0.0
            self.begun.append(task.id)

    def spend(self, steps: int) -> None:
        """One of those under way makes some steps, and is stopped at its reservation."""
        for name in sorted(self.used)[:1]:
            live = self.tasks[name].live
            assert live is not None and live.reserved_usd is not None
            for _ in range(steps):
                if self.used[name] < live.reserved_usd:
                    self.used[name] += STEP_USD

    def end(self) -> None:
        """It ends, and its usage is told, twice."""
        for name in sorted(self.used)[:1]:
            usage = Usage(cost_usd=self.used.pop(name))
            task = self.tasks[name].with_attempt(1, ended_at=NOW, verdict="completed", usage=usage, saved=True)
            self.tasks[name] = task.evolve(state=State.REVIEW)
            for _ in range(2):
                usd, assumed = cost_of(task.attempts[0])
                self.spending.note(task, task.attempts[0], usd, assumed=assumed, today=TODAY)

    def whole(self) -> float:
        return self.spending.spent_usd(None, None, TODAY) + sum(self.used.values())


@given(
    st.integers(1, 12),
    st.lists(st.sampled_from([None, 0.3, 0.5, 1.0, 2.0, 5.0]), min_size=1, max_size=8),
    st.lists(st.tuples(st.sampled_from(["begin", "spend", "end"]), st.integers(1, 4)), max_size=40),
)
def test_no_more_is_spent_than_there_is_but_a_step_of_each_and_nothing_waits_for_ever(
    usd: int, limits: list[float | None], moves: list[tuple[str, int]]
) -> None:
    config = config_of({"all": {"usd": usd, "reserve_usd": 1.0}})
    tasks = [task_of(f"t{n}", limit, created_at=NOW + timedelta(seconds=n)) for n, limit in enumerate(limits)]
    game = Game(config, {task.id: task for task in tasks})
    for name, number in moves:
        getattr(game, name)(*([] if name == "end" else [number]))
        assert game.whole() <= usd + STEP_USD * len(game.begun)
    for _ in range(len(tasks) + 1):
        game.begin(2)
        game.end()
    left = usd - game.whole()
    waiting = [cost_limit_usd(task, config) for task in game.tasks.values() if task.state is State.PENDING]
    assert all(need is not None and need > left for need in waiting), "there was money, and nobody used it"


# --- what was spent -----------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 40).map(lambda n: n / 4)), min_size=1, max_size=20))
def test_all_days_together_say_what_was_told_last(told: list[tuple[int, float]]) -> None:
    """Told twice, or late, or less than before; the days go on."""
    spending, task = Spending(), task_of("a", 1)
    attempt = make_attempt(started_at=NOW)
    day, last = TODAY, 0.0
    for later, usd in told:
        day, last = day + timedelta(days=later), usd
        for _ in range(2):
            spending.note(task, attempt, usd, assumed=False, today=day)
        assert spending.spent_usd(None, None, None) == pytest.approx(last)
        assert spending.noted_usd(task, attempt) == pytest.approx(last)
    assert spending.spent_usd("other", None, None) == 0


def test_a_new_task_of_an_old_name_has_spent_nothing() -> None:
    spending = Spending()
    old = make_attempt(started_at=NOW - timedelta(days=400))
    spending.note(task_of("a", 1), old, 3.0, assumed=False, today=TODAY - timedelta(days=400))
    spending.note(task_of("a", 1), make_attempt(started_at=NOW), 1.0, assumed=False, today=TODAY)
    assert spending.spent_usd(None, None, TODAY) == 1.0
    assert spending.spent_usd(None, None, None) == 4.0


def test_two_tasks_of_one_name_on_one_day_have_both_spent() -> None:
    spending = Spending()
    for later, usd in ((0, 5.0), (30, 1.0)):
        attempt = make_attempt(started_at=NOW + timedelta(minutes=later))
        spending.note(task_of("a", 1), attempt, usd, assumed=False, today=TODAY)
    assert spending.spent_usd(None, None, TODAY) == pytest.approx(6.0)


def test_a_top_up_counts_once_and_for_its_day() -> None:
    spending = Spending()
    more = TopUp(id="c1", budget="all", usd=5, by="ada", at=NOW)
    assert spending.top_up(more) and not spending.top_up(more)
    assert spending.topped_up_usd("all", TODAY) == 5
    assert spending.topped_up_usd("all", TODAY + timedelta(days=1)) == 0
    assert spending.topped_up_usd("all", None) == 5
    assert states(config_of({"all": {"usd": 1}}), spending=spending).budgets["all"].limit_usd == 6


def test_only_a_word_that_says_more_is_taken_later() -> None:
    known = Usage(input_tokens=10, output_tokens=5, cost_usd=0.5)
    assert more_used(known.model_copy(update={"cost_usd": 0.6}), known)
    assert not more_used(known, known)
    assert not more_used(Usage(), known)
    assert not more_used(Usage(input_tokens=99, cost_usd=0.1), known)
