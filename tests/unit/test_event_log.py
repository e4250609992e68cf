"""What is kept of a run: typed events, a transcript where the CLI's own output is not for people, and bounds."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from agent_daemon.clis import ADAPTERS
from agent_daemon.clis.base import Usage, Verdict
from agent_daemon.event_log import EventLog, Wording
from supervisor.cli.task_work import shown_events

SAMPLES = Path(__file__).parents[1] / "samples"


def replayed(folder: Path, adapter: str, sample: str) -> list[dict[str, Any]]:
    parse, wording = ADAPTERS[adapter].parse, Wording()
    with EventLog(folder, transcript=ADAPTERS[adapter].SPEAKS == "events") as log:
        log.started(adapter, None)
        for line in (SAMPLES / adapter / sample).read_text().splitlines():
            for event in parse("stdout", line):
                log.add(event, wording.describe(event))
        log.ended(Verdict(outcome="completed", message="all done", usage=Usage(output_tokens=5)))
    return [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]


def test_the_events_of_a_run(tmp_path: Path) -> None:
    events = replayed(tmp_path, "claude-code", "partial.jsonl")
    told = [(event["step"], event["type"], event["category"]) for event in events if event["category"] != "usage"]
    assert told[0] == (1, "status", "started")
    assert told[-1] == (5, "result", "ended")
    assert (events[-1]["outcome"], events[-1]["message"]) == ("completed", "all done")
    assert events[-1]["usage"] == {"output_tokens": 5}
    kinds = {(kind, category) for _, kind, category in told}
    assert {
        ("progress", "tool_call"),
        ("progress", "file_edited"),
        ("progress", "command_run"),
        ("log", "message"),
        ("result", "result"),
    } <= kinds
    edited = next(event for event in events if event["category"] == "file_edited")
    called = [event["tool_call"] for event in events if event["category"] == "tool_call"]
    assert edited["path"].endswith("calc.py")
    assert edited["tool_call"] in called
    spent = [event["usage"] for event in events if event["category"] == "usage"]
    assert sum(usage.get("output_tokens", 0) for usage in spent) == 206


def test_a_transcript_for_people_where_the_output_is_none(tmp_path: Path) -> None:
    replayed(tmp_path, "codex", "ok.jsonl")
    said = (tmp_path / "transcript.log").read_text().splitlines()
    assert said[0] == "── codex starts ──"
    ran = said.index("$ python3 -m pytest -q")
    assert said[ran + 1] == "→ exit code 1"
    assert said[-1] == "── ended: completed ──"
    replayed(tmp_path / "claude", "claude-code", "ok.jsonl")
    said = (tmp_path / "claude" / "transcript.log").read_text().splitlines()
    assert said.count("Done: fixed add() in calc.py and the tests pass.") == 1  # its result says it again
    replayed(tmp_path / "text", "aider", "ok.txt")
    assert not (tmp_path / "text" / "transcript.log").exists()


def test_runs_of_one_attempt_follow_each_other(tmp_path: Path) -> None:
    once = len(replayed(tmp_path, "codex", "ok.jsonl"))
    both = replayed(tmp_path, "codex", "resume.jsonl")
    assert [event["category"] for event in both].count("started") == 2
    assert both[once]["step"] == 1


def test_events_for_people_and_for_programs(tmp_path: Path) -> None:
    replayed(tmp_path, "codex", "ok.jsonl")
    text = (tmp_path / "events.jsonl").read_text() + 'no json\n{"message": "\\u001b[31mred", "usage": 3}\n'
    lines = shown_events(text, as_json=False).splitlines()
    assert any("file_edited" in line and "/srv/repo/calc.py" in line for line in lines)
    assert any(line.endswith("→ exit code 1") for line in lines)
    assert "\x1b" not in "".join(lines)
    objects = [json.loads(line) for line in shown_events(text, as_json=True).splitlines()]
    assert objects[0]["category"] == "started"
    assert objects[-1]["message"] == "\x1b[31mred"
    assert "\x1b" not in shown_events(text, as_json=True)


def test_what_a_program_names_itself_is_taken_as_such(tmp_path: Path) -> None:
    parse = ADAPTERS["command"].parse
    lines: list[dict[str, Any]] = [
        {"type": "progress", "message": "half of it"},
        {"type": "status", "message": "thinking"},
        {"type": "log", "message": "a line"},
        {"type": "progress", "path": "a.py", "tool_call": "c1"},
        {"type": "log", "command": "make", "exit_code": 2},
        {"type": "heartbeat"},
        {"type": "error", "message": "no"},
        {"type": "result", "message": "done", "usage": {"cost_usd": 0.5, "output_tokens": 3}},
    ]
    wording = Wording()
    with EventLog(tmp_path, transcript=False) as log:
        for line in lines:
            for event in parse("stdout", json.dumps(line)):
                log.add(event, wording.describe(event))
    events = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert [event["type"] for event in events] == [line["type"] for line in lines]
    assert [event["category"] for event in events] == [
        *("message", "message", "message", "file_edited", "command_run", "heartbeat", "error", "result")
    ]
    assert events[3]["tool_call"] == "c1"
    assert events[-1]["usage"] == {"cost_usd": 0.5, "output_tokens": 3}


def test_a_silent_program_that_lives_is_told_once_a_minute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([1000.0, 1000.0, 1030.0, 1061.0, 1061.0, 1090.0, 1122.0, 1122.0])
    monkeypatch.setattr("agent_daemon.event_log.time", SimpleNamespace(monotonic=lambda: next(clock)))
    with EventLog(tmp_path, transcript=True) as log:
        log.started("codex", None)
        for _ in range(4):
            log.beat()
    events = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert [(event["type"], event.get("quiet_seconds")) for event in events] == [
        ("status", None),
        ("heartbeat", 61),
        ("heartbeat", 61),
    ]
    assert "heartbeat" not in (tmp_path / "transcript.log").read_text()
