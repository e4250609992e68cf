"""`cloud-code drain`: give out no further attempts, so that the fleet comes to rest."""

import time

import click

from supervisor.cli.giving import give_and_tell
from supervisor.cli.output import note, say
from supervisor.cli.reading import reader_of
from supervisor.core.states import ACTIVE
from supervisor.core.words import count
from supervisor.reader import Reader, is_locked

LOOK_SECONDS = 0.5
MAX_NAMED = 5


@click.command()
@click.option("--undo", is_flag=True, help="Give attempts out again.")
@click.option("--wait", is_flag=True, help="Return when no attempt is under way any more.")
@click.pass_context
def drain(ctx: click.Context, undo: bool, wait: bool) -> None:
    """Give out no attempts; those under way come to their end, and what is done is still pushed and told.

    It holds over restarts, until --undo. Before work on the host: `cloud-code drain --wait`.
    """
    if undo and wait:
        raise click.UsageError("--undo and --wait exclude each other.")
    reader = reader_of(ctx)
    give_and_tell(reader.root, "undrain" if undo else "drain", "root")
    if wait:
        _wait(reader)


def _wait(reader: Reader) -> None:
    """Say what is waited for whenever that has changed."""
    told: list[str] = []
    while under_way := _under_way(reader):
        if not is_locked(reader.root):
            note("No supervisor is running: nobody would see an attempt end.")
        if under_way != told:
            more = f" and {len(under_way) - MAX_NAMED} more" if len(under_way) > MAX_NAMED else ""
            note(f"{count(len(under_way), 'attempt')} under way: {', '.join(under_way[:MAX_NAMED])}{more}")
            told = under_way
        time.sleep(LOOK_SECONDS)
    say("no attempt is under way")


def _under_way(reader: Reader) -> list[str]:
    """The tasks with an attempt that a workstation has."""
    tasks, _ = reader.live()
    return sorted(task.id for task in tasks.values() if task.state in ACTIVE and task.live is not None)
