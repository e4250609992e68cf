"""The verbs of `cloud-code workstation`."""

import subprocess
from collections.abc import Callable
from typing import Any, TypeVar

import click

from agent_daemon.protocol.paths import NAME, Root
from supervisor.app import DRIVERS
from supervisor.cli.following import print_growing
from supervisor.cli.giving import give_and_tell, give_to_all
from supervisor.cli.output import json_option, note, note_all, print_json, show
from supervisor.cli.page import stations_table, there
from supervisor.cli.place import complete_workstation
from supervisor.cli.reading import picture_of, reader_of
from supervisor.core.commands import WorkstationCommandKind
from supervisor.errors import CloudCodeError
from supervisor.fleet_view import known_stations
from supervisor.reader import Reader
from supervisor.stations import StationFile, load_station

_name = click.argument("name", metavar="NAME", shell_complete=complete_workstation)
_Command = TypeVar("_Command", bound=Callable[..., Any])


def _name_or_all(command: _Command) -> _Command:
    """The argument and the option of a verb that is for one workstation or for every one."""
    command = click.option("--all", "every", is_flag=True, help="Every workstation.")(command)
    return click.argument("name", metavar="[NAME]", required=False, shell_complete=complete_workstation)(command)


@click.command()
@click.option("--all", "every", is_flag=True, help="Also those that their pool does not need now.")
@json_option
@click.pass_context
def list_workstations(ctx: click.Context, every: bool, as_json: bool) -> None:
    """List every workstation that there is, its state and what it does.

    The state `unhealthy` means that it has shown no sign of life for longer than timing.suspect_after_seconds.
    """
    reader = reader_of(ctx)
    picture = picture_of(reader)
    rows = picture.stations
    if picture.config is None:
        note_all(picture.problems)
    if as_json:
        print_json(rows)
    else:
        shown = rows if every else there(rows)
        show(stations_table(shown))
        if len(shown) < len(rows):
            note(f"{len(rows) - len(shown)} more are not needed now by their pools: --all shows them.")


@click.command()
@_name_or_all
@click.pass_context
def stop(ctx: click.Context, name: str | None, every: bool) -> int:
    """Stop a workstation until `workstation start`; its attempt goes on then.

    --all stops every one, also those that are configured no longer.
    """
    return _give(ctx, "workstation-stop", name, every)


@click.command()
@_name_or_all
@click.pass_context
def start(ctx: click.Context, name: str | None, every: bool) -> int:
    """Start a workstation that was stopped."""
    return _give(ctx, "workstation-start", name, every)


@click.command()
@_name_or_all
@click.pass_context
def restart(ctx: click.Context, name: str | None, every: bool) -> int:
    """Stop a workstation's daemon and start it again; its attempt goes on where it was."""
    return _give(ctx, "workstation-restart", name, every)


def _give(ctx: click.Context, kind: WorkstationCommandKind, name: str | None, every: bool) -> int:
    if (name is None) != every:
        raise click.UsageError("Give the NAME of a workstation, or --all.")
    if name is not None:
        give_and_tell(known_root(ctx, name), kind, name)
        return 0
    reader = reader_of(ctx)
    stations = [file for file, configured in _stations(reader) if configured or kind == "workstation-stop"]
    if not stations:
        raise CloudCodeError("E_NO_WORKSTATION", "There is no workstation.", "Configure one in config.yaml.")
    return give_to_all(reader.root, kind, [file.name for file in stations])


@click.command()
@_name
@click.option("-f", "--follow", is_flag=True, help="Go on printing what is added, until Ctrl-C.")
@click.pass_context
def logs(ctx: click.Context, name: str, follow: bool) -> int:
    """Print the log of a workstation's daemon."""
    root = known_root(ctx, name)
    station = load_station(root, name)
    live = DRIVERS[station.driver](root, None).log(name, follow) if station is not None else None
    if live is not None:
        if (root.workstations / f"{name}.log").exists():
            print_growing(root.workstations, f"{name}.log", follow=False)
        return subprocess.run(live.argv, cwd=live.cwd, env=dict(live.environment), check=False).returncode
    if not NAME.fullmatch(name) or not (root.workstations / f"{name}.log").exists():
        raise CloudCodeError("E_NO_LOG", f"{name} has no log: its daemon was never started.")
    print_growing(root.workstations, f"{name}.log", follow=follow)
    return 0


def _stations(reader: Reader) -> list[tuple[StationFile, bool]]:
    """Every workstation that is known, and whether it is configured."""
    try:
        return known_stations(reader, reader.config())
    except CloudCodeError:  # what the files say is enough for a supervisor that runs with the former configuration
        return [(file, True) for file, _ in known_stations(reader, None)]


def known_root(ctx: click.Context, name: str) -> Root:
    """The root, once it is known to have a workstation of this name."""
    reader = reader_of(ctx)
    names = [file.name for file, _ in _stations(reader)]
    if name not in names:
        there = f"There are {', '.join(names)}." if names else "None is configured, and none has ever run."
        raise CloudCodeError("E_NO_WORKSTATION", f"There is no workstation '{name}'.", there)
    return reader.root
