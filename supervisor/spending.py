"""`state/spending/`: what was spent, a small file a day that no clean-up touches; the budgets."""

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import date

from loguru import logger

from agent_daemon.protocol.codec import decode, encode
from agent_daemon.protocol.errors import Problem, ProtocolError
from agent_daemon.protocol.files import make_folder, read_file, write_file
from agent_daemon.protocol.money import amount, rounded_up
from agent_daemon.protocol.paths import Root
from supervisor.clock import Clock
from supervisor.config import load_config
from supervisor.core.budgets import Budget, Purse, budgets_now, cost_limit_usd, lacks_of, spent_usd
from supervisor.core.commands import Command, CommandRefusedError, amount_of
from supervisor.core.decision import Event
from supervisor.core.record import TaskRecord
from supervisor.core.spending import Spending, SpendingDay, TopUp, cost_of, under_way
from supervisor.core.states import State
from supervisor.errors import CloudCodeError
from supervisor.ledger import Ledger
from supervisor.records import RECORD_LIMITS

_SUFFIX = ".yaml"
# A longer day is not written with each attempt that ends: that would take tens of milliseconds, in the loop.
_SHORT_DAY = 100
_FLUSH_SECONDS = 10.0


def read_spending(root: Root) -> Spending:
    """All days that there are. One that cannot be read is not taken for a day on which nothing was spent."""
    spending = Spending()
    try:
        names = sorted(os.listdir(root.spending))
    except FileNotFoundError:
        names = []
    for name in names:
        try:
            day = date.fromisoformat(name.removesuffix(_SUFFIX))
        except ValueError:  # not ours: a file that is being written, or a person's copy
            continue
        try:
            data = read_file(root.state, f"spending/{name}", max_bytes=RECORD_LIMITS.max_bytes).data
            found = decode(SpendingDay, data, file=f"state/spending/{name}", limits=RECORD_LIMITS)
            spending.days[day] = found
        except FileNotFoundError:
            continue
        except ProtocolError as error:
            spending.unreadable = str(error)
            spending.damaged.add(day)
    return spending


def unreadable_problem(root: Root, spending: Spending) -> Problem | None:
    """What is wrong where nobody knows what has been spent."""
    if not spending.unreadable:
        return None
    return Problem(
        code="E_SPENDING_DAMAGED",
        message=f"what was spent cannot be read: {spending.unreadable}",
        file=str(root.spending),
        mend="mend the file, or move it elsewhere, and with it what it says was spent; restart the supervisor",
    )


