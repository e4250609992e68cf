"""How much room the root's file systems have, and whether another attempt may begin (`core.disk`)."""

import contextlib
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from loguru import logger

from agent_daemon.protocol.codec import decode, encode
from agent_daemon.protocol.errors import Problem, ProtocolError
from agent_daemon.protocol.files import write_file
from agent_daemon.protocol.model import utc
from agent_daemon.protocol.paths import Root
from supervisor.clock import Clock
from supervisor.core.decision import Event
from supervisor.core.disk import DiskSpace, is_low, no_room, resume_mark, stop_mark
from supervisor.core.record import Stored
from supervisor.core.settings import DiskSettings


class LowDisk(Stored):
    """`state/disk-low.yaml`: it is there while no attempt is begun for want of room, on the disk of `path`."""

    since: datetime
    free_bytes: int
    path: str | None = None


@dataclass(frozen=True, kw_only=True)
class DiskState:
    """The fullest file system of the root and of what its workstations stand on; the marks are bytes.

    `path` is one of its folders, `of_root` whether that is one of the root's.
    `no_room`: what is waited for while it is low, in words.
    """

    path: str
    total_bytes: int
    free_bytes: int
    stop_below_bytes: int
    resume_above_bytes: int
    low: bool
    no_room: str = ""
    of_root: bool = True


ENGINE_MEND = (
    "make room for the Docker engine: `docker system df -v` says what takes it, "
    "`docker image prune` removes images without a name"
)


def low_file(root: Root) -> Path:
    return root.state / "disk-low.yaml"


def space_of(path: Path) -> DiskSpace:
    """Raises OSError."""
    found = os.statvfs(path)
    return DiskSpace(total_bytes=found.f_blocks * found.f_frsize, free_bytes=found.f_bavail * found.f_frsize)


def nearest(path: Path) -> Path:
    """A folder, or the first above it that this user may look at: an engine's own is root's alone."""
    for folder in (path, *path.parents):
        with contextlib.suppress(PermissionError):
            folder.stat()
            return folder
    return path


def disk_state(
    root: Root, settings: DiskSettings, *, was_low: bool, besides: Iterable[Path] = ()
) -> DiskState | None:
    """The state of that file system which is nearest to being full; None when none can be asked.

    Looked at are those of the root, and the folders `besides`, which its workstations fill.
    """
    states: dict[int, DiskState] = {}
    own = (root.path, root.state, root.mail, root.workspaces)
    for path in (*own, *besides):
        try:
            device, space = nearest(path).stat().st_dev, space_of(nearest(path))
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
                of_root=path in own,
            ),
        )
    return min(states.values(), key=lambda state: state.free_bytes - state.stop_below_bytes, default=None)


def seen_state(root: Root, settings: DiskSettings) -> DiskState | None:
    """The same for a reader: whether it was low before, and where, tells the supervisor's file."""
    try:
        known = decode(LowDisk, low_file(root).read_bytes(), file=low_file(root).name)
    except (OSError, ProtocolError):
        return disk_state(root, settings, was_low=low_file(root).exists())
    return disk_state(root, settings, was_low=True, besides=[Path(known.path)] if known.path else [])


def low_problem(state: DiskState) -> Problem | None:
    """What people are told while no attempt begins for want of room."""
    if not state.low:
        return None
    return Problem(
        code="E_DISK_LOW",
        message=f"no attempt begins; those under way go on; waiting for {state.no_room}",
        file=state.path,
        mend=f"make room: `cloud-code gc --dry-run` says what clean-up would remove, "
        f"`du -xh --max-depth=2 {state.path} | sort -h` what takes it"
        if state.of_root
        else ENGINE_MEND,
    )


@dataclass
class DiskWatch:
    """The supervisor's own look, once a sweep; called from the loop's thread only."""

    root: Root
    settings: DiskSettings
    clock: Clock
    besides: Callable[[], Iterable[Path]] = tuple
    low: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        self.low = low_file(self.root).exists()

    def has_room(self) -> bool:
        """Whether another attempt may begin, by the last look."""
        return not self.low

    def look(self) -> Event | None:
        """Look, and tell when it has changed."""
        state = disk_state(self.root, self.settings, was_low=self.low, besides=self.besides())
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
                now = utc(self.clock.now())
                write_file(path, encode(LowDisk(since=now, free_bytes=state.free_bytes, path=state.path)))
        except OSError as error:
            logger.error("E_STATE_DISK: {}: {}", path, error)
