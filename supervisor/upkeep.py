"""What is done to workstations while they are idle: by schedule, by policy, or because somebody asks.

By their drivers, in jobs; each step is told. One of a type is at it at a time, unless people ask for more.
"""

import queue
import threading
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from supervisor.core.chores import Chore, recreation_due
from supervisor.core.decision import Event, Failed
from supervisor.core.disk import is_over
from supervisor.fleet import Fleet
from supervisor.ledger import Ledger
from supervisor.pool import JobPool
from supervisor.ports import Workstations
from supervisor.rounds import Rounds
from supervisor.station import Station

JOB = "Chore"
STEP, FAILED = "workstation.upkeep", "workstation.upkeep_failed"
DONE = {
    "maintain": "workstation.maintained",
    "snapshot": "workstation.saved",
    "restore": "workstation.restored",
    "recreate": "workstation.recreated",
}
# How often it is looked whether a container should be made anew: an image changes seldom.
LOOK_SECONDS = 30.0


@dataclass
class Upkeep:
    """Called from the loop's thread, but for what the jobs do."""

    ledger: Ledger
    fleet: Fleet
    drivers: dict[str, Workstations]
    pool: JobPool
    rounds: Rounds
    clean: Callable[[], object] = lambda: None
    _asked: threading.Event = field(default_factory=threading.Event, init=False)
    _said: "queue.SimpleQueue[tuple[str, str]]" = field(default_factory=queue.SimpleQueue, init=False)
    _looked: float = field(default=-LOOK_SECONDS, init=False)

    def begin_maintenance(self) -> None:
        """The hour has come: each that is up gets its turn. Called from the calendar's thread."""
        self._asked.set()

    def look(self, now: float, busy: Collection[str]) -> bool:
        """Whose turn it is, and who is to be made anew; whether somebody may be given tasks again.

        `now` in seconds of watching.
        """
        self._tell_steps()
        if self._asked.is_set() or self.rounds.missed:
            self._asked.clear()
            up = [name for name, station in self.fleet.stations.items() if station.wanted == "running"]
            self.rounds.begin(up)
        recovered = [name for name in self.fleet.stations if self._look_at_disk(name)]
        due = now - self._looked >= LOOK_SECONDS
        self._looked = now if due else self._looked
        at_it = {s.file.type for s in self.fleet.stations.values() if s.life.chores}
        # Idle ones first: one that works may drain for hours, with nobody else of its type at it meanwhile.
        for name, station in sorted(self.fleet.stations.items(), key=lambda entry: entry[0] in busy):
            if station.wanted != "running" or station.life.chores:
                continue
            alone = station.file.type not in at_it
            chore = self._chore(station, name, alone=alone, look_closely=due and alone, idle=name not in busy)
            if chore is not None:
                self.fleet.ask(name, chore)
                if chore.kind == "maintain":
                    self.rounds.taken(name)
                at_it.add(station.file.type)
        return bool(recovered)

    def _look_at_disk(self, name: str) -> bool:
        """Who takes too much of the disk gets no task; its caches and what ended tasks left are to give room.

        Whether it did, and does no longer.
        """
        station = self.fleet.stations[name]
        limit, was = station.settings.disk_limit_bytes, station.too_large
        station.too_large = is_over(station.disk_bytes, limit, was_over=was)
        if station.too_large == was:
            return False
        if station.too_large:  # (first, for the disk that is full may not even take the event)
            self.clean()
            self.rounds.add(name)
        details = {"bytes": station.disk_bytes, "limit_bytes": limit}
        event = "workstation.disk_recovered" if was else "workstation.disk_full"
        self.ledger.log(Event(name=event, details=details), workstation=name)
        return was

    def _chore(self, station: Station, name: str, *, alone: bool, look_closely: bool, idle: bool) -> Chore | None:
        """What is to be done to it; while another of its type is at it, only what makes it of use again."""
        if alone and self.rounds.is_due(name):
            return Chore(kind="maintain", why="disk" if station.too_large else "schedule")
        handle, worked = station.file.handle, station.spent and idle
        if handle is None or not (worked or look_closely):
            return None
        condition = self.drivers[station.file.driver].condition(name, station.file.type, handle)
        return recreation_due(station.settings.recreate, condition, worked=worked)

    def start(self, name: str, chore: Chore) -> None:
        """Begin what the fleet has decided: its daemon has ended, and none is started before this is settled."""
        file = self.fleet.stations[name].file

        def say(text: str) -> None:
            self._said.put((name, text))

        settings = self.ledger.config.maintenance
        work = partial(self.drivers[file.driver].upkeep, name, file.type, chore, settings, say)
        if not self.pool.submit(f"{JOB}:{name}", work):
            self.fleet.chore_done(name)

    def _tell_steps(self) -> None:
        while not self._said.empty():
            name, text = self._said.get()
            self.ledger.log(Event(name=STEP, details={"message": text}), workstation=name)

    def settle(self, name: str, outcome: Any) -> None:
        """Tell what became of it; what failed is not tried again by itself."""
        self._tell_steps()
        chore = self.fleet.stations[name].life.chores[0]
        self.fleet.chore_done(name)
        named = {"why": chore.why, "command": chore.id or None}
        if isinstance(outcome, Failed):
            details = named | {"what": chore.words, "code": outcome.code, "message": outcome.message}
            self.ledger.log(Event(name=FAILED, details=details), workstation=name)
        else:
            self.ledger.log(Event(name=DONE[chore.kind], details=named | dict(outcome)), workstation=name)
