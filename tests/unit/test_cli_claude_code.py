"""The Claude Code adapter on captured output of the real program (tests/samples/claude-code)."""

import json
import signal
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent_daemon.clis import ADAPTERS, claude_code
from agent_daemon.clis.base import CliSettings, Progress, RunRequest, Usage, Verdict, sum_of_usage
from agent_daemon.execution import Finished
from tests.unit import cli_samples
from tests.unit.cli_samples import ENDED, FAILED, lines_in, names_in

NAMES = names_in("claude-code")
STOPPED = replace(cli_samples.STOPPED, exit_code=143)


def lines_of(name: str) -> list[tuple[str, str]]:
    return lines_in("claude-code", name)


def events_of(name: str) -> list[Progress]:
    return [event for stream, line in lines_of(name) for event in claude_code.parse(stream, line)]


def verdict_of(name: str, finished: Finished) -> Verdict:
    return claude_code.verdict(finished, events_of(name))


DONE = (ENDED, "completed", "Done: fixed add()")
EXPECTED = {
    "ok": DONE,
    "partial": DONE,
    "sid": DONE,
    "unkmodel": DONE,
    "flaky529": DONE,  # it tried again, and got through
    "truncate": DONE,
    "noop": (ENDED, "completed", "I looked at it"),
    "resume": (ENDED, "completed", "RESUMED with 9"),
    "defaultperm": (ENDED, "refused", "not permitted: Bash, Edit"),
    "401": (FAILED, "authentication", "Invalid API key"),
    "nokey": (FAILED, "authentication", "Not logged in"),
    "429": (FAILED, "overloaded", "rate limit"),
    "quota": (FAILED, "quota", "usage limit"),
    "subscription-limit": (FAILED, "quota", "You've hit your 5-hour limit"),
    "500": (FAILED, "overloaded", "500 Internal"),
    "late500": (FAILED, "overloaded", "500 Internal"),
    "529": (FAILED, "overloaded", "529 Overloaded"),
    "529-defaultretry": (FAILED, "overloaded", "529 Overloaded"),
    "toolong": (FAILED, "context_too_long", "Prompt is too long"),
    "maxturns": (FAILED, "turn_limit", "maximum number of turns (3)"),
    "budget": (FAILED, "budget", "maximum budget ($0.5)"),
    "resume-unknown": (FAILED, "crashed", "No conversation found"),
    "root-nosandbox": (FAILED, "crashed", "root/sudo"),
    "sid2": (FAILED, "crashed", "already in use"),
    "int-tool": (replace(STOPPED, exit_code=0), "interrupted", "stopped"),
    "term-tool": (STOPPED, "interrupted", "stopped"),
    "term-hang": (replace(STOPPED, reason="timeout"), "hung", "time limit"),
}


def test_every_sample_is_judged() -> None:
    assert set(NAMES) == set(EXPECTED)


@pytest.mark.parametrize("name", NAMES)
def test_the_verdict_on_each_sample(name: str) -> None:
    finished, outcome, said = EXPECTED[name]
    verdict = verdict_of(name, finished)
    assert verdict.outcome == outcome
    assert said in verdict.message


@pytest.mark.parametrize("name", NAMES)
def test_no_sample_succeeds_when_it_did_not_end_by_itself(name: str) -> None:
    assert verdict_of(name, STOPPED).outcome == "interrupted"
    assert verdict_of(name, replace(ENDED, signalled_by_us=True)).outcome == "interrupted"
    assert verdict_of(name, FAILED).outcome != "completed"


def test_a_signal_of_somebody_else_is_told_by_the_result() -> None:
    assert verdict_of("int-tool", ENDED).outcome == "interrupted"  # exit code 0, and "is_error": true


def test_what_a_good_run_did() -> None:
    told = [(event.kind, event.path or event.command or event.message) for event in events_of("ok")]
    assert told == [
        ("session", ""),
        ("tool_call", "Read /srv/repo/calc.py"),
        ("tool_call", ""),
        ("file_edited", "/srv/repo/calc.py"),
        ("tool_call", "python3 -m pytest -q"),
        ("command_run", ""),
        ("message", "Done: fixed add() in calc.py and the tests pass."),
        ("result", "Done: fixed add() in calc.py and the tests pass."),
    ]


