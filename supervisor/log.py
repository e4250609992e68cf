"""The log: configured once, to standard error, for a person or (as JSON lines) for a program. Times are UTC."""

import json
import os
import sys
import traceback
from collections.abc import Callable, Mapping
from datetime import UTC
from typing import TYPE_CHECKING, Any

from loguru import logger

from supervisor.terminal import plain

if TYPE_CHECKING:
    from loguru import Message, Record

# What a line may carry beside its message; given with `logger.bind`. One that tells of an event carries that.
FIELDS = ("task", "project", "workstation")


# Of syslog(3), as the journal takes them from the beginning of a line (sd-daemon(3)).
_PRIORITIES = {"CRITICAL": 2, "ERROR": 3, "WARNING": 4, "INFO": 6, "DEBUG": 7, "TRACE": 7}


def configure(*, json_lines: bool = False, level: str = "INFO", priorities: bool = False) -> None:
    """Send the log to standard error from now on; nothing else may add a sink. `priorities`: to the journal."""
    global _prefixed
    _prefixed = priorities
    logger.remove()
    logger.configure(patcher=_clean)
    if json_lines:
        logger.add(_write_json, level=level, backtrace=False, diagnose=False)
    else:
        logger.add(_write_human, level=level, format=_human, backtrace=False, diagnose=False)


def is_journal(environment: Mapping[str, str]) -> bool:
    """Whether standard error is read by systemd's journal (systemd.exec(5), `JOURNAL_STREAM`)."""
    try:
        found = os.fstat(sys.stderr.fileno())
    except (OSError, ValueError):
        return False
    return environment.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"


def hide_with(hide: Callable[[str], str]) -> None:
    """Take secrets out of every line from now on, whatever brings them: messages, fields, errors of libraries."""
    global _hide
    _hide = hide


_hide: Callable[[str], str] = str
_prefixed = False


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


def _write_human(message: "Message") -> None:
    _write(str(message), message.record["level"].name)


def _write(text: str, level: str) -> None:
    """Whole lines; each with its priority where the journal reads them."""
    shown = _hide(text)
    if _prefixed:
        prefix = f"<{_PRIORITIES.get(level, 6)}>"
        shown = "".join(f"{prefix}{line}\n" for line in shown.removesuffix("\n").split("\n"))
    sys.stderr.write(shown)
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
    _write(json.dumps(entry, default=str) + "\n", record["level"].name)
