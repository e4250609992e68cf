"""What a container costs beside a process of this host: time for a task, for a start, and calls of the engine."""

import contextlib
import shutil
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.engine_calls import EngineCalls, counted
from benchmarks.figure import Figure, Size, percentile
from supervisor.errors import CloudCodeError
from supervisor.workstations.engine import Engine, engine_socket
from tests import docker_engine
from tests.end_to_end.test_docker import DockerSite
from tests.site import Site, wait_for

FIX = "sed -i 's/a - b/a + b/' calc.py"
BUSY = 'end=$((SECONDS + 600)); while [ $SECONDS -lt $end ] && [ ! -e "$HOME/enough" ]; do :; done'
BUSY_CONTAINERS = 4
IDLE_SECONDS = 60
LONGEST_SECONDS = 120


def can_be_measured() -> bool:
    """Whether an engine answers, with the program docker beside it."""
    try:
        Engine(engine_socket()).version()
    except CloudCodeError:
        return False
    return shutil.which("docker") is not None


def measure(folder: Path, size: Size) -> list[Figure]:
    """With the engine of `tests.docker_engine`, whose image is built first where it is not there yet."""
    folder.mkdir()
    engine = docker_engine.engine().path
    host = f"unix://{folder / 's'}"
    with counted(engine, folder / "s") as calls, _site(folder / "container", DockerSite, host) as site:
        started = time.perf_counter()
        site.start()
        _wait_until_idle(site)
        first = time.perf_counter() - started
        before = len(calls.paths)
        container = _tasks(site, size.runs)
        for_tasks = len(calls.since(before)) / (size.runs + 1)
        idle = _idle_calls(calls, min(IDLE_SECONDS, 2 * size.idle_seconds))
        starts = [_made_anew(site) for _ in range(max(1, size.runs // 3))]
    with _site(folder / "process", Site) as site:
        site.start()
        _wait_until_idle(site)
        process = _tasks(site, size.runs)
    alone, inside = statistics.median(process), statistics.median(container)
    note = f"{inside:.2f} s against {alone:.2f} s from the task's file to its request, half of {size.runs} each"
    return [
        Figure(name="a task in a container, of one with `local`", measured=inside / alone, unit="×", note=note),
        Figure(name="from nothing to a container that takes tasks", measured=first, unit="s"),
        Figure(
            name="a container made anew: half of them",
            measured=percentile(starts, 50),
            unit="s",
            note=f"`workstation restart`, until it takes tasks; the slowest of {len(starts)}: {max(starts):.1f} s",
        ),
        Figure(name="calls of the engine for a task", measured=for_tasks, unit="calls"),
        Figure(name="calls of the engine in an idle minute", measured=idle, unit="calls", note="one workstation"),
    ]


@contextlib.contextmanager
def busy(folder: Path) -> Iterator[None]:
    """Four containers whose agents take all the time of the processors that they get."""
    folder.mkdir()
    with _site(folder, DockerSite, f"unix://{docker_engine.engine().path}", BUSY) as site:
        site.config["workstations"]["backend"]["count"] = BUSY_CONTAINERS
        site.write_config()
        site.start()
        for number in range(BUSY_CONTAINERS):
            site.write_task(f"busy-{number}")
        for number in range(BUSY_CONTAINERS):
            site.wait_state(f"demo.busy-{number}", "in_progress")
        yield


@contextlib.contextmanager
def _site(folder: Path, kind: type[Site], host: str = "", script: str = FIX) -> Iterator[Site]:
    folder.mkdir(exist_ok=True)
    site = kind(folder)
    try:
        if isinstance(site, DockerSite):
            site.engine = docker_engine.engine()
            site.use_docker(memory="1g")
            site.environment["DOCKER_HOST"] = host
        site.use_script(script)
        site.write_config()
        yield site
    finally:
        site.close()


def _wait_until_idle(site: Site) -> None:
    sign = site.root.mail_out("backend-1") / "workstation.yaml"
    wait_for(sign.exists, LONGEST_SECONDS, "the daemon's first sign of life")


def _tasks(site: Site, count: int) -> list[float]:
    """Seconds from each task's file to its request, one by one; the first one, which clones, is left out."""
    seconds = []
    for number in range(count + 1):
        started = time.perf_counter()
        site.write_task(f"task-{number}")
        site.wait_state(f"demo.task-{number}", "review", timeout_seconds=LONGEST_SECONDS)
        seconds.append(time.perf_counter() - started)
    return seconds[1:]


def _idle_calls(calls: EngineCalls, seconds: float) -> float:
    """In a minute."""
    time.sleep(5)
    before = len(calls.paths)
    time.sleep(seconds)
    return len(calls.since(before)) * 60 / seconds


def _made_anew(site: Site) -> float:
    sign = site.root.mail_out("backend-1") / "workstation.yaml"
    old = sign.stat().st_ino
    started = time.perf_counter()
    site.cli("workstation", "restart", "backend-1")

    def another() -> bool:
        with contextlib.suppress(FileNotFoundError):
            return sign.stat().st_ino != old and "heartbeat: 1\n" in sign.read_text()
        return False

    wait_for(another, LONGEST_SECONDS, "the next container's first sign of life")
    return time.perf_counter() - started
