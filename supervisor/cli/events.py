"""`cloud-code events`: what happened."""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import click

from supervisor.cli.hidden import hide
from supervisor.cli.output import json_line, json_option
from supervisor.cli.place import complete_task, existing_root, record_ids, resolve_id
from supervisor.core.sentences import sentence, subject_of
from supervisor.events import parse_event, read_events
from supervisor.terminal import plain, plain_line

LOOK_SECONDS = 0.3


@click.command()
@click.option("-f", "--follow", is_flag=True, help="Go on with what happens, until Ctrl-C.")
@click.option("--task", "task_id", metavar="ID", help="Of this task only.", shell_complete=complete_task)
@click.option("--since", "since_seq", type=click.IntRange(min=0), default=0, help="Only events after this number.")
@json_option
@click.pass_context
def events(ctx: click.Context, follow: bool, task_id: str | None, since_seq: int, as_json: bool) -> None:
    """Print what happened, oldest first; with --json one object a line.

    Each event has a number that grows for ever: a reader goes on with --since and the last one it has seen.
    """
    root = existing_root(ctx)
    wanted = resolve_id(task_id, record_ids(root)) if task_id else None
    found = follow_events(root.events, since_seq) if follow else read_events(root.events, since_seq)
    for event in found:
        if wanted is None or event.get("task") == wanted:
            click.echo(json_line(event) if as_json else hide(line_of(event)))


def line_of(event: dict[str, Any]) -> str:
    """One event on one line, plain."""
    attempt = f"/{event['attempt']}" if event.get("attempt") else ""
    actor = event.get("actor", "")
    by = "" if actor == "supervisor" else f" by {actor}"
    stamp = str(event.get("ts", ""))[:19].replace("T", " ")
    head = f"{event['seq']:>6} {stamp} {event.get('event', '')} {subject_of(event)}{attempt}{by}".rstrip()
    said = plain_line(sentence(event))
    return plain(head) + (f": {said}" if said else "")


def follow_events(path: Path, since_seq: int) -> Iterator[dict[str, Any]]:
    """Events after `since_seq`, then every further one as it is written, across rotations; never ends."""
    seen = since_seq
    while not path.exists():
        time.sleep(LOOK_SECONDS)
    while True:
        with path.open("rb") as file:
            # Opened first, so that nothing is missed when it is rotated away during the reading.
            for events_of in (read_events(path, seen), _added(file, path)):
                for event in events_of:
                    if event["seq"] > seen:
                        seen = event["seq"]
                        yield event


def _added(file: BinaryIO, path: Path) -> Iterator[dict[str, Any]]:
    """The events of an open file, waiting for more until it has been rotated away."""
    line = b""
    while True:
        line += file.readline()
        if line.endswith(b"\n"):
            event = parse_event(line)
            line = b""
            if event is not None:
                yield event
            continue
        try:
            if os.stat(path).st_ino != os.fstat(file.fileno()).st_ino:
                return
        except FileNotFoundError:  # between the two renames of a rotation
            pass
        time.sleep(LOOK_SECONDS)
