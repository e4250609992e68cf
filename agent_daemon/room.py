"""How much a workstation takes of the disk: measured now and then, told with its sign of life.

Never while a coding CLI runs, of which the work of measuring would look like a sign of life.
"""

import os
import subprocess
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from loguru import logger

from agent_daemon.protocol.model import DiskUse
from agent_daemon.protocol.paths import Root

# Also at the start, and after each piece of work; never sooner than this after the last time.
MEASURE_SECONDS = 600.0
REST_SECONDS = 30.0
CONTAINER_TOOLS = Path("/tools")
CONTAINER_TEMPORARY = (Path("/tmp"), Path("/var/tmp"))  # noqa: S108 (only measured)
_LONGEST_SECONDS = 300


class RoomMeter:
    """Measures in a thread of its own, by `du` at the lowest priority; `found` is what it found last."""

    def __init__(self, root: Root, workstation: str, is_busy: Callable[[], bool]) -> None:
        self._workspace = root.workspace(workstation)
        self._tools = tools_folder(Path(os.environ.get("HOME", "")), workstation)
        self._temporary = temporary_folders(self._tools)
        self._is_busy = is_busy
        self._due = threading.Event()
        self.found: DiskUse | None = None

    def start(self) -> None:
        threading.Thread(target=self._run, name="room", daemon=True).start()

    def wake(self) -> None:
        """Something was done that may take room, or give some back."""
        self._due.set()

    def _run(self) -> None:
        pause = threading.Event()
        while True:
            if not self._is_busy():
                self._measure()
            pause.wait(REST_SECONDS)
            self._due.wait(MEASURE_SECONDS - REST_SECONDS)
            self._due.clear()

    def _measure(self) -> None:
        tools = (self._tools,) if self._tools is not None else ()
        sizes = measure((self._workspace, *tools, *self._temporary))
        if sizes is not None:
            workspace, rest = sizes[0], sizes[1:]
            in_tools, temporary = sum(rest[: len(tools)]), sum(rest[len(tools) :])
            self.found = DiskUse(workspace_bytes=workspace, tools_bytes=in_tools, temporary_bytes=temporary)


def tools_folder(home: Path, workstation: str) -> Path | None:
    """Where its tools and its home are: `/tools` in a container, a folder of its own on the host."""
    known = home.name == "home" and home.parent.name in ("tools", workstation)
    return home.parent if known and home.parent.is_dir() else None


def temporary_folders(tools: Path | None) -> tuple[Path, ...]:
    """Those of a container, which are volumes of its own on the engine's disk; on a host they are everybody's."""
    if tools != CONTAINER_TOOLS:
        return ()
    return tuple(folder for folder in CONTAINER_TEMPORARY if folder.is_mount())


def measure(folders: Sequence[Path]) -> list[int] | None:
    """The bytes that each takes, on its own file system; None when it cannot be said."""
    command = ["nice", "-n", "19", "du", "-s", "-k", "-x", "--", *map(str, folders)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_LONGEST_SECONDS, check=False)
        sizes = [int(line.split("\t", 1)[0]) * 1024 for line in done.stdout.splitlines()]
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        logger.warning("it is not known how much of the disk is taken: {}", error)
        return None
    return sizes if len(sizes) == len(folders) else None  # (files that go meanwhile are no mistake)
