"""What is done to a workstation while it is idle: asked for here, followed until it is done."""

import time
from typing import Any

import click

from supervisor.cli.giving import give_and_tell
from supervisor.cli.output import note, say
from supervisor.cli.place import complete_workstation
from supervisor.cli.reading import reader_of
from supervisor.cli.workstation_commands import known_root
from supervisor.core.commands import WorkstationCommandKind
from supervisor.core.sentences import sentence
from supervisor.reader import Reader, is_locked
from supervisor.upkeep import DONE, FAILED

LOOK_SECONDS = 0.3

_name = click.argument("name", metavar="NAME", shell_complete=complete_workstation)
_no_wait = click.option("--no-wait", is_flag=True, help="Do not wait until it is done.")


@click.command()
@_name
@click.option("--fresh-tools", is_flag=True, help="Also remove what agents installed, and their homes (/tools).")
@_no_wait
@click.pass_context
def recreate(ctx: click.Context, name: str, fresh_tools: bool, no_wait: bool) -> int:
    """Make a workstation's container anew once it is idle, from the image that there is now.

    It ends its attempt first and gets no other. Its tools, clones and mail stay. Ctrl-C ends the waiting only.
    """
    return _ask(ctx, "workstation-recreate", name, {"tools": "fresh"} if fresh_tools else {}, no_wait)


def _ask(ctx: click.Context, kind: WorkstationCommandKind, name: str, args: dict[str, Any], no_wait: bool) -> int:
    root = known_root(ctx, name)
    before = max((int(str(event["seq"])) for event in reader_of(ctx).recent_events()), default=0)
    command_id = give_and_tell(root, kind, name, args)
    if no_wait or not is_locked(root):
        return 0
    return _follow(reader_of(ctx), name, command_id, before)


def _follow(reader: Reader, name: str, command_id: str, seen: int) -> int:
    """Tell what happens to the workstation until the command is carried out; 1 when it could not be."""
    while True:
        for event in reader.recent_events():
            number, what = int(str(event["seq"])), event.get("event")
            if number <= seen or event.get("workstation") != name:
                continue
            seen, details = number, event.get("details")
            mine = isinstance(details, dict) and details.get("command") == command_id
            if mine and what == FAILED:
                note(f"{name}: {sentence(event)}")
                return 1
            say(f"{name}: {sentence(event)}")
            if mine and what in DONE.values():
                return 0
        if not is_locked(reader.root):
            note("The supervisor has stopped: the rest follows when it runs again.")
            return 1
        time.sleep(LOOK_SECONDS)
