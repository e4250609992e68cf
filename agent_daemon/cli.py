"""The command `agent-daemon`, which runs inside a workstation."""

import json
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict
from pathlib import Path

import click
from loguru import logger
from watchdog.events import FileAttribEvent, FileModifiedEvent, FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer

from agent_daemon import __version__, egress, tending
from agent_daemon.daemon import Daemon
from agent_daemon.installed import look_at
from agent_daemon.noting import COMMANDS
from agent_daemon.own_log import OwnLog
from agent_daemon.places import shared_homes
from agent_daemon.processes import become_subreaper, write_no_core
from agent_daemon.protocol.model import CliConfig, Identity
from agent_daemon.protocol.paths import Root, check_name, is_task_id
from agent_daemon.reclaiming import reclaim
from agent_daemon.request import settings_of
from agent_daemon.salvage import DaemonRunsError, SalvageError, daemon_lock, salvage_attempt

EXIT_DAEMON_RUNS = os.EX_TEMPFAIL


class _Waker(FileSystemEventHandler):
    """Any change in `in/` wakes the loop; the loop's own sweep is the truth."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon

    def on_any_event(self, event: FileSystemEvent) -> None:
        self._daemon.wake()


_workstation = click.option("--workstation", help="Name of this workstation, such as backend-1.")
_root = click.option("--root", type=click.Path(path_type=Path, file_okay=False), help="The root folder.")


@click.group(invoke_without_command=True)
@_workstation
@_root
@click.option("--type", "agent_type", help="The specialist: backend, frontend, …")
@click.option(
    "--environment",
    type=click.Path(path_type=Path, dir_okay=False),
    help="A file with further variables, as a JSON object; keys come in it, which no command line shows.",
)
@click.version_option(__version__, prog_name="agent-daemon")
@click.pass_context
def main(
    ctx: click.Context,
    workstation: str | None,
    root: Path | None,
    agent_type: str | None,
    environment: Path | None,
) -> None:
    """Run the daemon of one workstation until SIGTERM; or, with a command, do one thing and end.

    `salvage` is for a daemon that is dead; the others are what an agent calls in its worktree.
    """
    logger.remove()
    log = OwnLog()
    logger.add(log, format="{time:YYYY-MM-DDTHH:mm:ss.SSSZZ} {level} {message}", level="INFO", diagnose=False)
    if ctx.invoked_subcommand is not None:
        return
    place, name = _place(workstation, root)
    if agent_type is None:
        raise click.UsageError("Missing option '--type'.")
    write_no_core()
    if environment is not None:
        _take_environment(environment)
    with _locked(place, name):
        daemon = Daemon(root=place, workstation=name, agent_type=agent_type)
        log.hide = daemon.hide
        if environment is not None:  # its keys are not to be read by an agent: who laid it there removes it
            daemon.held = environment.exists
        egress.open_way_out(daemon.hear_refused)
        _serve(daemon, place.mail_in(name))


@main.command("salvage")
@_workstation
@_root
@click.option("--task", "task_id", required=True, help="The task's whole id.")
@click.option("--attempt", type=click.IntRange(min=1), required=True, help="The number of the attempt.")
@click.option("--tied", is_flag=True, help="End when standard input is closed: whoever started this is gone.")
def salvage_once(workstation: str | None, root: Path | None, task_id: str, attempt: int, tied: bool) -> None:
    """Bundle and report what an attempt left behind, for a daemon that is dead.

    Its commits, and everything uncommitted but ignored files. Nothing is removed.
    """
    place, name = _place(workstation, root)
    if not is_task_id(task_id):
        raise click.BadParameter(f"{task_id!r} is no task id", param_hint="--task")
    if tied:
        threading.Thread(target=_end_with_input, daemon=True).start()
    with _locked(place, name):
        try:
            click.echo(salvage_attempt(place, name, task_id, attempt))
        except SalvageError as error:
            click.echo(f"agent-daemon: {error}", err=True)
            sys.exit(1)


@main.command("clis")
@_workstation
@_root
@click.option("--probe", is_flag=True, help="Make one call of each.")
def look_at_clis(workstation: str | None, root: Path | None, probe: bool) -> None:
    """Find the coding CLIs that standard input describes, each on a line with its variables; tells one a line."""
    place, name = _place(workstation, root)
    become_subreaper()
    os.chdir(place.path)  # from where paths of the configuration are seen
    for line in sys.stdin:
        given = json.loads(line)
        os.environ.update(given["variables"])
        settings = settings_of(CliConfig.model_validate(given["cli"]), Identity(), shared_homes(place, name))
        key = bytes.fromhex(given["key"]) if "key" in given else None
        found = look_at(settings, os.environ, probe=probe, key=key, only_logins=given.get("only_logins", False))
        click.echo(json.dumps(asdict(found)))


@main.command("tend")
@_workstation
@_root
@click.option(
    "--limit-bytes", type=click.IntRange(min=0), required=True, help="What its caches may take together."
)
@click.option("--update", is_flag=True, help="Also bring up to date what agents have installed.")
def tend(workstation: str | None, root: Path | None, limit_bytes: int, update: bool) -> None:
    """Keep the caches of a workstation within a limit, for a daemon that has ended; tells what it did as JSON."""
    place, name = _place(workstation, root)
    with _locked(place, name):
        egress.open_way_out(lambda said: logger.warning("not connected: {}", said))
        homes = [Path(os.environ["HOME"]), *sorted(shared_homes(place, name).glob("*"))]
        done = {"caches": tending.trim(homes, limit_bytes)}
        updated = [asdict(one) for one in tending.update(os.environ)] if update else []
        click.echo(json.dumps(done | {"updated": updated}))


def _take_environment(file: Path) -> None:
    """Into this process only: what `/proc` shows of it to others stays as it was."""
    try:
        given = json.loads(file.read_bytes())
        os.environ.update({str(name): str(value) for name, value in given.items()})
    except (OSError, ValueError, AttributeError) as error:
        raise click.BadParameter(f"{file}: {type(error).__name__}", param_hint="--environment") from None


def _end_with_input() -> None:
    with suppress(OSError):
        while os.read(0, 1024):
            pass
    os._exit(1)


def _place(workstation: str | None, root: Path | None) -> tuple[Root, str]:
    if workstation is None or root is None:
        raise click.UsageError(f"Missing option '{'--root' if workstation else '--workstation'}'.")
    try:
        return Root(root.resolve()), check_name(workstation)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--workstation") from None


@contextmanager
def _locked(place: Root, workstation: str) -> Iterator[None]:
    """Hold the daemon's lock; exit code 75, which stands for "later", when another daemon has it.

    First of all, what root inside has made is taken back, so that there is nothing that cannot be read.
    """
    home = Path(os.environ.get("HOME", "/nonexistent/home"))
    reclaim(place.mail_out(workstation), place.workspace(workstation), home.parent)
    with ExitStack() as stack:
        try:
            stack.enter_context(daemon_lock(place, workstation))
        except DaemonRunsError as error:
            click.echo(f"agent-daemon: {error}", err=True)
            sys.exit(EXIT_DAEMON_RUNS)
        yield


def _serve(daemon: Daemon, inbox: Path) -> None:
    stop = threading.Event()

    def ask(number: int, _frame: object) -> None:
        logger.info("signal {}: stopping", number)
        stop.set()
        daemon.wake()

    signal.signal(signal.SIGTERM, ask)
    signal.signal(signal.SIGINT, ask)
    observer = Observer()
    try:
        observer.schedule(_Waker(daemon), str(inbox), event_filter=[FileAttribEvent, FileModifiedEvent])
        observer.start()
    except OSError as error:
        logger.warning("no file events ({}): changes are noticed by the sweep", error)
    daemon.run(stop)
    if observer.is_alive():
        observer.stop()
        observer.join(timeout=5)


for _command in COMMANDS:
    main.add_command(_command)


if __name__ == "__main__":
    main()
