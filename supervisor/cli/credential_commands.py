"""The verbs of `cloud-code credential`."""

from dataclasses import dataclass
from datetime import datetime

import click

from supervisor.cli.giving import give_and_tell
from supervisor.cli.output import ago, json_option, note_all, print_json, progress, say, show, table
from supervisor.cli.place import complete_task, existing_root, task_argument
from supervisor.cli.reading import read_task, reader_of
from supervisor.config import load_config
from supervisor.core.credentials import granted_by, variable_of
from supervisor.core.record import Grant, TaskRecord
from supervisor.core.times import duration
from supervisor.events import read_events


@dataclass(frozen=True, kw_only=True)
class GrantRow:
    """One request. `expires_at` is None where nothing is given."""

    task: str
    id: str
    type: str
    access: str
    scope: str
    reason: str
    status: str
    by: str
    why: str
    asked_at: datetime
    at: datetime | None
    expires_at: datetime | None
    env: str
    attempt: int


def _row(task: TaskRecord, grant: Grant) -> GrantRow:
    given = grant.expires_at if grant.status == "granted" else None
    facts = grant.model_dump(include={*GrantRow.__dataclass_fields__} - {"task", "expires_at"})
    return GrantRow(task=task.id, expires_at=given, **facts)


@click.command("list")
@click.option("--all", "-a", "every", is_flag=True, help="Those of ended tasks too.")
@json_option
@click.pass_context
def list_grants(ctx: click.Context, every: bool, as_json: bool) -> None:
    """List what agents asked for, the newest first."""
    reader = reader_of(ctx)
    with progress("reading the tasks"):
        tasks, problems = reader.live()
        found = list(tasks.values())
        if every:
            archived, damaged = reader.archived()
            found, problems = [*found, *archived], [*problems, *damaged]
    note_all(problems)
    rows = sorted((_row(task, g) for task in found for g in task.grants), key=lambda r: r.asked_at, reverse=True)
    if as_json:
        print_json(rows)
    elif rows:
        columns = ("TASK", "ID", "TYPE", "ACCESS", "SCOPE", "STATUS", "BY", "ENDS", "ASKED", "WHY")
        show(table(columns, [_cells(row) for row in rows]))
    else:
        say("No agent has asked for anything." if every else "No live task has asked for anything.")


def _cells(row: GrantRow) -> tuple[object, ...]:
    now = datetime.now(row.asked_at.tzinfo)
    ends = f"in {duration((row.expires_at - now).total_seconds())}" if row.expires_at is not None else ""
    status = "waits for a person" if row.status == "asked" else row.status
    why = row.why or row.reason
    return row.task, row.id, row.type, row.access, row.scope, status, row.by, ends, ago(row.asked_at), why


@click.command("types")
@json_option
@click.pass_context
def list_types(ctx: click.Context, as_json: bool) -> None:
    """List what agents can ask for (`credentials` in config.yaml), with the secret behind it and who grants it."""
    config = load_config(existing_root(ctx))
    rows: list[dict[str, object]] = [
        {
            "type": name,
            "access": access,
            "env": variable_of(name, settings),
            "secret": rule.secret,
            "lease": rule.lease,
            "granted": granted_by(name, access, rule),
            "ttl_minutes": settings.ttl_minutes,
            "projects": settings.projects,
            "specialists": settings.specialists,
            "scopes": settings.scopes,
        }
        for name, settings in config.credentials.items()
        for access, rule in settings.access.items()
    ]
    if as_json:
        print_json(rows)
    elif rows:
        columns = ("TYPE", "ACCESS", "VARIABLE", "SECRET", "GRANTED", "MINUTES")
        show(table(columns, [_type_cells(row) for row in rows]))
    else:
        say("Nothing can be asked for: describe it under `credentials` in config.yaml.")


def _type_cells(row: dict[str, object]) -> tuple[object, ...]:
    granted = str(row["granted"]).replace("_", " ")
    return (
        row["type"],
        row["access"],
        row["env"],
        row["secret"] or f"{row['lease']} (lent)",
        granted,
        row["ttl_minutes"],
    )


@click.command()
@task_argument
@click.argument("grant", metavar="ID")
@click.pass_context
def revoke(ctx: click.Context, task_id: str, grant: str) -> None:
    """Take back what the agent of this task was given, such as cred-001. Programs that run may still know it."""
    reader, task = read_task(ctx, task_id)
    give_and_tell(reader.root, "revoke", task.id, {"grant": grant})


@click.command()
@click.option("--task", "task_id", metavar="ID", shell_complete=complete_task, help="Only of this task.")
@json_option
@click.pass_context
def audit(ctx: click.Context, task_id: str | None, as_json: bool) -> None:
    """Tell who asked, who granted, when it was given and taken back, oldest first; as far as events are kept."""
    root = existing_root(ctx)
    wanted = read_task(ctx, task_id)[1].id if task_id is not None else None
    found = [
        event
        for event in read_events(root.events)
        if event["event"].startswith("credential.") and wanted in (None, event.get("task"))
    ]
    if as_json:
        print_json(found)
    elif found:
        columns = ("WHEN", "WHAT", "WHO", "TASK", "ID", "TYPE", "ACCESS", "SCOPE", "WHY")
        show(table(columns, [_event(event) for event in found]))
    else:
        say("Nothing has been asked for.")


def _event(event: dict[str, object]) -> tuple[object, ...]:
    details = event["details"]
    assert isinstance(details, dict)  # noqa: S101 (events are written so)
    keys = ("id", "type", "access", "scope")
    what = str(event["event"]).partition(".")[2].replace("_", " ")
    why = details.get("message") or details.get("reason", "")
    return event["ts"], what, event["actor"], event.get("task", ""), *(details.get(key, "") for key in keys), why
