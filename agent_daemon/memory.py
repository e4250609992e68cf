"""Whether the kernel ended a process of this workstation because its memory ran out: it counts them.

An exit code does not tell that: 137 is any SIGKILL. Read from the control group that a container sees as its root.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

GROUPS = Path("/sys/fs/cgroup")
# A limit of version 1 that is none is the largest number of whole pages (cgroups(7): 2^63 - 4096).
_NO_LIMIT_BYTES = 2**60


@dataclass
class MemoryWatch:
    """Since it was made; where the kernel says nothing, nothing ran out."""

    groups: Path = GROUPS
    _before: int | None = field(init=False)

    def __post_init__(self) -> None:
        self._before = _ended(self.groups)

    def ran_out(self) -> str:
        """That it did, in words, with the limit; empty where it did not."""
        now = _ended(self.groups)
        if now is None or self._before is None or now <= self._before:
            return ""
        limit = _limit_bytes(self.groups)
        most = f"{limit / 1024**2:.0f} MiB (`memory` in config.yaml)" if limit is not None else "no more"
        return f"out of memory: the workstation may take {most}, and the kernel ended a process of it"


def _ended(groups: Path) -> int | None:
    for file in ("memory.events", "memory/memory.oom_control"):
        for name, value in _entries(groups / file):
            if name == "oom_kill":
                return value
    return None


def _limit_bytes(groups: Path) -> int | None:
    for file in ("memory.max", "memory/memory.limit_in_bytes"):
        try:
            limit = int((groups / file).read_text())
        except (OSError, ValueError):  # such as "max"
            continue
        return limit if limit < _NO_LIMIT_BYTES else None
    return None


def _entries(file: Path) -> Iterator[tuple[str, int]]:
    try:
        lines = file.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        name, _, value = line.partition(" ")
        if value.isdecimal():
            yield name, int(value)
