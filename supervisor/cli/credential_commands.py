"""The verbs of `cloud-code credential`."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import click

from agent_daemon.protocol.paths import Root
from supervisor.cli.giving import give_and_tell
from supervisor.cli.output import (
    ago,
    json_option,
    note_all,
    print_json,
    progress,
    say,
    show,
    stamp,
    table,
    text,
)
from supervisor.cli.place import complete_task, existing_root, task_argument
from supervisor.cli.reading import read_task, reader_of
from supervisor.config import load_config
from supervisor.core.credentials import granted_by, variable_of
from supervisor.core.record import Grant, TaskRecord
from supervisor.core.times import duration
from supervisor.core.words import count
from supervisor.errors import CloudCodeError
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


@click.command("show")
@task_argument
@click.argument("grant_id", metavar="ID")
@json_option
@click.pass_context
def show_grant(ctx: click.Context, task_id: str, grant_id: str, as_json: bool) -> None:
    """Show one request of a task, such as cred-001: what was asked, decided and given, and what the books tell.

    Never its value.
    """
    reader, task = read_task(ctx, task_id)
    grant = task.grant(grant_id)
    if grant is None:
        known = ", ".join(g.id for g in task.grants) or "nothing"
        raise CloudCodeError("E_NO_GRANT", f"{task.id} asked for no '{grant_id}' (it asked for: {known}).")
    events = [e for e in _books(reader.root, task.id) if e["details"].get("id") == grant.id]
    rule = _rule_of(reader.root, grant)
    if as_json:
        print_json({**vars(_row(task, grant)), "from": rule, "deliver": grant.deliver, "events": events})
        return
    show(text(f"{task.id} {grant.id}: {grant.type}, {grant.access}", "bold"))
    show(*(text(f"{name + ':':<12}{value}", indent=2) for name, value in _fields(grant, rule) if value))
    if events:
        show(text("The books", "bold"), table(("WHEN", "WHAT", "WHO", "WHY"), [_book_line(e) for e in events]))


def _fields(grant: Grant, rule: str) -> list[tuple[str, str]]:
    variable = f"${grant.env}" + (", the path of a file" if grant.deliver == "file" else "")
    to = grant.given_to
    given = f"to attempt {to[0]}; {count(grant.deliveries, 'time')} so far" if to is not None else ""
    over = grant.expires_at if grant.status == "granted" else None
    return [
        ("scope", grant.scope),
        ("reason", grant.reason),
        ("asked", f"{stamp(grant.asked_at)}, by attempt {grant.attempt}"),
        ("status", "waits for a person" if grant.status == "asked" else grant.status),
        ("decided", f"by {grant.by}, {stamp(grant.at)}" if grant.at is not None else ""),
        ("why", grant.why),
        ("approval", "by an administrator of the project" if grant.approve == "admin" else ""),
        ("answer by", stamp(grant.answer_by) if grant.status == "asked" and grant.answer_by is not None else ""),
        ("ends", stamp(over) if over is not None else ""),
        ("from", rule),
        ("as", variable if grant.env else ""),
        ("given", given),
        ("in the way", grant.giving.error or "" if grant.status == "granted" else ""),
    ]


def _rule_of(root: Root, grant: Grant) -> str:
    """What gives it by the configuration of now."""
    try:
        settings = load_config(root).credentials.get(grant.type)
    except CloudCodeError:
        return ""
    rule = settings.access.get(grant.access) if settings is not None else None
    return str(rule) if rule is not None else ""


def _books(root: Root, task_id: str | None) -> list[dict[str, Any]]:
    """What the events tell of credentials, oldest first."""
    return [
        event
        for event in read_events(root.events)
        if event["event"].startswith("credential.") and task_id in (None, event.get("task"))
    ]


def _book_line(event: dict[str, Any]) -> tuple[object, ...]:
    what = str(event["event"]).partition(".")[2].replace("_", " ")
    return event["ts"], what, event["actor"], _why_of(event["details"])


def _why_of(details: dict[str, Any]) -> str:
    said = f"“{details['text']}”" if details.get("text") else ""
    via = f"by {details['via']}" if details.get("via") else ""
    told = details.get("message") or details.get("reason", "")
    return ", ".join(str(part) for part in (told, via, said) if part)


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
            "mint": rule.mint,
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
        row["secret"] or (f"{row['lease']} (lent)" if row["lease"] else f"{row['mint']} (made by the forge)"),
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
    found = _books(root, wanted)
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
    return (
        event["ts"],
        what,
        event["actor"],
        event.get("task", ""),
        *(details.get(key, "") for key in keys),
        _why_of(details),
    )
