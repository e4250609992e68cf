"""The log of a bug: everything that a report of it needs, ready to be pasted."""

import os
import platform
import shlex
import tempfile
import traceback
from datetime import UTC, datetime
from pathlib import Path

import click

from supervisor import __version__
from supervisor.cli.hidden import hide_in_error
from supervisor.cli.place import find_root


def write_bug_log(error: BaseException, arguments: list[str]) -> Path:
    """Write the log below the root's `state/`, or where temporary files go; returns where it is."""
    now = datetime.now(UTC)
    name = f"cloud-code-bug-{now:%Y%m%d-%H%M%S}-{now.microsecond:06d}.md"
    content = hide_in_error(_content(error, arguments, now)).encode(errors="replace")
    for folder in (_state_folder(arguments), Path(tempfile.gettempdir())):
        if folder is None or not folder.is_dir():
            continue
        try:
            descriptor = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
            return folder / name
        except OSError:
            continue
    click.echo(content, err=True)
    return Path("/dev/stderr")


def _state_folder(arguments: list[str]) -> Path | None:
    """Where the root's state is, by the command line as it was given."""
    given = None
    for number, argument in enumerate(arguments):
        if argument == "--root":
            given = next(iter(arguments[number + 1 :]), None)
        elif argument.startswith("--root="):
            given = argument.removeprefix("--root=")
    try:
        return find_root(given).state
    except OSError:
        return None


def _content(error: BaseException, arguments: list[str], now: datetime) -> str:
    trace = "".join(traceback.format_exception(error))
    return (
        f"### Cloud Code {__version__}: {type(error).__name__}\n\n"
        f"* at {now:%Y-%m-%d %H:%M:%S} UTC\n"
        f"* command: `cloud-code {shlex.join(arguments)}`\n"
        f"* Python {platform.python_version()} on {platform.platform()}\n\n"
        f"```\n{trace}```\n"
    )
