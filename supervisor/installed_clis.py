"""What there is of the coding CLIs of each workstation, asked in the place of its agent."""

import json
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from agent_daemon.clis import ADAPTERS
from agent_daemon.clis.base import Usage
from agent_daemon.installed import PROBE_SECONDS, VERSION_SECONDS, Installed, Probe, look_at
from agent_daemon.logins import MARK, Lineage, lineages
from agent_daemon.meter import cost_usd, price_of
from agent_daemon.places import shared_homes
from agent_daemon.protocol.model import Identity
from agent_daemon.protocol.paths import Root
from agent_daemon.request import settings_of
from supervisor.asking import ask
from supervisor.core.lineage import Holder, Seen
from supervisor.core.settings import Config
from supervisor.core.tasking import cli_config
from supervisor.errors import CloudCodeError
from supervisor.ports import Workstations
from supervisor.stations import passed_variables

_HERE = (sys.executable, "-m", "agent_daemon")
# By its path: what is first on the PATH of a container, its agents may have put there.
_THERE = ("/opt/cloud-code/daemon/bin/agent-daemon",)
_LOOK_SECONDS = 30
_ANSWER_SECONDS = 2 * VERSION_SECONDS + PROBE_SECONDS + 30
_NEWER = "Bring it to the version of this supervisor."
_MOST_LINEAGES = 500


@dataclass(frozen=True, kw_only=True)
class FoundCli:
    """A CLI of a workstation; `faults` say what is wrong with it, with what mends that, the gravest first."""

    workstation: str
    cli: Installed
    faults: tuple[tuple[str, str], ...] = ()
    shares_login_with: tuple[Holder, ...] = ()


def find_clis(
    root: Root, config: Config, driver: Workstations, name: str, kind: str, *, probe: bool, key: bytes
) -> Iterator[FoundCli]:
    """The CLIs of one workstation, each as soon as it is known; CloudCodeError where they cannot be asked for.

    The renewable logins that they have are marked with the `key`.
    """
    command = _command(root, config, name, kind, *(("--probe",) if probe else ()))
    variables = driver.variables(name) or passed_variables(config, kind)
    for cli in config.clis_of_station(kind):
        told = _question(config, cli, variables, key=key.hex())
        found = _read(ask(driver.enter(name, command, terminal=False), told, _ANSWER_SECONDS))
        yield judged(name, _with_cost(found, config.cli(cli).model or "", config), given=gets_keys(config, kind))


def find_logins(
    root: Root, config: Config, driver: Workstations, name: str, kind: str, *, key: bytes
) -> tuple[Seen, ...]:
    """The renewable logins of one workstation, marked with the `key`; no CLI is started. CloudCodeError.

    Those in variables are seen from here. Its daemon is told of variables those that say where a home is.
    """
    clis = [cli for cli in config.clis_of_station(kind) if has_login(config, cli)]
    variables = driver.variables(name) or passed_variables(config, kind)
    told = [
        _question(config, cli, _places_among(config, cli, variables), key=key.hex(), only_logins=True)
        for cli in clis
    ]
    entry = driver.enter(name, _command(root, config, name, kind), terminal=False)
    found = [_read(line) for line in ask(entry, "\n".join(told), _LOOK_SECONDS).splitlines()]
    if [cli.name for cli in found] != clis or any(cli.lineages is None for cli in found):
        raise CloudCodeError("E_CLI_NOT_ASKED", "Its daemon does not tell of logins.", _NEWER)
    passed = [replace(cli, lineages=_in_variables(config, cli.name, variables, key)) for cli in found]
    return tuple(one for cli in (*found, *passed) for one in logins_of(name, cli))


def _places_among(config: Config, cli: str, variables: Mapping[str, str]) -> dict[str, str]:
    folders = ADAPTERS[config.cli(cli).adapter or cli].ABOUT.folders
    return {name: value for name, value in variables.items() if name in ("HOME", *folders)}


def _in_variables(config: Config, cli: str, variables: Mapping[str, str], key: bytes) -> tuple[Lineage, ...]:
    return lineages(
        (), key, given={name: variables[name] for name in config.cli(cli).variables if name in variables}
    )


