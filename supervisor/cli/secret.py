"""`cloud-code secret …`: what the supervisor signs in with, encrypted in one file of the root."""

import click

from supervisor.cli.lazy import Entry, LazyGroup

_PLACE = "supervisor.cli.secret_commands"
ENTRIES = {
    "set": Entry(f"{_PLACE}:set_secret", "Keep a secret, typed in or from standard input."),
    "get": Entry(f"{_PLACE}:get", "Print a secret into a pipe, or with --reveal."),
    "list": Entry(f"{_PLACE}:list_secrets", "Every secret: who set it, when it was last used, and where."),
    "rm": Entry(f"{_PLACE}:remove", "Remove secrets."),
    "edit": Entry(f"{_PLACE}:edit", "Change a secret in your editor, in memory-backed storage."),
    "rotate": Entry(f"{_PLACE}:rotate", "Give a secret another value, or the file another identity."),
}


@click.group(cls=LazyGroup, entries=ENTRIES)
def secret() -> None:
    """Keep secrets encrypted in the root; config.yaml names them: `{secret: forges/github}`."""
