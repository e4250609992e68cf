"""How much room the root's file systems have, and whether another attempt may begin (`core.disk`)."""

import os
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from loguru import logger

from agent_daemon.protocol.codec import encode
from agent_daemon.protocol.errors import Problem
from agent_daemon.protocol.files import write_file
from agent_daemon.protocol.model import utc
from agent_daemon.protocol.paths import Root
from supervisor.clock import Clock
from supervisor.core.decision import Event
from supervisor.core.disk import DiskSpace, is_low, no_room, resume_mark, stop_mark
from supervisor.core.record import Stored
from supervisor.core.settings import DiskSettings


class LowDisk(Stored):
    """`state/disk-low.yaml`: it is there while no attempt is begun for want of room."""

    since: datetime
    free_bytes: int


@dataclass(frozen=True, kw_only=True)
class DiskState:
    """The fullest of the root's file systems; `path` is one of its folders, the marks are bytes.

    `no_room`: what is waited for while it is low, in words.
    """

    path: str
    total_bytes: int
    free_bytes: int
    stop_below_bytes: int
    resume_above_bytes: int
    low: bool
    no_room: str = ""


def low_file(root: Root) -> Path:
    return root.state / "disk-low.yaml"


def space_of(path: Path) -> DiskSpace:
    """Raises OSError."""
    found = os.statvfs(path)
    return DiskSpace(total_bytes=found.f_blocks * found.f_frsize, free_bytes=found.f_bavail * found.f_frsize)


def disk_state(root: Root, settings: DiskSettings, *, was_low: bool) -> DiskState | None:
    """The state of that file system of the root which is nearest to being full; None when none can be asked."""
    states: dict[int, DiskState] = {}
    for path in (root.path, root.state, root.mail, root.workspaces):
        try:
            device, space = path.stat().st_dev, space_of(path)
        except OSError:
            continue
        low = is_low(space, settings, was_low=was_low)
        states.setdefault(
            device,
            DiskState(
                path=str(path),
                total_bytes=space.total_bytes,
                free_bytes=space.free_bytes,
                stop_below_bytes=stop_mark(space, settings),
                resume_above_bytes=resume_mark(space, settings),
                low=low,
                no_room=no_room(space, settings, str(path)) if low else "",
            ),
        )
    return min(states.values(), key=lambda state: state.free_bytes - state.stop_below_bytes, default=None)


def seen_state(root: Root, settings: DiskSettings) -> DiskState | None:
    """The same for a reader: whether it was low before tells the supervisor's file."""
    return disk_state(root, settings, was_low=low_file(root).exists())


def low_problem(state: DiskState) -> Problem | None:
    """What people are told while no attempt begins for want of room."""
    if not state.low:
        return None
    return Problem(
        code="E_DISK_LOW",
        message=f"no attempt begins; those under way go on; waiting for {state.no_room}",
        file=state.path,
        mend=f"make room: `cloud-code gc --dry-run` says what clean-up would remove, "
        f"`du -xh --max-depth=2 {state.path} | sort -h` what takes it",
    )


@dataclass
class DiskWatch:
    """The supervisor's own look, once a sweep; called from the loop's thread only."""

    root: Root
    settings: DiskSettings
    clock: Clock
    low: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        self.low = low_file(self.root).exists()

    def has_room(self) -> bool:
        """Whether another attempt may begin, by the last look."""
        return not self.low

    def look(self) -> Event | None:
        """Look, and tell when it has changed."""
        state = disk_state(self.root, self.settings, was_low=self.low)
        if state is None:
            return None
        changed, self.low = state.low != self.low, state.low
        self._write_down(state)
        details = {
            "path": state.path,
            "free_bytes": state.free_bytes,
            "resume_above_bytes": state.resume_above_bytes,
        }
        return Event(name="disk.low" if state.low else "disk.recovered", details=details) if changed else None

    def _write_down(self, state: DiskState) -> None:
        """For readers and for the next start; a disk that refuses is tried again at the next look."""
        path = low_file(self.root)
        try:
            if not state.low:
                path.unlink(missing_ok=True)
            elif not path.exists():
                write_file(path, encode(LowDisk(since=utc(self.clock.now()), free_bytes=state.free_bytes)))
        except OSError as error:
            logger.error("E_STATE_DISK: {}: {}", path, error)
