"""The log of events is put aside when it is full, also where the disk takes no new file for a while."""

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from supervisor import events
from supervisor.events import EventLog, read_events

NOW = datetime(2026, 1, 7, tzinfo=UTC)


@contextmanager
def no_new_file() -> Iterator[None]:
    """Nothing can be opened meanwhile."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_events_go_on_once_a_new_file_can_be_opened_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "ROTATE_BYTES", 200)
    path = tmp_path / "events.jsonl"
    log = EventLog(path)
    log.append("before", at=NOW)
    with no_new_file():
        for _ in range(3):
            with pytest.raises(OSError, match="Too many open files"):
                log.append("meanwhile", at=NOW, details={"text": "x" * 200})
    log.append("after", at=NOW)
    log.append("last", at=NOW)
    log.close()
    told = [entry["event"] for entry in read_events(path)]
    assert told == ["before", *["meanwhile"] * 3, "after", "last"]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["events.jsonl", "events.jsonl.1"]
