"""The limits of a run are those that its task has now; one that they ended goes on when they rise."""

import itertools
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent_daemon import coding
from agent_daemon.clis.base import Progress, Verdict
from agent_daemon.coding import CodingRun, run_cli
from agent_daemon.execution import StopRequest
from agent_daemon.protocol.model import CliConfig, Limits, Price, Usage
from tests.coding_run import Run

STEPS = """
import json
for n in range(6):
    print(json.dumps({"type": "progress", "message": f"step {n}", "usage": {"model": "m", "cost_usd": 0.4}}))
print(json.dumps({"type": "result", "message": "done"}))
"""
# Its first run says what it costs and is ended by itself, or waits to be ended; resumed, it comes to its end.
TWO_RUNS = """
import json, sys, time
told = {"model": "m", "input_tokens": 5, "cost_usd": %s}
if sys.argv[1:] == ["--session=s1"]:
    print(json.dumps({"type": "result", "message": "done", "usage": {"model": "m", "cost_usd": 0.25}}))
    sys.exit()
print(json.dumps({"type": "progress", "message": "a step", "session_id": "s1", "usage": told}), flush=True)
if %s:
    print(json.dumps({"type": "result", "outcome": "budget", "message": "its budget is used up"}))
else:
    time.sleep(120)
"""
# Over the Agent Client Protocol: a sum of the cost after its reply, and its tokens with its last answer.
COST_FIRST = """
import json, sys
def send(**message):
    print(json.dumps({"jsonrpc": "2.0", **message}), flush=True)
def update(**fields):
    send(method="session/update", params={"sessionId": "s1", "update": fields})
for line in sys.stdin:
    asked = json.loads(line)
    result = {"protocolVersion": 1, "sessionId": "s1"}
    if asked["method"] == "session/prompt":
        update(sessionUpdate="agent_message_chunk", content={"type": "text", "text": "Done."})
        update(sessionUpdate="usage_update", cost={"amount": 0.5, "currency": "USD"})
        result = {"stopReason": "end_turn", "usage": {"inputTokens": 10, "outputTokens": 2, "totalTokens": 12}}
    send(id=asked["id"], result=result)
"""
OVERFLOW = """
import json
print(json.dumps({"type": "progress", "message": "a step", "usage": {"model": "m", "input_tokens": 10**400}}))
print(json.dumps({"type": "result", "message": "done"}))
"""


def running(folder: Path, program: str, *, allowed_usd: float, topped_up_usd: float | None = None) -> Run:
    """The run of a program; it is allowed more as soon as it has told what its first step cost."""
    (folder / "tree").mkdir()
    cli = CliConfig(name="p", adapter="command", argv=(sys.executable, "-c", program, "--session={session_id}"))
    run = Run(folder, cli, limits=Limits(cost_usd=1.0, timeout_minutes=1))
    task = run.attempt.task = run.attempt.task.model_copy(update={"allowance_usd": allowed_usd})
    wanted, tell = [task], run.attempt.tell

    def top_up(fields: dict[str, Any], text: str | None) -> None:
        tell(fields, text)
        if topped_up_usd is not None and "usage" in fields:
            wanted[:] = [task.model_copy(update={"allowance_usd": topped_up_usd})]

    run.attempt.tell, run.attempt.latest = top_up, lambda: wanted[0]
    return run


def used(run: Run) -> Iterator[Usage]:
    return (fields["usage"] for fields, _ in run.told if "usage" in fields)


def test_a_top_up_counts_for_the_run_under_way(tmp_path: Path) -> None:
    run = running(tmp_path, STEPS, allowed_usd=1.0, topped_up_usd=50.0)
    assert run.code().outcome == "completed"
    assert [usage.cost_usd for usage in used(run)][-1] == pytest.approx(2.4)


@pytest.mark.parametrize("by_itself", [True, False])
def test_a_run_that_its_limit_ended_goes_on_in_its_session_when_it_is_allowed_more(
    tmp_path: Path, by_itself: bool
) -> None:
    run = running(tmp_path, TWO_RUNS % (0.9 if by_itself else 1.25, by_itself), allowed_usd=1, topped_up_usd=50)
    _, verdict = run_cli(run.attempt)
    assert (verdict.outcome, verdict.message) == ("completed", "done")
    assert [usage.cost_usd for usage in used(run)][-1] == pytest.approx(1.15 if by_itself else 1.5)
    assert not run.attempt.stop.is_set()