def test_what_was_refused_is_no_edit_and_no_command() -> None:
    kinds = {event.kind for event in events_of("defaultperm")}
    assert not {"file_edited", "command_run"} & kinds


def test_a_command_that_fails_tells_its_exit_code() -> None:
    assert [event.exit_code for event in events_of("term-tool") if event.kind == "command_run"] == [137]


SPENT = Usage(
    model="claude-sonnet-5-5",
    input_tokens=5400,
    cached_input_tokens=800,
    output_tokens=206,
    cost_usd=0.01134,
    turns=4,
)


def test_the_usage_of_a_run() -> None:
    verdict = verdict_of("ok", ENDED)
    assert verdict.usage == SPENT
    assert verdict.session_id == "f17d10d8-8892-4387-86b2-5dff94defd5f"


def test_what_single_steps_tell_comes_to_the_same() -> None:
    steps = sum_of_usage(events_of("partial"))
    assert steps == replace(SPENT, cost_usd=None)


def test_a_run_without_a_result_is_summed_up_from_its_steps() -> None:
    events = [event for event in events_of("partial") if event.kind != "result"]
    assert claude_code.verdict(STOPPED, events).usage == replace(SPENT, cost_usd=None)


def test_a_resumed_run_costs_its_own_and_not_what_its_session_did() -> None:
    usage = verdict_of("resume", ENDED).usage
    assert (usage.input_tokens, usage.output_tokens, usage.cost_usd) == (1200, 50, 0.00252)


def test_a_guessed_price_is_none() -> None:
    usage = verdict_of("unkmodel", ENDED).usage
    assert (usage.model, usage.cost_usd) == ("my-custom-model", None)
    assert usage.output_tokens == 206


def test_the_reply_that_went_beyond_the_budget_is_counted() -> None:
    usage = verdict_of("budget", FAILED).usage
    assert (usage.input_tokens, usage.output_tokens, usage.cost_usd) == (400_200, 20_000, 1.00002)


def test_waiting_is_no_progress() -> None:
    events = events_of("529-defaultretry")
    assert [event.kind for event in events if event.kind not in ("session", "error", "result")] == ["retry"] * 10
    assert events[1].message == "overloaded (529), try 1 of 10"


def test_a_session_that_is_gone_is_not_offered_again() -> None:
    assert verdict_of("resume-unknown", FAILED).session_id is None


def test_what_a_good_answer_says_of_conversations_takes_no_session_away() -> None:
    told = {"type": "result", "subtype": "success", "is_error": False, "session_id": "s1"}
    line = json.dumps(told | {"result": "The page says 'No conversation found' now where there is none."})
    verdict = claude_code.verdict(ENDED, claude_code.parse("stdout", line))
    assert (verdict.outcome, verdict.session_id, verdict.session_gone) == ("completed", "s1", False)


def test_an_event_that_was_too_long_to_be_kept_whole_is_no_message() -> None:
    line = json.dumps({"type": "user", "tool_use_result": {"originalFile": "x" * 100}})
    assert claude_code.parse("stdout", line[:60]) == []


def test_a_limit_of_a_subscription_tells_when_it_is_lifted() -> None:
    assert verdict_of("subscription-limit", FAILED).retry_at == datetime.fromtimestamp(4_000_000_000, UTC)
    near = {"type": "rate_limit_event", "rate_limit_info": {"status": "allowed_warning", "resetsAt": 4e9}}
    assert claude_code.parse("stdout", json.dumps(near)) == []


def test_nothing_said_and_rc_zero_is_no_success() -> None:
    assert claude_code.verdict(ENDED, []).outcome == "no_result"
    assert claude_code.verdict(FAILED, []).outcome == "crashed"


