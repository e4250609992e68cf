"""Budgets as listings show them, computed anew from the files each time."""

from collections.abc import Mapping
from datetime import datetime

from agent_daemon.protocol.model import TaskReport
from agent_daemon.protocol.money import amount
from supervisor.core.budgets import Budget, Lack, Purse, budgets_now, waiting_for_money
from supervisor.core.record import TaskRecord
from supervisor.core.schedule import DependencyState, in_turn, is_due, unmet
from supervisor.core.settings import Config
from supervisor.core.spending import Spending, under_way
from supervisor.core.times import when
from supervisor.reader import Reader


def budgets_seen(
    reader: Reader, config: Config, spending: Spending, tasks: Mapping[str, TaskRecord], now: datetime
) -> tuple[Budget, ...]:
    """Every budget of the configuration, with what attempts under way report."""
    if not config.budgets:
        return ()
    found = {(task.id, attempt.number): reader.report(task, attempt) for task, attempt in under_way(tasks)}
    reports = {key: report for key, report in found.items() if isinstance(report, TaskReport)}
    return budgets_now(config, spending, tasks, reports, now)


def money_waits(
    config: Config,
    budgets: tuple[Budget, ...],
    tasks: Mapping[str, TaskRecord],
    dependencies: Mapping[str, DependencyState],
    now: datetime,
) -> dict[str, tuple[Lack, ...]]:
    """Of each task that could begin if it were not for the budgets: what it waits for."""
    if not budgets:
        return {}
    ready = in_turn(task for task in tasks.values() if is_due(task, now) and not unmet(task, dependencies))
    return waiting_for_money(ready, Purse(config, {budget.name: budget for budget in budgets}), now)


def budget_line(budget: Budget, now: datetime) -> str:
    """A budget in a sentence."""
    turns = f", a new day begins {when(budget.resets_at, now)}" if budget.resets_at is not None else ""
    reserved = f", {amount(budget.reserved_usd)} reserved" if budget.reserved_usd else ""
    return (
        f"{budget.name}: {amount(budget.left_usd)} of {amount(budget.limit_usd)} USD left, "
        f"{amount(budget.spent_usd)} spent{reserved}{turns}"
    )
