"""`cloud-code workstation clis`: the coding CLIs of each workstation, and whether they answer."""

from contextlib import nullcontext

import click

from agent_daemon.protocol.money import amount
from supervisor.app import DRIVERS
from supervisor.cli.output import json_option, note, print_json, progress, show, state_text, table, text
from supervisor.cli.place import complete_workstation, existing_root
from supervisor.config import load_config
from supervisor.errors import CloudCodeError
from supervisor.installed_clis import FoundCli, find_clis
from supervisor.logins import compared, look_key
from supervisor.stations import configured_stations


@click.command()
@click.argument("name", metavar="[NAME]", required=False, shell_complete=complete_workstation)
@click.option("--probe", is_flag=True, help="Make one call of each, with a prompt of a few words; it may cost.")
@json_option
@click.pass_context
def clis(ctx: click.Context, name: str | None, probe: bool, as_json: bool) -> int:
    """Show the coding CLIs of every workstation, or of one: program, version, key or login.

    They are looked for with the environment of the workstation's daemon; of keys only the names are shown. With
    --probe each is asked for one word, in an empty folder and for at most a minute. A login that several of them
    have is told. Exit code 1 if a program is missing or a probe fails.
    """
    root = existing_root(ctx)
    config = load_config(root)
    stations = [(station, kind) for station, kind in configured_stations(config) if name in (None, kind, station)]
    if not stations:
        there = ", ".join(config.workstations)
        raise CloudCodeError("E_NO_WORKSTATION", f"There is no workstation '{name}'.", f"There are types {there}.")
    found, key = list[FoundCli](), look_key(root, config)
    for station, kind in stations:
        driver = DRIVERS[config.workstations[kind].driver](root, config)
        asked = find_clis(root, config, driver, station, kind, probe=probe, key=key)
        for cli in config.clis_of_station(kind):
            if probe:
                note(f"asking {cli} of {station} …")
            with nullcontext() if probe else progress(f"looking at {cli} of {station}"):
                found.append(next(asked))
    found = compared(root, config, found)
    if as_json:
        print_json(found)
    else:
        show(table(("", "WORKSTATION", "CLI", "VERSION", "LOGIN", "FOUND"), [_row(each) for each in found]))
    return 1 if any(_fails(each) for each in found) else 0


def _fails(found: FoundCli) -> bool:
    probe = found.cli.probe
    return found.cli.program is None or (probe is not None and probe.outcome != "completed")


def _row(found: FoundCli) -> tuple[object, ...]:
    cli, lines = found.cli, [found.cli.program or ""]
    if cli.probe is not None and cli.probe.outcome == "completed":
        cost = f"{amount(cli.probe.cost_usd)} USD" if cli.probe.cost_usd is not None else "cost not told"
        tokens = cli.probe.input_tokens + cli.probe.output_tokens
        lines.append(f"it answered after {cli.probe.seconds:g} s: {tokens} tokens, {cost}")
    lines += [f"{said}\n→ {mend}" if mend else said for said, mend in found.faults]
    state = "error" if _fails(found) else "warning" if found.faults else "ok"
    told = text("\n".join(filter(None, lines)), lines=True)
    return state_text(state), found.workstation, cli.name, cli.version, cli.login, told
