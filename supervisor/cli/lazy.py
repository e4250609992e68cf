"""A click group whose commands are imported when they are used: a listing or a completion imports none."""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import click


@dataclass(frozen=True)
class Entry:
    """Where a command lies, as ``module:name``, and its line in the listing."""

    place: str
    help: str

    def load(self) -> click.Command:
        module, _, name = self.place.partition(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        command.short_help = self.help
        if not any(parameter.name == "root" for parameter in command.params):
            command.params.append(click.Option(["--root"], expose_value=False, callback=_take_root, **ROOT_OPTION))
        return command


ROOT_OPTION: Final[dict[str, Any]] = {
    "type": click.Path(),
    "metavar": "FOLDER",
    "help": "The root to work on. Without it: $CLOUD_CODE_ROOT, else the current folder if it holds a "
    "config.yaml, else /srv/cloud-code.",
}


def _take_root(ctx: click.Context, _parameter: click.Parameter, given: str | None) -> None:
    """`--root` after a command is what it is before it; the one that is given last counts."""
    if given is None:
        return
    from supervisor.cli.place import find_root

    above: click.Context | None = ctx
    while above is not None:
        above.obj = find_root(given)
        above = above.parent
    ctx.find_root().params["root"] = given


class LazyGroup(click.Group):
    """Give `entries` by name, in the order in which they are listed."""

    def __init__(self, *arguments: Any, entries: Mapping[str, Entry], **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.entries = entries

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.entries)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = self.entries.get(cmd_name)
        return entry.load() if entry is not None else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.help) for name, entry in self.entries.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        import difflib

        if args and args[0] not in self.entries and not args[0].startswith("-"):
            near = difflib.get_close_matches(args[0], self.entries, n=1)
            hint = f" Did you mean '{near[0]}'?" if near else ""
            ctx.fail(f"There is no command '{args[0]}'.{hint} '{ctx.command_path} --help' lists them.")
        return super().resolve_command(ctx, args)
