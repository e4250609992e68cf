"""What the supervisor costs while nothing happens: processor time with that of its git children, memory."""

import time

from benchmarks.figure import Figure, Size
from benchmarks.processes import RunningSupervisor, cpu_seconds, resident_megabytes, wait_until_quiet


def measure(supervisor: RunningSupervisor, size: Size) -> list[Figure]:
    """Heartbeats of all workstations and the polls of the remote go on meanwhile."""
    wait_until_quiet(supervisor.pid, for_seconds=10)  # the remote has been polled, every request compared
    before, started = cpu_seconds(supervisor.pid), time.monotonic()
    time.sleep(size.idle_seconds)
    used = cpu_seconds(supervisor.pid) - before
    percent = 100 * used / (time.monotonic() - started)
    return [
        Figure(name="idle: processor", measured=percent, unit="% of a core", bar=2, note="git children included"),
        Figure(name="idle: memory", measured=resident_megabytes(supervisor.pid), unit="MB", bar=150),
    ]
