"""What is done to a workstation while it is idle: asked for here, followed until it is done."""

import time
from typing import Any

import click

from supervisor.cli.giving import give_and_tell
from supervisor.cli.output import json_option, note, print_json, say, show, stamp, table
from supervisor.cli.place import complete_workstation
from supervisor.cli.reading import reader_of
from supervisor.cli.workstation_commands import known_root
from supervisor.core.commands import WorkstationCommandKind
from supervisor.core.sentences import sentence
from supervisor.core.words import size
from supervisor.reader import Reader, is_locked
from supervisor.upkeep import DONE, FAILED
from supervisor.workstations.snapshots import named, snapshots_of

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


@click.command()
@_name
@_no_wait
@click.pass_context
def maintain(ctx: click.Context, name: str, no_wait: bool) -> int:
    """Do now to a workstation what `maintenance` in config.yaml has done regularly, once it is idle.

    Its caches are kept within their limit; its tools are brought up to date and saved if that is configured.
    """
    return _ask(ctx, "workstation-maintain", name, {}, no_wait)


@click.command()
@_name
@_no_wait
@click.option("--list", "listed", is_flag=True, help="List the snapshots that there are, and take none.")
@json_option
@click.pass_context
def snapshot(ctx: click.Context, name: str, no_wait: bool, listed: bool, as_json: bool) -> int:
    """Save what agents installed in a workstation, and their homes (/tools), once it is idle.

    The last `maintenance.keep_snapshots` are kept, in state/snapshots/. Clones and mail are not part of it.
    """
    if not listed:
        return _ask(ctx, "workstation-snapshot", name, {}, no_wait)
    found = snapshots_of(known_root(ctx, name), name)
    if as_json:
        print_json(found)
    else:
        rows = [(one.name, stamp(one.taken_at), size(one.bytes), one.image) for one in found]
        show(table(("SNAPSHOT", "TAKEN", "SIZE", "IMAGE"), rows))
    return 0


@click.command()
@_name
@click.option("--snapshot", "wanted", metavar="SNAPSHOT", help="Which one; without it the newest.")
@_no_wait
@click.pass_context
def restore(ctx: click.Context, name: str, wanted: str | None, no_wait: bool) -> int:
    """Put the tools of a snapshot in the place of those that a workstation has, once it is idle."""
    named(known_root(ctx, name), name, wanted)
    return _ask(ctx, "workstation-restore", name, {"snapshot": wanted} if wanted else {}, no_wait)


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
            if number <= seen or event.get("workstation") != name or event.get("task") is not None:
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
