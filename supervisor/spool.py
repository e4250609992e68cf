"""The command spool: how a person's command reaches a running supervisor, and its answer comes back."""

import contextlib
import os
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from agent_daemon.protocol.codec import decode, encode
from agent_daemon.protocol.errors import ProtocolError
from agent_daemon.protocol.files import read_file, write_file
from supervisor.core.commands import Command, CommandAnswer

EXPIRES = timedelta(seconds=60)
# Whoever gave a command waits for its answer for seconds.
FORGOTTEN = timedelta(minutes=10)
ANSWER_SUFFIX = ".answer.yaml"


def new_command_id() -> str:
    return uuid.uuid4().hex


def post(folder: Path, command: Command) -> None:
    write_file(folder / f"{command.id}.yaml", encode(command), mode=0o660)


def wait_for_answer(folder: Path, command_id: str, timeout_seconds: float) -> CommandAnswer | None:
    """The supervisor's answer, or None when none came in time; the answer file is removed."""
    name = command_id + ANSWER_SUFFIX
    deadline = time.monotonic() + timeout_seconds
    while time.monotonic() < deadline:
        try:
            answer = decode(CommandAnswer, read_file(folder, name).data, file=name)
        except FileNotFoundError:
            time.sleep(0.05)
            continue
        (folder / name).unlink(missing_ok=True)
        return answer
    return None


def withdraw(folder: Path, command_id: str) -> None:
    """Take back a command that nobody has answered."""
    (folder / f"{command_id}.yaml").unlink(missing_ok=True)


def pending(folder: Path) -> Iterator[tuple[str, Command | ProtocolError]]:
    """Commands that have no answer yet, oldest first, by file name; unreadable ones with their error."""
    names = os.listdir(folder)
    waiting = [n for n in names if n.endswith(".yaml") and not n.endswith(ANSWER_SUFFIX) and not n.startswith(".")]
    for name in sorted(waiting, key=lambda name: _modified(folder / name)):
        try:
            yield (
                name,
                decode(Command, read_file(folder, name, max_bytes=300 * 1024).data, file=f"commands/{name}"),
            )
        except FileNotFoundError:
            continue
        except ProtocolError as error:
            yield name, error


def _modified(path: Path) -> float:
    try:
        return path.lstat().st_mtime
    except FileNotFoundError:
        return 0.0


def remove_forgotten(folder: Path) -> None:
    """Remove answers that nobody has fetched, and what a writer left unfinished; all of it minutes old."""
    oldest = time.time() - FORGOTTEN.total_seconds()
    for name in os.listdir(folder):
        if not name.endswith(ANSWER_SUFFIX) and not (name.startswith(".") and name.endswith(".new")):
            continue
        with contextlib.suppress(OSError):  # fetched meanwhile, or no file
            if (folder / name).lstat().st_mtime < oldest:
                (folder / name).unlink()


def expired(command: Command) -> bool:
    """Older than a minute by the clock on the wall, which whoever gave the command has looked at too."""
    return datetime.now(UTC) - command.at > EXPIRES


def answer(folder: Path, name: str, answered: CommandAnswer) -> None:
    """Write the answer, then remove the command; in this order a crash between the two repeats nothing."""
    write_file(folder / (answered.id + ANSWER_SUFFIX), encode(answered), mode=0o660)
    try:
        (folder / name).unlink(missing_ok=True)
    except IsADirectoryError:
        (folder / name).rename(folder / f".{name}")  # whatever it is, it is no command