@pytest.mark.parametrize(
    "line",
    [
        "",
        "not json",
        "{",
        "[1, 2]",
        '{"type": 7}',
        '{"type": ["result"]}',
        '{"type": "system", "subtype": "api_retry", "attempt": "x"}',
        '{"type": "system", "subtype": "brand_new"}',
        '{"type": "assistant"}',
        '{"type": "assistant", "message": {"content": "text"}}',
        '{"type": "assistant", "message": {"content": [1, {"type": "tool_use", "name": 3, "input": []}]}}',
        '{"type": "user", "tool_use_result": {"structuredPatch": 1}, "message": []}',
        '{"type": "stream_event", "event": {"type": "message_start", "message": {"usage": 1}}}',
        '{"type": "stream_event", "event": {"type": "message_delta", "usage": {"output_tokens": -4}}}',
        '{"type": "rate_limit_event", "rate_limit_info": {"status": "rejected", "resetsAt": 1e300}}',
        '{"type": "result"}',
        '{"type": "result", "is_error": false}',
        '{"type": "result", "is_error": false, "subtype": "success", "errors": {}, "permission_denials": [1, {}]}',
        '{"type": "result", "model_usage_since_last_result": {"a": 1, "b": {"costUSD": "x", "inputTokens": -1}}}',
        '{"type": "assistant", "message": {"content": [{"type": "text", "text": "\\ud800 half a pair"}]}}',
        '{"a": ' * 50_000,
    ],
)
def test_odd_lines_are_borne(line: str) -> None:
    for stream in ("stdout", "stderr"):
        events = claude_code.parse(stream, line)
        assert claude_code.verdict(FAILED, events).outcome != "completed"
        for event in events:
            event.message.encode("utf-8")


ALL_LINES = [line for name in NAMES for line in lines_of(name)]


@settings(max_examples=60)
@given(st.data())
def test_lines_cut_anywhere_are_borne_and_never_succeed(data: st.DataObject) -> None:
    stream, line = data.draw(st.sampled_from(ALL_LINES))
    junk = st.text(st.characters(exclude_characters="}"), max_size=3)
    cut = line[: data.draw(st.integers(0, len(line) - 1))] + data.draw(junk)
    events = claude_code.parse(stream, cut)
    assert all(event.kind == "message" for event in events)
    assert claude_code.verdict(ENDED, events).outcome != "completed"


@settings(max_examples=60)
@given(st.sampled_from(NAMES), st.data())
def test_a_run_cut_anywhere_and_strewn_with_unknown_events_succeeds_only_with_its_result(
    name: str, data: st.DataObject
) -> None:
    lines = lines_of(name)
    kept = lines[: data.draw(st.integers(0, len(lines)))]
    strange = st.fixed_dictionaries({"type": st.text(max_size=5)}, optional={"subtype": st.text(max_size=5)})
    for _ in range(data.draw(st.integers(0, 3))):
        kept.insert(data.draw(st.integers(0, len(kept))), ("stdout", json.dumps(data.draw(strange))))
    events = [event for stream, line in kept for event in claude_code.parse(stream, line)]
    verdict = claude_code.verdict(ENDED, events)
    if any(event.kind == "result" for event in events):
        assert verdict.outcome == verdict_of(name, ENDED).outcome
    else:
        assert verdict.outcome == "no_result"


@settings(max_examples=60)
@given(
    st.recursive(
        st.none() | st.integers() | st.text() | st.sampled_from(["result", "assistant", "user", "stream_event"]),
        lambda inner: st.dictionaries(
            st.sampled_from(
                ["type", "message", "content", "event", "usage", "result", "errors", "tool_use_result", "error"]
            ),
            inner | st.lists(inner, max_size=3),
        ),
    )
)
def test_any_json_is_borne(value: object) -> None:
    assert claude_code.verdict(ENDED, claude_code.parse("stdout", json.dumps(value))).outcome != "completed"


# --- how it is started -------------------------------------------------------------------------------


