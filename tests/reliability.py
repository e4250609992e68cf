"""docs/reliability.md, written by the tests: each scenario that passes leaves a row of what happened.

In a suite, say at the top which scenarios there are, and record each one at its end, when all is asserted::

    from tests import reliability

    SCENARIOS = reliability.declare("hostile-workstation", ["FIFO as report", "10 GB sparse report"])

    def test_it(...):
        ...
        reliability.record(
            "hostile-workstation", "FIFO as report", "the last good report stays in force",
            code="E_NOT_REGULAR", peak_mb=91.2, reaction_seconds=0.04,
        )

and name the suite's file in `SECTIONS` below. `record` does nothing unless `make reliability` runs the suites
(it sets `CLOUD_CODE_RELIABILITY` to a file that gathers the rows), but it always refuses a name that was not
declared. A figure's unit is the end of its name (`_seconds`, `_ms`, `_mb`, `_percent`; none: a count).
What cannot run on a machine is skipped by pytest and then has no row: write the page where everything runs.

    make reliability                         # all suites, the whole page
    make reliability ONLY=kill-points        # one section; the others stay as they are

A unit test compares the page with what is declared, so a new scenario needs `make reliability` once.
"""

import argparse
import importlib
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parents[1]
PAGE = HERE / "docs/reliability.md"
VARIABLE = "CLOUD_CODE_RELIABILITY"
UNITS = {"seconds": "s", "ms": "ms", "mb": "MB", "percent": "%"}


@dataclass(frozen=True, kw_only=True)
class Section:
    """One part of the page: its heading, what is done there, the heading of its first column, who records."""

    title: str
    about: str
    what: str
    suites: tuple[str, ...] = ()


SECTIONS = {
    "hostile-workstation": Section(
        title="A hostile workstation",
        about="A daemon that misbehaves on purpose writes into `mail/WORKSTATION/out/` of a running supervisor.",
        what="what it does",
        suites=("tests/hostile/test_files.py",),
    ),
    "hostile-bundles": Section(
        title="Hostile bundles and repositories",
        about="A finished task hands in commits that were made by hand to do harm.",
        what="what is handed in",
        suites=("tests/hostile/test_bundles.py", "tests/hostile/test_repositories.py"),
    ),
    "kill-points": Section(
        title="Killed at every step",
        about="A program is killed with SIGKILL at the named place; the end is that of the undisturbed run.",
        what="killed at",
        suites=("tests/chaos/test_failpoints.py", "tests/end_to_end/test_forges.py"),
    ),
    "random-faults": Section(
        title="Everything at once, at random",
        about="Both programs are killed and stopped, the disk fills up, the clock jumps by an hour: seeded.",
        what="under way",
        suites=("tests/chaos/test_random.py",),
    ),
    "clean-up": Section(
        title="Clean-up when it must not trust what it sees",
        about="A root with worktrees, logs, saved work and records of tasks in every stage is bent while no "
        "supervisor runs; then clean-up runs three times. But for the clock, everything is old enough to go.",
        what="what happened meanwhile",
        suites=("tests/end_to_end/test_cleanup.py",),
    ),
    "full-disk": Section(
        title="A disk that runs full",
        about="The root is a file system of 64 MiB.",
        what="what the disk does",
        suites=("tests/end_to_end/test_disk.py",),
    ),
    "detection": Section(
        title="How soon trouble is seen, and false alarms",
        about="From the fault until its event stands in `events.jsonl`; and events that no fault explains.",
        what="fault",
        suites=("tests/end_to_end/test_detection.py",),
    ),
}

_declared: dict[str, dict[str, None]] = {}


def declare(section: str, names: Iterable[str]) -> tuple[str, ...]:
    """Say which scenarios a suite has; gives their names back, for parametrising."""
    known, told = _declared.setdefault(section, {}), tuple(names)
    assert section in SECTIONS, f"no such section: {section}"
    assert not [name for name in told if "|" in name or "\n" in name], "it stands in a table"
    known.update(dict.fromkeys(told))
    return told


def record(section: str, name: str, outcome: str, *, code: str = "", **figures: float) -> None:
    """One row: the scenario, what happened in plain words, the code that was told, and what was measured."""
    assert name in _declared.get(section, ()), f"declare it first: {section}: {name}"
    target = os.environ.get(VARIABLE)
    if target:
        row = {"section": section, "name": name, "outcome": outcome, "code": code, "figures": figures}
        with open(target, "a", encoding="utf-8") as rows:  # one write each: several processes may record
            rows.write(json.dumps(row) + "\n")


