"""The page that `status` shows, as long as it is or cut to a terminal's height; what is cut is counted."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import click
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.segment import Segment

from supervisor.budget_view import budget_line
from supervisor.cli.output import action_lines, ago, command_here, state_text, table, text
from supervisor.core.life import StationState
from supervisor.core.times import duration
from supervisor.fleet_view import StationRow
from supervisor.forge_view import forge_line
from supervisor.service.host import start_command
from supervisor.view import FileRow, Overview, TaskRow, Waiting


@dataclass(frozen=True)
class Room:
    """How many entries of each part of the page are shown, and whether with what a person can do about them."""

    workstations: int = 100
    tasks: int = 40
    files: int = 40
    waiting: int = 40
    problems: int = 40
    forges: int = 20
    budgets: int = 20
    actions: bool = True


# How many lines an entry of each part takes, roughly.
FEW = 4
_LINES = {"workstations": 1, "tasks": 1, "files": 1, "waiting": 4, "problems": 2, "forges": 1, "budgets": 1}


def page(seen: Overview, ctx: click.Context, room: Room = Room()) -> RenderableType:
    """The whole picture, with at most so many entries of each part."""
    parts: list[RenderableType] = [_headline(seen, ctx)]
    if seen.drained is not None:
        since = f" since {ago(seen.drained.since)}" if seen.drained.since else ""
        undo = command_here("cloud-code drain --undo", ctx)
        parts.append(
            text(f"Drained{since} by {seen.drained.by}: no attempt is given out; `{undo}`", "bold yellow")
        )
    stations = there(seen.workstations)
    if stations:
        parts += [text(""), stations_table(stations[: room.workstations], "Workstations")]
        parts += _more(stations, room.workstations, "cloud-code workstation list", ctx)
    if seen.tasks:
        parts += [text(""), tasks_table(seen.tasks[: room.tasks], "Tasks")]
        parts += _more(seen.tasks, room.tasks, "cloud-code task list", ctx)
    if seen.files:
        parts += [text(""), files_table(seen.files[: room.files], "Task files")]
        parts += _more(seen.files, room.files, "cloud-code task list", ctx)
    if seen.forges:
        parts += [text(""), text("Forges", "bold")]
        parts += [text(forge_line(row, datetime.now(UTC)), indent=2) for row in seen.forges[: room.forges]]
        parts += _more(seen.forges, room.forges, "cloud-code project list", ctx)
    if seen.budgets:
        parts += [text(""), text("Budgets", "bold")]
        parts += [text(budget_line(row, datetime.now(UTC)), indent=2) for row in seen.budgets[: room.budgets]]
        parts += _more(seen.budgets, room.budgets, "cloud-code budget", ctx)
    if seen.waiting:
        parts += [text(""), text("Waits for a person", "bold")]
        parts += [line for entry in seen.waiting[: room.waiting] for line in _waiting_lines(entry, ctx, room)]
        if not room.actions:
            parts.append(
                text(f"What you can do: {command_here('cloud-code task explain ID', ctx)}", "dim", indent=2)
            )
        parts += _more(seen.waiting, room.waiting, "cloud-code status --json", ctx)
    if seen.problems:
        parts += [text(""), text("Problems", "bold red")]
        parts += [text(problem, indent=2) for problem in seen.problems[: room.problems]]
        parts += _more(seen.problems, room.problems, "cloud-code status --json", ctx)
    if not (seen.tasks or seen.files or seen.problems):
        add = command_here("cloud-code task add 'What is to be done'", ctx)
        parts.append(text(f"No tasks. `{add}` writes one into tasks/."))
    return Group(*parts)


def _more(entries: Sequence[object], shown: int, command: str, ctx: click.Context) -> list[RenderableType]:
    left = len(entries) - shown
    return [text(f"… and {left} more: {command_here(command, ctx)}", "dim")] if left > 0 else []


class FittedPage:
    """The page on a terminal, with fewer entries where it would be higher than the screen."""

    def __init__(self, seen: Overview, ctx: click.Context) -> None:
        self._seen, self._ctx = seen, ctx

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        height = options.height or console.height
        room = Room()
        while over := _over_surely(room, self._seen, height):  # without drawing it, which takes its time
            room = _smaller(room, self._seen, over) or room
        while True:
            whole = page(self._seen, self._ctx, room)
            lines = console.render_lines(whole, options.update(height=None), pad=False)
            smaller = _smaller(room, self._seen, len(lines) - height)
            if len(lines) <= height or smaller is None:
                break
            room = smaller
        cut = len(lines) - height + 1 if len(lines) > height else 0
        for line in lines[: height - 1] if cut else lines:
            yield from line
            yield Segment.line()
        if cut:
            yield text(f"… and {cut} more lines", "dim")


def _over_surely(room: Room, seen: Overview, height: int) -> int:
    """How many lines are too many if each entry takes but one; 0 where there is nothing left to leave out."""
    entries = sum(min(getattr(room, name), len(getattr(seen, name))) for name in _LINES)
    return max(0, entries - height) if _smaller(room, seen, 1) is not None else 0


def _smaller(room: Room, seen: Overview, lines_over: int) -> Room | None:
    """Less room: some entries of each part stay, then what can be done goes, then one of each; None after that."""
    for floor, actions in ((FEW, True), (FEW, False), (1, False)):
        if room.actions and not actions and seen.waiting:
            return replace(room, actions=False)
        shown = {name: min(getattr(room, name), len(getattr(seen, name))) for name in _LINES}
        longest = max(shown, key=lambda name: shown[name] * _LINES[name] if shown[name] > floor else 0)
        if shown[longest] > floor:
            wanted = shown[longest] - max(1, lines_over // _LINES[longest])
            return replace(room, **{longest: max(floor, shown[longest] // 2, wanted)})
    return None


def _headline(seen: Overview, ctx: click.Context) -> RenderableType:
    if seen.running:
        process = f", process {seen.pid}" if seen.pid is not None else ""
        return text(f"{seen.root}: the supervisor is running{process}", "bold")
    run = command_here(start_command(Path(seen.root)), ctx)
    return text(f"{seen.root}: NO supervisor is running; `{run}` starts one", "bold yellow")


def there(rows: Sequence[StationRow]) -> list[StationRow]:
    """Without those that are removed and hold nothing under way."""
    return [row for row in rows if row.state is not StationState.REMOVED or row.task is not None]


def stations_table(rows: Sequence[StationRow], title: str | None = None) -> RenderableType:
    return table(
        ("NAME", "TYPE", "STATE", "SIGN OF LIFE", "TASK", "DOING"),
        [
            (
                row.name,
                row.type,
                state_text(row.state),
                f"{duration(row.silent_seconds)} ago" if row.silent_seconds is not None else "",
                row.task,
                row.note or row.doing,
            )
            for row in rows
        ],
        title,
        least=("TYPE", "SIGN OF LIFE"),
    )


def tasks_table(rows: Sequence[TaskRow], title: str | None = None) -> RenderableType:
    return table(
        ("ID", "STATE", "SINCE", "PRIORITY", "TRY", "WORKSTATION", "WHAT"),
        [
            (
                text(row.id, "bold"),
                state_text("resting" if row.resting else row.state.value),
                ago(row.since),
                row.priority.value,
                row.attempt or "",
                row.workstation or row.specialist,
                row.doing,
            )
            for row in rows
        ],
        title,
        least=("PRIORITY", "TRY", "SINCE", "WORKSTATION"),
    )


def files_table(rows: Sequence[FileRow], title: str | None = None) -> RenderableType:
    cells = [(row.file, row.change, row.title) for row in rows]
    return table(("FILE", "NOT TAKEN IN YET", "TITLE"), cells, title)


def _waiting_lines(entry: Waiting, ctx: click.Context, room: Room) -> Iterator[RenderableType]:
    line = text(entry.task, "bold", indent=2)
    line.append(" ")
    line.append_text(state_text(entry.state.value))
    line.append(" ")
    line.append_text(text(f"for {ago(entry.since)}: {entry.message}"))
    yield line
    if room.actions and entry.request:
        yield text(f"read it: {entry.request}", indent=6)
    yield from action_lines(entry.can if room.actions else (), ctx, indent=6)
