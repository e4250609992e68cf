"""`cloud-code task logs` and `task diff`: what an agent did."""

import json
import re
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import click
from rich.text import Text

from agent_daemon.clis.base import json_object
from agent_daemon.protocol.paths import Root
from supervisor.cli.following import LOOK_SECONDS, print_growing
from supervisor.cli.hidden import hide
from supervisor.cli.output import console, json_option, note, print_json, progress, text
from supervisor.cli.place import task_argument
from supervisor.cli.reading import read_task
from supervisor.core.record import Attempt, TaskRecord
from supervisor.errors import CloudCodeError
from supervisor.reader import Reader
from supervisor.tail import file_names
from supervisor.terminal import plain, plain_line

if TYPE_CHECKING:
    from supervisor.git.mirror import Mirror
    from supervisor.ports import CodeHost

MAX_LISTED = 40
LOGS = ("transcript.log", "cli.log")
EVENTS = "events.jsonl"
_LOG_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,60}")


def _log_names(root: Root, task: TaskRecord, attempt: Attempt) -> list[str]:
    """What `--log` takes for an attempt, at most so many; the names are an agent's."""
    found = file_names(root.mail_out(attempt.workstation), f"{task.id}/{attempt.number}/logs")
    stems = [re.sub(r"\.(log|md)$", "", name) for name in found]
    return list(dict.fromkeys(stem for stem in stems if _LOG_NAME.fullmatch(stem)))[:MAX_LISTED]


@click.command()
@task_argument
@click.option("-f", "--follow", is_flag=True, help="Go on printing what is added until the attempt ends.")
@click.option("--attempt", "number", type=click.IntRange(min=1), help="Of this attempt  [default: the newest].")
@click.option("--log", "name", metavar="NAME", help="Another log of it, such as verify-1 or prompt.")
@click.option("--events", is_flag=True, help="Its steps one by one: messages, tool calls, edits, commands, usage.")
@click.option("--json", "as_json", is_flag=True, help="With --events: JSON, an object a line.")
@click.pass_context
def logs(
    ctx: click.Context,
    task_id: str,
    follow: bool,
    number: int | None,
    name: str | None,
    events: bool,
    as_json: bool,
) -> None:
    """Print what the coding CLI of an attempt printed.

    It is the agent's word: escape sequences and control characters are taken out before they reach you.
    """
    if (as_json and not events) or (events and name):
        raise click.UsageError("--json belongs to --events, and --events goes without --log.")
    reader, task = read_task(ctx, task_id)
    attempt = task.attempt_number(number or task.attempt)
    if attempt is None:
        had = f"it has had {task.attempt}" if task.attempt else "none has been made yet"
        raise CloudCodeError("E_NO_ATTEMPT", f"{task.id} has no attempt {number or ''}: {had}.".replace(" :", ":"))
    folder = reader.root.mail_out(attempt.workstation)
    below = f"{task.id}/{attempt.number}/logs"

    def goes_on() -> bool:
        now = reader.find(task.id)
        found = now.attempt_number(attempt.number) if now else None
        return found is not None and found.ended_at is None

    while True:
        for candidate in (EVENTS,) if events else _names(name):
            show = partial(shown_events, as_json=as_json) if events else plain
            try:
                return print_growing(folder, f"{below}/{candidate}", follow=follow, goes_on=goes_on, show=show)
            except FileNotFoundError:
                continue
        if not follow or not goes_on():
            break
        time.sleep(LOOK_SECONDS)
    there = ", ".join(_log_names(reader.root, task, attempt))
    raise CloudCodeError(
        "E_NO_LOG",
        f"Attempt {attempt.number} of {task.id} has no {name or 'log'} in {folder / below}.",
        f"There are {there}." if there else "It has not been started yet, or its workstation has tidied up.",
    )


def shown_events(lines: str, *, as_json: bool) -> str:
    """Lines of `events.jsonl` for people, or as JSON that is safe to print; what is no event is left out."""
    shown = []
    for line in lines.splitlines():
        event = json_object(line)
        if event is not None:
            shown.append(json.dumps(event) if as_json else plain_line(_event_words(event)))
    return "\n".join(shown)


def _event_words(event: dict[str, Any]) -> str:
    about = [event.get(key) for key in ("path", "command", "outcome", "cli", "message")]
    words = dict.fromkeys(str(part) for part in about if part)
    said = " ".join(word for word in words if word != f"$ {event.get('command')}")
    code = f" → exit code {event['exit_code']}" if "exit_code" in event else ""
    usage = event.get("usage")
    spent = ", ".join(f"{name} {value}" for name, value in usage.items()) if isinstance(usage, dict) else ""
    when = f"{str(event.get('time', ''))[11:19]} {event.get('step', '')!s:>3} {event.get('category', '')!s:<12}"
    return " ".join(part for part in (when, said + code, spent) if part)


def _names(name: str | None) -> tuple[str, ...]:
    if name is None:
        return LOGS
    stem = name.removesuffix(".log").removesuffix(".md")
    if not _LOG_NAME.fullmatch(stem):
        raise click.UsageError("--log takes the name of a file in the attempt's logs/, such as verify-1.")
    return (f"{stem}.log", f"{stem}.md")


@click.command()
@task_argument
@json_option
@click.pass_context
def diff(ctx: click.Context, task_id: str, as_json: bool) -> None:
    """Show what a task's work changes: delivered, held for approval, or saved from an ended attempt."""
    from supervisor.changes import changes_of  # here, for `logs` needs no git

    reader, task = read_task(ctx, task_id)
    if not task.attempts:
        raise CloudCodeError("E_NO_WORK", f"{task.id} has no work yet: no attempt has been made.")
    with progress("looking for the work"):
        changes = changes_of(reader.root, task, *_repository(reader, task))
    if as_json:
        print_json(changes)
        return
    note(f"{task.id}: {changes.source}, {changes.base[:12]}..{changes.head[:12]}")
    console().print(coloured(hide(changes.text)), soft_wrap=True, end="")
    if changes.cut:
        note("[it goes on; the rest is left out]")


def _repository(reader: Reader, task: TaskRecord) -> "tuple[Mirror, CodeHost]":
    """The mirror and the remote of a task's project."""
    from supervisor.cli.forges import forges_of
    from supervisor.git.mirror import Mirror

    settings = reader.config().projects.get(task.project)
    if settings is None:
        raise CloudCodeError("E_NO_PROJECT", f"There is no project '{task.project}' in config.yaml any more.")
    mirror = Mirror(reader.root.mirror(settings.trust_domain, task.project))
    return mirror, forges_of(reader.root, reader.config()).open(settings)[1]


def coloured(diff_text: str) -> Text:
    """A diff with the usual colours, of plain lines."""
    shown = Text()
    for line in diff_text.removesuffix("\n").split("\n"):
        style = {"+": "green", "-": "red", "@": "cyan"}.get(line[:1], "")
        shown.append_text(text(line, style, lines=True))
        shown.append("\n")
    return shown
