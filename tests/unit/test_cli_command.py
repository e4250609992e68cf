"""The adapter for any program: how its arguments are filled, its lines read, its end judged."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent_daemon.clis import ADAPTERS, command
from agent_daemon.clis.base import OUTCOMES, CliSettings, Progress, RunRequest, Usage, Verdict
from agent_daemon.execution import Finished

ENDED = Finished(exit_code=0, signalled_by_us=False, reason="exited", duration_seconds=1.0, output_bytes=1)


@pytest.fixture
def request_(tmp_path: Path) -> RunRequest:
    settings = CliSettings(
        name="mine",
        adapter="command",
        argv=("tool", "--in={worktree}", "{prompt_file}", "{other}", "--model", "{model}"),
        arguments=("--resume={session_id}", "--turns={max_turns}"),
        model="m $(x) {worktree}",
        home=tmp_path / "home",
    )
    return RunRequest(
        prompt="do it", prompt_file=tmp_path / "prompt.md", worktree=tmp_path / "a b", settings=settings
    )


def judged(finished: Finished, *lines: str) -> Verdict:
    events = [event for line in lines for event in command.parse("stdout", line)]
    return ADAPTERS["command"].verdict(finished, events)


def test_values_are_filled_in_inside_single_arguments(request_: RunRequest, tmp_path: Path) -> None:
    argv = command.invocation(replace(request_, session_id="s-1", max_turns=7)).argv
    assert argv == (
        "tool",
        f"--in={tmp_path / 'a b'}",
        str(tmp_path / "prompt.md"),
        "{other}",
        "--model",
        "m $(x) {worktree}",  # a value is not filled in again
        "--resume=s-1",
        "--turns=7",
    )


def test_an_argument_without_its_value_is_left_out(request_: RunRequest) -> None:
    argv = command.invocation(request_).argv
    assert not [argument for argument in argv if argument.startswith(("--resume", "--turns"))]


@pytest.mark.parametrize(("way", "stdin"), [("stdin", b"do it"), ("file", None), ("argument", None)])
def test_three_ways_to_hand_over_the_prompt(
    request_: RunRequest, way: str, stdin: bytes | None, tmp_path: Path
) -> None:
    settings = replace(request_.settings, argv=("tool",), arguments=(), prompt=way)
    invocation = command.invocation(replace(request_, settings=settings))
    assert invocation.stdin == stdin
    assert "do it" not in invocation.argv
    if way == "argument":
        assert str(tmp_path / "prompt.md") in invocation.argv[1]
        assert not invocation.argv[1].startswith("-")
    else:
        assert invocation.argv == ("tool",)


def test_exit_codes_and_marker_are_passed_on(request_: RunRequest) -> None:
    settings = replace(request_.settings, success_exit_codes=(0, 2))
    invocation = command.invocation(replace(request_, settings=settings, marker="t/1"))
    assert invocation.success_exit_codes == (0, 2)
    assert invocation.marker == "t/1"


def test_what_lines_mean() -> None:
    def parsed(line: object) -> list[Progress]:
        return command.parse("stdout", line if isinstance(line, str) else json.dumps(line))

    assert parsed("plain text") == [Progress(kind="message", message="plain text")]
    assert parsed("   ") == []
    assert parsed({"type": "heartbeat"}) == [Progress(kind="heartbeat")]
    assert parsed({"type": "retry", "message": "m"}) == [Progress(kind="retry", message="m")]
    assert parsed({"type": "status", "message": "m"}) == [Progress(kind="message", type="status", message="m")]
    assert parsed({"type": "unheard of", "message": "m"})[0].kind == "message"
    assert parsed({"type": "progress", "path": "a.py"})[0].kind == "file_edited"
    ran = parsed({"type": "log", "command": "make", "exit_code": 2})[0]
    assert (ran.kind, ran.command, ran.exit_code) == ("command_run", "make", 2)
    usage = {"model": "m", "input_tokens": 5, "output_tokens": 6, "cost_usd": 0.5, "turns": 2}
    result = parsed({"type": "result", "message": "done", "usage": usage, "session_id": "s"})[0]
    assert result.usage == Usage(model="m", input_tokens=5, output_tokens=6, cost_usd=0.5, turns=2)
    assert (result.kind, result.session_id) == ("result", "s")


def test_lines_on_standard_error_are_only_messages() -> None:
    line = json.dumps({"type": "error", "message": "x"})
    assert command.parse("stderr", line) == [Progress(kind="message", message=line)]


def test_the_exit_code_alone_is_success() -> None:
    assert judged(ENDED).outcome == "completed"
    assert judged(ENDED, "all good").message == "all good"
    assert judged(replace(ENDED, exit_code=2, success_exit_codes=(0, 2))).outcome == "completed"


def test_any_other_exit_code_is_a_crash() -> None:
    verdict = judged(replace(ENDED, exit_code=9), "working", "Traceback: boom")
    assert (verdict.outcome, verdict.message) == ("crashed", "exit code 9: Traceback: boom")


def test_an_error_that_no_result_followed_is_none() -> None:
    error = json.dumps({"type": "error", "message": "no key", "outcome": "authentication"})
    verdict = judged(ENDED, error, "bye")
    assert (verdict.outcome, verdict.message) == ("authentication", "no key")
    assert judged(ENDED, json.dumps({"type": "error"})).outcome == "crashed"

    verdict = judged(ENDED, error, json.dumps({"type": "result", "message": "recovered"}))
    assert (verdict.outcome, verdict.message) == ("completed", "recovered")


def test_a_result_may_name_its_outcome() -> None:
    asked = json.dumps({"type": "result", "message": "Which database?", "outcome": "needs_input"})
    assert judged(ENDED, asked).outcome == "needs_input"
    assert judged(ENDED, asked.replace("needs_input", "nonsense")).outcome == "completed"
    assert judged(replace(ENDED, exit_code=1), asked).outcome == "crashed"


@pytest.mark.parametrize("outcome", sorted(OUTCOMES))
def test_a_stop_says_why(outcome: str) -> None:
    stopped = replace(ENDED, signalled_by_us=True, reason="stopped", stop_reason=outcome)
    assert judged(stopped, json.dumps({"type": "result", "message": "done"})).outcome == outcome


def test_an_end_from_outside_is_no_success() -> None:
    hung = judged(replace(ENDED, reason="timeout", signalled_by_us=True, detail="its time limit of 3 minutes"))
    assert (hung.outcome, hung.message) == ("hung", "it was ended at its time limit of 3 minutes")
    assert judged(replace(ENDED, reason="output_limit", signalled_by_us=True)).outcome == "crashed"
    assert judged(replace(ENDED, reason="stopped", stop_reason="?")).outcome == "interrupted"
    assert judged(replace(ENDED, signalled_by_us=True)).outcome == "interrupted"


NASTY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "message", "usage", "path", "command", "exit_code", "outcome", "cost_usd"]),
            inner | st.sampled_from(["error", "result", "progress"]),
        )
    ),
)


@settings(max_examples=60)
@given(st.lists(NASTY | st.text(), max_size=4), st.integers(-20, 20))
def test_anything_printed_gives_a_verdict(values: list[object], exit_code: int) -> None:
    lines = [value if isinstance(value, str) else json.dumps(value) for value in values]
    verdict = judged(replace(ENDED, exit_code=exit_code), *lines)
    assert verdict.outcome in OUTCOMES
    verdict.message.encode("utf-8")
    assert verdict.outcome != "completed" or exit_code == 0
