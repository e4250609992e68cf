"""`cloud-code install`, `upgrade` and `uninstall`: the supervisor as a service of this host."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import click
from rich.text import Text

from agent_daemon.protocol.paths import Root
from supervisor import __version__
from supervisor.cli.init import configuration, make_root
from supervisor.cli.output import note, progress, say, show, text
from supervisor.cli.place import USUAL_ROOT, VARIABLE
from supervisor.cli.reading import TASK_FILES, under_way
from supervisor.config import load_config
from supervisor.core import unit
from supervisor.egress.files import running_proxy
from supervisor.errors import CloudCodeError
from supervisor.events import read_events
from supervisor.packaged import packaged_folder
from supervisor.reader import Reader
from supervisor.running import running_supervisor
from supervisor.service import host as hosts
from supervisor.service.host import Host
from supervisor.service.install import install_steps, link_step, restart_step, unit_place, unit_steps
from supervisor.service.proxy import egress_step
from supervisor.service.remapping import Remapping
from supervisor.service.removal import purge_steps, uninstall_steps
from supervisor.service.steps import Step, carry_out
from supervisor.stations import load_station
from supervisor.workstations.engine import SYSTEM_SOCKET, Engine

END_SECONDS = 60.0
_STYLES = {"there": "dim", "done": "green", "would": "cyan", "kept": "yellow", "failed": "bold red"}
_WORDS = {"there": "is so", "done": "done", "would": "would be", "kept": "kept"}
_Command = TypeVar("_Command", bound=Callable[..., Any])


def _where(command: _Command) -> _Command:
    """The options that all three have."""
    command = click.option("--dry-run", "-n", is_flag=True, help="Change nothing: say every step.")(command)
    usual = f"The user of the service: as the unit says that is there, else {unit.USER}."
    command = click.option("--user", metavar="NAME", help=usual)(command)
    return click.option(
        "--destdir",
        type=click.Path(exists=True, file_okay=False, path_type=Path),
        default="/",
        help="Work below this folder instead of /, without speaking to systemd: for making packages and images.",
    )(command)


def _host(ctx: click.Context, user: str | None, destdir: Path, *, dry_run: bool) -> Host:
    """The host that is meant: its root and user are those of the options, of the unit, or the usual ones."""
    place = unit_place(Host(root=USUAL_ROOT, top=destdir.absolute()))
    told_user, told_root = unit.installed_for(place.read_text()) if place.exists() else (None, None)
    named = ctx.find_root().params.get("root") or os.environ.get(VARIABLE) or told_root or USUAL_ROOT
    root = Path(os.path.abspath(named))  # noqa: PTH100 (links are not followed)
    if told_root is not None and str(root) != told_root:
        raise CloudCodeError(
            "E_INSTALL_OTHER",
            f"The service of this host works on {told_root}, and there is one for each host.",
            f"Leave out --root, or remove it first: `cloud-code --root {told_root} uninstall`.",
        )
    found = Host(root=root, user=user or told_user or unit.USER, top=destdir.absolute())
    if not dry_run:
        found.refuse()
    return found


def _units() -> dict[str, str]:
    return {path.name: path.read_text() for path in sorted(packaged_folder("systemd").glob("*.service"))}


def _tell(steps: Iterable[Step], *, dry_run: bool) -> int:
    """Carry out and say each step; how many of them changed something, or would."""
    changed = 0
    for told in carry_out(steps, dry_run=dry_run):
        changed += told.outcome in ("done", "would")
        line = Text(f"{_WORDS[told.outcome]:10}", style=_STYLES[told.outcome])
        line.append_text(text(told.step.what))
        show(line)
        if told.note:
            show(text(f"→ {told.note}", indent=10))
    return changed


@click.command()
@_where
@click.option(
    "--userns-remap",
    is_flag=True,
    help="Have the Docker engine remap users, too, as `preset: free` needs it; it is restarted if you agree.",
)
@click.option("--yes", is_flag=True, help="With --userns-remap: do not ask.")
@click.pass_context
def install(
    ctx: click.Context, user: str | None, destdir: Path, dry_run: bool, userns_remap: bool, yes: bool
) -> None:
    """Make the supervisor a service of systemd: user, folders, example configuration, unit. Needs root.

    What is there stays as it is, a unit that somebody changed too (the new one is laid beside it); so it does no
    harm to give this again. The service is enabled, and started by you, once config.yaml says what to work on.
    """
    host = _host(ctx, user, destdir, dry_run=dry_run)
    example = configuration(None, None, None, service=True)
    from supervisor.app import GROUP_FOLDER  # (heavy; and its user may not reach it where another system is made)

    def make_shared(root: Root) -> None:
        if make_root(root, example):  # whoever is in its group may give commands, and so write tasks, too
            root.tasks.chmod(GROUP_FOLDER)

    def make() -> None:
        ids = host.ids()
        if ids is None:
            raise CloudCodeError("E_INSTALL", f"There is no user {host.user}.")
        root = Root(host.at(host.root))
        hosts.as_user(ids, lambda: make_shared(root))

    _tell(install_steps(host, _units(), make), dry_run=dry_run)
    if userns_remap:
        _tell(_remapping(host, yes=yes or dry_run).steps(), dry_run=dry_run)
    if not dry_run and host.is_this:
        _say_next(host)


def _remapping(host: Host, *, yes: bool) -> Remapping:
    def ask(question: str) -> bool:
        try:
            return yes or click.confirm(question, err=True)
        except click.Abort:  # nobody is there to ask
            return False

    def look() -> dict[str, Any]:
        try:
            return dict(Engine(SYSTEM_SOCKET).get("/info"))
        except CloudCodeError:
            return {}

    return Remapping(host, ask, look)


def _say_next(host: Host) -> None:
    if hosts.show().get("ActiveState") == "active":
        say(f"The service runs. After another version of the package: {host.program} upgrade")
        return
    option = "" if host.root == USUAL_ROOT else f" --root {host.root}"
    as_user = f"sudo -u {host.user} cloud-code{option}"
    say("Next:")
    for number, step in enumerate(
        (
            f"sudo -u {host.user} ${{EDITOR:-nano}} {host.root}/config.yaml: what to work on, and with which CLIs",
            f"{as_user} check && {as_user} workstation build && {as_user} doctor",
            f"sudo systemctl start {hosts.UNIT.removesuffix('.service')}, then `systemctl status cloud-code`",
            f"for yourself: sudo usermod -aG {host.user},systemd-journal $USER; log in anew; "
            f"cloud-code{option} status",
        ),
        1,
    ):
        say(f"  {number}. {step}")


@click.command()
@_where
@click.option(
    "--egress",
    is_flag=True,
    help="Restart an egress proxy that is another program now, although agents work: their connections break off.",
)
@click.pass_context
def upgrade(ctx: click.Context, user: str | None, destdir: Path, dry_run: bool, egress: bool) -> None:
    """Put this version of the program to work: its units, then the supervisor restarted. Needs root.

    First install the new version of the package into the same place. Agents work on meanwhile; the daemon of one
    whose protocol is too old is started anew as soon as it has nothing to do. The egress proxy, where this version
    changes it, is restarted when no attempt is under way. A configuration that this version cannot use is refused
    before anything is changed.
    """
    host = _host(ctx, user, destdir, dry_run=dry_run)
    if not unit_place(host).exists():
        raise CloudCodeError(
            "E_NOT_INSTALLED", "Cloud Code is no service of this host.", "sudo cloud-code install"
        )
    root = Root(host.root)
    if host.is_this:
        load_config(root)
    _tell((*unit_steps(host, _units()), link_step(host)), dry_run=dry_run)
    if not host.is_this:
        return
    if hosts.show().get("ActiveState") in ("active", "activating", "reloading"):
        _restart(root, dry_run=dry_run)
    else:
        say("The service does not run, and is not started: sudo systemctl start cloud-code")
    if running_proxy(root) is not None:  # (else systemd starts that of this version)
        at_work = () if egress else under_way(Reader(root, TASK_FILES))
        _tell([egress_step(root, at_work)], dry_run=dry_run)


def _restart(root: Root, *, dry_run: bool) -> None:
    running = running_supervisor(root)
    seq = _last_event(root)
    with progress("waiting for the supervisor to have started"):
        _tell([restart_step()], dry_run=dry_run)
    if not dry_run:
        before = f" (before: {running.program_version})" if running else ""
        say(f"The supervisor runs in version {__version__}{before}; {_adopted(root, seq)}.")


def _last_event(root: Root) -> int:
    return max((event["seq"] for event in read_events(root.events)), default=0)


def _adopted(root: Root, seq: int) -> str:
    """What the new supervisor found running; it is ready when it has looked."""
    found = [e for e in read_events(root.events, seq) if e["event"] == "workstation.adopted"]
    names = ", ".join(sorted(str(event.get("workstation")) for event in found))
    return f"it found running: {names}" if names else "no workstation ran"


@click.command()
@_where
@click.option("--purge", is_flag=True, help="Remove the root and everything in it, secrets and the user, too.")
@click.option("--yes", is_flag=True, help="Do not ask, neither with --purge nor before the engine is restarted.")
@click.pass_context
def uninstall(ctx: click.Context, user: str | None, destdir: Path, dry_run: bool, purge: bool, yes: bool) -> None:
    """End the service and remove its unit; the root, its settings and its user stay. Needs root.

    --purge removes these, too: tasks, work that is not pushed, secrets. It asks before that. What
    `install --userns-remap` set of the Docker engine is taken back.
    """
    host = _host(ctx, user, destdir, dry_run=dry_run)
    if purge:
        _refuse_purge(host)
        if not dry_run and not yes:
            _confirm(host)
    units = _units()
    changed = _tell(uninstall_steps(host, units, partial(_end_agents, host), _left(host)), dry_run=dry_run)
    engine = _remapping(host, yes=yes or dry_run).removal_steps()
    if purge:
        _tell(purge_steps(host, partial(_end_containers, host), engine), dry_run=dry_run)
        return
    changed += _tell(engine, dry_run=dry_run)
    if not dry_run:
        kept = f"{host.root}, {unit.SETTINGS}, {unit.HOME} and the user {host.user} are kept"
        rest = f"{host.program} --root {host.root} uninstall --purge"
        say(f"{kept}; `{rest}` removes them." if changed else "Nothing was installed.")


def _refuse_purge(host: Host) -> None:
    place = host.at(host.root)
    if (
        place.exists()
        and any(place.iterdir())
        and not ((place / "config.yaml").exists() or (place / "state" / "root-id").exists())
    ):
        raise CloudCodeError("E_NO_ROOT", f"{host.root} is no root of Cloud Code, and is not removed.")


def _confirm(host: Host) -> None:
    note(f"Everything in {host.root} will be gone: tasks, work that was not pushed, secrets.")
    if click.prompt("Type its path to go on", err=True) != str(host.root):
        raise CloudCodeError("E_NOT_CONFIRMED", "That was another path; nothing was removed.")


def _end_agents(host: Host) -> None:
    """Have the supervisor end its workstations, and wait for that; what does not end is left to a person."""
    root, ids = Root(host.root), host.ids()
    if ids is None:
        return
    command = [sys.executable, "-m", "supervisor", "--root", str(host.root), "workstation", "stop", "--all"]
    groups = os.getgrouplist(host.user, ids[1])
    done = subprocess.run(command, user=ids[0], group=ids[1], extra_groups=groups, cwd="/", check=False)
    deadline = time.monotonic() + END_SECONDS
    while done.returncode == 0 and _living(root) and time.monotonic() < deadline:
        time.sleep(0.2)
    if left := _living(root):
        note(f"Still there: {', '.join(left)}. `docker ps --filter label=cloud-code.root` shows them.")


def _left(host: Host) -> Iterator[Step]:
    """Agents of a service that did not run any more: nobody was there to end them."""
    from supervisor.workstations.leavings import running_of, stop_running

    if host.is_this:
        engine, root = Engine(SYSTEM_SOCKET), Root(host.root)
        yield Step(
            what="no container of this root runs any more; what they hold is kept",
            command=f"docker stop $(docker ps -q --filter label=cloud-code.path={host.root})",
            is_done=lambda: not running_of(engine, root),
            do=partial(stop_running, engine, root),
        )


def _living(root: Root) -> list[str]:
    """The workstations with a daemon, as the supervisor has written it down."""
    found = (load_station(root, path.stem) for path in sorted(root.workstations.glob("*.yaml")))
    return [file.name for file in found if file is not None and (file.run is not None or file.pid is not None)]


def _end_containers(host: Host) -> None:
    """What the engine has of this root; without an engine there is nothing."""
    from supervisor.workstations.leavings import remove_from_engine

    try:
        remove_from_engine(Root(host.root))
    except CloudCodeError as error:
        if error.code != "E_NOT_RUNNING":  # (none ever ran)
            note(f"{error} What containers leave is named cc-<root id>-….")
