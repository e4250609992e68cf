"""`cloud-code workstation status`: what each workstation does and uses."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import click
from rich.console import Group, RenderableType

from supervisor import log
from supervisor.app import DRIVERS
from supervisor.cli.output import console, json_option, print_json, show, state_text, text
from supervisor.cli.page import there
from supervisor.cli.place import complete_workstation
from supervisor.cli.reading import picture_of, reader_of
from supervisor.cli.workstation_commands import known_root
from supervisor.core.settings import Config
from supervisor.core.times import duration
from supervisor.core.words import count, size
from supervisor.errors import CloudCodeError
from supervisor.fleet_view import StationRow
from supervisor.ports import Use, Workstations
from supervisor.reader import Reader
from supervisor.workstations.snapshots import snapshots_of

# Between the two looks at the counter of processor time.
SAMPLE_SECONDS = 0.5


@dataclass(frozen=True, kw_only=True)
class StationStatus:
    """A workstation with what it uses and may use; `processors` is their number in use, over half a second."""

    row: StationRow
    use: Use
    processors: float | None
    limits: Mapping[str, Any]
    snapshots: tuple[str, ...]


@click.command()
@click.argument("name", metavar="[NAME]", required=False, shell_complete=complete_workstation)
@json_option
@click.pass_context
def status(ctx: click.Context, name: str | None, as_json: bool) -> None:
    """Show what each workstation, or one, works on, and its memory, processors, processes and disk.

    Memory is without what the kernel could drop. The disk is what its daemon measured last.
    """
    if name is not None:
        known_root(ctx, name)
    log.configure(level="ERROR")  # that the engine is away is no log of a command's
    reader = reader_of(ctx)
    picture = picture_of(reader)
    rows = [row for row in picture.stations if row.name == name] if name else there(picture.stations)
    found = _look(reader, picture.config, rows)
    if as_json:
        print_json(found)
    else:
        console().print(Group(*(line for one in found for line in _lines(one)))) if found else show(text("None."))


def _look(reader: Reader, config: Config | None, rows: list[StationRow]) -> list[StationStatus]:
    drivers: dict[str, Workstations] = {
        driver: DRIVERS[driver](reader.root, config) for driver in {row.driver for row in rows}
    }
    first = {row.name: _use(drivers[row.driver], row) for row in rows}
    began = time.monotonic()
    if any(use.cpu_seconds is not None for use in first.values()):
        time.sleep(SAMPLE_SECONDS)
    found = []
    for row in rows:
        use, seconds = _use(drivers[row.driver], row), time.monotonic() - began
        before, after = first[row.name].cpu_seconds, use.cpu_seconds
        rate = max(0.0, after - before) / seconds if before is not None and after is not None else None
        found.append(
            StationStatus(
                row=row,
                use=use,
                processors=None if rate is None else round(rate, 2),
                limits=_limits(config, row),
                snapshots=tuple(one.name for one in snapshots_of(reader.root, row.name)),
            )
        )
    return found


def _use(driver: Workstations, row: StationRow) -> Use:
    try:
        return driver.use(row.name) or Use()
    except CloudCodeError:  # the engine is away, which the listing says
        return Use()


def _limits(config: Config | None, row: StationRow) -> Mapping[str, Any]:
    settings = config.workstations.get(row.type) if config is not None else None
    if settings is None:
        return {}
    limits = settings.limits(row.type).model_dump() if row.driver == "docker" else {}
    return limits | {"disk": settings.disk_limit}


def _lines(one: StationStatus) -> list[RenderableType]:
    row, use, limits = one.row, one.use, one.limits
    head = text(row.name, "bold")
    head.append(" (").append_text(text(f"{row.type}, {row.driver}")).append("): ").append_text(
        state_text(row.state)
    )
    doing = [f"works on {row.task}" if row.task else "", row.doing, row.note]
    lines = [head, *(text(said, indent=2) for said in doing if said)]
    if row.silent_seconds is not None:
        lines.append(
            text(f"sign of life {duration(row.silent_seconds)} ago; started {count(row.starts, 'time')}", indent=2)
        )
    used = [
        _of("memory", size(use.memory_bytes) if use.memory_bytes is not None else "", limits.get("memory")),
        _of("processors", f"{one.processors:.2f}" if one.processors is not None else "", limits.get("cpus")),
        _of("processes", "" if use.processes is None else str(use.processes), limits.get("pids")),
    ]
    if row.disk is not None:
        parts = f"workspace {size(row.disk.workspace_bytes)}, tools and home {size(row.disk.tools_bytes)}"
        parts += f", /tmp {size(row.disk.temporary_bytes)}" * bool(row.disk.temporary_bytes)
        used.append(f"{_of('disk', size(row.disk.total_bytes), limits.get('disk'))} ({parts})")
    if any(used):
        lines.append(text("; ".join(filter(None, used)), indent=2))
    if one.snapshots:
        lines.append(text(f"snapshots: {', '.join(one.snapshots)}", indent=2))
    return [*lines]


def _of(what: str, used: str, limit: object) -> str:
    return "" if not used else f"{what} {used}" + (f" of {limit}" if limit is not None else "")
