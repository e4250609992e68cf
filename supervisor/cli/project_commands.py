"""The verbs of `cloud-code project`."""

import click

from supervisor.cli.forges import check_project
from supervisor.cli.output import json_option, note_all, print_json, progress, show, state_text, table, text
from supervisor.cli.place import complete_configured, existing_root
from supervisor.cli.reading import reader_of
from supervisor.config import load_config
from supervisor.core.forge import Finding
from supervisor.core.settings import Config
from supervisor.core.times import duration
from supervisor.errors import CloudCodeError
from supervisor.project_view import ProjectRow, project_rows


@click.command()
@json_option
@click.pass_context
def list_projects(ctx: click.Context, as_json: bool) -> None:
    """List the projects of config.yaml: forge, repository, how it signs in, and tasks that are under way."""
    reader = reader_of(ctx)
    config = reader.config()
    with progress("reading the tasks"):
        tasks, problems = reader.live()
    note_all(problems)
    rows = project_rows(config, tasks.values())
    if as_json:
        print_json(rows)
    else:
        columns = ("PROJECT", "FORGE", "POLL", "LIVE", "REVIEW", "SIGNS IN WITH", "REPOSITORY")
        show(table(columns, [_cells(row) for row in rows], least=("POLL", "SIGNS IN WITH")))


def _cells(row: ProjectRow) -> tuple[object, ...]:
    poll = f"{row.poll_seconds:g} s" if row.poll_seconds < 90 else duration(row.poll_seconds)
    heard = f"{poll}, webhook" if row.webhook else poll
    return row.name, row.forge, heard, row.live, row.review, row.signs_in, row.repository


@click.command()
@click.argument("names", metavar="[NAME]...", nargs=-1, shell_complete=complete_configured("projects"))
@json_option
@click.pass_context
def check(ctx: click.Context, names: tuple[str, ...], as_json: bool) -> int:
    """Check that a project can be worked on; without a NAME every one.

    Looked at are the secret, the account and what it may do, issues and labels, the webhook, git, and the base
    branch; nothing is changed. Each lack comes with what mends it. Exit code 1 when one of them keeps tasks from
    being done.
    """
    root = existing_root(ctx)
    config = load_config(root)
    wanted = _known(names, config)
    found: dict[str, list[Finding]] = {}
    for number, name in enumerate(wanted):
        with progress(f"asking the forge and the repository of {name}"):
            found[name] = list(check_project(root, config, name))
        if not as_json:
            show(*([text("")] if number else []), _table(name, found[name], several=len(wanted) > 1))
    if as_json:
        print_json([_as_json(name, findings) for name, findings in found.items()])
    return 1 if any(finding.status == "error" for findings in found.values() for finding in findings) else 0


def _known(names: tuple[str, ...], config: Config) -> list[str]:
    """The projects that are meant, each once."""
    for name in names:
        if name not in config.projects:
            known = f"Use one of {', '.join(config.projects)}."
            raise CloudCodeError("E_UNKNOWN_PROJECT", f"There is no project '{name}' in config.yaml.", known)
    return list(dict.fromkeys(names or config.projects))


def _table(name: str, findings: list[Finding], *, several: bool) -> object:
    rows = [
        (
            state_text(finding.status),
            finding.what,
            text(finding.message + (f"\n→ {finding.mend}" if not finding.ok and finding.mend else ""), lines=True),
        )
        for finding in findings
    ]
    return table(("", "WHAT", "FOUND"), rows, name if several else None)


def _as_json(name: str, findings: list[Finding]) -> dict[str, object]:
    shown = [
        {
            "what": finding.what,
            "status": finding.status,
            "message": finding.message,
            "mend": "" if finding.ok else finding.mend,
        }
        for finding in findings
    ]
    return {"project": name, "ok": all(finding.ok for finding in findings), "findings": shown}
