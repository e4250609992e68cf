"""The log: configured once, to standard error, for a person or (as JSON lines) for a program."""

import sys
from typing import TYPE_CHECKING

from loguru import logger

from supervisor.terminal import plain

if TYPE_CHECKING:
    from loguru import Record

# What every line may carry besides its message; given with `logger.bind`.
FIELDS = ("action", "task", "project", "workstation")


def configure(*, json_lines: bool = False, level: str = "INFO") -> None:
    """Send the log to standard error from now on; nothing else may add a sink."""
    logger.remove()
    logger.configure(patcher=_clean)
    if json_lines:
        logger.add(sys.stderr, level=level, serialize=True, backtrace=False, diagnose=False)
    else:
        logger.add(sys.stderr, level=level, format=_human, backtrace=False, diagnose=False)


def _clean(record: "Record") -> None:
    """An agent's words may stand in a message: they do not get to steer the terminal."""
    record["message"] = plain(record["message"])
    for name, value in record["extra"].items():
        if isinstance(value, str):
            record["extra"][name] = plain(value)


def _human(record: "Record") -> str:
    """The format of one line. Values are named in it and never part of it: they may hold anything."""
    fields = "".join(
        f" {name}={{extra[{name}]}}"
        for name in FIELDS
        if (value := record["extra"].get(name)) and str(value) not in record["message"]
    )
    return "{time:YYYY-MM-DD HH:mm:ss} {level: <7} {message}" + fields + "\n{exception}"
