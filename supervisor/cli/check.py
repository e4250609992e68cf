"""`cloud-code check`: what people edited, held against its schema and its references."""

from pathlib import Path

import click

from agent_daemon.protocol.errors import Problem
from agent_daemon.protocol.paths import Root
from supervisor.checking import check_config, check_file, check_tasks
from supervisor.cli.output import json_option, print_json, text
from supervisor.cli.reading import TASK_FILES
from supervisor.errors import CloudCodeError


@click.command()
@click.argument("what", metavar="[config|tasks|PATH]", required=False)
@json_option
@click.pass_context
def check(ctx: click.Context, what: str | None, as_json: bool) -> int:
    """Validate config.yaml and every task file, or one of the two, or any file of Cloud Code.

    Each problem is told with file, line, what was expected and what to do. Exit code 1 if there is one.
    """
    root: Root = ctx.obj
    checked, problems = _look(root, what)
    if as_json:
        print_json({"ok": not problems, "checked": checked, "problems": problems})
    else:
        for problem in problems:
            click.echo(text(problem).plain)
        files = f"{len(checked)} file{'' if len(checked) == 1 else 's'}"
        found = f"{len(problems)} problem{'' if len(problems) == 1 else 's'}" if problems else "all is well"
        click.echo(f"{files} checked: {found}")
    return 1 if problems else 0


def _look(root: Root, what: str | None) -> tuple[list[str], list[Problem]]:
    if what is None:
        checked, problems = check_config(root)
        more, wrong = check_tasks(root, TASK_FILES) if not problems else ([], [])
        return checked + more, problems + wrong
    if what == "config":
        return check_config(root)
    if what == "tasks":
        return check_tasks(root, TASK_FILES)
    path = Path(what)
    if not path.exists():
        raise CloudCodeError("E_NO_FILE", f"{what} does not exist.", "Give `config`, `tasks`, or a file.")
    return check_file(path, root, TASK_FILES)