@dataclass
class Money:
    """Puts down what attempts cost, and says what is left of the budgets. Used in the loop's thread.

    `preparing()` are the tasks whose next attempt is being made ready: what that may cost is reserved already.
    """

    root: Root
    clock: Clock
    ledger: Ledger
    preparing: Callable[[], Iterable[TaskRecord]] = tuple
    spending: Spending = field(init=False)
    _day: date = field(init=False)
    _flush_at: float = field(default=0.0, init=False)
    _known: dict[str, float] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self.spending = read_spending(self.root)
        self._day = self.clock.now().date()

    def note(self, task: TaskRecord) -> None:
        """Put down what a task's ended attempts cost, as far as that is news.

        It is written at once, or where the day has become long, now and then: the record, from which it is put
        down again after a crash, has it too.
        """
        for attempt in task.attempts:
            key = f"{task.id}/{attempt.number}/{attempt.started_at}"  # a name may be used again
            usd, assumed = cost_of(attempt)
            if attempt.ended_at is None or self._known.get(key, 0.0) == usd:
                continue
            self.spending.note(task, attempt, usd, assumed=assumed, today=self.clock.now().date())
            self._known[key] = usd
        if all(len(self.spending.days[day].charges) <= _SHORT_DAY for day in self.spending.changed):
            try:
                self.flush()
            except OSError as error:
                logger.error("E_STATE_DISK: what was spent is not written: {}; trying again", error)

    def flush(self) -> None:
        """Write the days that have changed, durably; raises OSError. What cannot be read is not overwritten."""
        for day in self.spending.changed - self.spending.damaged:
            make_folder(self.root.spending)
            write_file(self.root.spending / f"{day}{_SUFFIX}", encode(self.spending.days[day]), mode=0o640)
            self.spending.changed.discard(day)

    def settle(self) -> bool:
        """Write all that there is, raises OSError; False where some of it belongs into a file that is damaged."""
        self.flush()
        return not self.spending.changed

    def look(self) -> Event | None:
        """Once a sweep: write what is left to write, and let a day end with what attempts under way cost in it."""
        if self.clock.monotonic() >= self._flush_at:
            self._flush_at = self.clock.monotonic() + _FLUSH_SECONDS
            self.flush()
        today = self.clock.now().date()
        if today == self._day:
            return None
        ended, self._day = self._day, today
        for task, attempt in under_way(self.ledger.tasks):
            report = self.ledger.reports.get(task.id, {}).get(attempt.number)
            usd, assumed = cost_of(attempt, report.usage if report is not None else attempt.usage)
            self.spending.note(task, attempt, usd, assumed=assumed, today=ended)
        self.flush()
        days = [name for name, budget in self.ledger.config.budgets.items() if budget.per == "day"]
        return Event(name="budget.day_began", details={"day": str(today), "budgets": days}) if days else None

    def budgets(self, beside: str = "") -> tuple[Budget, ...]:
        """Every budget now, without what is reserved for a task that is being made ready, where one is named."""
        found = self.ledger.reports.items()
        reports = {(task_id, number): report for task_id, of in found for number, report in of.items()}
        tasks, now = self.ledger.tasks, self.clock.now()
        preparing = [task for task in self.preparing() if task.id != beside]
        return budgets_now(self.ledger.config, self.spending, tasks, reports, now, preparing)

    def purse(self, beside: str = "") -> Purse | None:
        """What tasks may begin with, or one `beside` the others; None where there are no budgets."""
        config = self.ledger.config
        if not config.budgets:
            return None
        return Purse(config, {budget.name: budget for budget in self.budgets(beside)})

    # --- what people ask for ----------------------------------------------------------------------------

    def top_up(self, command: Command) -> str:
        """More money for a budget; raises CommandRefusedError, OSError."""
        name, usd, config = command.target, amount_of(command), self.ledger.config
        if name not in config.budgets:
            raise CommandRefusedError(self._unknown(name))
        if self.spending.unreadable:
            raise CommandRefusedError(f"E_SPENDING_DAMAGED: {self.spending.unreadable}")
        at = self.clock.now()
        new = self.spending.top_up(TopUp(id=command.id, budget=name, usd=usd, by=command.actor.id, at=at))
        self.flush()
        budget = next(budget for budget in self.budgets() if budget.name == name)
        if new:
            details = {"budget": name, "usd": usd, "limit_usd": budget.limit_usd}
            self.ledger.log(Event(name="budget.topped_up", details=details, actor=command.actor.id))
        until = " for today" if budget.per == "day" else ""
        return f"{name} has {amount(budget.limit_usd)} USD{until}, of which {amount(budget.left_usd)} are left"

    def _unknown(self, name: str) -> str:
        """What is said of a budget that does not count: there may be one in what config.yaml says by now."""
        try:
            added = name in load_config(self.root).budgets
        except (CloudCodeError, OSError):
            added = False
        if added:
            return (
                f"the supervisor was started before {name} came into config.yaml: restart `cloud-code run` first"
            )
        known = ", ".join(self.ledger.config.budgets) or "none"
        return f"there is no budget {name} in config.yaml (there are: {known})"

    def told(self, task: TaskRecord) -> str:
        """What a task may cost and has cost, and for which budget it waits all the same; empty without a limit."""
        limit, purse = cost_limit_usd(task, self.ledger.config), self.purse(beside=task.id)
        if limit is None:
            return ""
        pending = task.state is State.PENDING
        lacks = lacks_of(task, purse, self.clock.now()) if purse is not None and pending else ()
        but = "".join(f"; but it waits for {lack.words}" for lack in lacks)
        return f"it may cost {amount(limit)} USD, and has cost {amount(spent_usd(task))}{but}"

    def refuse_top_up(self, task: TaskRecord, command: Command) -> None:
        """Raises CommandRefusedError where a task cannot be allowed more."""
        if cost_limit_usd(task, self.ledger.config) is None:
            raise CommandRefusedError(f"{task.id} has no limit of cost, and falls under no budget")
        purse, live = self.purse(), task.live
        short = purse.fits_more(task, live, amount_of(command)) if purse is not None and live is not None else ()
        if short:
            name, left = short[0].name, short[0].left_usd
            missing = rounded_up(amount_of(command) - left)
            raise CommandRefusedError(
                f"{task.id} is under way, and only {amount(left)} USD are left of the budget {name}: "
                f"`cloud-code budget top-up {name} {missing}` first"
            )
