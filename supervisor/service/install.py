"""The steps by which Cloud Code becomes a service of a host, and is brought up to date there."""

import os
import shlex
import stat
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

from supervisor import __version__
from supervisor.core import unit
from supervisor.errors import CloudCodeError, user_name
from supervisor.service.host import UNIT, UNITS_FOLDER, Host, asked, call, show
from supervisor.service.steps import Step

LINK = "/usr/local/bin/cloud-code"
ENGINE_GROUP = "docker"
# A supervisor with much to take up says that it goes on, and systemd waits.
RESTART_SECONDS = 1800
_ENVIRONMENT = """\
# Variables for the supervisor, one NAME=value a line: keys of coding CLIs that config.yaml names under
# `pass_environment`, or DOCKER_HOST. Root alone can read this file. After a change: systemctl restart cloud-code
"""


def install_steps(host: Host, units: Mapping[str, str], make_root: Callable[[], None]) -> Iterator[Step]:
    """From nothing to a service that is enabled; `make_root` writes the example configuration, as its user."""
    yield from _user_steps(host)
    yield _folder_step(host, unit.HOME, 0o700)
    yield _folder_step(host, host.root, 0o750)
    place = host.at(host.root)
    yield Step(
        what=f"{host.root / 'config.yaml'}: an example to edit, and the folders of a root",
        command=f"sudo -u {host.user} {host.program} init {host.root}",
        is_done=lambda: (place / "config.yaml").exists() and _is_of_group(place / "state" / "commands"),
        do=make_root,
    )
    yield from _settings_steps(host)
    yield from unit_steps(host, units)
    if host.is_this:
        yield Step(
            what="the service starts with the system",
            command=f"systemctl enable {' '.join(units)}",
            is_done=lambda: all(asked("systemctl", "is-enabled", name) == "enabled" for name in units),
            do=partial(call, "systemctl", "enable", "--quiet", *units),
        )
    yield link_step(host)


