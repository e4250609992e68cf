"""`cloud-code schema`: JSON Schemas, for editors and for other implementations."""

import difflib

import click

from supervisor.errors import CloudCodeError
from supervisor.schemas import SCHEMAS, schema_text


@click.command()
@click.argument(
    "name", required=False, shell_complete=lambda _c, _p, begun: [n for n in SCHEMAS if n.startswith(begun)]
)
def schema(name: str | None) -> None:
    """Print the JSON Schema of a file; without NAME, list the names."""
    if name is None:
        for known, (model, _) in SCHEMAS.items():
            described = (model.__doc__ or "").strip().splitlines()[0]
            click.echo(f"{known:<16}{described}")
        return
    if name not in SCHEMAS:
        near = difflib.get_close_matches(name, SCHEMAS, n=1)
        hint = f"Did you mean '{near[0]}'? " if near else ""
        raise CloudCodeError(
            "E_NO_SCHEMA", f"There is no schema '{name}'.", f"{hint}There are {', '.join(SCHEMAS)}."
        )
    click.echo(schema_text(name), nl=False)
