"""What a benchmark returns, and the table of it."""

import os
import platform
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One measured number; `bar` is what it must not pass, or with `at_least` not fall below. None: no bar."""

    name: str
    measured: float
    unit: str
    bar: float | None = None
    at_least: bool = False
    note: str = ""

    @property
    def ok(self) -> bool:
        if self.bar is None:
            return True
        return self.measured >= self.bar if self.at_least else self.measured <= self.bar

    @property
    def of_bar(self) -> float | None:
        """The part of the bar that is used up: 1.0 is exactly on it, more is a miss."""
        if self.bar is None or not self.bar or not self.measured:
            return None
        return self.bar / self.measured if self.at_least else self.measured / self.bar


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much is measured. `live` tasks are not ended; `archived` ones are; runs are repetitions."""

    live: int = 1000
    archived: int = 9000
    workstations: int = 20
    reactions: int = 300
    idle_seconds: float = 30
    intake_seconds: float = 10
    repository_files: int = 6000
    runs: int = 9
    forge_projects: int = 50
    forge_cycles: int = 5
    forge_poll_seconds: float = 3
    # Asked more often, so many projects of one account would be let rest (docs/forges.md).
    forge_quiet_poll_seconds: float = 20
    forge_issues: int = 20
    forge_crowd: int = 200
    forge_watched_seconds: float = 65


QUICK = Size(
    live=200,
    archived=300,
    workstations=4,
    reactions=30,
    idle_seconds=5,
    intake_seconds=3,
    runs=3,
    forge_projects=5,
    forge_cycles=2,
    forge_poll_seconds=1,
    forge_quiet_poll_seconds=2,
    forge_issues=4,
    forge_crowd=10,
    forge_watched_seconds=5,
)


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest of the values that at least `percent` of them do not pass."""
    ordered = sorted(values)
    rank = -(-len(ordered) * percent // 100)  # rounded up
    return ordered[max(0, int(rank) - 1)]


def tell(text: str) -> None:
    """A line of progress: the table comes at the end only."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def machine() -> str:
    """This machine in one line."""
    model = next(
        (line.split(":", 1)[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")),
        platform.machine(),
    )
    memory = next((line.split()[1] for line in _lines("/proc/meminfo") if line.startswith("MemTotal")), "0")
    cores = len(os.sched_getaffinity(0))
    return (
        f"{cores} × {model}, {int(memory) / 1024**2:.1f} GiB, "
        f"Linux {platform.release()}, Python {platform.python_version()}, load {os.getloadavg()[0]:.1f} before"
    )


def _lines(path: str) -> list[str]:
    return Path(path).read_text(errors="replace").splitlines()


def show(figures: Iterable[Figure], about: str) -> None:
    """Print the table."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=160)  # into a file or a pipe: no line is broken
    table = Table(title=about, title_justify="left", box=box.SIMPLE_HEAD)
    for heading in ("figure", "measured", "bar", "of bar", "ok", "note"):
        table.add_column(heading, justify="left" if heading in ("figure", "note") else "right")
    for figure in figures:
        sign = "≥" if figure.at_least else "≤"
        bar = "" if figure.bar is None else f"{sign} {figure.bar:g} {figure.unit}"
        part = "" if figure.of_bar is None else f"{figure.of_bar:.2f}"
        ok = "" if figure.bar is None else "yes" if figure.ok else "NO"
        table.add_row(figure.name, f"{figure.measured:.3g} {figure.unit}", bar, part, ok, figure.note)
    console.print(table)


def as_data(figures: Iterable[Figure], about: str) -> dict[str, Any]:
    """What `--json` prints."""
    return {
        "machine": about,
        "figures": [asdict(figure) | {"of_bar": figure.of_bar, "ok": figure.ok} for figure in figures],
    }
