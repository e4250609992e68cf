"""`cloud-code task salvage …`: work that was saved from ended attempts."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from supervisor.cli.giving import give_and_tell
from supervisor.cli.lazy import Entry, LazyGroup
from supervisor.cli.output import ago, json_option, note, print_json, progress, say, show, table, text
from supervisor.cli.place import record_ids, resolve_id, task_argument
from supervisor.cli.reading import read_task, reader_of
from supervisor.core.words import size
from supervisor.errors import CloudCodeError

if TYPE_CHECKING:
    from supervisor.core.record import TaskRecord
    from supervisor.jobs.project import Project
    from supervisor.reader import Reader

ENTRIES = {
    "list": Entry("supervisor.cli.salvage:list_saved", "What was saved of which attempts."),
    "show": Entry("supervisor.cli.salvage:show_saved", "Commits, files and uncommitted changes of saved work."),
    "again": Entry("supervisor.cli.salvage:save_again", "Try again to save what could not be saved."),
    "drop": Entry("supervisor.cli.salvage:drop_left", "Give up what could not be saved."),
    "restore": Entry("supervisor.cli.salvage:restore_saved", "Give it back: a branch, a folder, an attempt."),
}

_attempt = click.option(
    "--attempt", "number", type=click.IntRange(min=1), help="Of this attempt  [default: the newest that has any]."
)


@click.group(cls=LazyGroup, entries=ENTRIES)
def salvage() -> None:
    """List, look at and give back work that was saved from attempts which ended without being pushed.

    It is kept in state/salvage/: commits, and everything that was uncommitted but ignored files.
    """


@click.command("list")
@click.argument("task_id", metavar="[ID]", required=False)
@json_option
@click.pass_context
def list_saved(ctx: click.Context, task_id: str | None, as_json: bool) -> None:
    """List saved work, of all tasks or of one."""
    from supervisor.saved_work import saved_rows

    reader = reader_of(ctx)
    only = resolve_id(task_id, record_ids(reader.root)) if task_id else None
    rows = saved_rows(reader.root, reader.find, only)
    if as_json:
        print_json(rows)
    elif rows:
        columns = ("TASK", "ATTEMPT", "ENDED", "SIZE", "SAVED", "TASK IS", "TITLE")
        cells = [
            (
                text(row.task, "bold"),
                row.attempt,
                row.verdict,
                size(row.size_bytes),
                f"{ago(row.saved_at)} ago",
                row.state or "not recorded",
                row.title,
            )
            for row in rows
        ]
        show(table(columns, cells))
    else:
        say("No saved work: every attempt's work was pushed, or left nothing behind.")


@click.command("show")
@task_argument
@_attempt
@json_option
@click.pass_context
def show_saved(ctx: click.Context, task_id: str, number: int | None, as_json: bool) -> None:
    """Show the commits, the files and the uncommitted part of saved work, and where it lies.

    `cloud-code task diff` shows the changes themselves.
    """
    from supervisor.saved_work import choose, look

    reader, task = read_task(ctx, task_id)
    attempt = choose(reader.root, task, number)
    with progress("unpacking the work"):
        work = look(reader.root, project_of(reader, task), task, attempt)
    if as_json:
        print_json(work)
        return
    show(text(f"{task.id}, attempt {attempt.number}: {task.title}", "bold"))
    show(text(f"{work.path}, {size(work.size_bytes)}; {work.base[:12]}..{work.head[:12]}", indent=2))
    for earlier in work.earlier:
        show(text(f"{earlier}: the same before somebody touched the worktree", indent=2))
    for sha, subject in work.commits:
        show(text(f"{sha[:12]} {subject}", indent=2))
    if work.uncommitted:
        show(text(f"{sum(file.uncommitted for file in work.files)} file(s) were uncommitted", indent=2))
    rows = [
        (
            "" if file.lines_added is None else f"+{file.lines_added}",
            "" if file.lines_removed is None else f"-{file.lines_removed}",
            file.change_type,
            "uncommitted" if file.uncommitted else "",
            file.path,
        )
        for file in work.files
    ]
    show(table(("ADDED", "REMOVED", "CHANGE", "", "FILE"), rows))
    if work.files_total > len(work.files):
        note(f"… {work.files_total} files in all")


@click.command("restore")
@task_argument
@_attempt
@click.option(
    "--into", type=click.Path(path_type=Path, file_okay=False), help="A clone of yours: a new branch in it."
)
@click.option("--branch", metavar="NAME", help="The new branch's name  [default: salvage/ID-ATTEMPT].")
@click.option(
    "--folder",
    type=click.Path(path_type=Path),
    help="A new folder to lay it out in: a worktree of --into, or without that a repository of its own.",
)
@click.option("--start", is_flag=True, help="Another attempt starts from it: `task retry --from-salvage`.")
@click.pass_context
def restore_saved(
    ctx: click.Context,
    task_id: str,
    number: int | None,
    into: Path | None,
    branch: str | None,
    folder: Path | None,
    start: bool,
) -> None:
    """Give saved work back: a new branch of a clone of yours, a new folder, or (--start) another attempt.

    Nothing that exists is overwritten. It is an agent's work: read it before you run anything in it.
    """
    from supervisor.saved_work import choose, restore

    reader, task = read_task(ctx, task_id)
    attempt = choose(reader.root, task, number)
    if start:
        if into or branch or folder:
            raise click.UsageError("--start goes with none of --into, --branch and --folder.")
        give_and_tell(reader.root, "retry", task.id, {"from_salvage": attempt.number})
        return
    if into is None and folder is None:
        raise click.UsageError("Say where to: --into CLONE, --folder FOLDER, or --start.")
    name = branch or f"salvage/{task.id}-{attempt.number}"
    with progress("unpacking the work"):
        project = project_of(reader, task)
        said = restore(reader.root, project, task, attempt, into=into, branch=name, folder=folder)
    say(said)


@click.command("again")
@task_argument
@click.pass_context
def save_again(ctx: click.Context, task_id: str) -> None:
    """Try again to save what attempts left behind, after you have mended what was in the way.

    `task explain` says what that was, and where the worktree lies. A workstation bundles only once by itself:
    stop it first, and what it left is bundled for it.
    """
    reader, task = read_task(ctx, task_id)
    give_and_tell(reader.root, "save", task.id)


@click.command("drop")
@task_argument
@click.option(
    "--attempt", "number", type=click.IntRange(min=1), required=True, help="What this attempt left behind."
)
@click.confirmation_option(prompt="What could not be saved is lost by this. Give it up?")
@click.pass_context
def drop_left(ctx: click.Context, task_id: str, number: int) -> None:
    """Give up what an attempt left behind and could not be saved: its workstation removes the worktree.

    Take out of it what you need first.
    """
    reader, task = read_task(ctx, task_id)
    give_and_tell(reader.root, "drop", task.id, {"attempt": number})


def project_of(reader: "Reader", task: "TaskRecord") -> "Project":
    """The mirror and the remote of a task's project; CloudCodeError E_NO_PROJECT."""
    from supervisor.cli.forges import forges_of
    from supervisor.git.mirror import Mirror
    from supervisor.jobs.project import Project

    settings = reader.config().projects.get(task.project)
    if settings is None:
        raise CloudCodeError(
            "E_NO_PROJECT",
            f"There is no project '{task.project}' in config.yaml any more.",
            f"Configure it again; the work itself lies in {reader.root.salvage / task.id}.",
        )
    mirror = Mirror(reader.root.mirror(settings.trust_domain, task.project))
    host = forges_of(reader.root, reader.config()).open(settings)[1]
    return Project(settings=settings, host=host, mirror=mirror)
