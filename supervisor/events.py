"""`state/events.jsonl`: what happened, one JSON object a line, appended and rotated by size."""

import json
import os
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

ROTATE_BYTES = 10 * 1024 * 1024
KEPT_FILES = 5


class EventLog:
    """Appends events with a sequence number that goes on across restarts and rotations.

    `hide_in` takes secrets out of what is written.
    """

    def __init__(self, path: Path, hide_in: Callable[[Any], Any] = lambda entry: entry) -> None:
        self._path, self._hide_in = path, hide_in
        self._seq = _last_seq(path)
        self._file = path.open("ab")
        if path.stat().st_size and not _ends_with_newline(path):
            self._file.write(b"\n")  # a line cut short by a crash stays a line of its own

    @property
    def seq(self) -> int:
        return self._seq

    def append(
        self,
        event: str,
        *,
        at: datetime,
        actor: str = "supervisor",
        task: str | None = None,
        project: str | None = None,
        attempt: int | None = None,
        workstation: str | None = None,
        target: str | None = None,
        correlation_id: str | None = None,
        details: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Write one event and return it as written."""
        self._seq += 1
        entry = {
            "seq": self._seq,
            "ts": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "event": event,
            "actor": actor,
            "target": target,
            "project": project,
            "task": task,
            "attempt": attempt,
            "workstation": workstation,
            "details": details or {},
            "correlation_id": correlation_id,
        }
        entry = dict(self._hide_in({key: value for key, value in entry.items() if value is not None}))
        self._file.write(json.dumps(entry, ensure_ascii=False, default=str).encode(errors="replace") + b"\n")
        self._file.flush()
        if self._file.tell() > ROTATE_BYTES:
            self._rotate()
        return entry

    def _rotate(self) -> None:
        """OSError where the disk takes no new file: the next event tries again, and goes into the old one."""
        if self._path.exists():
            for number in range(KEPT_FILES - 1, 0, -1):
                older = self._path.with_suffix(f".jsonl.{number}")
                if older.exists():
                    older.replace(self._path.with_suffix(f".jsonl.{number + 1}"))
            self._path.replace(self._path.with_suffix(".jsonl.1"))
        fresh = self._path.open("ab")
        self._file.close()
        self._file = fresh

    def close(self) -> None:
        self._file.close()


def event_files(path: Path) -> list[Path]:
    """The rotated files and the current one, oldest first."""
    rotated = [path.with_suffix(f".jsonl.{number}") for number in range(KEPT_FILES, 0, -1)]
    return [file for file in (*rotated, path) if file.exists()]


def read_events(path: Path, since_seq: int = 0) -> Iterator[dict[str, Any]]:
    """Events after `since_seq`, oldest first, across rotations; lines that are not JSON are passed over."""
    for file in event_files(path):
        with file.open("rb") as lines:
            for line in lines:
                entry = parse_event(line)
                if entry is not None and entry["seq"] > since_seq:
                    yield entry


def parse_event(line: bytes) -> dict[str, Any] | None:
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) and isinstance(entry.get("seq"), int) else None


def _last_seq(path: Path) -> int:
    """The number of the newest event, from the end of the newest file that has one."""
    for file in reversed(event_files(path)):
        with file.open("rb") as stream:
            size = stream.seek(0, os.SEEK_END)
            stream.seek(max(0, size - 256 * 1024))
            entries = [entry for line in stream if (entry := parse_event(line))]
        if entries:
            return int(entries[-1]["seq"])
    return 0


def _ends_with_newline(path: Path) -> bool:
    with path.open("rb") as stream:
        stream.seek(-1, os.SEEK_END)
        return stream.read(1) == b"\n"
