"""Budgets: what there is to spend, what is spent and reserved, and which task may begin with what is left.

An attempt is stopped by its daemon at what was reserved for it, so that what is spent passes a budget by no more
than one step of each attempt under way. A task begins only if its reservation fits into every budget that it falls
under. One that would fit, were it not for what others have reserved, is not overtaken: its budgets are kept for
it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from agent_daemon.protocol.model import TaskReport, WaitReason
from agent_daemon.protocol.money import amount, rounded_up
from supervisor.core.chain import run_so_far
from supervisor.core.decision import Decision
from supervisor.core.record import Attempt, TaskRecord
from supervisor.core.retry import block
from supervisor.core.settings import BudgetSettings, Config
from supervisor.core.spending import DUST_USD, Spending, cost_of, day_ends, type_of, under_way
from supervisor.core.states import State
from supervisor.core.times import when
from supervisor.core.words import count


@dataclass(frozen=True, kw_only=True)
class Budget:
    """One budget now, in USD: `limit_usd` with what it was topped up by. `resets_at`: when a new day begins.

    `paused_usd` is what paused attempts hold of `reserved_usd`.
    """

    name: str
    project: str | None
    workstation: str | None
    per: str
    limit_usd: float
    topped_up_usd: float
    spent_usd: float
    reserved_usd: float
    paused_usd: float
    resets_at: datetime | None
    problem: str = ""

    @property
    def left_usd(self) -> float:
        return max(0.0, self.limit_usd - self.spent_usd - self.reserved_usd)


def falls_under(settings: BudgetSettings, project: str, workstation: str) -> bool:
    """Whether work on this project by this type of workstation is paid from the budget."""
    return settings.project in (None, project) and settings.workstation in (None, workstation)


def governing(config: Config, project: str, workstation: str) -> tuple[str, ...]:
    """The budgets that such work is paid from."""
    return tuple(name for name, settings in config.budgets.items() if falls_under(settings, project, workstation))


# --- the limit of a task ------------------------------------------------------------------------------


def cost_limit_usd(task: TaskRecord, config: Config) -> float | None:
    """What all attempts of this run of the task may cost together; None where nothing bounds it.

    A task without a limit of its own that falls under budgets has the smallest `reserve_usd` of them.
    """
    own = task.limits.cost_usd
    if own is None:
        names = governing(config, task.project, task.specialist)
        own = min((config.budgets[name].reserve_usd for name in names), default=None)
    return None if own is None else own + task.topped_up_usd


def spent_usd(task: TaskRecord, before: int | None = None) -> float:
    """What the attempts of this run have cost, or those before an attempt."""
    return sum(cost_of(attempt)[0] for attempt in run_so_far(task) if before is None or attempt.number < before)


def allowance_usd(task: TaskRecord, attempt: Attempt) -> float | None:
    """What an attempt may cost: what is left of its task's limit, and no more than was reserved in budgets."""
    own = task.limits.cost_usd
    if attempt.ended_at is not None or own is None:
        return attempt.reserved_usd
    left = max(0.0, own + task.topped_up_usd - spent_usd(task, attempt.number))
    return min(left, attempt.reserved_usd) if attempt.budgets and attempt.reserved_usd is not None else left


def allowed_since(task: TaskRecord, attempt: Attempt, told: str | None) -> bool:
    """Whether an attempt that ended by its limit, `told` in USD, was allowed more and did not know yet."""
    try:
        known = float(told or "nan")
    except ValueError:
        return False
    allowed = allowance_usd(task, attempt)
    return attempt.topped_up_usd > 0 and allowed is not None and allowed > known + DUST_USD


