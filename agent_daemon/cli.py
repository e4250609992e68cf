"""The command `agent-daemon`, which runs inside a workstation."""

import signal
import sys
import threading
from pathlib import Path

import click
from filelock import FileLock, Timeout
from loguru import logger
from watchdog.events import FileAttribEvent, FileModifiedEvent, FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer

from agent_daemon import __version__
from agent_daemon.daemon import Daemon
from agent_daemon.protocol.files import make_folder
from agent_daemon.protocol.paths import Root, check_name


class _Waker(FileSystemEventHandler):
    """Any change in `in/` wakes the loop; the loop's own sweep is the truth."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon

    def on_any_event(self, event: FileSystemEvent) -> None:
        self._daemon.wake()


@click.command()
@click.option("--workstation", required=True, help="Name of this workstation, such as backend-1.")
@click.option("--root", type=click.Path(path_type=Path, file_okay=False), required=True, help="The root folder.")
@click.option("--type", "agent_type", required=True, help="The specialist: backend, frontend, …")
@click.version_option(__version__, prog_name="agent-daemon")
def main(workstation: str, root: Path, agent_type: str) -> None:
    """Run the daemon of one workstation until SIGTERM."""
    logger.remove()
    logger.add(
        sys.stderr, format="{time:YYYY-MM-DDTHH:mm:ss.SSSZZ} {level} {message}", level="INFO", diagnose=False
    )
    try:
        check_name(workstation)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--workstation") from None
    place = Root(root.resolve())
    make_folder(place.mail_out(workstation))
    lock = FileLock(place.mail_out(workstation) / "daemon.lock", timeout=0)
    try:
        with lock:
            _serve(Daemon(root=place, workstation=workstation, agent_type=agent_type), place.mail_in(workstation))
    except Timeout:
        click.echo(f"agent-daemon: another daemon serves {workstation} in {place.path}", err=True)
        sys.exit(1)


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


if __name__ == "__main__":
    main()
