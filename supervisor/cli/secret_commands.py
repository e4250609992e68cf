"""The verbs of `cloud-code secret`. A value is never an argument: other users of the machine see those."""

import os
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import click
from pydantic import SecretStr

from agent_daemon.hiding import is_searched_for
from agent_daemon.protocol.paths import Root
from supervisor.cli.editor import change_in_memory
from supervisor.cli.output import ago, json_option, note, print_json, say, show, table
from supervisor.cli.place import complete_from, existing_root
from supervisor.config import load_config
from supervisor.core.secret_settings import SECRET_NAME
from supervisor.errors import CloudCodeError, user_name
from supervisor.secrets.age_file import MAX_VALUE_BYTES, AgeFile, Secret
from supervisor.secrets.places import places_of
from supervisor.secrets.sources import open_age_file, open_store
from supervisor.secrets.use import read_uses

_complete = complete_from(lambda root: sorted(_kept(root).read()))
name_argument = click.argument("name", metavar="NAME", shell_complete=_complete)


def _kept(root: Root) -> AgeFile:
    """The file of secrets; CloudCodeError E_SECRETS_ELSEWHERE where they are not kept in one."""
    settings = load_config(root).secrets
    if settings.backend != "age":
        message = f"The secrets of this root are in {_BACKENDS[settings.backend]}, and not ours to keep."
        raise CloudCodeError("E_SECRETS_ELSEWHERE", message, open_store(root, settings).mend("NAME"))
    return open_age_file(root, settings)


_BACKENDS = {"vault": "a Vault", "env": "variables around the supervisor"}


def _found(kept: AgeFile, name: str) -> Secret:
    secrets = kept.read()
    if name not in secrets:
        known = ", ".join(sorted(secrets)[:8]) or "none yet"
        mend = f"Known are: {known}. `cloud-code secret set {name}` makes it."
        raise CloudCodeError("E_NO_SECRET", f"There is no secret '{name}'.", mend)
    return secrets[name]


@click.command("set")
@name_argument
@click.pass_context
def set_secret(ctx: click.Context, name: str) -> None:
    """Keep a secret under NAME, as forges/github: typed in (not shown), or from standard input.

    \b
    cloud-code secret set forges/github
    cloud-code secret set forges/app < app.pem
    """
    if not re.fullmatch(SECRET_NAME, name) or len(name) > 100:
        mend = "Use small letters, digits, '.', '_' and '-', in up to five parts between slashes: forges/github."
        raise CloudCodeError("E_SECRET_NAME", f"'{name}' is no name of a secret.", mend)
    kept = _kept(existing_root(ctx))
    new_identity = not kept.identity.given and not kept.identity.path.exists()
    before = name in kept.read()
    _put(kept, name, _ask(name))
    say(f"{name}: {'changed' if before else 'kept'}, encrypted in {kept.path}")
    if new_identity:
        note(f"Made {kept.identity.path}, which opens it: back that up, apart from the root.")


@click.command()
@name_argument
@click.option("--reveal", is_flag=True, help="Print it to a terminal, too.")
@click.pass_context
def get(ctx: click.Context, name: str, reveal: bool) -> None:
    """Print a secret as it is, into a pipe or a file; to a terminal with --reveal only."""
    secret = _found(_kept(existing_root(ctx)), name)
    if sys.stdout.isatty() and not reveal:
        message = f"{name} would be shown on the terminal."
        raise CloudCodeError("E_SECRET_SHOWN", message, "Add --reveal if that is meant, or use a pipe.")
    value = secret.value.get_secret_value()
    click.echo(value, nl=sys.stdout.isatty())


@click.command("list")
@json_option
@click.pass_context
def list_secrets(ctx: click.Context, as_json: bool) -> None:
    """List the secrets by name, never their values: who set them, when last used, and what names them."""
    root = existing_root(ctx)
    config = load_config(root)
    uses, places = read_uses(root), places_of(config)
    if config.secrets.backend == "age":
        secrets = open_age_file(root, config.secrets).read()
        rows = [
            _row(name, secrets.get(name), uses.get(name), places.get(name, ())) for name in {*secrets, *places}
        ]
    else:  # of others is known what config.yaml names
        store = open_store(root, config.secrets)
        rows = [
            SecretRow(name=name, is_set=store.get(name) is not None, last_used_at=uses.get(name), named_by=named)
            for name, named in places.items()
        ]
    rows.sort(key=lambda row: row.name)
    if as_json:
        print_json(rows)
    elif not rows:
        note("There are no secrets yet: `cloud-code secret set NAME` keeps one.")
    else:
        columns = ("NAME", "VALUE", "CREATED BY", "CHANGED", "LAST USED", "NAMED BY")
        show(table(columns, [_cells(row) for row in rows]))


