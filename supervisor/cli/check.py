"""`cloud-code check`: what people edited, held against its schema and its references."""

from pathlib import Path

import click
from click.shell_completion import CompletionItem

from agent_daemon.protocol.errors import Problem
from agent_daemon.protocol.paths import Root
from supervisor.checking import check_config, check_file, check_tasks, missing_clis
from supervisor.cli.output import json_option, note_all, print_json, progress, text
from supervisor.cli.place import as_owner
from supervisor.cli.reading import TASK_FILES
from supervisor.config import load_config
from supervisor.core.words import count
from supervisor.errors import CloudCodeError
from supervisor.logins import shared_variables
from supervisor.notices import config_changed, refused_edits, vanished_files
from supervisor.reader import Reader
from supervisor.running import running_supervisor
from supervisor.workstations.examination import unfit_engine


def _complete_what(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    words = [CompletionItem(word) for word in ("config", "tasks") if word.startswith(incomplete)]
    return words or [CompletionItem(incomplete, type="file")]


@click.command()
@click.argument("what", metavar="[config|tasks|PATH]", required=False, shell_complete=_complete_what)
@json_option
@click.pass_context
def check(ctx: click.Context, what: str | None, as_json: bool) -> int:
    """Validate config.yaml and every task file, or one of the two, or any file of Cloud Code.

    Each problem is told with file, line, what was expected and what to do. Exit code 1 if there is one.
    """
    root: Root = ctx.obj
    if what in (None, "config"):
        as_owner(root)  # (for whom the engine must serve)
    with progress("checking"):
        checked, problems = _look(root, what)
    notes = _notes(root) if what in (None, "config") else []
    if as_json:
        print_json({"ok": not problems, "checked": checked, "problems": problems, "notes": notes})
    else:
        note_all(notes)
        for problem in problems:
            click.echo(text(problem).plain)
        click.echo(f"{count(len(checked), 'file')} checked: {_result(len(problems), len(notes))}")
    return 1 if problems else 0


def _result(problems: int, warnings: int) -> str:
    if not problems and not warnings:
        return "all is well"
    found = count(problems, "problem") if problems else "no errors"
    return f"{found}, {count(warnings, 'warning')}" if warnings else found


def _notes(root: Root) -> list[Problem]:
    """What a person should know although it is no mistake."""
    running = running_supervisor(root)
    try:
        config = load_config(root)
    except CloudCodeError:
        config = None
    changed = config_changed(root, config, running)
    about_config = [*missing_clis(config, root), *shared_variables(config, root)] if config else []
    return [*([changed] if changed else []), *about_config]


def _unfit(root: Root) -> list[Problem]:
    try:
        return unfit_engine(load_config(root), root)
    except CloudCodeError:  # told already
        return []


def _look(root: Root, what: str | None) -> tuple[list[str], list[Problem]]:
    if what is None:
        checked, problems = check_config(root)
        more, wrong = _look(root, "tasks") if not problems else ([], [])
        return checked + more, problems + wrong + _unfit(root)
    if what == "config":
        checked, problems = check_config(root)
        return checked, problems + _unfit(root)
    if what == "tasks":
        checked, problems = check_tasks(root, TASK_FILES)
        tasks, _ = Reader(root, TASK_FILES).live()
        vanished = vanished_files(root, tasks)
        return checked, [*problems, *refused_edits(root, tasks), *([vanished] if vanished else [])]
    path = Path(what)
    if not path.exists():
        raise CloudCodeError("E_NO_FILE", f"{what} does not exist.", "Give `config`, `tasks`, or a file.")
    return check_file(path, root, TASK_FILES)
