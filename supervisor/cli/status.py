"""`cloud-code status`: the whole picture on one page."""

import time
from collections.abc import Iterator
from dataclasses import replace

import click
from rich.console import Group, RenderableType
from rich.live import Live

from supervisor.cli.output import (
    action_lines,
    ago,
    console,
    json_line,
    json_option,
    print_json,
    show,
    state_text,
    table,
    text,
)
from supervisor.cli.reading import reader_of
from supervisor.core.times import duration
from supervisor.fleet_view import StationRow
from supervisor.reader import Reader
from supervisor.view import Overview, TaskRow, Waiting, overview

REFRESH_SECONDS = 1.0
MAX_TASKS = 40
MAX_PROBLEMS = 20


@click.command()
@click.option("--watch", "-w", is_flag=True, help="Keep it on the screen, renewed each second.")
@json_option
@click.pass_context
def status(ctx: click.Context, watch: bool, as_json: bool) -> None:
    """Show the fleet, the tasks, and what waits for a person, with the command that answers.

    With --watch and --json: one line of JSON whenever something has changed.
    """
    reader = reader_of(ctx)
    if watch:
        _watch(ctx, reader, as_json)
    elif as_json:
        print_json(overview(reader))
    else:
        show(render(overview(reader), ctx))


def _watch(ctx: click.Context, reader: Reader, as_json: bool) -> None:
    if as_json:
        shown = None
        for seen in _each_second(reader):
            # The age of a sign of life changes every second and is no news.
            news = replace(seen, workstations=tuple(replace(w, silent_seconds=None) for w in seen.workstations))
            if news != shown:
                click.echo(json_line(seen))
                shown = news
    elif not console().is_terminal:
        for seen in _each_second(reader):
            show(render(seen, ctx))
    else:
        with Live(console=console(), screen=True, auto_refresh=False) as live:
            for seen in _each_second(reader):
                live.update(render(seen, ctx, _tasks_that_fit(seen)), refresh=True)


def _each_second(reader: Reader) -> Iterator[Overview]:
    while True:
        began = time.monotonic()
        yield overview(reader)
        time.sleep(max(0.1, REFRESH_SECONDS - (time.monotonic() - began)))


def _tasks_that_fit(seen: Overview) -> int:
    """How many tasks leave room on the screen for what waits for a person below them."""
    waiting = sum(2 + len(entry.can) for entry in seen.waiting)
    others = 12 + len(seen.workstations) + len(seen.files) + waiting + 2 * len(seen.problems)
    return min(MAX_TASKS, max(5, console().height - others))


def render(seen: Overview, ctx: click.Context, max_tasks: int = MAX_TASKS) -> RenderableType:
    """The page, with at most so many tasks."""
    parts: list[RenderableType] = [_headline(seen)]
    if seen.workstations:
        parts += [text(""), stations_table(seen.workstations, "Workstations")]
    if seen.tasks:
        parts += [text(""), tasks_table(seen.tasks[:max_tasks], "Tasks")]
        if len(seen.tasks) > max_tasks:
            parts.append(text(f"… and {len(seen.tasks) - max_tasks} more: cloud-code task list", "dim"))
    if seen.files:
        rows = [(row.file, row.change, row.title) for row in seen.files[:MAX_TASKS]]
        parts += [text(""), table(("FILE", "NOT TAKEN IN YET", "TITLE"), rows, "Task files")]
    if seen.waiting:
        parts += [text(""), text("Waits for a person", "bold")]
        parts += [line for entry in seen.waiting[:MAX_TASKS] for line in _waiting_lines(entry, ctx)]
    if seen.problems:
        parts += [text(""), text("Problems", "bold red")]
        parts += [text(problem, indent=2) for problem in seen.problems[:MAX_PROBLEMS]]
    if not (seen.tasks or seen.files or seen.problems):
        parts.append(text("No tasks. `cloud-code task add 'What is to be done'` writes one into tasks/."))
    return Group(*parts)


def _headline(seen: Overview) -> RenderableType:
    if seen.running:
        process = f", process {seen.pid}" if seen.pid is not None else ""
        return text(f"{seen.root}: the supervisor is running{process}", "bold")
    return text(f"{seen.root}: NO supervisor is running; `cloud-code run` starts one", "bold yellow")


def stations_table(rows: tuple[StationRow, ...], title: str | None = None) -> RenderableType:
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
    )


def tasks_table(rows: tuple[TaskRow, ...], title: str | None = None) -> RenderableType:
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
    )


def _waiting_lines(entry: Waiting, ctx: click.Context) -> Iterator[RenderableType]:
    line = text(entry.task, "bold", indent=2)
    line.append(" ")
    line.append_text(state_text(entry.state.value))
    line.append(" ")
    line.append_text(text(f"for {ago(entry.since)}: {entry.message}"))
    yield line
    if entry.request:
        yield text(f"read it: {entry.request}", indent=6)
    yield from action_lines(entry.can, ctx, indent=6)
