"""Measure, and print one table: `python -m benchmarks [--only NAME …] [--quick] [--json]`."""

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks import clis, codec, containers, credentials, forges, idle, intake, reaction, start, worktree
from benchmarks.crowd import make_crowd
from benchmarks.figure import QUICK, Figure, Size, as_data, machine, show, tell
from benchmarks.processes import running_supervisor, stand_ins, wait_until_quiet

ALONE = ("codec", "clis", "credentials", "worktree", "forges", "containers")
WITH_A_SUPERVISOR = ("idle", "intake", "reaction", "busy")
WITH_AN_ENGINE = {"containers", "busy"}
NAMES = (*ALONE, *WITH_A_SUPERVISOR, "start")


def main(arguments: list[str]) -> int:
    """Returns 0, or 1 when a figure misses its bar."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Measure the figures of docs/performance.md."
    )
    parser.add_argument("--only", action="append", choices=NAMES, help="measure this one; may be given again")
    parser.add_argument(
        "--quick", action="store_true", help="much smaller, to see that everything works; proves nothing"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    parser.add_argument("--folder", type=Path, help="where to make the temporary roots (default: the system's)")
    options = parser.parse_args(arguments)
    about = machine()
    folder = Path(tempfile.mkdtemp(prefix="cloud-code-bench-", dir=options.folder))
    try:
        wanted = set(options.only or NAMES)
        if not options.only and not containers.can_be_measured():
            tell("no Docker engine answers: containers are not measured")
            wanted -= WITH_AN_ENGINE
        figures = list(measure(wanted, QUICK if options.quick else Size(), folder))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if options.json:
        sys.stdout.write(json.dumps(as_data(figures, about), indent=2) + "\n")
    else:
        show(figures, about)
    return 0 if all(figure.ok for figure in figures) else 1


def measure(wanted: set[str], size: Size, folder: Path) -> Iterator[Figure]:
    """The figures with these names, one after the other; those with a supervisor share one root."""
    alone: dict[str, Callable[[], list[Figure]]] = {
        "codec": lambda: codec.measure(size),
        "clis": lambda: clis.measure(folder / "clis", size),
        "credentials": lambda: credentials.measure(folder / "credentials", size),
        "worktree": lambda: worktree.measure(folder, size),
        "forges": lambda: forges.measure(folder / "forges", size),
        "containers": lambda: containers.measure(folder / "containers", size),
    }
    for name, measured in alone.items():
        if name in wanted:
            yield from _told(name, measured())
    if not wanted - set(alone):
        return
    tell(f"making {size.live} live and {size.archived} ended tasks")
    crowd = make_crowd(folder / "crowd", size)
    with stand_ins(crowd.root, size):
        if wanted & set(WITH_A_SUPERVISOR):
            with running_supervisor(crowd.root) as supervisor:
                wait_until_quiet(supervisor.pid)
                if "idle" in wanted:
                    yield from _told("idle", idle.measure(supervisor, size))
                if "intake" in wanted:
                    yield from _told("intake", intake.measure(crowd, supervisor, size))
                if "reaction" in wanted:
                    wait_until_quiet(supervisor.pid)
                    yield from _told("reaction", reaction.measure(crowd, size))
                if "busy" in wanted:
                    with containers.busy(folder / "busy"):
                        yield from _told("busy", [reaction.measure_busy(crowd, size)])
        if "start" in wanted:
            yield from _told("start", start.measure(crowd, size))


def _told(name: str, figures: list[Figure]) -> list[Figure]:
    tell(f"{name}: " + ", ".join(f"{figure.measured:.3g} {figure.unit}" for figure in figures))
    return figures


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
