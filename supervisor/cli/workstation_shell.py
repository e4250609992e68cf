"""`cloud-code workstation shell`: a person in the place of an agent."""

import subprocess

import click

from supervisor.app import DRIVERS
from supervisor.cli.output import note
from supervisor.cli.place import complete_workstation
from supervisor.cli.reading import reader_of
from supervisor.cli.workstation_commands import known_root
from supervisor.errors import CloudCodeError
from supervisor.view import take_picture


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("name", metavar="NAME", shell_complete=complete_workstation)
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def shell(ctx: click.Context, name: str, command: tuple[str, ...]) -> int:
    """Run a shell, or COMMAND, where the agents of a workstation work, with what they see.

    Ends with the exit code of what was run. The daemon and its task go on meanwhile.
    """
    root = known_root(ctx, name)
    picture = take_picture(reader_of(ctx))
    row = next(row for row in picture.stations if row.name == name)
    entry = DRIVERS[row.driver](root, picture.config).enter(name, command)
    if not entry.cwd.is_dir():
        raise CloudCodeError(
            "E_NO_WORKSPACE",
            f"{name} has no workspace yet: it was never started.",
            "Start it with `cloud-code run`.",
        )
    if not command:
        mail = root.mail_out(name).parent
        note(f"{name} works in {root.workspace(name)}; what it is told and what it reports is in {mail}.")
        if row.task:
            note(f"It is busy with {row.task}: what you change there, you change under its hands.")
        if row.driver == "local":
            note(f"The driver {row.driver} isolates nothing: this shell has all your rights.")
    try:
        return subprocess.run(entry.argv, cwd=entry.cwd, env=dict(entry.environment), check=False).returncode
    except OSError as error:
        raise CloudCodeError("E_NO_PROGRAM", f"{entry.argv[0]} cannot be run: {error.strerror}.") from None
