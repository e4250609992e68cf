"""The daemon's sign of life."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from loguru import logger

from agent_daemon import __version__
from agent_daemon.activity import ActivityMeter
from agent_daemon.protocol.codec import encode
from agent_daemon.protocol.files import write_file
from agent_daemon.protocol.model import Activity, DiskUse, WorkstationFile

# How often a sign of life is written, unless the one who starts the daemon wants it sooner.
HEARTBEAT_SECONDS = 5.0
HEARTBEAT_VARIABLE = "CLOUD_CODE_HEARTBEAT_SECONDS"


def beat_seconds() -> float:
    """The time between two signs of life."""
    wanted = os.environ.get(HEARTBEAT_VARIABLE, "")
    try:
        return min(HEARTBEAT_SECONDS, max(0.1, float(wanted)))
    except ValueError:
        return HEARTBEAT_SECONDS


@dataclass
class Heartbeat:
    """Writes `workstation.yaml`. Beaten from the loop only, so that a loop that hangs falls silent."""

    folder: Path
    agent_id: str
    agent_type: str
    meter: ActivityMeter
    clones: Callable[[], tuple[str, ...]] = tuple
    recipient: str | None = None
    disk: Callable[[], DiskUse | None] = lambda: None
    seconds: float = field(default_factory=beat_seconds)
    _count: int = field(default=0, init=False)
    _at: float = field(default=-1e9, init=False)

    def beat(self, task_id: str | None, attempt: int) -> None:
        """Write a larger number, if it is time, and what is worked on, if anything is."""
        if time.monotonic() - self._at < self.seconds:
            return
        self._count, self._at = self._count + 1, time.monotonic()
        sign = WorkstationFile(
            revision=self._count,
            agent_id=self.agent_id,
            agent_type=self.agent_type,
            daemon_version=__version__,
            recipient=self.recipient,
            heartbeat=self._count,
            current_task=task_id,
            clones=self.clones(),
            activity=self._activity(task_id, attempt) if task_id else None,
            disk=self.disk(),
        )
        try:
            write_file(self.folder / "workstation.yaml", encode(sign, end=True))
        except OSError as error:
            logger.error("no sign of life is written: {}", error)

    def _activity(self, task_id: str, attempt: int) -> Activity | None:
        """What the coding CLI is seen to do now; None while none runs."""
        look = self.meter.look()
        return Activity(task=task_id, attempt=attempt, **vars(look)) if look is not None else None
