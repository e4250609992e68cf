"""What a running CLI is seen to do: output, processor time, and whether it waits for somebody to type.

Only counters leave this module. Whether they change fast enough is judged by the supervisor, on its clock.
"""

import os
import resource
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from agent_daemon import processes
from agent_daemon.processes import ProcessStat
from agent_daemon.waiting import wait_for_input

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
_CONTROL_GROUPS = Path("/sys/fs/cgroup")


@dataclass(frozen=True, kw_only=True)
class Look:
    """One look at a run. `run` numbers the runs of this daemon; the counters are those of this run and only grow.

    `output_bytes` leaves out what a CLI writes about waiting for its next try; `steps` are the things that it
    did; `queued_seconds` is the time in line for a processor. `waits_for_disk` holds at this moment.
    """

    run: int
    output_bytes: int
    steps: int
    cpu_seconds: float
    queued_seconds: float
    waits_for_disk: bool
    waits_for_input: bool
    quiet_seconds: float


@dataclass
class ActivityMeter:
    """Watches the runs of one CLI, one at a time. The run's thread tells it things, the daemon's loop looks."""

    monotonic: Callable[[], float] = time.monotonic
    control_group: Path | None = None
    _run: "_Run | None" = field(default=None, init=False)
    _runs: int = field(default=0, init=False)

    def begin(self) -> None:
        """A program is about to be started; its processor time is counted from here."""
        self._runs += 1
        self._run = _Run(number=self._runs, changed_at=self.monotonic())

    def end(self) -> None:
        self._run = None

    def tick(self, pid: int, output_bytes: int) -> None:
        """The program runs and has written so much."""
        run = self._run
        if run is not None:
            run.pid, run.written_bytes = pid, output_bytes

    def heard(self, line: str, *, progress: bool) -> None:
        """A line was read; `progress` is false when it only says that the CLI waits for another try."""
        run = self._run
        if run is None:
            return
        if progress:
            run.steps += 1
        else:
            run.retry_bytes += len(line.encode(errors="replace")) + 1

    @property
    def running(self) -> bool:
        """A program was begun and has not ended."""
        return self._run is not None

    def look(self) -> Look | None:
        """What can be seen now; None when nothing runs."""
        run = self._run
        return run.look(self.monotonic(), self.control_group) if run is not None and run.pid is not None else None


@dataclass
class _Run:
    """One run of a program, from its start to its end."""

    number: int
    changed_at: float
    pid: int | None = None
    written_bytes: int = 0
    retry_bytes: int = 0
    steps: int = 0
    _told_bytes: int = 0
    _told_steps: int = 0
    _cpu: "_CpuCounter" = field(default_factory=lambda: _CpuCounter())
    _queued: "_Grown" = field(default_factory=lambda: _Grown())

    def look(self, now: float, control_group: Path | None) -> Look:
        leader = self.pid or 0
        table = processes.process_table()
        since = table[leader].start_ticks if leader in table else 0
        family = processes.family(leader, since, table)
        stats = [table[pid] for pid in family]
        self._cpu.count(stats, control_group, table)
        self._queued.add("processes", processes.queued_seconds(family))
        idle = not any(stat.state in "RD" for stat in stats)
        output = max(self._told_bytes, self.written_bytes - self.retry_bytes)
        if output > self._told_bytes or self.steps > self._told_steps:
            self.changed_at = now
        self._told_bytes, self._told_steps = output, self.steps
        return Look(
            run=self.number,
            output_bytes=output,
            steps=self.steps,
            cpu_seconds=round(self._cpu.seconds, 3),
            queued_seconds=round(self._queued.seconds, 3),
            waits_for_disk=any(stat.state == "D" for stat in stats),
            waits_for_input=idle and wait_for_input(family, leader),
            quiet_seconds=round(now - self.changed_at, 1),
        )


@dataclass
class _Grown:
    """Sums up a reading that ought to grow, although what it is made of comes and goes; what is lost is lost.

    Readings of different sources are not compared. Of the first one, `begin` was there before.
    """

    seconds: float = 0.0
    _last: tuple[str, float] | None = None

    def add(self, source: str, reading: float, begin: float = 0.0) -> None:
        known, before = self._last or (source, begin)
        self._last = (source, reading)
        self.seconds += max(0.0, reading - before) if known == source else 0.0


class _CpuCounter(_Grown):
    """Processor time: of the daemon's control group where it has one of its own, for that misses nobody.

    Else that of the living processes and of the children that they collected.
    """

    def count(
        self, stats: Iterable[ProcessStat], control_group: Path | None, table: dict[int, ProcessStat]
    ) -> None:
        """Take a new reading."""
        used = control_group_seconds(control_group, table) if control_group is not None else None
        if used is not None:
            self.add("group", used, begin=used)  # it was used by others before
        else:
            self.add("processes", processes.cpu_ticks(stats) / _TICKS_PER_SECOND)


def own_control_group() -> Path | None:
    """The folder of this process's control group that counts processor time, if the host shows one."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        _, controllers, path = line.split(":", 2)
        names = controllers.split(",")
        places = [_CONTROL_GROUPS / "cpuacct", _CONTROL_GROUPS / controllers] if "cpuacct" in names else []
        places += [_CONTROL_GROUPS, _CONTROL_GROUPS / "unified"] if controllers == "" else []
        for place in places:
            folder = place / path.lstrip("/")
            if _read_usage(folder) is not None:
                return folder
    return None


def control_group_seconds(folder: Path, table: dict[int, ProcessStat]) -> float | None:
    """Processor time of a control group without this process's; None when others than its family are in it."""
    try:
        members = {int(word) for word in (folder / "cgroup.procs").read_text().split()}
    except (OSError, ValueError):
        return None
    # In a container process 1 is the one that starts and reaps.
    allowed = {1, os.getpid(), *processes.descendants(os.getpid(), table)}
    strangers = {pid for pid in members - allowed if pid not in table or table[pid].alive}
    used = _read_usage(folder)
    if strangers or os.getpid() not in members or used is None:
        return None
    own = resource.getrusage(resource.RUSAGE_SELF)
    return max(0.0, used - own.ru_utime - own.ru_stime)


def _read_usage(folder: Path) -> float | None:
    """Seconds that a control group used: version 2 tells microseconds, version 1 nanoseconds."""
    try:
        if (folder / "cpuacct.usage").exists():
            return int((folder / "cpuacct.usage").read_text()) / 1e9
        words = (folder / "cpu.stat").read_text().split()
        return int(words[words.index("usage_usec") + 1]) / 1e6
    except (OSError, ValueError, IndexError):
        return None