def logins_of(workstation: str, cli: Installed) -> Iterator[Seen]:
    """The renewable logins that a CLI has; a variable is a place for each."""
    for one in cli.lineages or ():
        place = one.place or f"{workstation} {cli.name}"
        yield Seen(Holder(workstation, cli.name, one.login), place, one.mark, one.past)


def has_login(config: Config, cli: str) -> bool:
    """Whether a CLI can have a login that is renewed: in a file that is known, or in a variable."""
    settings = config.cli(cli)
    return bool(ADAPTERS[settings.adapter or cli].ABOUT.logins or settings.pass_environment)


def _command(root: Root, config: Config, name: str, kind: str, *options: str) -> tuple[str, ...]:
    daemon = _THERE if config.workstations[kind].driver != "local" else _HERE
    return (*daemon, "clis", "--root", str(root.path), "--workstation", name, *options)


def _question(config: Config, cli: str, variables: Mapping[str, str], **more: object) -> str:
    """For standard input: the variables hold keys, which no command line and no engine is to show."""
    described = cli_config(cli, config.cli(cli))
    return json.dumps({"variables": dict(variables), "cli": described.model_dump(mode="json"), **more})


def look_from_here(root: Root, config: Config, kind: str, name: str) -> FoundCli:
    """A CLI as the first workstation of a type would find it, if its daemon were started from here."""
    workstation = f"{kind}-1"
    environment = {"PATH": os.environ.get("PATH", os.defpath), **passed_variables(config, kind)}
    settings = settings_of(cli_config(name, config.cli(name)), Identity(), shared_homes(root, workstation))
    return judged(workstation, look_at(settings, environment), given=gets_keys(config, kind))


def _read(line: str) -> Installed:
    """What a daemon of another version tells besides is passed over; CloudCodeError where it tells too little."""
    try:
        value = _known(Installed, json.loads(line))
        probe, lineages = value.pop("probe", None), _told_lineages(value.pop("lineages", None))
        lists = {key: tuple(found) for key, found in value.items() if isinstance(found, list)}
        told = Probe(**_known(Probe, probe)) if probe else None
        return Installed(**{**value, **lists}, probe=told, lineages=lineages)
    except (ValueError, TypeError, AttributeError, KeyError):
        said = f"Its daemon, perhaps of another version, does not tell of its CLIs: {line[:200]!r}"
        raise CloudCodeError("E_CLI_NOT_ASKED", said, _NEWER) from None


def _told_lineages(told: Any) -> tuple[Lineage, ...] | None:
    """What is no mark, or tells more than its login and place, is passed over."""
    if told is None:
        return None
    return tuple(
        Lineage(
            login=str(each["login"])[:200],
            place=str(each["place"])[:100],
            mark=each["mark"],
            past=each.get("past") is True,
        )
        for each in told[:_MOST_LINEAGES]
        if MARK.fullmatch(each["mark"])
    )


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


def gets_keys(config: Config, kind: str) -> bool:
    """Whether its attempts have something granted from their beginning, which may be the key of a CLI."""
    return any(
        rule.granted == "at_start" and kind in (settings.specialists or (kind,))
        for settings in config.credentials.values()
        for rule in settings.access.values()
    )


def judged(workstation: str, cli: Installed, *, given: bool) -> FoundCli:
    """With what is wrong about it; `given`: its attempts may get its key by themselves."""
    return FoundCli(workstation=workstation, cli=cli, faults=tuple(_faults(cli, given=given)))


def not_found(cli: Installed) -> str:
    """That its program is missing, as it was looked for: by a path, or by its name on the PATH."""
    return "is not there, or is no program" if "/" in cli.wanted else "is not on PATH"


def install_hint(cli: Installed) -> str:
    """What brings a missing program here."""
    if "/" in cli.wanted:
        return f"install it there, or correct the path in config.yaml, clis.{cli.name}.argv"
    return cli.install or f"install it, or give the whole path in config.yaml, clis.{cli.name}.argv"


def _faults(cli: Installed, *, given: bool) -> Iterator[tuple[str, str]]:
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
    elif not cli.keys and not cli.logins and not given and cli.adapter != "command":
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
