"""A session that cannot be resumed: the run in a new one goes on counting where the first one ended."""

import sys
from pathlib import Path

from agent_daemon.coding import run_cli
from agent_daemon.protocol.model import CliConfig, Limits, Price, Session, Usage
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
