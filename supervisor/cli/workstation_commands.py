"""The verbs of `cloud-code workstation`."""

import click

from agent_daemon.protocol.paths import NAME, Root
from supervisor.cli.following import print_growing
from supervisor.cli.giving import give_and_tell
from supervisor.cli.output import json_option, note, print_json, show, text
from supervisor.cli.place import complete_workstation
from supervisor.cli.reading import reader_of
from supervisor.cli.status import stations_table
from supervisor.errors import CloudCodeError
from supervisor.fleet_view import known_stations
from supervisor.view import take_picture

_name = click.argument("name", metavar="NAME", shell_complete=complete_workstation)


@click.command()
@json_option
@click.pass_context
def list_workstations(ctx: click.Context, as_json: bool) -> None:
    """List every workstation that is configured, its state and what it does.

    The state `silent` means that it has shown no sign of life for longer than timing.suspect_after_seconds.
    """
    reader = reader_of(ctx)
    picture = take_picture(reader)
    rows = picture.stations
    if picture.config is None:
        for problem in picture.problems:
            note(text(problem).plain)
    if as_json:
        print_json(rows)
    else:
        show(stations_table(rows))


@click.command()
@_name
@click.pass_context
def stop(ctx: click.Context, name: str) -> None:
    """Stop a workstation until `workstation start`; its attempt goes on then."""
    give_and_tell(_known(ctx, name), "workstation-stop", name)


@click.command()
@_name
@click.pass_context
def start(ctx: click.Context, name: str) -> None:
    """Start a workstation that was stopped."""
    give_and_tell(_known(ctx, name), "workstation-start", name)


@click.command()
@_name
@click.pass_context
def restart(ctx: click.Context, name: str) -> None:
    """Stop a workstation's daemon and start it again; its attempt goes on where it was."""
    give_and_tell(_known(ctx, name), "workstation-restart", name)


@click.command()
@_name
@click.option("-f", "--follow", is_flag=True, help="Go on printing what is added, until Ctrl-C.")
@click.pass_context
def logs(ctx: click.Context, name: str, follow: bool) -> None:
    """Print the log of a workstation's daemon."""
    root = _known(ctx, name)
    if not NAME.fullmatch(name) or not (root.workstations / f"{name}.log").exists():
        raise CloudCodeError("E_NO_LOG", f"{name} has no log: its daemon was never started.")
    print_growing(root.workstations, f"{name}.log", follow=follow)


def _known(ctx: click.Context, name: str) -> Root:
    """The root, once it is known to have a workstation of this name."""
    reader = reader_of(ctx)
    try:
        config = reader.config()
    except CloudCodeError:  # what its files say is enough for a supervisor that runs with the former one
        config = None
    names = [file.name for file, _ in known_stations(reader, config)]
    if name not in names:
        there = f"There are {', '.join(names)}." if names else "None is configured, and none has ever run."
        raise CloudCodeError("E_NO_WORKSTATION", f"There is no workstation '{name}'.", there)
    return reader.root
