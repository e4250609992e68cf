"""Rounds of maintenance: whose turn it still is, and whether one was due while no supervisor ran."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from loguru import logger
from pydantic import AwareDatetime

from agent_daemon.protocol.codec import decode, encode
from agent_daemon.protocol.errors import ProtocolError
from agent_daemon.protocol.files import read_file, write_file
from agent_daemon.protocol.model import utc
from agent_daemon.protocol.paths import Root
from supervisor.calendars import maintenance_trigger
from supervisor.core.record import Stored
from supervisor.core.settings import MaintenanceSettings

FILE = "maintenance.yaml"


class RoundsFile(Stored):
    """`state/maintenance.yaml`: since when a round is waited for, by which schedule, and who is still due."""

    since: AwareDatetime
    schedule: str
    due: tuple[str, ...] = ()


@dataclass
class Rounds:
    """Called from the loop's thread. By the wall clock, as the calendar; what cannot be written lasts a run."""

    root: Root
    settings: MaintenanceSettings
    due: list[str] = field(default_factory=list, init=False)
    missed: bool = field(default=False, init=False)

    def take_up(self) -> None:
        """What was left by the last supervisor, and whether a round was missed since."""
        known = self._read()
        self.due = list(known.due) if known is not None else []
        trigger = maintenance_trigger(self.settings)
        if known is not None and known.schedule == self._schedule and trigger is not None:
            fire = trigger.get_next_fire_time(None, known.since)
            self.missed = fire is not None and fire <= datetime.now(UTC)
        else:
            self._write()

    def begin(self, names: Iterable[str]) -> None:
        """A round: everybody of these gets a turn."""
        self.missed = False
        self.due += [name for name in names if name not in self.due]
        self._write()

    def add(self, name: str) -> None:
        """One of them alone, besides."""
        if name not in self.due:
            self.due.append(name)
            self._write(keep_since=True)

    def is_due(self, name: str) -> bool:
        return name in self.due

    def taken(self, name: str) -> None:
        """Its turn is noted where it is not lost: it is due no longer."""
        if name in self.due:
            self.due.remove(name)
            self._write(keep_since=True)

    @property
    def _schedule(self) -> str:
        return f"{self.settings.schedule} {self.settings.timezone}"

    def _read(self) -> RoundsFile | None:
        try:
            return decode(RoundsFile, read_file(self.root.state, FILE).data, file=f"state/{FILE}")
        except (FileNotFoundError, ProtocolError):
            return None

    def _write(self, *, keep_since: bool = False) -> None:
        known = self._read() if keep_since else None
        since = known.since if known is not None else utc(datetime.now(UTC))
        file = RoundsFile(since=since, schedule=self._schedule, due=tuple(self.due))
        try:
            write_file(self.root.state / FILE, encode(file), mode=0o640)
        except OSError as error:
            logger.error("E_STATE_DISK: {}: {}", self.root.state / FILE, error)