def stop_if_spent(task: TaskRecord, config: Config, now: datetime) -> Decision:
    """A task whose attempts have used up its limit makes no other one before somebody allows it more.

    That is not said while an attempt may still tell what it cost.
    """
    told = bool(task.attempts) and not any(attempt.to_be_bundled for attempt in task.attempts)
    limit = cost_limit_usd(task, config) if task.state is State.PENDING and told else None
    spent = spent_usd(task)
    if limit is None or spent < limit - DUST_USD:
        return Decision(task=task)
    attempts = run_so_far(task)
    assumed = [attempt.number for attempt in attempts if cost_of(attempt)[1]]
    unknown = f"; what attempt {assumed[0]} cost is not known, and counts as all that it might" if assumed else ""
    message = f"{count(len(attempts), 'attempt')} cost {amount(spent)} of {amount(limit)} USD{unknown}"
    return block(task, reason=WaitReason.BUDGET, message=message, now=now)


# --- budgets ------------------------------------------------------------------------------------------


def budgets_now(
    config: Config,
    spending: Spending,
    tasks: Mapping[str, TaskRecord],
    reports: Mapping[tuple[str, int], TaskReport],
    now: datetime,
    preparing: Iterable[TaskRecord] = (),
) -> tuple[Budget, ...]:
    """Every budget, with what attempts under way have spent and reserved by their newest `reports`.

    `preparing` are tasks whose next attempt is being made ready.
    """
    running = [_running(task, attempt, reports, spending) for task, attempt in under_way(tasks)]
    waiting = [(task.project, task.specialist, 0.0, _need(task, config), 0.0) for task in preparing]
    found = []
    for name, settings in config.budgets.items():
        day = now.date() if settings.per == "day" else None
        mine = [entry for entry in (*running, *waiting) if falls_under(settings, entry[0], entry[1])]
        more = spending.topped_up_usd(name, day)
        noted = spending.spent_usd(settings.project, settings.workstation, day)
        found.append(
            Budget(
                name=name,
                project=settings.project,
                workstation=settings.workstation,
                per=settings.per,
                limit_usd=settings.usd + more,
                topped_up_usd=more,
                spent_usd=noted + sum(entry[2] for entry in mine),
                reserved_usd=sum(entry[3] for entry in mine),
                paused_usd=sum(entry[4] for entry in mine),
                resets_at=day_ends(now) if day is not None else None,
                problem=spending.unreadable,
            )
        )
    return tuple(found)


def _running(
    task: TaskRecord, attempt: Attempt, reports: Mapping[tuple[str, int], TaskReport], spending: Spending
) -> tuple[str, str, float, float, float]:
    """Of an attempt under way: project, type, what it has spent beyond what is noted, what is still reserved.

    The last is once more what is reserved where it is paused, else 0.
    """
    report = reports.get((task.id, attempt.number))
    used = cost_of(attempt, report.usage if report is not None else attempt.usage)[0]
    noted = spending.noted_usd(task, attempt)
    rest = max(0.0, (attempt.reserved_usd or 0.0) - max(used, noted))
    paused = rest if task.state is State.PAUSED else 0.0
    return task.project, type_of(attempt.workstation), max(0.0, used - noted), rest, paused


def _need(task: TaskRecord, config: Config) -> float:
    limit = cost_limit_usd(task, config)
    return 0.0 if limit is None else max(0.0, limit - spent_usd(task))


