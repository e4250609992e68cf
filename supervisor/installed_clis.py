"""What there is of the coding CLIs of each workstation, asked in the place of its agent."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Any

from agent_daemon.clis import ADAPTERS
from agent_daemon.clis.base import Usage
from agent_daemon.installed import PROBE_SECONDS, VERSION_SECONDS, Installed, Probe, look_at
from agent_daemon.meter import cost_usd, price_of
from agent_daemon.places import shared_homes
from agent_daemon.protocol.model import Identity
from agent_daemon.protocol.paths import Root
from agent_daemon.request import settings_of
from supervisor.core.settings import Config
from supervisor.core.tasking import cli_config
from supervisor.errors import CloudCodeError
from supervisor.ports import Entry, Workstations
from supervisor.stations import passed_variables

_HERE = (sys.executable, "-m", "agent_daemon")
_SLACK_SECONDS = 30


@dataclass(frozen=True, kw_only=True)
class FoundCli:
    """A CLI of a workstation; `faults` say what is wrong with it, with what mends that, the gravest first."""

    workstation: str
    cli: Installed
    faults: tuple[tuple[str, str], ...] = ()


def find_clis(
    root: Root, config: Config, driver: Workstations, name: str, kind: str, *, probe: bool
) -> Iterator[FoundCli]:
    """The CLIs of one workstation, each as soon as it is known; CloudCodeError where they cannot be asked for."""
    daemon = ("agent-daemon",) if config.workstations[kind].driver != "local" else (*_HERE,)
    command = (*daemon, "clis", "--root", str(root.path), "--workstation", name, *(("--probe",) if probe else ()))
    variables = driver.variables(name) or passed_variables(config, kind)
    for cli in config.clis_of_station(kind):
        described = cli_config(cli, config.cli(cli))
        # On standard input: the variables hold keys, which no command line and no engine is to show.
        told = json.dumps({"variables": dict(variables), "cli": described.model_dump(mode="json")})
        found = _read(_ask(driver.enter(name, command, terminal=False), told))
        yield judged(name, _with_cost(found, described.model or "", config))


def look_from_here(root: Root, config: Config, kind: str, name: str) -> FoundCli:
    """A CLI as the first workstation of a type would find it, if its daemon were started from here."""
    workstation = f"{kind}-1"
    environment = {"PATH": os.environ.get("PATH", os.defpath), **passed_variables(config, kind)}
    settings = settings_of(cli_config(name, config.cli(name)), Identity(), shared_homes(root, workstation))
    return judged(workstation, look_at(settings, environment))


def _ask(entry: Entry, told: str) -> str:
    limit = 2 * VERSION_SECONDS + PROBE_SECONDS + _SLACK_SECONDS
    try:
        done = subprocess.run(
            entry.argv,
            input=told,
            capture_output=True,
            text=True,
            env=dict(entry.environment),
            timeout=limit,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise CloudCodeError("E_CLI_NOT_ASKED", f"There was no answer within {limit} s.", "Try again.") from None
    if done.returncode:
        said = done.stderr.strip().rpartition("\n")[2][:500]
        raise CloudCodeError("E_CLI_NOT_ASKED", f"The CLIs could not be looked for: {said}", "")
    return done.stdout


def _read(line: str) -> Installed:
    """What a daemon of another version tells besides is passed over; CloudCodeError where it tells too little."""
    try:
        value = _known(Installed, json.loads(line))
        probe = value.pop("probe", None)
        lists = {key: tuple(found) for key, found in value.items() if isinstance(found, list)}
        return Installed(**{**value, **lists}, probe=Probe(**_known(Probe, probe)) if probe else None)
    except (ValueError, TypeError, AttributeError):
        said = f"Its daemon, perhaps of another version, does not tell of its CLIs: {line[:200]!r}"
        mend = "Bring it to the version of this supervisor."
        raise CloudCodeError("E_CLI_NOT_ASKED", said, mend) from None


def _known(kind: type[Installed] | type[Probe], value: dict[str, Any]) -> dict[str, Any]:
    names = {field.name for field in fields(kind)}
    return {key: found for key, found in value.items() if key in names}


def _with_cost(cli: Installed, model: str, config: Config) -> Installed:
    """With what its probe cost by the configured prices, where it does not tell that itself."""
    probe, price = cli.probe, price_of(model, config.prices)
    if probe is None or probe.cost_usd is not None or price is None:
        return cli
    usage = Usage(input_tokens=probe.input_tokens, output_tokens=probe.output_tokens)
    return replace(cli, probe=replace(probe, cost_usd=cost_usd(usage, price)))


def judged(workstation: str, cli: Installed) -> FoundCli:
    """With what is wrong about it."""
    return FoundCli(workstation=workstation, cli=cli, faults=tuple(_faults(cli)))


def not_found(cli: Installed) -> str:
    """That its program is missing, as it was looked for: by a path, or by its name on the PATH."""
    return "is not there, or is no program" if "/" in cli.wanted else "is not on PATH"


def install_hint(cli: Installed) -> str:
    """What brings a missing program here."""
    if "/" in cli.wanted:
        return f"install it there, or correct the path in config.yaml, clis.{cli.name}.argv"
    return cli.install or f"install it, or give the whole path in config.yaml, clis.{cli.name}.argv"


def _faults(cli: Installed) -> Iterator[tuple[str, str]]:
    if cli.program is None:
        yield f"the program {cli.wanted} {not_found(cli)}", install_hint(cli)
        return
    if cli.probe is not None and cli.probe.outcome != "completed":
        yield f"the probe ended as {cli.probe.outcome}: {cli.probe.message}", ""
    if cli.is_old:
        mend = f"{cli.install}@latest" if cli.install.startswith("npm ") else cli.install
        yield f"version {cli.version} is older than any that was tried, {cli.tried}", mend
    if cli.node:
        mend = "install Node 22 or newer, then install the CLI again"
        yield f"it runs beside Node {cli.node}: npm then silently installs old versions", mend
    if cli.missing:
        names = ", ".join(cli.missing)
        mend = "set it around `cloud-code run`, then `cloud-code workstation restart`"
        yield f"{names} {'are' if len(cli.missing) > 1 else 'is'} to be passed on, and not set", mend
    elif not cli.keys and not cli.logins and cli.adapter != "command":
        mend = f"name the variable with its key: clis.{cli.name}.pass_environment"
        yield "neither a key nor a login is found", mend


def missing_programs(config: Config) -> Iterator[tuple[str, str, Installed]]:
    """The CLIs whose programs are not there, for a daemon started from here: type, name, what is known."""
    for kind, station in config.workstations.items():
        if station.driver != "local":
            continue
        path = station.environment.get("PATH", os.environ.get("PATH", os.defpath))
        for name in config.clis_of_station(kind):
            cli = config.cli(name)
            adapter = ADAPTERS[cli.adapter or name]
            wanted = cli.argv[0] if cli.argv else adapter.PROGRAM
            if shutil.which(wanted, path=cli.environment.get("PATH", path)) is None:
                known = Installed(name=name, adapter=cli.adapter or name, wanted=wanted, install=adapter.INSTALL)
                yield kind, name, known
