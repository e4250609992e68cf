"""What the service lacks on this host, each lack with what mends it."""

import ctypes
import grp
import os
import pwd
import shutil
import socket
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as TooLate
from pathlib import Path
from urllib.parse import urlsplit

from agent_daemon.protocol.paths import Root
from supervisor import __version__
from supervisor.config import load_config
from supervisor.core import unit
from supervisor.core.settings import Config
from supervisor.core.unit import Written
from supervisor.doctor import Check
from supervisor.errors import CloudCodeError, user_name
from supervisor.running import running_supervisor
from supervisor.service.host import UNIT, Host, asked, show
from supervisor.service.install import ENGINE_GROUP, unit_place

NAME = UNIT.removesuffix(".service")
JOURNAL_GROUPS = frozenset({"systemd-journal", "adm", "wheel"})
RESOLUTION_SECONDS = 5.0
_TIME_ERROR = 5  # adjtimex(2)


def check_service(root: Root) -> Iterator[Check]:
    """Look at the service of this root, the clock and the names; never raises for what it finds."""
    try:
        config: Config | None = load_config(root)
    except CloudCodeError:
        config = None  # said elsewhere
    yield from _service(root, config)
    yield synchronised_check(clock_is_synchronised())
    if config is not None:
        hosts = sorted(forge_hosts(config))
        yield from (name_check(host, resolves(host)) for host in hosts)


def _service(root: Root, config: Config | None) -> Iterator[Check]:
    place = unit_place(Host(root=root.path))
    if not place.exists():
        yield from _session(config)
        return
    text = place.read_text()
    user, served = unit.installed_for(text)
    if served is not None and Path(served) != root.path:
        yield Check(name="service", status="ok", detail=f"the service of this host works on {served}")
        return
    yield unit_check(unit.examine(text), place.with_name(f"{UNIT}.new").exists())
    seen = show()
    yield from state_checks(seen)
    if config is not None and "ReadWritePaths" in seen:
        yield from push_checks(root.path, config, seen["ReadWritePaths"].split())
    running = running_supervisor(root)
    if running is not None and running.program_version != __version__:
        detail = f"the supervisor runs in version {running.program_version}, and this program is {__version__}"
        yield Check(name="service", status="warning", detail=detail, mend="sudo cloud-code upgrade")
    if user_name(os.geteuid()) != user:  # (who runs it, and reads nothing there)
        yield journal_check(os.geteuid(), own_groups())
    if user is not None and config is not None and any(s.driver == "docker" for s in config.workstations.values()):
        yield engine_group_check(user, Host(root=root.path).groups())


def unit_check(written: Written, beside: bool) -> Check:
    """Whether the unit is of this version, and nobody's changes keep it from being so."""
    if beside or not written.untouched:
        detail = "the unit was changed by hand, and is not what this version would install"
        mend = f"move its changes into a drop-in (sudo systemctl edit {NAME}), delete it, sudo cloud-code upgrade"
        return Check(name="unit", status="warning", detail=detail, mend=mend)
    if written.version != __version__:
        detail = f"the unit is of version {written.version}, and this program is {__version__}"
        return Check(name="unit", status="warning", detail=detail, mend="sudo cloud-code upgrade")
    return Check(name="unit", status="ok", detail=f"of version {__version__}")


def state_checks(seen: dict[str, str]) -> Iterator[Check]:
    """What systemd says of the service; nothing where it was not asked."""
    if not seen:
        yield Check(
            name="service", status="warning", detail="systemd cannot be asked", mend=f"systemctl status {NAME}"
        )
        return
    state = f"{seen.get('ActiveState', 'unknown')} ({seen.get('SubState', '')})"
    if seen.get("ActiveState") in ("active", "reloading"):
        restarts = seen.get("NRestarts", "0")
        more = f", restarted {restarts} times by systemd" if restarts not in ("", "0") else ""
        yield Check(name="service", status="ok", detail=f"{state}, process {seen.get('MainPID')}{more}")
    elif seen.get("ActiveState") == "failed" or seen.get("SubState") == "auto-restart":
        detail = f"{state}: {seen.get('Result')}"
        mend = f"journalctl -u {NAME} -n 50 -o cat says why; then sudo systemctl start {NAME}"
        yield Check(name="service", status="error", detail=detail, mend=mend)
    else:
        yield Check(name="service", status="warning", detail=state, mend=f"sudo systemctl start {NAME}")
    if seen.get("NeedDaemonReload") == "yes":
        detail = "a unit or a drop-in was changed, and systemd has not read it"
        mend = f"sudo systemctl daemon-reload && sudo systemctl restart {NAME}"
        yield Check(name="service", status="warning", detail=detail, mend=mend)
    if seen.get("UnitFileState") not in ("enabled", "enabled-runtime"):
        detail = "it does not start with the system"
        yield Check(name="service", status="warning", detail=detail, mend=f"sudo systemctl enable {NAME}")


def push_checks(root: Path, config: Config, writable: Iterable[str]) -> Iterator[Check]:
    """Whether the service can push to repositories that are folders of this host: where its unit says."""
    places = [Path(place.lstrip("-+")) for place in writable]
    for name, project in config.projects.items():
        repository = project.repository.removeprefix("file://")
        if project.forge != "local" or not repository.startswith(("/", ".")):
            continue
        place = (root / repository).resolve()
        if not any(place.is_relative_to(one) for one in places):
            detail = f"the service cannot write in {place}, and so cannot push what was done for {name}"
            mend = f"`sudo systemctl edit {NAME}`: [Service], ReadWritePaths={place}; then restart it"
            yield Check(name="service", status="error", detail=detail, mend=mend)


