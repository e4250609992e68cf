"""`cloud-code project …`: what is worked on, and whether it can be."""

import click

from supervisor.cli.lazy import Entry, LazyGroup

_PLACE = "supervisor.cli.project_commands"
ENTRIES = {
    "list": Entry(f"{_PLACE}:list_projects", "Every project, its forge, and how many tasks it has."),
    "check": Entry(f"{_PLACE}:check", "Ask forges and repositories what is missing, and say what mends it."),
}


@click.group(cls=LazyGroup, entries=ENTRIES)
def project() -> None:
    """List projects, and check that their forges let the supervisor work."""
