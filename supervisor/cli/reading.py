"""Reading the root of a call: the reader, and the task that a person means."""

import click

from agent_daemon.protocol.errors import ProtocolError
from supervisor.cli.output import progress
from supervisor.cli.place import existing_root, record_ids, resolve_id
from supervisor.core.record import TaskRecord
from supervisor.core.states import ACTIVE
from supervisor.errors import CloudCodeError
from supervisor.forges.task_folder import is_task_file, read_draft
from supervisor.reader import Reader, TaskFiles
from supervisor.view import Picture, take_picture

TASK_FILES = TaskFiles(is_task_file, read_draft)


def reader_of(ctx: click.Context) -> Reader:
    """A reader of this call's root; CloudCodeError when there is none yet."""
    return Reader(existing_root(ctx), TASK_FILES)


def read_task(ctx: click.Context, given: str) -> tuple[Reader, TaskRecord]:
    """The task that a person means; CloudCodeError, ProtocolError."""
    reader = reader_of(ctx)
    task_id = resolve_id(given, [*record_ids(reader.root), *reader.put_aside_ids()])
    task = reader.find(task_id)
    aside = reader.put_aside(task_id) if task is None else None
    if aside is not None:
        raise ProtocolError(aside)
    if task is None:  # archived and brought back at this very moment
        raise CloudCodeError("E_NO_TASK", f"{task_id} cannot be read just now.", "Try again.")
    return reader, task


def picture_of(reader: Reader) -> Picture:
    """Everything that a root shows; said to be read where it takes a while."""
    with progress("reading the tasks"):
        return take_picture(reader)


def under_way(reader: Reader) -> list[str]:
    """The tasks with an attempt that a workstation has."""
    tasks, _ = reader.live()
    return sorted(task.id for task in tasks.values() if task.state in ACTIVE and task.live is not None)
