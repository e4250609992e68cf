"""What a workstation uses now, from the kernel's files: the engine takes a second to say the same."""

import os
from pathlib import Path

from agent_daemon.processes import descendants, process_table
from supervisor.ports import Use

GROUPS = Path("/sys/fs/cgroup")


def use_of_group(pid: int, proc: Path = Path("/proc"), groups: Path = GROUPS) -> Use:
    """Of the control group that this process is in, of version 1 or 2; what cannot be read is None."""
    places = _places(proc / str(pid) / "cgroup", groups)
    unified = places.get("")
    if unified is not None and (unified / "cgroup.controllers").is_file():
        cached = _entry(unified / "memory.stat", "inactive_file")
        micros = _entry(unified / "cpu.stat", "usage_usec")
        return Use(
            memory_bytes=_less(_number(unified / "memory.current"), cached),
            cpu_seconds=None if micros is None else micros / 1e6,
            processes=_number(unified / "pids.current"),
        )
    memory, time, count = (places.get(name) for name in ("memory", "cpuacct", "pids"))
    nanos = _number(time / "cpuacct.usage") if time else None
    return Use(
        memory_bytes=_less(
            _number(memory / "memory.usage_in_bytes") if memory else None,
            _entry(memory / "memory.stat", "total_inactive_file") if memory else None,
        ),
        cpu_seconds=None if nanos is None else nanos / 1e9,
        processes=_number(count / "pids.current") if count else None,
    )


def unmounted_groups(own: str, mounts: str) -> list[str]:
    """The hierarchies of version 1 that are mounted nowhere, by `/proc/self/cgroup` and `/proc/self/mountinfo`.

    With one of these containerd 1.6 follows no memory: "cannot find cgroup mount destination".
    """
    halves = (line.partition(" - ")[2].split() for line in mounts.splitlines())
    mounted = {option for half in halves if half[:1] == ["cgroup"] for option in half[-1].split(",")}
    named = (line.split(":", 2)[1] for line in own.splitlines() if line.count(":") >= 2)
    return sorted(group for group in named if group and not mounted.intersection(group.split(",")))


def use_of_family(pid: int) -> Use:
    """Of a process and all that it has started, which have no control group of their own."""
    table = process_table()
    family = [pid, *descendants(pid, table)]
    resident = sum(_resident_pages(one) for one in family)
    ticks = sum(table[one].cpu_ticks + table[one].waited_ticks for one in family if one in table)
    return Use(
        memory_bytes=resident * os.sysconf("SC_PAGESIZE"),
        cpu_seconds=ticks / os.sysconf("SC_CLK_TCK"),
        processes=len(family),
    )


def _resident_pages(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return 0


def _places(file: Path, groups: Path) -> dict[str, Path]:
    """The folder of each controller; that of version 2 has no name."""
    try:
        lines = file.read_text().splitlines()
    except OSError:
        return {}
    places = {}
    for line in lines:
        _, controllers, path = line.split(":", 2)
        for name in controllers.split(","):
            above = groups / controllers if controllers else groups
            places[name] = above / path.lstrip("/")
    return places


def _number(file: Path) -> int | None:
    try:
        return int(file.read_text())
    except (OSError, ValueError):
        return None


def _entry(file: Path, name: str) -> int | None:
    try:
        pairs = (line.split() for line in file.read_text().splitlines())
        return next((int(pair[1]) for pair in pairs if pair[:1] == [name]), None)
    except (OSError, ValueError, IndexError):
        return None


def _less(total: int | None, part: int | None) -> int | None:
    return None if total is None else max(0, total - (part or 0))
