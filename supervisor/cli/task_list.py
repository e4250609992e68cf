"""`cloud-code task list`."""

import click

from supervisor.cli.output import json_option, note_all, print_json, progress, say, show
from supervisor.cli.page import files_table, tasks_table
from supervisor.cli.reading import picture_of, reader_of
from supervisor.core.states import ENDED, State
from supervisor.core.surroundings import Surroundings
from supervisor.view import TaskRow, file_rows, task_row, task_rows


@click.command()
@click.option("--all", "-a", "every", is_flag=True, help="The ended ones too.")
@click.option("--state", type=click.Choice([state.value for state in State]), help="Only those in this state.")
@json_option
@click.pass_context
def list_tasks(ctx: click.Context, every: bool, state: str | None, as_json: bool) -> None:
    """List tasks, those that move first.

    Task files that are not taken in yet are listed below; a task comes into being when its file is.
    """
    reader = reader_of(ctx)
    picture = picture_of(reader)
    rows: list[TaskRow] = task_rows(picture)
    ended = every or (state is not None and State(state) in ENDED)
    problems = list(picture.problems)
    if ended:
        around = Surroundings(now=picture.now, running=picture.running)
        with progress("reading the archive"):
            archived, damaged = reader.archived()
        rows += sorted((task_row(t, around) for t in archived), key=lambda row: row.since, reverse=True)
        problems += damaged
    shown = tuple(
        row for row in rows if (ended or row.state not in ENDED) and (state is None or row.state.value == state)
    )
    note_all(dict.fromkeys(problems))
    if as_json:
        print_json(shown)
        return
    if shown:
        show(tasks_table(shown))
    else:
        say("No such tasks." if rows or state else "No tasks yet: `cloud-code task add` writes one.")
    files = file_rows(picture.drafts, picture.tasks, set(reader.archived_ids()))
    if files and state is None:
        show(files_table(files))
