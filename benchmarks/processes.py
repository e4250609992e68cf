"""The processes that are measured: the real supervisor, a stand-in for its daemons, and what they cost."""

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from agent_daemon.processes import identify
from agent_daemon.protocol.codec import encode
from agent_daemon.protocol.files import write_file
from agent_daemon.protocol.paths import Root
from benchmarks.crowd import station_names
from benchmarks.figure import Size
from supervisor.stations import StationFile

REPOSITORY = Path(__file__).parents[1]


@contextlib.contextmanager
def stand_ins(root: Root, size: Size) -> Iterator[None]:
    """One process that beats for all workstations; the supervisor finds it recorded and adopts it."""
    argv = [sys.executable, "-m", "benchmarks.stand_in", str(root.path), *station_names(size)]
    with subprocess.Popen(argv, cwd=REPOSITORY) as process:
        try:
            identity = identify(process.pid)
            assert identity is not None, "the stand-in ended at once"
            for name in station_names(size):
                file = StationFile(
                    name=name,
                    type="backend",
                    driver="local",
                    pid=identity.pid,
                    start_ticks=identity.start_ticks,
                    boot_id=identity.boot_id,
                )
                write_file(root.workstations / f"{name}.yaml", encode(file))
            yield
        finally:
            process.terminate()


class RunningSupervisor:
    """The real supervisor in a process of its own (see `benchmarks.probe`), which answers questions."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process, self.pid = process, process.pid

    def ask(self, question: str) -> Any:
        """The answer to ``count`` or ``known``."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(question + "\n")
        return json.loads(self._process.stdout.readline())


@contextlib.contextmanager
def running_supervisor(root: Root) -> Iterator[RunningSupervisor]:
    """Start the supervisor; at the end it is asked to stop, and its log is shown when it does not end well."""
    log = root.path / "supervisor.log"
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.probe", str(root.path)],
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=output,
            text=True,
            bufsize=1,
        )
    with process:
        try:
            yield RunningSupervisor(process)
        finally:
            process.terminate()
            if process.wait(timeout=60):
                sys.stderr.write(log.read_text()[-4000:])


def cpu_seconds(pid: int) -> float:
    """Processor time used so far by a process with all its threads, and by its children that have ended."""
    text = Path(f"/proc/{pid}/stat").read_text()
    fields = text[text.rindex(")") + 2 :].split()
    return sum(int(fields[index]) for index in (11, 12, 13, 14)) / os.sysconf("SC_CLK_TCK")


def resident_megabytes(pid: int) -> float:
    line = next(text for text in Path(f"/proc/{pid}/status").read_text().splitlines() if text.startswith("VmRSS"))
    return int(line.split()[1]) * 1024 / 1e6


def wait_until_quiet(pid: int, timeout_seconds: float = 120, for_seconds: float = 2) -> None:
    """Return once the process has used less than a twenty-fifth of a core for so long."""
    deadline = time.monotonic() + timeout_seconds
    before = cpu_seconds(pid)
    while time.monotonic() < deadline:
        time.sleep(for_seconds)
        now = cpu_seconds(pid)
        if now - before < for_seconds / 25:
            return
        before = now
    raise TimeoutError(f"the process {pid} does not come to rest")