def journal_check(uid: int, groups: Iterable[str]) -> Check:
    """Whether this user can read the log of the service."""
    if uid == 0 or JOURNAL_GROUPS.intersection(groups):
        return Check(name="journal", status="ok", detail=f"journalctl -u {NAME} -o cat")
    detail = f"{user_name(uid)} cannot read the log of the service"
    mend = f"sudo usermod -aG systemd-journal {user_name(uid)}, then log in anew"
    return Check(name="journal", status="warning", detail=detail, mend=mend)


def engine_group_check(user: str, groups: dict[str, list[str]]) -> Check:
    """Whether the user of the service may use the Docker engine."""
    if user in groups.get(ENGINE_GROUP, ()):
        return Check(name="service user", status="ok", detail=f"{user} is in the group {ENGINE_GROUP}")
    mend = f"sudo usermod -aG {ENGINE_GROUP} {user} && sudo systemctl restart {NAME}"
    if ENGINE_GROUP not in groups:
        mend = f"sudo apt-get install docker.io && {mend}"
    detail = f"{user} is not in the group {ENGINE_GROUP}: it may not use the Docker engine of this host"
    return Check(name="service user", status="warning", detail=detail, mend=mend)


def _session(config: Config | None) -> Iterator[Check]:
    """Without a service: whether what runs in a terminal survives that its user logs out."""
    local = config is not None and any(s.driver == "local" for s in config.workstations.values())
    detail = "it is no service of this host" + (": the driver `local` is not for one" if local else "")
    yield Check(name="service", status="ok", detail=f"{detail}; `sudo cloud-code install` makes it one")
    user = user_name(os.geteuid())
    if shutil.which("loginctl") is None or os.geteuid() == 0:
        return
    found = linger_check(user, asked("loginctl", "show-user", user, "--property=Linger"), kills_at_logout())
    if found is not None:
        yield found


def linger_check(user: str, said: str | None, kills: bool) -> Check | None:
    """Whether logind ends what this user leaves running, such as tmux with the supervisor in it."""
    if not kills or said is None or said == "Linger=yes":
        return None
    detail = f"at the log-out of {user} everything that runs is ended, in tmux too (KillUserProcesses)"
    return Check(name="linger", status="warning", detail=detail, mend=f"sudo loginctl enable-linger {user}")


def kills_at_logout() -> bool:
    """What logind's configuration says (logind.conf(5)); the last word counts."""
    said = False
    for path in (Path("/etc/systemd/logind.conf"), *sorted(Path("/etc/systemd/logind.conf.d").glob("*.conf"))):
        try:
            lines = path.read_text().splitlines()
        except OSError:
            continue
        for line in lines:
            name, _, value = line.strip().partition("=")
            if name == "KillUserProcesses":
                said = value.strip().casefold() in ("yes", "true", "on", "1")
    return said


def own_groups() -> set[str]:
    names = set()
    for number in os.getgroups():
        try:
            names.add(grp.getgrgid(number).gr_name)
        except KeyError:
            continue
    try:
        user = pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return names
    return names | {group.gr_name for group in grp.getgrall() if user in group.gr_mem}


# --- the clock and the names ------------------------------------------------------------------------------


def clock_is_synchronised() -> bool | None:
    """Whether the kernel takes its clock for right (adjtimex(2)); None where that cannot be asked."""
    libc = ctypes.CDLL(None, use_errno=True)
    state = libc.adjtimex(ctypes.create_string_buffer(512))
    return None if state < 0 else state != _TIME_ERROR


def synchronised_check(synchronised: bool | None) -> Check:
    if synchronised is None or synchronised:
        return Check(
            name="clock source", status="ok", detail="synchronised" if synchronised else "cannot be asked"
        )
    detail = "nothing keeps the clock right: times, quotas and tokens of forges go wrong with it"
    mend = "sudo timedatectl set-ntp true (sudo apt-get install systemd-timesyncd)"
    mend += "; where that is set already, `timedatectl timesync-status`: no server of time was reached yet"
    return Check(name="clock source", status="warning", detail=detail, mend=mend)


def forge_hosts(config: Config) -> set[str]:
    """The hosts on which the projects lie, as far as an address names one."""
    found = set()
    for project in config.projects.values():
        usual = {"github": "https://github.com", "gitlab": "https://gitlab.com"}.get(project.forge, "")
        address = project.url or (usual if project.forge != "local" else project.repository)
        host = urlsplit(address).hostname if "://" in address else None
        if host:
            found.add(host)
    return found


def resolves(host: str) -> str | None:
    """None where the name is found, else why it is not."""
    looking = ThreadPoolExecutor(max_workers=1)
    try:
        looking.submit(socket.getaddrinfo, host, 443).result(timeout=RESOLUTION_SECONDS)
    except TooLate:
        return f"no answer within {RESOLUTION_SECONDS:.0f} s"
    except OSError as error:
        return error.strerror or str(error)
    finally:
        looking.shutdown(wait=False, cancel_futures=True)
    return None


def name_check(host: str, problem: str | None) -> Check:
    if problem is None:
        return Check(name=f"name {host}", status="ok", detail="it is found")
    mend = f"see /etc/resolv.conf and `getent hosts {host}`: this host's name resolution does not work"
    return Check(name=f"name {host}", status="error", detail=f"it is not found: {problem}", mend=mend)
