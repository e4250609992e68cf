"""`cloud-code workstation refused`: what workstations asked to be connected to, and were not."""

from dataclasses import dataclass

import click

from agent_daemon.protocol.paths import Root
from supervisor.cli.output import json_option, note, print_json, show, table, text
from supervisor.cli.place import complete_workstation, existing_root
from supervisor.cli.workstation_commands import known_root
from supervisor.core.egress import NOT_ALLOWED
from supervisor.egress.files import read_refusals, refused_names


@dataclass(frozen=True, kw_only=True)
class RefusedRow:
    """One thing that was refused to a workstation, how often, and when it was told first and last (UTC)."""

    workstation: str
    host: str
    port: int
    code: str
    count: int
    first: str
    last: str
    message: str


@click.command()
@click.argument("name", metavar="[NAME]", required=False, shell_complete=complete_workstation)
@json_option
@click.pass_context
def refused(ctx: click.Context, name: str | None, as_json: bool) -> None:
    """List what workstations, or one, were not connected to: host, port, why, and how often; the newest first.

    It is counted, not kept one by one, and what is old goes when there is much of it.
    """
    root = known_root(ctx, name) if name is not None else existing_root(ctx)
    rows = refused_rows(root, [name] if name is not None else refused_names(root))
    if as_json:
        print_json(rows)
        return
    columns = ("WORKSTATION", "WHAT", "TIMES", "LAST", "WHY")
    cells = [
        (
            row.workstation,
            text(_what(row)),
            row.count,
            row.last[:19] + "Z",
            text(": ".join(filter(None, (row.code, row.message)))),
        )
        for row in rows
    ]
    show(table(columns, cells) if rows else "Nothing was refused.")
    if any(row.code == NOT_ALLOWED for row in rows):
        note("What a workstation is to reach stands in config.yaml, under `egress` of its type.")


def _what(row: RefusedRow) -> str:
    if not row.code:
        return "(others)"
    return f"{row.host}:{row.port}" if row.port else row.host


def refused_rows(root: Root, names: list[str]) -> list[RefusedRow]:
    """What is known of these workstations, one row for each host, port and reason."""
    found: dict[tuple[str, str, int, str], RefusedRow] = {}
    for name in names:
        for entry in read_refusals(root, name):
            key = (name, str(entry["host"]), int(entry["port"]), str(entry["code"]))
            message = str(entry["message"])
            if entry["kinds"] > 1:
                key, message = (name, "", 0, ""), "too many different ones to be counted one by one"
            before = found.get(key)
            found[key] = RefusedRow(
                workstation=name,
                host=key[1],
                port=key[2],
                code=key[3],
                count=(before.count if before else 0) + int(entry["count"]),
                first=before.first if before else str(entry["at"]),
                last=str(entry["at"]),
                message=message,
            )
    return sorted(found.values(), key=lambda row: row.last, reverse=True)
