"""What this host lacks for the supervisor of a root, each lack with what mends it."""

import os
import platform
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from agent_daemon.protocol.paths import Root
from supervisor.config import check_installation, load_config
from supervisor.core.disk import gibibytes
from supervisor.core.forge import Finding
from supervisor.core.settings import Config, WebhookListener, WorkstationSettings
from supervisor.core.words import count
from supervisor.disk import low_problem, seen_state
from supervisor.errors import CloudCodeError
from supervisor.installed_clis import FoundCli, look_from_here
from supervisor.price_check import unpriced
from supervisor.reader import is_locked
from supervisor.running import running_supervisor
from supervisor.service.host import start_command

TESTED_GIT = (2, 39)
FREE_ERROR_BYTES = 500 * 1024**2
FREE_WARNING_BYTES = 5 * 1024**3
# Every watched folder takes an instance in the supervisor, and each local daemon some of its own.
INSTANCES_PER_WORKSTATION = 4
CLOCK_SLACK_SECONDS = 300

_NETWORK = frozenset({"nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs", "ceph", "glusterfs", "lustre", "afs"})
_MEMORY = frozenset({"tmpfs", "ramfs"})

Status = Literal["ok", "warning", "error"]


@dataclass(frozen=True, kw_only=True)
class Check:
    """One thing that was looked at; `mend` is a command or a sentence, empty when all is well."""

    name: str
    status: Status
    detail: str
    mend: str = ""


CheckProject = Callable[[Root, Config, str], Iterable[Finding]]
CheckDriver = Callable[[Config, str], Iterable[Check]]
CheckRoot = Callable[[Root, Config], Iterable[Check]]


def examine(
    root: Root,
    check_project: CheckProject,
    check_driver: CheckDriver,
    check_secrets: CheckRoot,
    check_logins: CheckRoot,
) -> Iterator[Check]:
    """Look at everything, one after the other; never raises for what it finds.

    `check_project` tells what a project lacks; `check_driver` what the driver of a type of workstations does;
    `check_secrets` what is wrong with the root's own secrets, `check_logins` with those of coding CLIs.
    """
    yield _python()
    yield from _programs()
    yield _installation()
    yield from _folder(root)
    config, check = _configuration(root)
    yield check
    if config is not None:
        yield _room(root, config)
        yield price_check(config)
    yield _inotify(config)
    if config is not None:
        for kind, station in config.workstations.items():
            yield from _station(root, config, kind, station, check_driver)
        yield from check_logins(root, config)
        yield from check_secrets(root, config)
        for name in config.projects:
            yield project_check(name, check_project(root, config, name))
        if config.webhooks is not None:
            yield listener_check(config.webhooks, is_open(config.webhooks), runs=is_locked(root))
    yield _clock(root)
    yield _lock(root)


def told(name: str, look: Callable[[], str]) -> Check:
    """What `look` says, or the reason that it raises."""
    try:
        return Check(name=name, status="ok", detail=look())
    except CloudCodeError as error:
        return Check(name=name, status="error", detail=f"{error.code}: {error.message}", mend=error.mend)
    except OSError as error:
        return Check(name=name, status="error", detail=f"{error.filename or name}: {error.strerror}")


# --- programs -----------------------------------------------------------------------------------------


def _python() -> Check:
    return Check(name="python", status="ok", detail=f"{platform.python_version()} ({sys.executable})")


def _programs() -> Iterator[Check]:
    yield git_check(_output(["git", "--version"]))
    found = shutil.which("prlimit")
    if found:
        yield Check(name="prlimit", status="ok", detail=found)
    else:
        detail = "prlimit is not there, which limits what git may use"
        yield Check(name="prlimit", status="error", detail=detail, mend="sudo apt-get install util-linux")


def git_check(said: str | None) -> Check:
    """Whether the git that said this about its version is there and new enough."""
    found = re.search(r"(\d+)\.(\d+)", said or "")
    if said is None or found is None:
        return Check(name="git", status="error", detail="git is not installed", mend="sudo apt-get install git")
    version = (int(found[1]), int(found[2]))
    if version >= TESTED_GIT:
        return Check(name="git", status="ok", detail=said)
    wanted = ".".join(map(str, TESTED_GIT))
    detail = f"{said}; it is tested with {wanted} and newer"
    return Check(name="git", status="warning", detail=detail, mend=f"install git {wanted} or newer")


def _output(argv: list[str]) -> str | None:
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _installation() -> Check:
    def look() -> str:
        check_installation()
        return "no other distribution has the same import name"

    return told("installation", look)


# --- the root -----------------------------------------------------------------------------------------


