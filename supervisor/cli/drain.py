"""`cloud-code drain`: give out no further attempts, so that the fleet comes to rest."""

import time

import click

from supervisor.cli.giving import give_and_tell
from supervisor.cli.output import note, say
from supervisor.cli.reading import reader_of, under_way
from supervisor.core.words import count, some
from supervisor.reader import Reader, is_locked
from supervisor.service.host import start_command

LOOK_SECONDS = 0.5
GONE_SECONDS = 20.0


@click.command()
@click.option("--undo", is_flag=True, help="Give attempts out again.")
@click.option("--wait", is_flag=True, help="Return when no attempt is under way any more.")
@click.pass_context
def drain(ctx: click.Context, undo: bool, wait: bool) -> int:
    """Give out no attempts; those under way come to their end, and what is done is still pushed and told.

    It holds over restarts, until --undo. Before work on the host: `cloud-code drain --wait`. Exit code 1 where no
    supervisor runs by which an attempt would be seen to end.
    """
    if undo and wait:
        raise click.UsageError("--undo and --wait exclude each other.")
    reader = reader_of(ctx)
    give_and_tell(reader.root, "undrain" if undo else "drain", "root")
    return _wait(reader) if wait else 0


def _wait(reader: Reader) -> int:
    """Say what is waited for whenever that has changed."""
    told: list[str] = []
    seen = time.monotonic()
    while left := under_way(reader):
        if is_locked(reader.root):
            seen = time.monotonic()
        elif time.monotonic() - seen > GONE_SECONDS:  # (longer than it is gone at a restart)
            note(f"No supervisor is running, and so no attempt is seen to end: {start_command(reader.root.path)}")
            return 1
        if left != told:
            note(f"{count(len(left), 'attempt')} under way: {some(left)}")
            told = left
        time.sleep(LOOK_SECONDS)
    say("no attempt is under way")
    return 0
