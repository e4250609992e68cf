"""`cloud-code status`: the whole picture on one page."""

import time
from collections.abc import Iterator
from dataclasses import replace

import click
from rich.live import Live

from supervisor.cli.output import console, json_line, json_option, print_json, progress, show
from supervisor.cli.page import FittedPage, page
from supervisor.cli.reading import reader_of
from supervisor.core.forge import Budget
from supervisor.reader import Reader
from supervisor.view import Overview, overview

REFRESH_SECONDS = 1.0


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
        return
    with progress("reading the tasks"):
        seen = overview(reader)
    if as_json:
        print_json(seen)
    else:
        show(page(seen, ctx))


def _watch(ctx: click.Context, reader: Reader, as_json: bool) -> None:
    if as_json:
        shown = None
        for seen in _each_second(reader):
            # The age of a sign of life changes every second, calls to forges are counted: neither is news.
            quiet = tuple(replace(w, silent_seconds=None) for w in seen.workstations)
            forges = tuple(replace(f, budget=Budget(), read_at=None) for f in seen.forges)
            news = replace(seen, workstations=quiet, forges=forges)
            if news != shown:
                click.echo(json_line(seen))
                shown = news
    elif not console().is_terminal:
        for seen in _each_second(reader):
            show(page(seen, ctx))
    else:
        with Live(console=console(), screen=True, auto_refresh=False) as live:
            for seen in _each_second(reader):
                live.update(FittedPage(seen, ctx), refresh=True)


def _each_second(reader: Reader) -> Iterator[Overview]:
    while True:
        began = time.monotonic()
        yield overview(reader)
        time.sleep(max(0.1, REFRESH_SECONDS - (time.monotonic() - began)))
