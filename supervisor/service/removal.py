"""The steps by which the service goes, and with `--purge` everything that it made."""

import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path

from supervisor.core import unit
from supervisor.service.host import UNITS_FOLDER, Host, call, show
from supervisor.service.install import LINK, read_unit, unit_place
from supervisor.service.steps import Step


def uninstall_steps(
    host: Host, units: Mapping[str, str], end_agents: Callable[[], None], left: Iterable[Step] = ()
) -> Iterator[Step]:
    """The service goes; what it made and was told stays.

    `left`: the steps that end what the supervisor has not, once it is stopped.
    """
    if host.is_this:
        yield Step(
            what="the workstations are ended: nobody would look after them; what they hold is kept",
            command=f"{host.program} --root {host.root} workstation stop --all",
            is_done=lambda: show().get("ActiveState") != "active",
            do=end_agents,
        )
        there = [name for name in units if unit_place(host, name).exists()]
        yield Step(
            what="the service is stopped, and starts no more with the system",
            command=f"systemctl disable --now {' '.join(there)}",
            is_done=lambda: not there,
            do=partial(call, "systemctl", "disable", "--quiet", "--now", *there),
        )
    yield from left
    for name in units:
        yield _unit_removal(host, name)
    if host.is_this:
        yield Step(
            what="systemd forgets the units",
            command="systemctl daemon-reload",
            is_done=lambda: all(show(name).get("LoadState") == "not-found" for name in units),
            do=partial(call, "systemctl", "daemon-reload"),
        )
    link = host.at(LINK)
    yield Step(
        what=f"{LINK} goes",
        command=f"rm {LINK}",
        is_done=lambda: not link.is_symlink() or str(link.readlink()) != host.program,
        do=link.unlink,
    )


def _unit_removal(host: Host, name: str) -> Step:
    place = unit_place(host, name)
    beside = place.with_name(f"{name}.new")

    def kept() -> str:
        text = read_unit(place)
        changed = text is not None and not unit.examine(text).untouched
        return f"somebody changed it: remove it yourself (`rm {UNITS_FOLDER}/{name}`)" if changed else ""

    def do() -> None:
        beside.unlink(missing_ok=True)
        if not kept():
            place.unlink(missing_ok=True)

    return Step(
        what=f"{UNITS_FOLDER}/{name} goes",
        command=f"rm {UNITS_FOLDER}/{name}",
        is_done=lambda: not place.exists() and not beside.exists(),
        kept=kept,
        do=do,
    )


def purge_steps(host: Host, end_containers: Callable[[], None], engine: Iterable[Step]) -> Iterator[Step]:
    """Everything else goes, too: tasks, saved work, secrets, settings, the user.

    `engine`: the steps that take back what was set of the engine, once it has nothing of this root any more.
    """
    if host.is_this:
        yield Step(
            what="containers, volumes and networks of this root are removed",
            command="docker rm, docker volume rm, docker network rm (label cloud-code.root)",
            is_done=lambda: not host.root.is_dir(),
            do=end_containers,
        )
    yield from engine
    for path in (host.root, Path(unit.SETTINGS), Path(unit.HOME)):
        place = host.at(path)
        yield Step(
            what=f"{path} goes, with everything in it",
            command=f"rm -r {path}",
            is_done=partial(_is_gone, place),
            do=partial(_remove, place),
        )
    yield Step(
        what=f"the user {host.user} goes",
        command=" ".join(["userdel", *host.prefix, host.user]),
        is_done=lambda: host.ids() is None,
        kept=_kept_user(host),
        do=_remove_user(host),
    )


def _kept_user(host: Host) -> Callable[[], str]:
    return lambda: "" if host.is_own_user() else "it is a person's, or another program's: it stays"


def _remove_user(host: Host) -> Callable[[], object]:
    return lambda: call("userdel", *host.prefix, host.user) if host.is_own_user() else None


def _is_gone(folder: Path) -> bool:
    """Of a file system of its own only what is in it can go."""
    return not folder.exists() or (folder.is_mount() and set(os.listdir(folder)) <= {"lost+found"})


def _remove(folder: Path) -> None:
    if not folder.is_mount():
        shutil.rmtree(folder)
        return
    for entry in folder.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()
    os.chown(folder, 0, 0)
