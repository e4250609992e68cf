"""`cloud-code budget …`: what there is to spend, what is spent and reserved."""

import click

from supervisor.cli.lazy import Entry, LazyGroup
from supervisor.cli.output import json_option

ENTRIES = {
    "top-up": Entry("supervisor.cli.budget_commands:top_up", "Add to a budget, for its day or for good."),
}


@click.group(cls=LazyGroup, entries=ENTRIES, invoke_without_command=True)
@json_option
@click.pass_context
def budget(ctx: click.Context, as_json: bool) -> None:
    """List the budgets of config.yaml: limit, spent, reserved, left, and when a new day begins (UTC).

    With a command: change one.
    """
    if ctx.invoked_subcommand is None:
        from supervisor.cli.budget_commands import list_budgets

        list_budgets(ctx, as_json)
