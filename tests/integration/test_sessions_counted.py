"""Sessions that are resumed, or cannot be: what they used is counted, and once."""

import json
import sys
from pathlib import Path

import pytest

from agent_daemon.coding import run_cli
from agent_daemon.protocol.model import CliConfig, Limits, Price, Session, SessionSum, Usage
from tests.coding_run import Run

PROGRAM = """
import json, sys
resumes = "resume" in sys.argv
usage = {"input_tokens": 1_000_000 if resumes else 500_000, "cached_input_tokens": 0, "output_tokens": 0}
print(json.dumps({"type": "turn.completed", "usage": usage}))
if resumes:
    print(json.dumps({"type": "error", "message": "thread/resume failed: no rollout found"}))
    raise SystemExit(1)
"""


def run(folder: Path, limit_usd: float) -> tuple[str, Usage]:
    (folder / "tree").mkdir(parents=True)
    cli = CliConfig(name="codex", adapter="codex", model="big", argv=(sys.executable, "-c", PROGRAM))
    made = Run(folder, cli, limits=Limits(cost_usd=limit_usd), prices={"big": Price(input=1, output=1)})
    usage = Usage(input_tokens=100_000, cost_usd=0.1, cost_from="prices")
    made.attempt.known = made.attempt.known.model_copy(
        update={"session": Session(cli="codex", id="0123-abcd"), "usage": usage}
    )
    _, verdict = run_cli(made.attempt)
    return verdict.outcome, next(fields["usage"] for fields, _ in reversed(made.told) if "usage" in fields)


def test_what_both_runs_used_is_counted_and_held_below_the_limit(tmp_path: Path) -> None:
    outcome, usage = run(tmp_path / "roomy", 9)
    assert outcome == "completed"
    assert (usage.input_tokens, usage.cost_usd) == (1_600_000, 1.6)
    outcome, usage = run(tmp_path / "narrow", 1)
    assert (outcome, usage.input_tokens) == ("budget", 1_100_000), "nothing is left for another one"


def sum_of(tokens: int) -> str:
    usage = {"thread_token_usage": {"input_tokens": tokens, "output_tokens": 0}}
    return json.dumps({"type": "token_usage_record", "payload": usage}) + "\n"


GOES_ON = """
import json, sys
record, line = sys.argv[1:3]
print(json.dumps({"type": "thread.started", "thread_id": "0123-abcd"}), flush=True)
with open(record, "a") as file:
    file.write(line)
print(json.dumps({"type": "turn.completed", "usage": {"input_tokens": 1_100_000}}))
"""


@pytest.mark.parametrize(("counted", "whole"), [(400_000, 1_100_000), (1_000_000, 500_000), (None, 500_000)])
def test_what_was_used_before_a_daemon_was_killed_is_counted(
    tmp_path: Path, counted: int | None, whole: int
) -> None:
    """Of the session's million `counted` was told: in this attempt, or before it and so not of its usage."""
    record = tmp_path / "homes/codex/.codex/sessions/2026/01/07/rollout-2026-01-07T10-30-00-0123-abcd.jsonl"
    record.parent.mkdir(parents=True)
    record.write_text(sum_of(1_000_000))
    (tmp_path / "tree").mkdir()
    argv = (sys.executable, "-c", GOES_ON, str(record), sum_of(1_100_000))
    made = Run(tmp_path, CliConfig(name="codex", adapter="codex", model="big", argv=argv))
    told = Session(
        cli="codex", id="0123-abcd", counted=None if counted is None else SessionSum(input_tokens=counted)
    )
    made.attempt.known = made.attempt.known.model_copy(
        update={"session": told, "usage": Usage(input_tokens=400_000)}
    )
    assert made.code().outcome == "completed"
    fields = {name: value for told, _ in made.told for name, value in told.items()}
    assert fields["usage"].input_tokens == whole
    assert fields["session"].counted == SessionSum(input_tokens=1_100_000)


def test_what_was_used_before_a_daemon_was_killed_is_held_below_the_limit(tmp_path: Path) -> None:
    record = tmp_path / "homes/codex/.codex/sessions/2026/01/07/rollout-2026-01-07T10-30-00-0123-abcd.jsonl"
    record.parent.mkdir(parents=True)
    record.write_text(sum_of(1_000_000))
    (tmp_path / "tree").mkdir()
    cli = CliConfig(name="codex", adapter="codex", model="big", argv=("/not/even/started",))
    made = Run(tmp_path, cli, limits=Limits(cost_usd=0.9), prices={"big": Price(input=1, output=1)})
    told = Session(cli="codex", id="0123-abcd", counted=SessionSum(input_tokens=400_000))
    made.attempt.known = made.attempt.known.model_copy(
        update={"session": told, "usage": Usage(input_tokens=400_000, cost_usd=0.4, cost_from="prices")}
    )
    assert made.code().outcome == "budget"
    assert made.attempt.known.usage.input_tokens == 1_000_000