@dataclass
class Purse:
    """What is left of all budgets while tasks are chosen, one after the other in the order of their rank."""

    config: Config
    budgets: Mapping[str, Budget]
    _reserved: dict[str, float] = field(default_factory=dict, init=False)
    _kept: dict[str, str] = field(default_factory=dict, init=False)

    def need_usd(self, task: TaskRecord) -> float:
        """What an attempt of this task reserves: what is left of its limit."""
        return _need(task, self.config)

    def lacking(self, task: TaskRecord) -> tuple[Budget, ...]:
        """The budgets that the task does not fit into now, by what is reserved in them."""
        names = governing(self.config, task.project, task.specialist)
        return tuple(self.budgets[name] for name in names if not self._fits(name, self.need_usd(task)))

    def _fits(self, name: str, need: float) -> bool:
        budget, reserved = self.budgets[name], self._reserved.get(name, 0.0)
        left = budget.limit_usd - budget.spent_usd - budget.reserved_usd - reserved
        return not budget.problem and need <= left + DUST_USD

    def take(self, task: TaskRecord) -> bool:
        """Reserve for the task, if it fits everywhere and nobody before it waits for one of its budgets."""
        if self.must_wait(task):
            return False
        for name in governing(self.config, task.project, task.specialist):
            self._reserved[name] = self._reserved.get(name, 0.0) + self.need_usd(task)
        return True

    def must_wait(self, task: TaskRecord) -> bool:
        """Whether it lacks money now. If it will have some, its budgets are kept from those that come after it."""
        names = governing(self.config, task.project, task.specialist)
        waits = bool(self.lacking(task)) or not self._kept.keys().isdisjoint(names)
        if waits and self.will_fit(task):
            self._kept = dict.fromkeys(names, task.id) | self._kept
        return waits

    def kept_for(self, task: TaskRecord) -> dict[str, str]:
        """The budgets of this task that are kept for others, and for which."""
        names = governing(self.config, task.project, task.specialist)
        return {name: self._kept[name] for name in names if self._kept.get(name, task.id) != task.id}

    def will_fit(self, task: TaskRecord, *, by_itself: bool = False) -> bool:
        """Whether it would fit if what others have reserved were not used.

        `by_itself`: as soon as those end that are under way; paused ones wait for a person, perhaps without end.
        """
        names = governing(self.config, task.project, task.specialist)
        need = self.need_usd(task)
        for budget in (self.budgets[name] for name in names):
            held = budget.paused_usd if by_itself else 0.0
            if budget.problem or need > budget.limit_usd - budget.spent_usd - held + DUST_USD:
                return False
        return True

    def fits_more(self, task: TaskRecord, attempt: Attempt, usd: float) -> tuple[Budget, ...]:
        """The budgets that have no room for so much more for an attempt under way."""
        names = [name for name in attempt.budgets if name in self.budgets]
        return tuple(self.budgets[name] for name in names if not self._fits(name, usd))


@dataclass(frozen=True, kw_only=True)
class Lack:
    """A budget for which a task waits: in words, and with the command that adds what is missing."""

    budget: str
    words: str
    command: str = ""


def waiting_for_money(tasks: Iterable[TaskRecord], purse: Purse, now: datetime) -> dict[str, tuple[Lack, ...]]:
    """Why each of these tasks may not begin yet, in the order of their rank."""
    found = {}
    for task in tasks:
        lacks = lacks_of(task, purse, now)
        if not purse.must_wait(task):
            continue
        names = {lack.budget for lack in lacks}
        kept = [
            Lack(budget=name, words=f"the budget {name}, which {other} waits for before it")
            for name, other in purse.kept_for(task).items()
            if name not in names
        ]
        found[task.id] = (*lacks, *kept)
    return found


def lacks_of(task: TaskRecord, purse: Purse, now: datetime) -> tuple[Lack, ...]:
    """The budgets that have too little left for the task."""
    need = purse.need_usd(task)
    return tuple(_lack(budget, need, now) for budget in purse.lacking(task))


def _lack(budget: Budget, need: float, now: datetime) -> Lack:
    if budget.problem:
        words = f"the budget {budget.name}, of which nobody knows what is spent: {budget.problem}"
        return Lack(budget=budget.name, words=words)
    missing = need - (budget.limit_usd - budget.spent_usd - budget.reserved_usd)
    command = f"cloud-code budget top-up {budget.name} {rounded_up(missing)}" if missing > DUST_USD else ""
    of = f"{amount(budget.limit_usd)} USD" + (" a day" if budget.per == "day" else "")
    reserved = f", {amount(budget.reserved_usd)} are reserved by others" if budget.reserved_usd > DUST_USD else ""
    turns = f"; a new day begins {when(budget.resets_at, now)}" if budget.resets_at is not None else ""
    lacking = f", {amount(missing)} missing: `{command}`" if command else ""
    words = f"the budget {budget.name} of {of}: {amount(budget.left_usd)} left{reserved}, {amount(need)} needed"
    return Lack(budget=budget.name, words=f"{words}{lacking}{turns}", command=command)
