"""The verbs of `cloud-code budget`."""

from dataclasses import asdict
from datetime import UTC, datetime

import click

from agent_daemon.protocol.money import amount
from supervisor.budget_view import budgets_seen
from supervisor.cli.giving import give_and_tell
from supervisor.cli.output import note_all, print_json, progress, say, show, table
from supervisor.cli.place import complete_configured, existing_root
from supervisor.cli.reading import reader_of
from supervisor.cli.sums import SUM, TakesSum
from supervisor.core.budgets import Budget
from supervisor.core.times import when
from supervisor.spending import read_spending, unreadable_problem


def list_budgets(ctx: click.Context, as_json: bool) -> None:
    """Print every budget."""
    reader, now = reader_of(ctx), datetime.now(UTC)
    config = reader.config()
    with progress("reading the tasks"):
        tasks, problems = reader.live()
        spending = read_spending(reader.root)
    unreadable = unreadable_problem(reader.root, spending)
    note_all([*problems, *([unreadable] if unreadable else [])])
    rows = budgets_seen(reader, config, spending, tasks, now)
    if as_json:
        print_json([asdict(row) | {"left_usd": row.left_usd} for row in rows])
    elif not rows:
        say("No budgets are configured: `budgets` in config.yaml (docs/configuration.md).")
    else:
        columns = ("BUDGET", "OF", "LIMIT", "SPENT", "RESERVED", "LEFT", "NEW DAY")
        show(table(columns, [_cells(row, now) for row in rows], least=("RESERVED",)))


def _cells(row: Budget, now: datetime) -> tuple[object, ...]:
    whose = [name for name in (row.project, row.workstation) if name is not None]
    amounts = [amount(usd) for usd in (row.limit_usd, row.spent_usd, row.reserved_usd, row.left_usd)]
    return (
        row.name,
        " with ".join(whose) or "everything",
        *amounts,
        when(row.resets_at, now) if row.resets_at else "",
    )


@click.command(cls=TakesSum)
@click.argument("name", metavar="NAME", shell_complete=complete_configured("budgets"))
@click.argument("usd", metavar="USD", type=SUM)
@click.pass_context
def top_up(ctx: click.Context, name: str, usd: float) -> None:
    """Add USD to a budget: to today's where it is one of a day, else for good.

    What waits for it begins as soon as it fits.
    """
    give_and_tell(existing_root(ctx), "budget-top-up", name, {"usd": usd})
