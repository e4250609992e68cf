"""`cloud-code task add`: a task file, written the way a person would."""

import re
import sys
import tempfile
import unicodedata
from pathlib import Path
from typing import Any

import click

from agent_daemon.protocol.errors import ProtocolError
from agent_daemon.protocol.paths import NAME, Root, check_stem
from supervisor.cli.output import here, note, say
from supervisor.cli.place import existing_root, record_ids
from supervisor.cli.task_text import task_options, task_text
from supervisor.config import load_config
from supervisor.core.intake import Draft
from supervisor.core.settings import Config
from supervisor.errors import CloudCodeError, writing
from supervisor.forges.task_folder import read_draft
from supervisor.reader import is_locked
from supervisor.service.host import start_command


@click.command()
@click.argument("title")
@click.option("--name", metavar="STEM", help="The file's name without .yaml  [default: from the title].")
@task_options
@click.pass_context
def add(ctx: click.Context, /, title: str, name: str | None, description: str | None, **options: Any) -> None:
    """Write a task file into tasks/; the supervisor takes it in within seconds.

    Options with a (*) may be repeated. Each is a key of the file, which `cloud-code task edit` changes later.
    """
    if not title.strip():
        raise CloudCodeError("E_TASK", "The title is empty.", "Say in one line what is to be done.")
    root = existing_root(ctx)
    config = load_config(root)
    stem = name or stem_of(title)
    try:
        check_stem(stem)
    except ValueError as error:
        raise CloudCodeError("E_NAME", f"{error}.", "Choose another with --name.") from None
    if description == "-":
        description = sys.stdin.read()
    if options["project"] is None and len(config.projects) == 1:
        options["project"] = next(iter(config.projects))  # it stays clear when another one is configured
    content = task_text(title, {"description": description, **options})
    path = root.tasks / f"{stem}.yaml"
    _refuse_existing(root, path, stem)
    draft = _checked(path.name, content, config)
    try:
        with writing(root.tasks), path.open("x", encoding="utf-8") as file:
            file.write(content)
    except FileExistsError:
        raise _exists(path) from None
    except FileNotFoundError:
        raise CloudCodeError(
            "E_TASKS_VANISHED", f"{root.tasks} is not there.", "Put it back, or make an empty folder of that name."
        ) from None
    say(f"{path}: written, as task {draft.id}")
    note_when_taken(root)


def _checked(name: str, content: str, config: Config) -> Draft:
    """What the supervisor will make of the file; CloudCodeError when it would refuse it."""
    with tempfile.TemporaryDirectory(prefix="cloud-code-task-") as folder:
        Path(folder, name).write_text(content, encoding="utf-8", errors="replace")
        try:
            return read_draft(Path(folder), name, config)
        except ProtocolError as error:
            reasons = "; ".join(
                f"{p.message} ({p.place})" + (f", expected {p.expected}" if p.expected else "") + _hint(p.mend)
                for p in error.problems
            )
            raise CloudCodeError("E_TASK", f"This cannot be a task: {reasons}.", "Nothing was written.") from None


def _hint(mend: str) -> str:
    return f", {mend}" if mend.startswith("did you mean") else ""


def stem_of(title: str) -> str:
    """A file's name made of a title: at most 41 small letters, digits and hyphens, cut at a word."""
    ascii_only = unicodedata.normalize("NFKD", title.casefold()).encode("ascii", "ignore").decode()
    slug = re.sub("[^a-z0-9]+", "-", ascii_only).strip("-")
    if slug and not slug[0].isalpha():
        slug = f"task-{slug}"
    slug = re.sub("-r([0-9]+)$", r"-r-\1", slug)  # the end of a later run's branch
    if len(slug) > 41:
        slug = slug[:42].rpartition("-")[0] or slug[:41]
    return slug if NAME.fullmatch(slug) else "task"


def _refuse_existing(root: Root, path: Path, stem: str) -> None:
    if path.exists():
        raise _exists(path)
    known = [task_id for task_id in record_ids(root) if task_id.partition(".")[2] == stem]
    if known:
        raise CloudCodeError(
            "E_TASK_EXISTS",
            f"There is a task {known[0]} already, and its file is gone.",
            f"Choose another --name, or run it again with `cloud-code task retry {known[0]}`.",
        )


def _exists(path: Path) -> CloudCodeError:
    mend = f"Choose another --name, or change it with `cloud-code task edit {path.stem}`."
    return CloudCodeError("E_TASK_EXISTS", f"{path} exists already.", mend)


def note_when_taken(root: Root) -> None:
    """Say when a changed task file takes effect."""
    if is_locked(root):
        note("The supervisor takes it in within a few seconds.")
    else:
        note(f"No supervisor is running: it is taken in when one does (`{here(start_command(root.path))}`).")