@dataclass(frozen=True, kw_only=True)
class SecretRow:
    """One line of the listing; without times it is named by the configuration and not there."""

    name: str
    is_set: bool
    created_at: datetime | None = None
    created_by: str | None = None
    changed_at: datetime | None = None
    changed_by: str | None = None
    last_used_at: datetime | None = None
    named_by: tuple[str, ...] = ()


def _row(name: str, secret: Secret | None, used: datetime | None, places: tuple[str, ...]) -> SecretRow:
    if secret is None:
        return SecretRow(name=name, is_set=False, named_by=places)
    facts = secret.model_dump(exclude={"value"})
    return SecretRow(name=name, is_set=True, last_used_at=used, named_by=places, **facts)


def _cells(row: SecretRow) -> tuple[object, ...]:
    used = ago(row.last_used_at) if row.last_used_at is not None else "never" if row.is_set else ""
    changed = ago(row.changed_at) if row.changed_at is not None else ""
    value = "••••••••" if row.is_set else "MISSING"
    return row.name, value, row.created_by or "", changed, used, ", ".join(row.named_by)


@click.command("rm")
@click.argument("names", metavar="NAME...", nargs=-1, required=True, shell_complete=_complete)
@click.pass_context
def remove(ctx: click.Context, names: tuple[str, ...]) -> None:
    """Remove secrets. What names them in config.yaml is told, and asks for them in vain from now on."""
    root = existing_root(ctx)
    config = load_config(root)
    kept = open_age_file(root, config.secrets)
    for name in names:
        _found(kept, name)

    def update(secrets: dict[str, Secret]) -> None:
        for name in names:
            secrets.pop(name, None)

    kept.change(update)
    say(f"removed: {', '.join(names)}")
    places = places_of(config)
    for name in names:
        for place in places.get(name, ()):
            note(f"{place} still names {name}.")


@click.command()
@name_argument
@click.pass_context
def edit(ctx: click.Context, name: str) -> None:
    """Open a secret in $VISUAL or $EDITOR. Its text lies in memory-backed storage until the editor ends."""
    kept = _kept(existing_root(ctx))
    before = _found(kept, name).value.get_secret_value()
    after = change_in_memory(before)
    if after in (before, before + "\n"):
        say(f"{name}: not changed")
        return
    _put(kept, name, after)
    say(f"{name}: changed")


@click.command()
@click.argument("name", metavar="[NAME]", required=False, shell_complete=_complete)
@click.pass_context
def rotate(ctx: click.Context, name: str | None) -> None:
    """Give the secret NAME another value; without a NAME, encrypt all of them for a new identity.

    The old identity opens older copies of the file, and nothing of what is set from then on.
    """
    kept = _kept(existing_root(ctx))
    if name is None:
        kept.rotate_identity()
        say(f"{kept.path} is encrypted for a new identity, which is in {kept.identity.path}: back that up anew.")
        return
    _found(kept, name)
    _put(kept, name, _ask(name))
    say(f"{name}: changed; it is read anew whenever it is needed")


def _ask(name: str) -> str:
    """The value: typed twice without being shown, or all of standard input."""
    if sys.stdin.isatty():
        return str(click.prompt(f"value of {name}", hide_input=True, confirmation_prompt="once more", err=True))
    data = sys.stdin.buffer.read(MAX_VALUE_BYTES + 2)
    try:
        return data.decode()
    except UnicodeDecodeError:
        mend = "Encode it first, as with `base64`."
        raise CloudCodeError("E_SECRET_VALUE", f"The value of {name} is no text.", mend) from None


def _put(kept: AgeFile, name: str, given: str) -> None:
    """Keep the value; a last line break is no part of it, except of a text of several lines."""
    value = given.removesuffix("\n").removesuffix("\r") if given.count("\n") == 1 else given
    if not value.strip() or "\0" in value or len(value.encode()) > MAX_VALUE_BYTES:
        mend = f"Give a text of 1 to {MAX_VALUE_BYTES} bytes, without NUL."
        raise CloudCodeError("E_SECRET_VALUE", f"That cannot be the value of {name}.", mend)
    kept.change(_setting(name, value))
    if not is_searched_for(value):
        note(f"{name} is too short to be told from other text: what leaves is not searched for it.")


def _setting(name: str, value: str) -> Callable[[dict[str, Secret]], None]:
    now, who = datetime.now(UTC).replace(microsecond=0), os.environ.get("SUDO_USER") or user_name(os.getuid())

    def update(secrets: dict[str, Secret]) -> None:
        old = secrets.get(name)
        secrets[name] = Secret(
            value=SecretStr(value),
            created_at=old.created_at if old is not None else now,
            created_by=old.created_by if old is not None else who,
            changed_at=now,
            changed_by=who,
        )

    return update
