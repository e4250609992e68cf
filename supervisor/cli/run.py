"""`cloud-code run`: the supervisor in the foreground."""

import contextlib
import signal
import tempfile
import threading
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
    default="text",
    show_default=True,
    help="json: one object a line, for programs.",
)
@click.option("--verbose", is_flag=True, help="Log details too.")
@click.pass_context
def run(ctx: click.Context, once: bool, log_format: str, verbose: bool) -> int:
    """Run the supervisor of a root until SIGTERM or Ctrl-C.

    Its agents go on working when it stops, and it finds them again when it is started. The log goes to standard
    error. With --once it ends by itself as soon as nothing can make progress without a person.
    """
    from loguru import logger

    from supervisor import log
    from supervisor.app import Supervisor, locked
    from supervisor.config import check_installation, load_config

    root = existing_root(ctx)
    check_installation()
    in_json = log_format == "json"
    log.configure(json_lines=in_json, level="DEBUG" if verbose else "INFO")
    tell = partial(logger.info, "{}") if in_json else note
    config = load_config(root)
    stop, received = threading.Event(), list[int]()
    with locked(root, timeout_seconds=LOCK_PATIENCE_SECONDS):
        tempfile.tempdir = str(root.temporary)  # this process writes nowhere but in its root
        supervisor = Supervisor(root, config)

        def ask(number: int, _frame: object) -> None:
            received.append(number)
            stop.set()
            supervisor.inbox.put(("stop",))

        def stop_when_idle() -> None:
            if once and is_idle(supervisor):
                stop.set()

        signal.signal(signal.SIGTERM, ask)
        signal.signal(signal.SIGINT, ask)
        supervisor.loop.on_beat = stop_when_idle
        with contextlib.ExitStack() as starting:
            if not in_json:
                starting.enter_context(progress(f"taking up the work on {root.path}"))

            def say_ready() -> None:
                starting.close()
                _say_ready(supervisor, once, tell)

            supervisor.run(stop, ready=say_ready)
        if once and not received:
            _end_workstations(supervisor)
    if not once:
        tell(f"Stopped. The agents go on working; `{here('cloud-code run')}` finds them again.")
    return EXIT_INTERRUPTED if received[:1] == [signal.SIGINT] else 0


def is_idle(supervisor: "Supervisor") -> bool:
    """Whether nothing is under way and no task gets anywhere without a person."""
    ledger, fleet = supervisor.ledger, supervisor.fleet
    if not supervisor.tasks.settled or supervisor.pool.count or ledger.dirty:
        return False
    willing = [s for s in fleet.stations.values() if s.file.wanted == "running" and s.refused is None]
    tasks = list(ledger.tasks.values())
    return not progressing(
        tasks,
        ledger.dependency_states(iter(tasks)),
        types={station.file.type for station in willing},
        workstations={station.file.name for station in willing},
    )


def _say_ready(supervisor: "Supervisor", once: bool, tell: Callable[[str], None]) -> None:
    projects, stations = ", ".join(supervisor.config.projects), ", ".join(supervisor.fleet.stations)
    tell(f"cloud-code {__version__} works on {supervisor.root.path}: projects {projects}; workstations {stations}")
    if once:
        tell("It ends when no task can make progress.")
    else:
        tell(f"`{here('cloud-code status --watch')}` shows what happens. Ctrl-C stops it; agents go on working.")


def _end_workstations(supervisor: "Supervisor") -> None:
    """End the daemons, which have nothing to do; the next run starts them again."""
    for name, station in supervisor.fleet.stations.items():
        if station.handle is not None:
            supervisor.drivers[station.file.driver].stop(station.handle)
            supervisor.fleet.stopped(name)
