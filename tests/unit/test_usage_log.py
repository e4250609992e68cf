"""A session's record is read beside the loop that holds limits and stops: whatever an agent makes of it."""

import json
import os
from pathlib import Path

import pytest

from agent_daemon.clis import codex
from agent_daemon.clis.base import CliSettings, Progress
from agent_daemon.usage_log import UsageLog

SESSION = "0123-abcd-ef"
MIB = 1024 * 1024


def record(sum_tokens: int) -> bytes:
    usage = {"thread_token_usage": {"input_tokens": sum_tokens, "output_tokens": 0}}
    return json.dumps({"type": "token_usage_record", "payload": usage}).encode() + b"\n"


class Kept:
    """What codex keeps of a session, and what is taken of it."""

    def __init__(self, home: Path) -> None:
        folder = home / ".codex" / "sessions" / "2026" / "01" / "07"
        folder.mkdir(parents=True)
        self.file = folder / f"rollout-2026-01-07T10-30-00-{SESSION}.jsonl"
        self.file.touch()
        self.log = UsageLog(codex, CliSettings(name="codex", adapter="codex", home=home))
        self.taken: list[int] = []

    def add(self, data: bytes) -> None:
        with self.file.open("ab") as file:
            file.write(data)

    def take(self, event: Progress) -> None:
        assert event.usage is not None and event.of_session
        self.taken.append(event.usage.input_tokens)


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    return Kept(tmp_path)


def test_one_look_reads_a_part_and_all_of_it_is_read_once(kept: Kept) -> None:
    sums = list(range(1, 30_001))
    kept.add(b"".join(map(record, sums)))
    kept.log.read(SESSION, kept.take)
    assert 0 < len(kept.taken) < len(sums)
    kept.log.read_all(SESSION, kept.take)
    assert kept.taken == sums
    kept.add(record(40_000)[:20])
    kept.log.read_all(SESSION, kept.take)
    kept.add(record(40_000)[20:])
    kept.log.read_all(SESSION, kept.take)
    assert kept.taken == [*sums, 40_000]


def test_of_a_record_without_end_the_end_is_read(kept: Kept) -> None:
    with kept.file.open("wb") as file:
        file.truncate(2**40)
    kept.add(b"\n" + record(7))
    assert kept.log.skip(SESSION).input_tokens == 7
    with kept.file.open("r+b") as file:
        file.truncate(2**41)
    kept.add(b"\n" + record(9))
    kept.log.read_all(SESSION, kept.take)
    assert kept.taken == [9]


def test_a_line_without_end_is_not_held_in_memory(kept: Kept) -> None:
    for _ in range(6):
        kept.add(b"x" * 2 * MIB)
        kept.log.read_all(SESSION, kept.take)
        assert len(kept.log._rest) <= 4 * MIB
    kept.add(b"\n" + record(7))
    kept.log.read_all(SESSION, kept.take)
    assert kept.taken == [7]


def test_what_is_no_file_is_passed_over_and_left_closed(kept: Kept) -> None:
    for make in (os.mkfifo, os.mkdir):
        kept.file.unlink()
        make(kept.file)
        opened = len(os.listdir("/proc/self/fd"))
        for _ in range(5):
            kept.log.read_all(SESSION, kept.take)
        assert len(os.listdir("/proc/self/fd")) == opened
    assert kept.taken == []