def declared(section: str) -> tuple[str, ...]:
    """The scenarios of a section in the order in which its suites declare them; imports the suites."""
    for suite in SECTIONS[section].suites:
        importlib.import_module(suite.removesuffix(".py").replace("/", "."))
    return tuple(_declared.get(section, ()))


def recorded(page: str, section: str) -> tuple[str, ...]:
    """The scenarios that have a row in the page."""
    rows = [line for line in _text_of(page, section).splitlines() if line.startswith("|")]
    return tuple(row.split(" | ")[0].removeprefix("| ") for row in rows[2:])


def _text_of(page: str, section: str) -> str:
    """What stands under the section's heading."""
    _, _, rest = page.partition(f"## {SECTIONS[section].title}\n")
    return re.split(r"^## ", rest, maxsplit=1, flags=re.MULTILINE)[0]


def show_figure(name: str, value: float) -> str:
    """``peak_mb=91.23`` as people read it: ``peak 91 MB``."""
    words = name.split("_")
    unit = UNITS.get(words[-1], "")
    number = f"{value:.2g}" if abs(value) < 10 else f"{value:,.0f}"
    return " ".join(filter(None, [*(words[:-1] if unit else words), number, unit]))


def show_section(section: str, rows: dict[str, dict[str, Any]]) -> str:
    """The text under one heading."""
    about = SECTIONS[section]
    lines = [f"## {about.title}", "", about.about, ""]
    if not rows:
        return "\n".join([*lines, "Nothing is recorded yet.", ""])
    lines += [f"| {about.what} | what happens | code | figures |", "|---|---|---|---|"]
    for name, row in rows.items():
        code = f"`{row['code']}`" if row["code"] else ""
        figures = ", ".join(show_figure(*figure) for figure in row["figures"].items())
        lines.append(f"| {name} | {row['outcome']} | {code} | {figures} |".replace("|  |", "| |"))
    return "\n".join([*lines, ""])


INTRODUCTION = """\
# Reliability

What was done to the running programs, and what came of it. The tests write this page (`make reliability`); a row
is there because its scenario was run and everything that it demands held. Figures are those of the machine that
ran it last: {machine}.
"""


def write_page(rows: list[dict[str, Any]], sections: Iterable[str]) -> list[str]:
    """Write these sections anew and leave the others; returns the scenarios that were not recorded."""
    wanted = set(sections)
    page = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
    parts, missing = [INTRODUCTION.format(machine=_machine())], []
    for section, about in SECTIONS.items():
        if section not in wanted and f"## {about.title}\n" in page:
            parts.append(f"## {about.title}\n{_text_of(page, section)}".rstrip() + "\n")
            continue
        found = {row["name"]: row for row in rows if row["section"] == section}
        names = declared(section)
        missing += [f"{section}: {name}" for name in names if name not in found]
        parts.append(show_section(section, {name: found[name] for name in names if name in found}))
    if not missing:
        PAGE.write_text("\n".join(parts), encoding="utf-8")
    return missing


def _machine() -> str:
    return f"{os.cpu_count()} cores, Linux {'.'.join(os.uname().release.split('.')[:2])}"


def main(arguments: list[str]) -> int:
    """Run the suites of these sections and write the page. 0; 1 when something failed or was not recorded."""
    parser = argparse.ArgumentParser(prog="python -m tests.reliability")
    parser.add_argument("sections", nargs="*", help=f"of {', '.join(SECTIONS)}; all when none is given")
    sections = parser.parse_args(arguments).sections or list(SECTIONS)
    assert set(sections) <= set(SECTIONS), f"sections are {', '.join(SECTIONS)}"
    suites = sorted({suite for section in sections for suite in SECTIONS[section].suites})
    with tempfile.NamedTemporaryFile(prefix="reliability-") as gathered:
        if suites:
            command = [sys.executable, "-m", "pytest", "-n", "2", "--dist", "worksteal", *suites]
            done = subprocess.run(command, cwd=HERE, env=os.environ | {VARIABLE: gathered.name}, check=False)
            if done.returncode:
                return done.returncode
        missing = write_page([json.loads(line) for line in gathered], sections)
    for name in missing:
        print(f"not recorded: {name}", file=sys.stderr)
    return 1 if missing else 0


if __name__ == "__main__":
    # The suites record into the module of this name, not into `__main__`.
    sys.exit(importlib.import_module("tests.reliability").main(sys.argv[1:]))
