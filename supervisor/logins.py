"""One login of a subscription copied to several workstations: noticed, and told with what mends it.

The logins are compared by marks under a key that is made for one look and kept nowhere: not the root's id, which
stands in every label and tasking, so that no mark means anything to whoever sees it, or another day.
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
from agent_daemon.logins import lineages, login_files, renews
from agent_daemon.places import shared_homes
from agent_daemon.protocol.errors import Problem
from agent_daemon.protocol.paths import Root
from supervisor.core.lineage import Holder, Seen, shared_logins, who_has
from supervisor.core.settings import Config
from supervisor.core.words import count
from supervisor.doctor import Check
from supervisor.errors import CloudCodeError
from supervisor.installed_clis import FoundCli, find_logins, has_login, logins_of
from supervisor.ports import Workstations
from supervisor.stations import configured_stations, passed_variables

E_SHARED = "E_LOGIN_SHARED"
_OWN_HOME = "your own home"
_AT_ONCE = 4


def new_key() -> bytes:
    """The key of one look, for all workstations alike."""
    return secrets.token_bytes(32)


def check_logins(root: Root, config: Config, driver_of: Callable[[str], Workstations]) -> Iterator[Check]:
    """Whether a login that is renewed is in several places; nothing where no CLI has such a login."""
    stations = [
        (name, kind)
        for name, kind in configured_stations(config)
        if root.workspace(name).is_dir() and any(has_login(config, cli) for cli in config.clis_of_station(kind))
    ]
    key, drivers = new_key(), {kind: driver_of(kind) for kind in dict.fromkeys(kind for _, kind in stations)}

    def look(station: tuple[str, str]) -> Sequence[Seen] | CloudCodeError:
        name, kind = station
        try:
            return find_logins(root, config, drivers[kind], name, kind, key=key)
        except CloudCodeError as error:
            return error

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        found = dict(zip((name for name, _ in stations), pool.map(look, stations), strict=True))
    seen = [one for each in found.values() if not isinstance(each, CloudCodeError) for one in each]
    for holders in shared_logins([*seen, *(_own_logins(config, key) if seen else ())]):
        if any(one.workstation != _OWN_HOME for one in holders):
            said, mend = told_shared(root, config, holders)
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
        for one in lineages(login_files(about, Path.home(), os.environ), {}, key)
    ]


def _looked_at(seen: Sequence[Seen], unseen: Mapping[str, str]) -> str:
    """How many there are, and who could not be asked: they with the reason of the first, mostly that of all."""
    told = [f"{count(len({one.mark for one in seen}), 'login')} of subscriptions found"] if seen else []
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


def _with_shared(root: Root, config: Config, found: FoundCli, shared: Sequence[Sequence[Holder]]) -> FoundCli:
    faults, others = list(found.faults), list[Holder]()
    for holders in shared:
        here = [one for one in holders if (one.workstation, one.cli) == (found.workstation, found.cli.name)]
        if here:
            faults.append(told_shared(root, config, holders, here[0]))
            others += [one for one in holders if one not in here]
    unmarked = replace(found.cli, lineages=None)
    return replace(found, cli=unmarked, faults=tuple(faults), shares_login_with=tuple(dict.fromkeys(others)))


def told_shared(
    root: Root, config: Config, holders: Sequence[Holder], here: Holder | None = None
) -> tuple[str, str]:
    """What is wrong about a login that several have, as one of them sees it or as a whole, and what to do."""
    if here is not None:
        others = who_has(one for one in holders if one != here)
        said = f"{E_SHARED}: the login in {here.login} is also that of {others}"
    else:
        said = f"{E_SHARED}: one login is that of {who_has(holders)}"
    said += "; the first that renews it logs out the others"
    copies = [one for one in holders if one.workstation != _OWN_HOME]
    return said, _mend(root, config, here or copies[-1])


def _mend(root: Root, config: Config, holder: Holder) -> str:
    if holder.login.startswith("variable "):
        variable = holder.login.removeprefix("variable ")
        return f"take {variable} out of what its CLIs are passed, and log in at each workstation by itself"
    command = log_in_command(root, config, holder)
    return (
        f"keep it at one of them; at each other remove that file, without a `logout`, and log in there: {command}"
    )


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
