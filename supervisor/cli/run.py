"""`cloud-code run`: the supervisor in the foreground."""

import contextlib
import faulthandler
import os
import signal
import tempfile
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import click

from supervisor import __version__
from supervisor.cli.output import here, note, progress
from supervisor.cli.place import existing_root
from supervisor.core.progress import progressing

if TYPE_CHECKING:
    from supervisor.app import Supervisor

# A look at the lock, or a command that stands in for a supervisor, holds it for a moment.
LOCK_PATIENCE_SECONDS = 2.0
EXIT_INTERRUPTED = 130


@click.command()
@click.option("--once", is_flag=True, help="End when no task can make progress; the workstations end too.")
@click.option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    help="json: one object a line, for programs; the default where systemd's journal reads it, else text.",
)
@click.option("--verbose", is_flag=True, help="Log details too.")
@click.pass_context
def run(ctx: click.Context, once: bool, log_format: str | None, verbose: bool) -> int:
    """Run the supervisor of a root until SIGTERM or Ctrl-C; SIGHUP takes up a changed config.yaml.

    Its agents go on working when it stops, and it finds them again when it is started. The log goes to standard
    error. With --once it ends by itself as soon as nothing can make progress without a person.
    """
    from loguru import logger

    from agent_daemon.processes import allow_many_files, write_no_core
    from supervisor import log
    from supervisor.app import locked
    from supervisor.config import check_installation, load_config
    from supervisor.service.notify import Notifier
    from supervisor.serving import Serving

    root, journal = existing_root(ctx), log.is_journal(os.environ)
    check_installation()
    write_no_core()
    allow_many_files()  # each thread that asks a forge keeps a connection for each of its projects
    in_json = log_format == "json" or (log_format is None and journal)
    log.configure(json_lines=in_json, level="DEBUG" if verbose else "INFO", priorities=journal)
    faulthandler.enable()  # systemd's watchdog ends what hangs with SIGABRT: the log then says where
    tell = partial(logger.info, "{}") if in_json else note
    config = load_config(root)
    with locked(root, timeout_seconds=LOCK_PATIENCE_SECONDS):
        tempfile.tempdir = str(root.temporary)  # this process writes nowhere but in its root
        with contextlib.ExitStack() as starting:
            if not in_json:
                starting.enter_context(progress(f"taking up the work on {root.path}"))

            def say_ready(supervisor: "Supervisor") -> None:
                starting.close()
                _say_ready(supervisor, once, tell, service=journal)

            notifier = Notifier.taken_from(os.environ)
            serving = Serving(root, config, notifier, is_over=is_idle if once else lambda _: False)
            supervisor = serving.run(say_ready)
        if once and not serving.received:
            _end_workstations(supervisor)
    if not once and not journal:
        tell(f"Stopped. The agents go on working; `{here('cloud-code run')}` finds them again.")
    return EXIT_INTERRUPTED if serving.received[:1] == [signal.SIGINT] else 0


def is_idle(supervisor: "Supervisor") -> bool:
    """Whether nothing is under way and no task gets anywhere without a person."""
    ledger, fleet = supervisor.ledger, supervisor.fleet
    if not supervisor.tasks.settled or supervisor.pool.count or ledger.dirty:
        return False
    willing = [s for s in fleet.stations.values() if s.file.wanted != "stopped" and s.refused is None]
    tasks = list(ledger.tasks.values())
    return not progressing(
        tasks,
        ledger.dependency_states(iter(tasks)),
        types={station.file.type for station in willing},
        workstations={station.file.name for station in willing if station.wanted == "running"},
    )


def _up(supervisor: "Supervisor") -> list[str]:
    return [name for name, station in supervisor.fleet.stations.items() if station.wanted != "removed"]


def _say_ready(supervisor: "Supervisor", once: bool, tell: Callable[[str], None], *, service: bool) -> None:
    projects, stations = ", ".join(supervisor.config.projects), ", ".join(_up(supervisor))
    tell(f"cloud-code {__version__} works on {supervisor.root.path}: projects {projects}; workstations {stations}")
    if once:
        tell("It ends when no task can make progress.")
    elif not service:
        tell(f"`{here('cloud-code status --watch')}` shows what happens. Ctrl-C stops it; agents go on working.")


def _end_workstations(supervisor: "Supervisor") -> None:
    """End the daemons, which have nothing to do; the next run starts them again."""
    for name, station in supervisor.fleet.stations.items():
        if station.file.handle is not None:
            supervisor.drivers[station.file.driver].stop(station.file.handle)
            supervisor.fleet.stopped(name)
