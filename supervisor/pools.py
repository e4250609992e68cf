"""Pools that grow with what waits and shrink when some of theirs are idle, as `core.pool_size` decides."""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field

from supervisor.clock import Clock
from supervisor.core.budgets import Purse
from supervisor.core.decision import Event
from supervisor.core.life import StationState
from supervisor.core.pool_size import Member, holds_work, to_raise, to_remove
from supervisor.core.record import TaskRecord
from supervisor.core.schedule import DependencyState, schedule
from supervisor.fleet import Fleet
from supervisor.ledger import Ledger
from supervisor.station import Station

_COMING = frozenset({StationState.PROVISIONING, StationState.STOPPED, StationState.REMOVED})


@dataclass
class Pools:
    """Called from the loop's thread. Times are seconds of watching; after a start nobody has been idle yet."""

    clock: Clock
    ledger: Ledger
    fleet: Fleet
    purse: Callable[[], Purse | None]
    _needed_at: dict[str, float] = field(default_factory=dict, init=False)
    _waiting: set[str] = field(default_factory=set, init=False)
    _now: float = field(default=0.0, init=False)

    @property
    def wanted(self) -> bool:
        return any(settings.is_pool for settings in self.ledger.config.workstations.values())

    def look(self, now: float, busy: Collection[str]) -> None:
        """Bring back who is needed, let go who is not; once a second."""
        self._now = now
        for kind, settings in self.ledger.config.workstations.items():
            if not settings.is_pool:
                continue
            members = self._members(kind, busy)
            self._raise(to_raise(members, settings.least, settings.most), "needed")
            limit = settings.idle_minutes * 60
            for name in to_remove(members, settings.least, limit, waiting=kind in self._waiting):
                self.fleet.want(name, "removed")
                self._tell("pool.shrunk", name, {"idle_seconds": round(now - self._needed_at[name])})

    def nothing_waits(self) -> None:
        """What `grow` was told before is over: its task was begun, cancelled, or held."""
        self._waiting = set()

    def grow(
        self,
        waiting: Collection[TaskRecord],
        known: Mapping[str, DependencyState],
        domains: Mapping[str, str],
        busy: Collection[str],
    ) -> None:
        """Bring workstations back for tasks that found none that is free."""
        self._waiting = set()
        for kind, settings in self.ledger.config.workstations.items():
            mine = [task for task in waiting if task.specialist == kind]
            if not settings.is_pool or not mine:
                continue
            members = self._members(kind, busy)
            views = [self.fleet.view(m.name) for m in members if m.coming or not m.up]
            wished = schedule(mine, views, known, domains, self.clock.now(), self.purse())
            if wished:
                self._waiting.add(kind)
            self._raise(to_raise(members, settings.least, settings.most, wished), "waiting")

    def _members(self, kind: str, busy: Collection[str]) -> list[Member]:
        """Those that no person has stopped."""
        holding = self._holding()
        stations = [s for s in self.fleet.stations.values() if s.file.type == kind and not s.retired]
        return [self._member(s, busy, holding) for s in stations if s.file.wanted != "stopped"]

    def _member(self, station: Station, busy: Collection[str], holding: set[str]) -> Member:
        name, up = station.file.name, station.file.wanted == "running"
        needed = name in busy or name in holding or bool(station.life.chores)
        if needed or not up:
            self._needed_at[name] = self._now
        sound = station.refused is None and station.life.failures == 0 and station.life.state in _COMING
        return Member(
            name=name,
            up=up,
            coming=up and sound and name not in busy and not self.fleet.usable(name),
            needed=needed,
            idle_seconds=self._now - self._needed_at.setdefault(name, self._now),
        )

    def _holding(self) -> set[str]:
        """The workstations that have work which is nowhere else, or something to do with an attempt."""
        tasks = self.ledger.tasks.values()
        return {a.workstation for task in tasks for a in task.attempts if holds_work(task, a)}

    def _raise(self, names: Iterable[str], why: str) -> None:
        for name in names:
            self.fleet.want(name, "running")
            self._needed_at[name] = self._now
            self._tell("pool.grown", name, {"why": why})

    def _tell(self, event: str, name: str, details: dict[str, object]) -> None:
        self.ledger.log(Event(name=event, details=details), workstation=name)