AFRESH = """
import sys, time
new = "--restore-chat-history" not in sys.argv
if new:
    open(sys.argv[sys.argv.index("--chat-history-file") + 1], "w").close()
print("Aider v1", flush=True)
print("Tokens: 1.0k sent, 50 received. Cost: $0.90 message, $0.90 session.", flush=True)
if new:
    time.sleep(120)
"""


def test_so_does_one_whose_session_had_to_be_begun_anew(tmp_path: Path) -> None:
    run = running(tmp_path, AFRESH, allowed_usd=1.0, topped_up_usd=50.0)
    cli = CliConfig(name="aider", adapter="aider", argv=(sys.executable, "-c", AFRESH))
    run.attempt.config = run.attempt.config.model_copy(update={"cli": cli, "resume_session": "chat-history"})
    _, verdict = run_cli(run.attempt)
    assert verdict.outcome == "completed"
    assert [usage.cost_usd for usage in used(run)][-1] == pytest.approx(1.8)


@pytest.mark.parametrize("topped_up_usd", [None, 0.5, 1.2])
def test_it_does_not_go_on_without_more_than_it_has_used(tmp_path: Path, topped_up_usd: float | None) -> None:
    run = running(tmp_path, TWO_RUNS % (1.25, False), allowed_usd=1.0, topped_up_usd=topped_up_usd)
    _, verdict = run_cli(run.attempt)
    assert verdict.outcome == "budget" and run.attempt.stop.reason == "budget"
    assert sum(1 for _, text in run.told if text and " ended after " in text) == 1


def test_one_that_floods_us_is_told_a_little_of(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    line = '{"type":"progress","message":"a","usage":{"turns":1}}'
    flood = f"import sys\nwhile True: sys.stdout.write(({line!r} + chr(10)) * 1000)"
    cli = CliConfig(name="p", adapter="command", argv=(sys.executable, "-c", flood))
    run = Run(tmp_path, cli, limits=Limits(timeout_minutes=1))
    heard, begun = itertools.count(1), time.monotonic()

    def stop_after_many(*_: object, **__: object) -> None:
        if next(heard) == 3000:
            run.attempt.stop.set("paused")

    run.attempt.meter.heard = stop_after_many  # type: ignore[method-assign]
    assert run.code().outcome == "interrupted"
    said = [text for _, text in run.told if text]
    assert len(said) < 30 * (time.monotonic() - begun) + 10


def test_of_very_many_events_those_are_kept_that_decide() -> None:
    """More than so many made each further one cost a walk over all of them: the run was not stopped in time."""
    flood = [Progress(kind="retry")] * (coding.MAX_EVENTS + 1)
    begin = [Progress(kind="session", session_id="s"), Progress(kind="message", message="hello")]
    kept = coding.newest([*begin, Progress(kind="error", message="no"), *flood])
    assert len(kept) <= coding.KEPT_EVENTS + 3 * coding.KEPT_OF_A_KIND
    assert [event.kind for event in kept[:3]] == ["session", "error", "retry"]
    assert coding.newest([*kept, *[Progress(kind="message")] * coding.MAX_EVENTS])[:2] == kept[:2]


BLIND = """
import json, time
for n in range(60):
    usage = {"turns": 1} | ({"input_tokens": 9, "output_tokens": 1} if n < %s else {})
    print(json.dumps({"type": "progress", "message": f"step {n}", "usage": usage}), flush=True)
print(json.dumps({"type": "result", "message": "done"}))
"""


@pytest.mark.parametrize(("told", "turns"), [(0, 4), (3, 28), (40, 60)])
def test_a_limit_of_cost_ends_one_that_tells_its_tokens_no_more(tmp_path: Path, told: int, turns: int) -> None:
    """The record that a CLI keeps of them may be gone, or be another in a newer version."""
    (tmp_path / "tree").mkdir()
    cli = CliConfig(name="p", adapter="command", model="m", argv=(sys.executable, "-c", BLIND % told))
    prices = {"m": Price(input=1, output=1)}
    run = Run(tmp_path, cli, limits=Limits(cost_usd=1.0, timeout_minutes=1), prices=prices)
    verdict = run.code()
    told_as = ("completed", "done")
    if turns < 60:
        how = "any more" if told else "while it works"
        cost = "1.0000" if told else "1.00"
        told_as = ("budget", f"E_NO_PRICE: it does not tell its tokens {how}, and may cost {cost} USD")
        assert [usage.turns for usage in used(run)][turns - 1] == turns
    assert (verdict.outcome, verdict.message) == told_as


WAITS = """
import json, time
print(json.dumps({"type": "progress", "message": "looking"}), flush=True)
while True:
    print(json.dumps({"type": "retry", "message": "%s"}), flush=True)
    time.sleep(0.05)
"""


@pytest.mark.parametrize(
    ("why", "outcome"),
    [("waiting", "overloaded"), ("401 Unauthorized", "authentication")],
)
def test_one_that_does_nothing_but_wait_is_not_waited_for_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, why: str, outcome: str
) -> None:
    monkeypatch.setattr("agent_daemon.bounds.PATIENCE_SECONDS", 0.6)
    (tmp_path / "tree").mkdir()
    cli = CliConfig(name="p", adapter="command", argv=(sys.executable, "-c", WAITS % why))
    verdict = Run(tmp_path, cli, limits=Limits(timeout_minutes=1)).code()
    assert (verdict.outcome, verdict.message) == (
        outcome,
        f"it did nothing but wait for 0.01 minutes: {why}",
    )


