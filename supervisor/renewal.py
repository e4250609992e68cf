"""Daemons that speak another version of the protocol: made anew when they are idle, as `core.speech` decides."""

from collections.abc import Collection
from dataclasses import dataclass, replace

from agent_daemon.protocol.model import PROTOCOL_VERSION
from supervisor.core.chores import Chore, refusal
from supervisor.core.decision import Event
from supervisor.core.speech import due
from supervisor.fleet import Fleet
from supervisor.ledger import Ledger
from supervisor.station import Station
from supervisor.work import Work

CHORE = Chore(kind="recreate", why="protocol")


@dataclass
class Renewal:
    """Called once a second from the loop's thread; `now` in seconds of watching."""

    fleet: Fleet
    ledger: Ledger
    work: Work

    def look(self, now: float, busy: Collection[str]) -> None:
        """Have those made anew that are not understood. They get no attempt meanwhile (`Fleet.usable`)."""
        for name, station in self.fleet.stations.items():
            if station.speech.understood or station.wanted != "running" or station.file.handle is None:
                continue
            restarts = bool(refusal(CHORE, station.file.driver))  # one that cannot be made anew is started anew
            step = due(
                station.speech,
                busy=restarts and name in busy,
                chores=bool(station.life.chores) or station.life.stopping,
                seconds_since_start=now - station.life.started,
            )
            if step == "renew":
                self._tell(name, station, "it is made anew as soon as it has nothing to do", None)
                station.speech = replace(station.speech, renewed=True)
                self._renew(name, restarts=restarts)
            elif step == "tell":
                station.speech = replace(station.speech, told=True)
                mend = f"cloud-code workstation build {station.file.type}, then `workstation recreate {name}`"
                self._tell(name, station, "it was made anew, and its image has no other daemon", mend)

    def _renew(self, name: str, *, restarts: bool) -> None:
        if not restarts:
            self.fleet.ask(name, CHORE)
            return
        handle = self.fleet.restart(name)
        if handle is not None:
            self.work.stop_daemon(name, handle)

    def _tell(self, name: str, station: Station, what: str, mend: str | None) -> None:
        message = (
            f"its daemon speaks protocol {station.speech.words}, and this supervisor {PROTOCOL_VERSION}: {what}"
        )
        details = {"code": "E_DAEMON_PROTOCOL", "message": message, "mend": mend}
        self.ledger.log(Event(name="workstation.outdated", details=details), workstation=name)
