"""`cloud-code credential …`: what agents asked for, were given, and what became of it. No value is ever shown."""

import click

from supervisor.cli.lazy import Entry, LazyGroup

_PLACE = "supervisor.cli.credential_commands"
ENTRIES = {
    "list": Entry(f"{_PLACE}:list_grants", "What agents asked for: granted, denied, waiting for a person."),
    "show": Entry(f"{_PLACE}:show_grant", "One request: what was asked, decided and given, and its books."),
    "types": Entry(f"{_PLACE}:list_types", "What can be asked for, and who grants it."),
    "revoke": Entry(f"{_PLACE}:revoke", "Take back what an agent was given."),
    "audit": Entry(f"{_PLACE}:audit", "Who asked, who granted, when it was given and taken back."),
}


@click.group(cls=LazyGroup, entries=ENTRIES)
def credential() -> None:
    """See and take back what agents were given; `cloud-code task approve` decides on what they ask for."""
