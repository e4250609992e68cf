"""`cloud-code schema`: JSON Schemas, for editors and for other implementations."""

import difflib

import click

from supervisor.cli.output import json_option, print_json
from supervisor.errors import CloudCodeError
from supervisor.schemas import SCHEMAS, schema_text


@click.command()
@click.argument(
    "name", required=False, shell_complete=lambda _c, _p, begun: [n for n in SCHEMAS if n.startswith(begun)]
)
@json_option
def schema(name: str | None, as_json: bool) -> None:
    """Print the JSON Schema of a file; without NAME, list the names."""
    if name is None:
        listed = {known: (model.__doc__ or "").strip().splitlines()[0] for known, (model, _) in SCHEMAS.items()}
        if as_json:
            print_json(listed)
        for known, described in {} if as_json else listed.items():
            click.echo(f"{known:<16}{described}")
        return
    if name not in SCHEMAS:
        near = difflib.get_close_matches(name, SCHEMAS, n=1)
        hint = f"Did you mean '{near[0]}'? " if near else ""
        raise CloudCodeError(
            "E_NO_SCHEMA", f"There is no schema '{name}'.", f"{hint}There are {', '.join(SCHEMAS)}."
        )
    click.echo(schema_text(name), nl=False)