@pytest.fixture
def request_(tmp_path: Path) -> RunRequest:
    configuration = CliSettings(
        name="claude-code",
        adapter="claude-code",
        model="sonnet",
        home=tmp_path / "home",
        environment={"ANTHROPIC_API_KEY": "sk-key", "HARMLESS": "1"},
    )
    return RunRequest(
        prompt="--fix $(it)\n",
        prompt_file=tmp_path / "prompt.md",
        worktree=tmp_path / "tree",
        settings=configuration,
        marker="acme-app.1/2",
    )


def option(argv: tuple[str, ...], name: str) -> str | None:
    return argv[argv.index(name) + 1] if name in argv else None


def test_a_first_run(request_: RunRequest, tmp_path: Path) -> None:
    invocation = ADAPTERS["claude-code"].invocation(request_)
    argv = invocation.argv
    assert argv[:2] == ("claude", "-p")
    assert {"--verbose", "--dangerously-skip-permissions"} < set(argv)
    assert option(argv, "--output-format") == "stream-json"
    assert option(argv, "--model") == "sonnet"
    assert not {"--resume", "--max-turns", "--max-budget-usd", "--fallback-model"} & set(argv)
    assert invocation.stdin == b"--fix $(it)\n"
    assert invocation.cwd == tmp_path / "tree"
    assert invocation.marker == "acme-app.1/2"
    assert invocation.stop_signals[0][0] is signal.SIGINT


def test_a_resumed_run_with_limits(request_: RunRequest) -> None:
    argv = claude_code.invocation(replace(request_, session_id="01a1-x", max_turns=7, cost_usd=0.5)).argv
    assert option(argv, "--resume") == "01a1-x"
    assert option(argv, "--max-turns") == "7"
    assert option(argv, "--max-budget-usd") == "0.5"


def test_the_key_is_neither_an_argument_nor_in_the_environment(request_: RunRequest) -> None:
    invocation = claude_code.invocation(request_)
    assert invocation.secrets == {"CLAUDE_CODE_API_KEY_FILE_DESCRIPTOR": "sk-key"}
    assert "sk-key" not in str(invocation.environment)
    assert "sk-key" not in " ".join(invocation.argv)
    assert "sk-key" not in repr(invocation)
    assert "sk-key" not in repr(request_)


def test_an_endpoint_of_one_s_own(request_: RunRequest) -> None:
    options = {
        "base_url": "http://127.0.0.1:1",
        "env_key": "MY_KEY",
        "max_retries": "0",
        "fallback_model": "haiku",
        "hide_key": "no",
    }
    assert set(options) == claude_code.OPTIONS
    configured = replace(request_.settings, options=options, environment={"MY_KEY": "sk-mine"})
    invocation = claude_code.invocation(replace(request_, settings=configured))
    environment = invocation.environment
    assert environment["ANTHROPIC_BASE_URL"] == "http://127.0.0.1:1"
    assert environment["ANTHROPIC_API_KEY"] == "sk-mine"
    assert "MY_KEY" not in environment
    assert environment["CLAUDE_CODE_MAX_RETRIES"] == "0"
    assert option(invocation.argv, "--fallback-model") == "haiku"


def test_the_environment_is_bare(request_: RunRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOST_SECRET", "1")
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    environment = claude_code.invocation(request_).environment
    assert environment["HOME"] == str(tmp_path / "home")
    assert environment["CLAUDE_CONFIG_DIR"] == str(tmp_path / "home" / ".claude")
    assert Path(environment["CLAUDE_CONFIG_DIR"]).is_dir()
    assert not {"HOST_SECRET", "IS_SANDBOX"} & set(environment)
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert claude_code.invocation(request_).environment["IS_SANDBOX"] == "1"


def test_what_the_operator_says_comes_last(request_: RunRequest) -> None:
    configured = replace(
        request_.settings,
        argv=("/opt/claude", "--debug"),
        arguments=("--effort", "high"),
        environment={"DISABLE_AUTOUPDATER": "0"},
    )
    invocation = claude_code.invocation(replace(request_, settings=configured))
    assert invocation.argv[:3] == ("/opt/claude", "--debug", "-p")
    assert invocation.argv[-2:] == ("--effort", "high")
    assert invocation.environment["DISABLE_AUTOUPDATER"] == "0"
