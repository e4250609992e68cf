"""What the commands print: tables, JSON, progress. Every text from outside is made plain first."""

import contextlib
import json
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Any

import click
from pydantic_core import to_jsonable_python
from rich.console import Console, RenderableType
from rich.status import Status
from rich.text import Text

from supervisor.cli.hidden import hide
from supervisor.cli.tables import lay_out
from supervisor.core.answers import Action
from supervisor.core.times import duration
from supervisor.terminal import plain, plain_line

SLOW_SECONDS = 2.0
_PIPED_WIDTH = 10_000

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")

STYLES = {
    "in_progress": "cyan",
    "assigned": "cyan",
    "review": "green",
    "completed": "green",
    "blocked": "bold red",
    "failed": "yellow",
    "paused": "magenta",
    "cancelled": "dim",
    "resting": "dim",
    "idle": "green",
    "working": "cyan",
    "unhealthy": "bold yellow",
    "down": "red",
    "provisioning": "yellow",
    "restarting": "yellow",
    "stopping": "yellow",
    "draining": "magenta",
    "maintenance": "magenta",
    "recreating": "magenta",
    "removed": "dim",
    "stopped": "dim",
    "ok": "green",
    "warning": "yellow",
    "error": "bold red",
}


@cache
def console() -> Console:
    """Standard output; tables keep their columns whole when it is not a terminal."""
    width = None if sys.stdout.isatty() else _PIPED_WIDTH
    return Console(width=width, highlight=False, soft_wrap=False, emoji=False, markup=False)


def show(*parts: Any) -> None:
    """Print whole lines, which the terminal breaks where it must: a command or a path can be copied."""
    for part in parts:
        console().print(part, soft_wrap=True)


def _shown(value: str, form: Callable[[str], str] = plain) -> str:
    """Without secrets, also where something that is not shown stood in the middle of one."""
    hidden = hide(value)
    made = form(hidden)
    return made if made == hidden else hide(made)


def say(message: str) -> None:
    """One sentence about what was done, to standard output."""
    click.echo(_shown(message))


def note(message: str) -> None:
    """Something beside the result, to standard error, so that pipes stay clean."""
    click.echo(_shown(message), err=True)


def note_all(problems: Iterable[object]) -> None:
    """What could not be read, or should be known, each in a line of its own."""
    for problem in problems:
        note(text(problem).plain)


def print_json(value: Any) -> None:
    """Data classes, models, times and enumerations as JSON; ASCII only, so that no terminal is steered by it."""
    click.echo(hide(json.dumps(to_jsonable_python(value), indent=2)))


def json_line(value: Any) -> str:
    return hide(json.dumps(to_jsonable_python(value)))


def text(value: object, style: str = "", *, lines: bool = False, indent: int = 0) -> Text:
    """A cell, or (`lines`) a paragraph; never markup, whatever stands in it."""
    shown = "" if value is None else _shown(str(value), plain if lines else plain_line)
    return Text(" " * indent + shown, style=style)


def state_text(value: str) -> Text:
    return text(value, STYLES.get(value, ""))


def table(
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    title: str | None = None,
    *,
    least: Sequence[str] = (),
) -> RenderableType:
    """A table whose last column takes what is left of the width; `least` are columns that may be left out."""
    cells = [[cell if isinstance(cell, Text) else text(cell) for cell in row] for row in rows]
    return lay_out(columns, cells, console().width, title=title, least=least)


def action_lines(actions: Iterable[Action], ctx: click.Context, indent: int) -> list[Text]:
    """One line for each thing that a person can do, with the command as it must be typed here."""
    shown = [(action.text, command_here(action.command, ctx)) for action in actions]
    return [text(f"{said}: {command}" if command else said, indent=indent) for said, command in shown]


def command_here(command: str, ctx: click.Context) -> str:
    """A command with the `--root` that was given to this one."""
    given = ctx.find_root().params.get("root")
    name = "cloud-code "
    return f"{name}--root {given} {command.removeprefix(name)}" if given and command.startswith(name) else command


def here(command: str) -> str:
    """A command as it must be typed here, by the call that is being carried out."""
    return command_here(command, click.get_current_context())


def ago(moment: datetime, now: datetime | None = None) -> str:
    """How long ago, for people."""
    return duration(((now or datetime.now(UTC)) - moment).total_seconds())


def stamp(moment: datetime | None) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC" if moment else ""


@contextlib.contextmanager
def progress(message: str) -> Iterator[None]:
    """Say what is being waited for, once it has taken two seconds."""
    errors = Console(stderr=True, highlight=False, emoji=False, markup=False)
    status = Status(Text(plain_line(message)), console=errors)

    def begin() -> None:
        if errors.is_terminal:
            status.start()
        else:
            note(f"{message} …")

    timer = threading.Timer(SLOW_SECONDS, begin)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
        status.stop()
