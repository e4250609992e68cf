"""`state/runs.yaml`: when supervisors ran, by which the age of what they left behind is told (`core.observed`)."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from loguru import logger

from agent_daemon.protocol.codec import decode, encode
from agent_daemon.protocol.errors import ProtocolError
from agent_daemon.protocol.files import read_file, write_file
from agent_daemon.protocol.paths import Root
from supervisor.clock import Clock
from supervisor.core.observed import Run, Runs, begin_run, go_on
from supervisor.running import running_supervisor

NOTE_SECONDS = 600.0
MAX_BYTES = 256 * 1024


def read_runs(root: Root) -> tuple[Run, ...]:
    """The runs that are known. Where the file cannot be read there are none, and everything counts as young."""
    try:
        data = read_file(root.state, "runs.yaml", max_bytes=MAX_BYTES).data
        return decode(Runs, data, file="state/runs.yaml").runs
    except FileNotFoundError:
        return ()
    except ProtocolError as error:
        logger.warning("state/runs.yaml is begun anew, and nothing is old enough to be removed: {}", error)
        return ()


def runs_by_now(root: Root, now: datetime) -> tuple[Run, ...]:
    """As the supervisor that runs would tell: what it has not noted yet counts, but no jump of a clock."""
    runs = read_runs(root)
    if not runs or running_supervisor(root) is None:
        return runs
    return go_on(runs, min(now, runs[-1].until + timedelta(seconds=NOTE_SECONDS)))


@dataclass
class RunLog:
    """Notes that this run goes on; called from the loop's thread."""

    root: Root
    clock: Clock
    runs: tuple[Run, ...] = field(default=(), init=False)
    _noted: float = field(default=0.0, init=False)

    def begin(self) -> None:
        """This supervisor starts."""
        self.runs = begin_run(read_runs(self.root), self.clock.now())
        self._write()

    def look(self) -> None:
        """Every ten minutes it is written down that it still runs. Raises OSError."""
        if self.runs and self.clock.monotonic() - self._noted >= NOTE_SECONDS:
            self.note()

    def note(self) -> None:
        """It still runs, now. Raises OSError."""
        self.runs = go_on(self.runs, self.clock.now())
        self._write()

    def _write(self) -> None:
        self._noted = self.clock.monotonic()
        write_file(self.root.state / "runs.yaml", encode(Runs(runs=self.runs)), mode=0o640)
