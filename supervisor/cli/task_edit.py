"""`cloud-code task edit`: a task file in the person's editor, checked afterwards."""

import os
import sys
from datetime import UTC, datetime
from pathlib import Path

import click

from agent_daemon.protocol.errors import Problem, ProtocolError
from agent_daemon.protocol.paths import Root
from supervisor.cli.editor import open_editor
from supervisor.cli.output import note, note_all, say
from supervisor.cli.place import existing_root, record_ids, resolve_id, task_argument
from supervisor.cli.task_add import note_when_taken
from supervisor.config import load_config
from supervisor.core.intake import when_told
from supervisor.core.settings import Config
from supervisor.errors import CloudCodeError
from supervisor.forges.task_folder import is_task_file, read_draft
from supervisor.records import RecordStore


@click.command()
@task_argument
@click.pass_context
def edit(ctx: click.Context, task_id: str) -> int:
    """Open a task's file in $VISUAL or $EDITOR, check it afterwards, and offer it again if it is wrong."""
    root = existing_root(ctx)
    config = load_config(root)
    path = _file_of(root, task_id)
    before = path.read_bytes()
    while True:
        open_editor(path, before)
        problems = _problems(root, path, config)
        if not problems:
            break
        note_all(problems)
        if not sys.stdin.isatty() or not click.confirm("Open it again?", default=True, err=True):
            note(f"{path} is left as it is; the task keeps its former text until the file is right.")
            return 1
    if path.read_bytes() == before:
        say(f"{path}: not changed")
    else:
        say(f"{path}: changed")
        note_when_taken(root)
        _note_when_told(root, path, config)
    return 0


def _note_when_told(root: Root, path: Path, config: Config) -> None:
    """Say when an agent gets the changed text, where that is not at once."""
    try:
        task = RecordStore(root).find(read_draft(root.tasks, path.name, config).id)
    except ProtocolError:  # the supervisor says what is wrong
        return
    told = when_told(task.evolve(edited_at=datetime.now(UTC))) if task is not None else ""
    if task is not None and told:
        note(f"{task.id} is {task.state.words}: the change is {told}.")


def _problems(root: Root, path: Path, config: Config) -> tuple[Problem, ...]:
    try:
        read_draft(root.tasks, path.name, config)
    except ProtocolError as error:
        return error.problems
    return ()


def _file_of(root: Root, given: str) -> Path:
    """The file of the task that a person means, taken in or not; CloudCodeError when it has none."""
    files = [name.removesuffix(".yaml") for name in os.listdir(root.tasks) if is_task_file(name)]
    if given in files:
        return root.tasks / f"{given}.yaml"
    task_id = resolve_id(given, record_ids(root))
    stem = task_id.partition(".")[2]
    if stem not in files:
        raise CloudCodeError("E_NO_FILE", f"{task_id} has no file in {root.tasks}.")
    return root.tasks / f"{stem}.yaml"