def _folder(root: Root) -> Iterator[Check]:
    if not root.path.is_dir():
        detail = f"{root.path} is not there"
        yield Check(name="root", status="error", detail=detail, mend=f"cloud-code init {root.path}")
        return
    if not os.access(root.path, os.W_OK | os.X_OK):
        mend = f"sudo chown -R {os.getuid()} {root.path}, or run this as the user of the supervisor"
        yield Check(name="root", status="error", detail=f"{root.path} cannot be written", mend=mend)
    else:
        yield file_system_check(root.path, file_system(root.path, Path("/proc/self/mountinfo").read_text()))
    yield disk_check(root.path, shutil.disk_usage(root.path).free)


def file_system(path: Path, mounts: str) -> str:
    """The type of the file system that holds `path`, by the kernel's table of mounts."""
    best, kind = -1, "unknown"
    for line in mounts.splitlines():
        left, _, right = line.partition(" - ")
        fields, more = left.split(), right.split()
        if len(fields) < 5 or not more:
            continue
        point = re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), fields[4])
        if path.is_relative_to(point) and len(point) >= best:
            best, kind = len(point), more[0]
    return kind


def file_system_check(path: Path, kind: str) -> Check:
    """Whether this type of file system suits a root."""
    detail = f"{path} on {kind}"
    if kind in _NETWORK:
        detail += ": without events from the file system, changes are noticed within a second only"
        return Check(name="root", status="warning", detail=detail, mend="put the root on a disk of this host")
    if kind in _MEMORY:
        detail += ": nothing in it outlives a restart of the host"
        return Check(name="root", status="warning", detail=detail, mend="put the root on a disk of this host")
    return Check(name="root", status="ok", detail=detail)


def disk_check(path: Path, free_bytes: int) -> Check:
    """Whether there is room for clones, worktrees and bundles."""
    detail = f"{free_bytes / 1024**3:.1f} GiB free"
    if free_bytes >= FREE_WARNING_BYTES:
        return Check(name="disk", status="ok", detail=detail)
    status: Status = "error" if free_bytes < FREE_ERROR_BYTES else "warning"
    mend = f"make room on the disk of {path}: `du -xh --max-depth=2 {path} | sort -h` shows what takes it"
    return Check(name="disk", status=status, detail=detail, mend=mend)


def _room(root: Root, config: Config) -> Check:
    """Whether an attempt may begin, by the marks of the configuration."""
    state = seen_state(root, config.disk)
    low = low_problem(state) if state is not None else None
    if state is None or low is None:
        mark = f"; no attempt begins below {gibibytes(state.stop_below_bytes)}" if state is not None else ""
        return Check(name="room", status="ok", detail=f"attempts may begin{mark}")
    return Check(name="room", status="error", detail=f"{low.code}: {low.message}", mend=low.mend)


def _configuration(root: Root) -> tuple[Config | None, Check]:
    try:
        config = load_config(root)
    except CloudCodeError as error:
        return None, Check(name="config", status="error", detail=f"{error.code}: {error.message}", mend=error.mend)
    detail = f"{count(len(config.projects), 'project')}, {count(len(config.workstations), 'type')} of workstation"
    return config, Check(name="config", status="ok", detail=detail)


def price_check(config: Config) -> Check:
    """Whether every CLI that runs against a limit of cost has a price, if it needs one."""
    found = [f"{cli} ({where})" for cli, where in unpriced(config)]
    if not found:
        return Check(name="prices", status="ok", detail="every limit of cost can be held")
    detail = f"a limit of cost, no word of the cost, and no price for the model: {', '.join(found)} is not run"
    return Check(name="prices", status="error", detail=detail, mend="add its model to `prices` in config.yaml")


def _inotify(config: Config | None) -> Check:
    stations = sum(station.most for station in config.workstations.values()) if config else 1
    folder = Path("/proc/sys/fs/inotify")
    try:
        instances = int((folder / "max_user_instances").read_text())
        watches = int((folder / "max_user_watches").read_text())
    except (OSError, ValueError):
        detail = "the limits cannot be read; without file events the sweep carries on, within a second"
        return Check(name="inotify", status="warning", detail=detail)
    return inotify_check(instances, watches, stations)


