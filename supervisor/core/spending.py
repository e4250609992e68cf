"""What attempts have cost, day by day: each counts once, however often it is told, whatever becomes of its record.

A day is one of UTC. What an attempt costs is put down on the day on which it is seen; a later word on it changes
what stands under today, so that all days together say what is known of it now.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Literal

from pydantic import AwareDatetime, Field

from agent_daemon.protocol.model import Usage
from supervisor.core.record import Attempt, Stored, TaskRecord

DUST_USD = 1e-9  # what sums of floats may differ by


class Charge(Stored):
    """What an attempt cost on one day; less than nothing where an earlier day had too much. `assumed`: nobody told
    all of it, and its whole reservation is counted.
    """

    project: str
    workstation: str
    usd: float
    assumed: bool = False


class TopUp(Stored):
    """More money for a budget, by the command `id`: for its day, or for good where it is not one of a day."""

    id: str
    budget: str
    usd: float
    by: str
    at: AwareDatetime


class SpendingDay(Stored):
    """`state/spending/<day>.yaml`; charges by ``<task>/<attempt>/<start>``, older ones by ``<task>/<attempt>``."""

    version: Literal[1] = 1
    day: date
    charges: dict[str, Charge] = Field(default_factory=dict)
    top_ups: tuple[TopUp, ...] = ()

    def usd_of(self, task: TaskRecord, attempt: Attempt) -> float:
        """What stands here for the attempt, under whichever name."""
        names = (_name_of(task, attempt), _old_name_of(task, attempt))
        return sum(self.charges[name].usd for name in names if name in self.charges)


def _name_of(task: TaskRecord, attempt: Attempt) -> str:
    """What no other attempt has, though a task of the same name may follow on the same day."""
    return f"{_old_name_of(task, attempt)}/{attempt.started_at.astimezone(UTC):%Y%m%dT%H%M%SZ}"


def _old_name_of(task: TaskRecord, attempt: Attempt) -> str:
    return f"{task.id}/{attempt.number}"


def type_of(workstation: str) -> str:
    """The type of a workstation, by its name ``<type>-<number>``."""
    return workstation.rpartition("-")[0]


def cost_of(attempt: Attempt, usage: Usage | None = None) -> tuple[float, bool]:
    """What an attempt counts for in USD, and whether that is assumed: what nobody told counts as its reservation.

    `usage` is that of one under way, whose reservation is held anyway.
    """
    if usage is not None and attempt.ended_at is None:
        return usage.cost_usd or 0.0, False
    known, reserved = attempt.usage.cost_usd or 0.0, attempt.reserved_usd or 0.0
    if attempt.usage.cost_unknown and reserved > known:
        return reserved, True
    return known, False


def more_used(now: Usage, before: Usage) -> bool:
    """Whether a later word on an ended attempt's usage says more than what is known."""
    known, told = before.input_tokens + before.output_tokens, now.input_tokens + now.output_tokens
    return now != before and told >= known and (now.cost_usd or 0.0) >= (before.cost_usd or 0.0)


@dataclass
class Spending:
    """All days that are known. `changed` are those that are not on disk as they are here.

    `unreadable`: why some day cannot be read; then nobody knows what has been spent. `damaged` are those days.
    """

    days: dict[date, SpendingDay] = field(default_factory=dict)
    unreadable: str = ""
    damaged: set[date] = field(default_factory=set)
    changed: set[date] = field(default_factory=set)

    def note(self, task: TaskRecord, attempt: Attempt, usd: float, *, assumed: bool, today: date) -> None:
        """Let all days together say that the attempt has cost so much."""
        known = self.days.get(today) or SpendingDay(day=today)
        more = usd - self.noted_usd(task, attempt)
        if abs(more) <= DUST_USD:
            return
        wanted = known.usd_of(task, attempt) + more
        kind = type_of(attempt.workstation)
        charge = Charge(project=task.project, workstation=kind, usd=wanted, assumed=assumed)
        others = {name: c for name, c in known.charges.items() if name != _old_name_of(task, attempt)}
        self._put(known.evolve(charges={**others, _name_of(task, attempt): charge}))

    def noted_usd(self, task: TaskRecord, attempt: Attempt) -> float:
        """What stands under all days for this attempt."""
        return sum(day.usd_of(task, attempt) for day in self._from(attempt.started_at.date()))

    def top_up(self, more: TopUp) -> bool:
        """Put it down, once."""
        known = self.days.get(more.at.date()) or SpendingDay(day=more.at.date())
        if any(known_one.id == more.id for known_one in known.top_ups):
            return False
        self._put(known.evolve(top_ups=(*known.top_ups, more)))
        return True

    def spent_usd(self, project: str | None, workstation: str | None, day: date | None) -> float:
        """What was spent by a project, by a type of workstation, on a day; None stands for all of them."""
        return sum(
            charge.usd
            for charges in self._days(day)
            for charge in charges.charges.values()
            if project in (None, charge.project) and workstation in (None, charge.workstation)
        )

    def topped_up_usd(self, budget: str, day: date | None) -> float:
        return sum(more.usd for known in self._days(day) for more in known.top_ups if more.budget == budget)

    def _put(self, day: SpendingDay) -> None:
        self.days[day.day] = day
        self.changed.add(day.day)

    def _days(self, day: date | None) -> Iterable[SpendingDay]:
        if day is None:
            return self.days.values()
        return [self.days[day]] if day in self.days else []

    def _from(self, since: date) -> Iterator[SpendingDay]:
        """The days from this one on: an attempt of the same name that is older was another task's."""
        return (known for day, known in self.days.items() if day >= since)


def under_way(tasks: Mapping[str, TaskRecord]) -> Iterator[tuple[TaskRecord, Attempt]]:
    """The attempts that may still cost something."""
    return ((task, attempt) for task in tasks.values() for attempt in task.attempts if attempt.ended_at is None)


def day_ends(now: datetime) -> datetime:
    """When the day is over, by UTC."""
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    return midnight + timedelta(days=1)
