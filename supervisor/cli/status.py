"""`cloud-code status`: the whole picture on one page."""

import time
from collections.abc import Iterator

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
from supervisor.core.explain import duration
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
        shown = ""
        for seen in _each_second(reader):
            line = json_line(seen)
            if line != shown:
                click.echo(line)
                shown = line
    elif not console().is_terminal:
        for seen in _each_second(reader):
            show(render(seen, ctx))
    else:
        with Live(console=console(), screen=True, auto_refresh=False) as live:
            for seen in _each_second(reader):
                live.update(render(seen, ctx), refresh=True)


def _each_second(reader: Reader) -> Iterator[Overview]:
    while True:
        began = time.monotonic()
        yield overview(reader)
        time.sleep(max(0.1, REFRESH_SECONDS - (time.monotonic() - began)))


def render(seen: Overview, ctx: click.Context) -> RenderableType:
    """The page."""
    parts: list[RenderableType] = [_headline(seen)]
    if seen.workstations:
        parts.append(stations_table(seen.workstations, "Workstations"))
    if seen.tasks:
        parts.append(tasks_table(seen.tasks[:MAX_TASKS], "Tasks"))
        if len(seen.tasks) > MAX_TASKS:
            parts.append(text(f"… and {len(seen.tasks) - MAX_TASKS} more: cloud-code task list", "dim"))
    if seen.files:
        rows = [(row.file, row.change, row.title) for row in seen.files[:MAX_TASKS]]
        parts.append(table(("FILE", "NOT TAKEN IN YET", "TITLE"), rows, "Task files"))
    if seen.waiting:
        parts.append(text("Waits for a person", "bold"))
        parts += [line for entry in seen.waiting[:MAX_TASKS] for line in _waiting_lines(entry, ctx)]
    if seen.problems:
        parts += [text(""), text("Problems", "bold red")]
        parts += [text(problem, indent=2) for problem in seen.problems[:MAX_PROBLEMS]]
    if not (seen.tasks or seen.files or seen.problems):
        parts.append(text("No tasks. `cloud-code task add 'What is to be done'` writes one into tasks/."))
    return Group(*parts)


def _headline(seen: Overview) -> RenderableType:
    if seen.running:
        return text(f"{seen.root}: the supervisor is running", "bold")
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
                state_text(row.state.value),
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