def inotify_check(instances: int, watches: int, workstations: int) -> Check:
    """Whether the kernel lets this many workstations be watched."""
    detail = f"max_user_instances {instances}, max_user_watches {watches}"
    wanted = 16 + INSTANCES_PER_WORKSTATION * workstations
    short = [
        f"fs.inotify.{name}={max(wanted, least)}"
        for name, found, least in (("max_user_instances", instances, 512), ("max_user_watches", watches, 65536))
        if found < wanted
    ]
    if not short:
        return Check(name="inotify", status="ok", detail=detail)
    detail += f"; {count(workstations, 'workstation')} may need about {wanted} of each"
    return Check(name="inotify", status="warning", detail=detail, mend=f"sudo sysctl -w {' '.join(short)}")


# --- what the configuration names ---------------------------------------------------------------------


def _station(
    root: Root, config: Config, kind: str, station: WorkstationSettings, check_driver: CheckDriver
) -> Iterator[Check]:
    for name in config.clis_of_station(kind) if station.driver == "local" else ():
        yield cli_check(kind, look_from_here(root, config, kind, name))
    if station.driver == "local":
        yield Check(
            name=f"workstation {kind}",
            status="warning",
            detail="the driver `local` isolates nothing: its agents may do whatever this user may",
            mend="fine for trying out with repositories you trust",
        )
    yield from check_driver(config, kind)


def cli_check(kind: str, found: FoundCli) -> Check:
    """A coding CLI for workstations of this type: whether it is there, new enough, and has a key."""
    cli, label = found.cli, f"{kind}: {found.cli.name}"
    if not found.faults:
        return Check(name=label, status="ok", detail=f"{cli.program} {cli.version} ({cli.login})")
    said = "; ".join(fault for fault, _ in found.faults)
    detail = said if cli.program is None else f"{cli.program} {cli.version}: {said}"
    status: Status = "error" if cli.program is None else "warning"
    return Check(name=label, status=status, detail=detail, mend=found.faults[0][1])


def project_check(name: str, findings: Iterable[Finding]) -> Check:
    """All that was found of a project as one thing: the gravest lack with its mend, and how many more."""
    found = list(findings)
    lacks = sorted((finding for finding in found if not finding.ok), key=lambda finding: not finding.grave)
    if not lacks:
        told = [finding.message for finding in found if finding.what in ("account", "base branch", "budget")]
        return Check(name=f"project {name}", status="ok", detail="; ".join(told))
    detail = f"{lacks[0].what}: {lacks[0].message}"
    if len(lacks) > 1:
        detail += f" (and {count(len(lacks) - 1, 'more lack')}: `cloud-code project check {name}`)"
    return Check(name=f"project {name}", status=lacks[0].status, detail=detail, mend=lacks[0].mend)


def is_open(listener: WebhookListener) -> bool:
    """Whether somebody listens where webhooks are to be heard."""
    try:
        with socket.create_connection((listener.host, listener.port), timeout=2):
            return True
    except OSError:
        return False


def listener_check(listener: WebhookListener, open_there: bool, *, runs: bool) -> Check:
    """Whether webhooks are heard if a supervisor runs, and their port is free if none does."""
    where = f"{listener.host}, port {listener.port}"
    if open_there == runs:
        detail = f"heard on {where}" if runs else f"a supervisor will hear them on {where}"
        return Check(name="webhooks", status="ok", detail=detail)
    if runs:
        detail = f"nothing listens on {where}, although a supervisor runs"
        mend = "its log says why; forges are polled meanwhile. A changed config.yaml counts after a restart"
        return Check(name="webhooks", status="warning", detail=detail, mend=mend)
    detail = f"something else listens on {where}"
    return Check(name="webhooks", status="warning", detail=detail, mend="end it, or choose another webhooks.port")


# --- the rest -------------------------------------------------------------------------------------------


def _clock(root: Root) -> Check:
    try:
        newest = root.events.stat().st_mtime
    except OSError:
        newest = 0.0
    return clock_check(time.time(), newest)


def clock_check(now: float, newest_event: float) -> Check:
    """Whether the wall clock (seconds since 1970) can be right."""
    shown = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now))
    mend = "sudo timedatectl set-ntp true"
    if now < 1_735_689_600:  # this program was written after the beginning of 2025
        return Check(name="clock", status="error", detail=f"{shown}: long ago", mend=mend)
    if newest_event - now > CLOCK_SLACK_SECONDS:
        detail = f"{shown}: the newest event was written {newest_event - now:.0f} s later"
        return Check(name="clock", status="warning", detail=detail, mend=mend)
    return Check(name="clock", status="ok", detail=shown)


def _lock(root: Root) -> Check:
    def look() -> str:
        if not is_locked(root):
            return f"no supervisor runs: `{start_command(root.path)}` starts one"
        running = running_supervisor(root)
        return f"a supervisor runs, process {running.pid}" if running else "a supervisor runs"

    return told("supervisor", look)
