"""One login of a subscription copied to several workstations: noticed, and told with what mends it.

They are compared by marks under a key of the root. Whoever has a token could tell its mark; nobody else can tell
anything from a mark but that two are alike.
"""

import os
import secrets
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import chain
from pathlib import Path

from agent_daemon.clis import ADAPTERS
from agent_daemon.logins import key_of, lineages, login_files, renews
from agent_daemon.places import shared_homes
from agent_daemon.protocol.errors import Problem, ProtocolError
from agent_daemon.protocol.paths import Root
from supervisor.core.lineage import Holder, Seen, Shared, shared_logins, who_has
from supervisor.core.settings import Config
from supervisor.core.words import count
from supervisor.doctor import Check
from supervisor.errors import CloudCodeError
from supervisor.installed_clis import FoundCli, find_logins, has_login, logins_of
from supervisor.ports import Workstations
from supervisor.root_identity import root_id_of
from supervisor.stations import configured_stations, passed_variables

E_SHARED = "E_LOGIN_SHARED"
_OWN_HOME = "your own home"
_AT_ONCE = 4


def look_key(root: Root, config: Config) -> bytes:
    """The key of the marks, that of the daemons; where nothing ever ran there is none of theirs."""
    try:
        return key_of(config.id or root_id_of(root))
    except (CloudCodeError, ProtocolError, OSError):
        return secrets.token_bytes(32)


def check_logins(root: Root, config: Config, driver_of: Callable[[str], Workstations]) -> Iterator[Check]:
    """Whether a login that is renewed is in several places; nothing where no CLI has such a login."""
    stations = [
        (name, kind)
        for name, kind in configured_stations(config)
        if root.workspace(name).is_dir() and any(has_login(config, cli) for cli in config.clis_of_station(kind))
    ]
    key = look_key(root, config)
    drivers = {kind: driver_of(kind) for kind in {kind for _, kind in stations}}

    def look(station: tuple[str, str]) -> Sequence[Seen] | CloudCodeError:
        name, kind = station
        try:
            return find_logins(root, config, drivers[kind], name, kind, key=key)
        except CloudCodeError as error:
            return error

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        found = dict(zip((name for name, _ in stations), pool.map(look, stations), strict=True))
    seen = [one for each in found.values() if not isinstance(each, CloudCodeError) for one in each]
    for shared in shared_logins([*seen, *(_own_logins(config, key) if seen else ())]):
        if any(one.workstation != _OWN_HOME for one in shared.now):
            said, mend = told_shared(root, config, shared)
            yield Check(name="logins", status="warning", detail=said, mend=mend)
    unseen = {name: each.message for name, each in found.items() if isinstance(each, CloudCodeError)}
    if seen or unseen:
        yield Check(name="logins", status="ok", detail=_looked_at(seen, unseen))


def _own_logins(config: Config, key: bytes) -> list[Seen]:
    """Those of the user who looks, of which a workstation's may be a copy."""
    clis = {cli for kind in config.workstations for cli in config.clis_of_station(kind)}
    abouts = {
        adapter: ADAPTERS[adapter].ABOUT for adapter in sorted({config.cli(cli).adapter or cli for cli in clis})
    }
    return [
        Seen(Holder(_OWN_HOME, adapter, one.login), one.place, one.mark)
        for adapter, about in abouts.items()
        for one in lineages(login_files(about, Path(os.environ.get("HOME", "/nonexistent")), os.environ), key)
    ]


def _looked_at(seen: Sequence[Seen], unseen: Mapping[str, str]) -> str:
    """How many there are, and who could not be asked: they with the reason of the first, mostly that of all."""
    there = len({one.mark for one in seen if not one.past})
    told = [f"{count(there, 'login')} of subscriptions found"] if there else []
    if unseen:
        (first, why), *others = unseen.items()
        listed = (f"{first} ({why.removesuffix('.')})", *(name for name, _ in others))
        told.append(f"not looked at: {', '.join(listed)}")
    return "; ".join(told)


def compared(root: Root, config: Config, found: Iterable[FoundCli]) -> list[FoundCli]:
    """With what shares its login with others, and without the marks by which that is known."""
    clis = list(found)
    shared = shared_logins(chain.from_iterable(logins_of(each.workstation, each.cli) for each in clis))
    return [_with_shared(root, config, each, shared) for each in clis]


def _with_shared(root: Root, config: Config, found: FoundCli, shared: Sequence[Shared]) -> FoundCli:
    faults, others = list(found.faults), list[Holder]()
    for each in shared:
        here = [one for one in each.now if (one.workstation, one.cli) == (found.workstation, found.cli.name)]
        if here:
            faults.append(told_shared(root, config, each, here[0]))
            others += [one for one in each.holders if one not in here]
    unmarked = replace(found.cli, lineages=None)
    return replace(found, cli=unmarked, faults=tuple(faults), shares_login_with=tuple(dict.fromkeys(others)))


def told_shared(root: Root, config: Config, shared: Shared, here: Holder | None = None) -> tuple[str, str]:
    """What is wrong about a login that several have, as one of them sees it or as a whole, and what to do."""
    others = [one for one in shared.now if one != here]
    parts = [f"that of {who_has(others)}"] if others else []
    parts += [f"what {who_has(shared.before)} had before"] if shared.before else []
    what = "one login is" if here is None else f"the login in {here.login} is also"
    said = f"{E_SHARED}: {what} {' and '.join(parts)}; whoever renews it logs out the others"
    copies = [one for one in shared.now if one.workstation != _OWN_HOME]
    return said, _mend(root, config, here or copies[-1], alive=not shared.before)


def _mend(root: Root, config: Config, holder: Holder, *, alive: bool) -> str:
    if holder.login.startswith("variable "):
        variable = holder.login.removeprefix("variable ")
        return f"take {variable} out of what its CLIs are passed, and log in at each workstation by itself"
    which = "keep it at one of them; at each other" if alive else "at each that has it now"
    command = log_in_command(root, config, holder)
    return f"{which} remove that file, without a `logout`, and log in there: {command}"


def log_in_command(root: Root, config: Config, holder: Holder) -> str:
    """What a person types to log a CLI in at its workstation."""
    settings = config.cli(holder.cli)
    about = ADAPTERS[settings.adapter or holder.cli].ABOUT
    home = shared_homes(root, holder.workstation) / holder.cli
    moved = {name: str(home / folder) for name, folder in about.folders.items()} | {"HOME": str(home)}
    configured = {name: value for name, value in settings.environment.items() if name in moved}
    places = " ".join(f"{name}={shlex.quote(value)}" for name, value in sorted((moved | configured).items()))
    return f"cloud-code workstation shell {holder.workstation} env {places} {about.log_in}"


def shared_variables(config: Config, root: Root) -> list[Problem]:
    """Variables that hand one login that is renewed to several workstations, as they would be set from here."""
    takers: dict[tuple[str, str], int] = {}
    for kind, station in config.workstations.items():
        clis = [config.cli(name) for name in config.clis_of_station(kind)]
        given = passed_variables(config, kind)
        named = {name: given[name] for cli in clis for name in cli.variables if name in given}
        for name, value in (named | {k: v for cli in clis for k, v in cli.environment.items()}).items():
            if renews(name, value):
                takers[name, value] = takers.get((name, value), 0) + station.most
    return [
        Problem(
            code=E_SHARED,
            message=f"the variable {name} hands one login to {count(number, 'workstation')}; the first that "
            "renews it logs out the others",
            file=str(root.config),
            mend="log in at each workstation by itself, or use a key",
        )
        for (name, _), number in takers.items()
        if number > 1
    ]