def test_what_else_is_wished_of_a_run_is_not_taken_back_with_its_limit() -> None:
    stop = StopRequest()
    stop.set("budget")
    assert stop.take_back("budget") and not stop.is_set() and stop.reason == ""
    stop.set("budget")
    stop.set("cancelled")
    assert not stop.take_back("budget") and stop.is_set() and stop.reason == "budget"


def test_a_cli_that_tells_its_cost_at_the_end_gets_no_second_allowance_after_a_run_that_told_none(
    tmp_path: Path,
) -> None:
    run = Run(tmp_path, CliConfig(name="claude-code", adapter="claude-code"), limits=Limits(cost_usd=1.0))
    known = Usage(model="claude-x", input_tokens=5_000_000, cost_unknown="no price for claude-x", turns=100)
    run.attempt.known = run.attempt.known.model_copy(update={"usage": known})
    verdict: Verdict = CodingRun(run.attempt).run()
    assert verdict.outcome == "budget"
    assert verdict.message.startswith("E_NO_PRICE: ") and "no price for claude-x" in verdict.message


def test_tokens_without_bounds_are_counted_up_to_one(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    cli = CliConfig(name="p", adapter="command", argv=(sys.executable, "-c", OVERFLOW))
    run = Run(tmp_path, cli, prices={"m": Price(input=2.0, output=2.0)})
    assert run.code().outcome == "completed"
    assert [usage.cost_usd for usage in used(run)][-1] == pytest.approx(2_000_000)


@pytest.mark.parametrize("prices", [{}, {"m": Price(input=1000, output=1000)}])
def test_a_cost_that_is_told_before_its_tokens_is_all_of_it(tmp_path: Path, prices: dict[str, Price]) -> None:
    (tmp_path / "tree").mkdir()
    cli = CliConfig(name="p", adapter="claude-agent-acp", argv=(sys.executable, "-c", COST_FIRST), model="m")
    run = Run(tmp_path, cli, prices=prices)
    assert run.code().outcome == "completed"
    usage = [*used(run)][-1]
    assert (usage.input_tokens, usage.cost_usd, usage.cost_from, usage.cost_unknown) == (10, 0.5, "told", "")


def test_temporary_files_of_earlier_attempts_do_not_pile_up(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "kept").touch()
    program = "import os, pathlib; pathlib.Path(os.environ['TMPDIR'], 'made').touch()"
    cli = CliConfig(name="p", adapter="command", argv=(sys.executable, "-c", program))
    run = Run(tmp_path, cli, limits=Limits(timeout_minutes=1))
    temporary = run.home / "p/tmp"
    (temporary / "deep/er").mkdir(parents=True)
    assert run.code().outcome == "completed"
    assert [path.name for path in temporary.iterdir()] == ["made"]
    (temporary / "of-this-attempt").touch()
    run.attempt.resumed = True
    run.code()
    assert (temporary / "of-this-attempt").exists()
    shutil.rmtree(temporary)
    temporary.symlink_to(elsewhere)
    run.attempt.resumed = False
    run.code()
    assert not temporary.is_symlink() and [path.name for path in elsewhere.iterdir()] == ["kept"]
