"""What a coding CLI said and did, kept beside its raw output: typed events, and for people a transcript."""

import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from agent_daemon.clis.base import Progress, ProgressKind, Usage, Verdict
from agent_daemon.streams import BoundedLog

_LOG_BYTES = 20 * 1024 * 1024

_TYPES: dict[ProgressKind, str] = {
    "message": "log",
    "tool_call": "progress",
    "file_edited": "progress",
    "command_run": "progress",
    "usage": "status",
    "session": "status",
    "retry": "status",
    "error": "error",
    "result": "result",
    "heartbeat": "heartbeat",
}
# So long nothing is written before a line says that the program lives.
BEAT_SECONDS = 60.0


class EventLog:
    """Appends to ``events.jsonl`` and, for a CLI whose own output is no text, to ``transcript.log``.

    A context manager. `step` counts the replies of the model in this run, and begins with 1.
    """

    def __init__(self, folder: Path, *, transcript: bool) -> None:
        self._events = BoundedLog(folder / "events.jsonl", _LOG_BYTES)
        self._transcript = BoundedLog(folder / "transcript.log", _LOG_BYTES) if transcript else None
        self._step, self._said, self._written_at = 1, "", time.monotonic()

    def __enter__(self) -> "EventLog":
        self._events.__enter__()
        if self._transcript is not None:
            self._transcript.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._events.__exit__()
        if self._transcript is not None:
            self._transcript.__exit__()

    def started(self, cli: str, session: str | None) -> None:
        """A run begins, in this session if it is resumed."""
        self._write("status", "started", {"cli": cli, "session": session})
        self._say(f"── {cli} starts ──")

    def add(self, event: Progress, said: str | None) -> None:
        """One event, and the words for it, if there are any."""
        fields = {
            "message": event.message,
            "tool_call": event.call_id,
            "path": event.path,
            "command": event.command,
            "exit_code": event.exit_code,
            "outcome": event.outcome,
            "session": event.session_id,
            "retry_at": event.retry_at.isoformat() if event.retry_at else None,
            "usage": _told(event.usage) if event.usage else None,
        }
        self._write(event.type or _TYPES[event.kind], event.kind, fields)
        if event.kind == "usage" and event.usage is not None:
            self._step += event.usage.turns
        if said:
            self._say(said)

    def beat(self) -> None:
        """The program lives; told once a minute while nothing else is."""
        quiet = time.monotonic() - self._written_at
        if quiet >= BEAT_SECONDS:
            self._write("heartbeat", "heartbeat", {"quiet_seconds": round(quiet)})

    def ended(self, verdict: Verdict) -> None:
        """How the run is taken."""
        kind = "result" if verdict.outcome == "completed" else "error"
        fields = {"outcome": verdict.outcome, "message": verdict.message, "usage": _told(verdict.usage)}
        self._write(kind, "ended", fields)
        self._say(f"── ended: {verdict.outcome} ──")

    def _write(self, kind: str, category: str, fields: dict[str, Any]) -> None:
        head = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "step": self._step,
            "type": kind,
            "category": category,
        }
        told = head | {name: value for name, value in fields.items() if value not in (None, "")}
        self._written_at = time.monotonic()
        self._events.write(json.dumps(told).encode() + b"\n")

    def _say(self, text: str) -> None:
        """A closing word often repeats what was said last."""
        repeated, self._said = text == self._said, text
        if self._transcript is not None and not repeated:
            self._transcript.write(text.encode(errors="replace") + b"\n")


def _told(usage: Usage) -> dict[str, Any]:
    """What is known of it."""
    return {name: value for name, value in vars(usage).items() if value not in (None, "", 0)}


class Wording:
    """Puts events into a few words, the same for every CLI; what has just been said is not said again.

    A command is told when it begins and again when it ends, with its name where something else was told meanwhile.
    """

    def __init__(self) -> None:
        self._begun: dict[str, str] = {}
        self._last: str | None = None

    def describe(self, event: Progress) -> str | None:
        """The words for the report and the transcript; None for what only counts."""
        said = self._words(event)
        if said is None or (event.kind == "result" and said == self._last):
            return None
        self._last = said
        return said

    def _words(self, event: Progress) -> str | None:
        match event.kind:
            case "usage" | "session" | "heartbeat":
                return None
            case "file_edited" if event.path:
                return f"{event.message or 'edit'}: {event.path}"
            case "tool_call" if event.command:
                if event.call_id is not None:
                    self._begun[event.call_id] = f"$ {event.command}"
                return f"$ {event.command}"
            case "command_run":
                return self._ended(event)
            case "retry":
                return f"waiting: {event.message}" if event.message else "waiting"
        return event.message or None

    def _ended(self, event: Progress) -> str | None:
        begun = self._begun.pop(event.call_id, "") if event.call_id is not None else ""
        command = begun or (f"$ {event.command}" if event.command else "")
        code = f"→ exit code {event.exit_code}" if event.exit_code is not None else ""
        end = code or (f"→ {event.message}" if event.message and event.message != "completed" else "")
        if begun and (begun == self._last or not end):
            return end or None
        return f"{command} {end}".strip() or None
