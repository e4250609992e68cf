"""The log: configured once, to standard error, for a person or (as JSON lines) for a program. Times are UTC."""

import json
import sys
import traceback
from collections.abc import Callable
from datetime import UTC
from typing import TYPE_CHECKING, Any

from loguru import logger

from supervisor.terminal import plain

if TYPE_CHECKING:
    from loguru import Message, Record

# What a line may carry beside its message; given with `logger.bind`. One that tells of an event carries that.
FIELDS = ("task", "project", "workstation")


def configure(*, json_lines: bool = False, level: str = "INFO") -> None:
    """Send the log to standard error from now on; nothing else may add a sink."""
    logger.remove()
    logger.configure(patcher=_clean)
    if json_lines:
        logger.add(_write_json, level=level, backtrace=False, diagnose=False)
    else:
        logger.add(_write_text, level=level, format=_human, backtrace=False, diagnose=False)


def hide_with(hide: Callable[[str], str]) -> None:
    """Take secrets out of every line from now on, whatever brings them: messages, fields, errors of libraries."""
    global _hide
    _hide = hide


_hide: Callable[[str], str] = str


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
    return "{time:YYYY-MM-DD HH:mm:ss!UTC} {level: <7} {message}" + fields + "\n{exception}"


def _write_text(text: str) -> None:
    sys.stderr.write(_hide(text))
    sys.stderr.flush()


def _write_json(message: "Message") -> None:
    """One object a line: time, level, message, then what the line carries; the keys of an event as they are."""
    record = message.record
    entry: dict[str, Any] = {
        "ts": record["time"].astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "level": record["level"].name,
        "message": record["message"],
    }
    extra = dict(record["extra"])
    event = extra.pop("event", {})
    entry |= {key: value for key, value in (event | extra).items() if value is not None and key not in entry}
    error = record["exception"]
    if error is not None:
        entry["exception"] = "".join(traceback.format_exception(*error))
    _write_text(json.dumps(entry, default=str) + "\n")