def link_step(host: Host) -> Step:
    """The command where everybody finds it; a program or a link of somebody else's stays."""
    link = host.at(LINK)

    def is_done() -> bool:
        if not link.is_symlink():
            return link.exists()
        target = link.readlink()
        return str(target) == host.program or target.name != Path(host.program).name

    def do() -> None:
        link.parent.mkdir(parents=True, exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to(host.program)

    return Step(
        what=f"{LINK}: the command for everybody",
        command=f"ln -sf {host.program} {LINK}",
        is_done=is_done,
        do=do,
    )


def _user_steps(host: Host) -> Iterator[Step]:
    group = ["--gid", host.user] if host.user in host.groups() else ["--user-group"]
    making = ["useradd", *host.prefix, "--system", *group, "--home-dir", unit.HOME, "--no-create-home"]
    making += ["--shell", "/usr/sbin/nologin", "--comment", "Cloud Code", host.user]
    yield Step(
        what=f"the user {host.user}, who cannot log in",
        command=shlex.join(making),
        is_done=lambda: host.ids() is not None,
        do=partial(call, *making),
    )
    if ENGINE_GROUP in host.groups():
        joining = ["usermod", *host.prefix, "--append", "--groups", ENGINE_GROUP, host.user]
        yield Step(
            what=f"{host.user} may use the Docker engine",
            command=shlex.join(joining),
            is_done=lambda: host.user in host.groups().get(ENGINE_GROUP, ()),
            do=partial(call, *joining),
        )


def _settings_steps(host: Host) -> Iterator[Step]:
    file = host.at(unit.SETTINGS) / "environment"
    yield Step(
        what=f"{unit.SETTINGS}/environment: variables for the service, readable for root alone",
        command=f"install -D -m 600 /dev/null {unit.SETTINGS}/environment",
        is_done=file.exists,
        do=partial(write_text, file, _ENVIRONMENT, 0o600),
    )


def _folder_step(host: Host, path: str | Path, mode: int) -> Step:
    place = host.at(path)

    def do() -> None:
        ids = host.ids()
        if ids is None:
            raise CloudCodeError("E_INSTALL", f"There is no user {host.user}.")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.mkdir(mode=0o700, exist_ok=True)  # (its parents are root's: nobody puts something else there)
        os.chown(place, *ids)
        place.chmod(mode)

    def is_done() -> bool:
        if not place.is_dir():
            return False
        owner, ids = place.stat().st_uid, host.ids()
        if owner == 0 and set(os.listdir(place)) <= {"lost+found"}:  # such as a disk of its own
            return False
        if ids is not None and owner != ids[0]:
            raise CloudCodeError(
                "E_INSTALL_OWNER",
                f"{path} belongs to {user_name(owner)}, and the service works as {host.user}.",
                f"sudo chown -R {host.user}: {path}, or name the user with --user.",
            )
        return True

    made = f"install -d -m {mode:o} -o {host.user} -g {host.user} {path}"
    return Step(what=f"{path}: a folder of {host.user}", command=made, is_done=is_done, do=do)


def unit_steps(host: Host, units: Mapping[str, str]) -> Iterator[Step]:
    """Every unit as this version has it; one that somebody has changed is kept, and the new one laid beside it."""
    for name, text in units.items():
        rendered = unit.render(text, user=host.user, root=str(host.root), programs=host.programs)
        yield _unit_step(host, name, unit.marked(rendered, __version__))
    if host.is_this:
        yield Step(
            what="systemd knows the units as they are",
            command="systemctl daemon-reload",
            is_done=lambda: show().get("LoadState") == "loaded" and show().get("NeedDaemonReload") == "no",
            do=partial(call, "systemctl", "daemon-reload"),
        )


def unit_place(host: Host, name: str = UNIT) -> Path:
    return host.at(UNITS_FOLDER) / name


def _unit_step(host: Host, name: str, wanted: str) -> Step:
    place, shown = unit_place(host, name), f"{UNITS_FOLDER}/{name}"

    def kept() -> str:
        text = read_unit(place)
        if text is None or unit.examine(text).untouched:
            return ""
        return (
            f"somebody changed it, so that it stays; this version's is {shown}.new. Changes of yours are best in "
            f"a drop-in (`systemctl edit {name}`): then delete the unit, and give this command again"
        )

    def do() -> None:
        beside = place.with_name(f"{name}.new")
        if kept():
            write_text(beside, wanted, 0o644)
        else:
            write_text(place, wanted, 0o644)
            beside.unlink(missing_ok=True)

    return Step(
        what=f"{shown}: the unit, of version {__version__}",
        command=f"write {shown} from systemd/{name}",
        is_done=lambda: read_unit(place) == wanted,
        kept=kept,
        do=do,
    )


def restart_step() -> Step:
    """A supervisor of this version instead of the one that runs; agents go on meanwhile."""
    return Step(
        what="the supervisor runs in this version; agents work on meanwhile",
        command=f"systemctl restart {UNIT}",
        do=_restart,
    )


def _restart() -> None:
    try:
        call("systemctl", "restart", UNIT, seconds=RESTART_SECONDS)
    except CloudCodeError as error:
        log = asked("journalctl", f"_SYSTEMD_UNIT={UNIT}", "--output=cat", "--lines=2") or error.message
        said = " ".join(log.split())[-700:]
        raise CloudCodeError(
            "E_UPGRADE",
            f"The supervisor does not start in version {__version__}. Its log ends: {said}",
            f"journalctl -u {UNIT} -o cat -n 50 shows more. It is tried again every few seconds, and agents "
            "work on meanwhile. To go back: install the former version of the package in the same place, and "
            "then `sudo cloud-code upgrade` (docs/install.md, Going back).",
        ) from None


def _is_of_group(folder: Path) -> bool:
    """Whether what is written there is of the folder's group, so that the supervisor can read it."""
    return folder.is_dir() and bool(folder.stat().st_mode & stat.S_ISGID)


def read_unit(path: Path) -> str | None:
    try:
        return path.read_text()
    except FileNotFoundError:
        return None


def write_text(path: Path, text: str, mode: int) -> None:
    """Replace a file of root's as a whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)
    with fresh.open("x", encoding="utf-8") as file:
        fresh.chmod(mode)
        file.write(text)
    fresh.replace(path)
