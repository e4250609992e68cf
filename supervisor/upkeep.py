"""What is done to workstations while they are idle: by their drivers, in jobs; told step by step."""

from dataclasses import dataclass
from functools import partial
from typing import Any

from supervisor.core.chores import Chore
from supervisor.core.decision import Event, Failed
from supervisor.fleet import Fleet
from supervisor.ledger import Ledger
from supervisor.pool import JobPool
from supervisor.ports import Workstations

JOB = "Chore"
DONE = {"recreate": "workstation.recreated"}
FAILED = "workstation.upkeep_failed"


@dataclass
class Upkeep:
    """Called from the loop's thread, but for what the jobs do."""

    ledger: Ledger
    fleet: Fleet
    drivers: dict[str, Workstations]
    pool: JobPool

    def start(self, name: str, chore: Chore) -> None:
        """Begin what the fleet has decided: its daemon has ended, and none is started before this is settled."""
        file = self.fleet.stations[name].file
        work = partial(self.drivers[file.driver].upkeep, name, file.type, chore)
        if not self.pool.submit(f"{JOB}:{name}", work):
            self.fleet.chore_done(name)

    def settle(self, name: str, outcome: Any) -> None:
        """Tell what became of it; what failed is not tried again by itself."""
        chore = self.fleet.stations[name].life.chores[0]
        self.fleet.chore_done(name)
        named = {"why": chore.why, "command": chore.id or None}
        if isinstance(outcome, Failed):
            details = named | {"what": chore.kind, "code": outcome.code, "message": outcome.message}
            self.ledger.log(Event(name=FAILED, details=details), workstation=name)
        else:
            self.ledger.log(Event(name=DONE[chore.kind], details=named | dict(outcome)), workstation=name)
