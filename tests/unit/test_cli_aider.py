"""The Aider adapter on captured output of the real program (tests/samples/aider)."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent_daemon.clis import ADAPTERS, aider
from agent_daemon.clis.base import CliSettings, Progress, RunRequest, Usage, Verdict
from agent_daemon.execution import Finished
from tests.unit import cli_samples
from tests.unit.cli_samples import ENDED, FAILED, SAMPLES, names_in

NAMES = names_in("aider")
STOPPED = replace(cli_samples.STOPPED, stop_reason="hung")


def lines_of(name: str) -> list[str]:
    return (SAMPLES / "aider" / f"{name}.txt").read_text().splitlines()


def events_of(name: str) -> list[Progress]:
    return [event for line in lines_of(name) for event in aider.parse("stdout", line)]


def verdict_of(name: str, finished: Finished = ENDED) -> Verdict:
    """Whatever happened, it ends with exit code 0."""
    return aider.verdict(finished, events_of(name))


EXPECTED = {
    "ok": ("completed", "The operator is wrong."),
    "auto-test": ("completed", "The operator is wrong."),
    "noop": ("completed", "I looked at it and will not change anything."),
    "badedit": ("turn_limit", "Only 3 reflections allowed"),
    "resume": ("turn_limit", "Only 3 reflections allowed"),
    "401": ("authentication", "Incorrect API key provided"),
    "nokey": ("authentication", "api_key client option must be set"),
    "429": ("overloaded", "Rate limit reached for model"),
    "500": ("overloaded", "The server had an error"),
    "toolong": ("context_too_long", "exceeds the context window of this model"),
    "int-hang": ("no_result", "without an answer"),
}


def test_every_sample_is_judged() -> None:
    assert set(NAMES) == set(EXPECTED)


@pytest.mark.parametrize("name", NAMES)
def test_the_verdict_on_each_sample(name: str) -> None:
    outcome, said = EXPECTED[name]
    verdict = verdict_of(name)
    assert verdict.outcome == outcome
    assert said in verdict.message


@pytest.mark.parametrize("name", NAMES)
def test_no_sample_succeeds_when_it_did_not_end_by_itself(name: str) -> None:
    assert verdict_of(name, STOPPED).outcome == "hung"
    assert verdict_of(name, FAILED).outcome != "completed"


def test_what_a_good_run_did() -> None:
    events = events_of("auto-test")
    told = [(event.kind, event.path or event.message) for event in events if event.kind != "message"]
    assert told == [
        ("session", "Aider v0.86.2"),
        ("usage", "Tokens: 1.0k sent, 50 received. Cost: $0.0037 message, $0.0037 session."),
        ("file_edited", "calc.py"),
    ]
    assert verdict_of("auto-test").usage == Usage(input_tokens=1000, output_tokens=50, cost_usd=0.0037, turns=1)
    assert verdict_of("ok").usage.cost_usd is None  # it knows no price for the model


@pytest.mark.parametrize(
    ("line", "usage"),
    [
        ("Tokens: 950 sent, 7 received.", Usage(input_tokens=950, output_tokens=7, turns=1)),
        (
            "Tokens: 1.2M sent, 3k cache write, 12k cache hit, 4.5k received. Cost: $1,234.50 message.",
            Usage(
                input_tokens=1_200_000, cached_input_tokens=12_000, output_tokens=4500, cost_usd=1234.5, turns=1
            ),
        ),
        ("Tokens: ,, sent, .. received.", Usage(turns=1)),
    ],
)
def test_what_a_reply_cost(line: str, usage: Usage) -> None:
    assert [event.usage for event in aider.parse("stdout", line)] == [usage]


@pytest.mark.parametrize("name", ["429", "500"])
def test_waiting_is_no_progress(name: str) -> None:
    lines = lines_of(name)
    first = next(number for number, line in enumerate(lines) if line.startswith("litellm."))
    kinds = [event.kind for line in lines[first:] for event in aider.parse("stdout", line)]
    assert kinds.count("retry") == 8 * 3 + 2  # eight times it tries again
    assert "error" not in kinds


def test_an_error_that_a_reply_followed_is_overcome() -> None:
    events = events_of("429") + events_of("ok")
    assert aider.verdict(ENDED, events).outcome == "completed"
    assert aider.verdict(ENDED, events_of("ok") + events_of("429")).outcome == "overloaded"


def test_a_time_to_wait_is_told() -> None:
    line = "litellm.RateLimitError: RateLimitError: OpenAIException - Rate limit reached. Please try again in 20s."
    assert aider.verdict(ENDED, aider.parse("stdout", line)).retry_after_seconds == 20


def test_nothing_said_and_rc_zero_is_no_success() -> None:
    assert aider.verdict(ENDED, []).outcome == "no_result"
    assert aider.verdict(FAILED, []).outcome == "crashed"


ALL_LINES = [line for name in NAMES for line in lines_of(name)]


@settings(max_examples=60)
@given(st.data())
def test_lines_cut_anywhere_and_strange_ones_are_borne(data: st.DataObject) -> None:
    line = data.draw(st.sampled_from(ALL_LINES))
    cut = line[: data.draw(st.integers(0, len(line)))] + data.draw(st.text(max_size=5))
    for event in aider.parse("stderr", cut):
        event.message.encode("utf-8")
    aider.verdict(ENDED, aider.parse("stdout", cut))


@settings(max_examples=60)
@given(st.sampled_from(NAMES), st.data())
def test_a_run_cut_anywhere_succeeds_only_with_an_answer(name: str, data: st.DataObject) -> None:
    lines = lines_of(name)
    kept = lines[: data.draw(st.integers(0, len(lines)))]
    events = [event for line in kept for event in aider.parse("stdout", line)]
    answered = any(event.kind == "usage" for event in events)
    assert answered or aider.verdict(ENDED, events).outcome != "completed"


# --- how it is started -------------------------------------------------------------------------------


@pytest.fixture
def request_(tmp_path: Path) -> RunRequest:
    configuration = CliSettings(
        name="aider",
        adapter="aider",
        model="openai/gpt-5.5",
        home=tmp_path / "home",
        environment={"OPENAI_API_KEY": "sk-key"},
    )
    return RunRequest(
        prompt="--fix $(it)\n",
        prompt_file=tmp_path / "prompt.md",
        worktree=tmp_path / "tree",
        settings=configuration,
        test_command="(pytest -q)",
        marker="/srv/mail/backend-1/out/acme-app.1/2",
    )


def test_a_first_run(request_: RunRequest, tmp_path: Path) -> None:
    invocation = ADAPTERS["aider"].invocation(request_)
    argv = invocation.argv
    assert argv[0] == "aider"
    assert {"--yes-always", "--no-auto-commits", "--no-dirty-commits", "--auto-test"} < set(argv)
    assert argv[argv.index("--model") + 1] == "openai/gpt-5.5"
    assert argv[argv.index("--test-cmd") + 1] == "unset OPENAI_API_KEY; (pytest -q)"
    assert argv[-2:] == ("--message-file", str(tmp_path / "prompt.md"))
    assert invocation.stdin is None
    assert invocation.environment["LITELLM_LOCAL_MODEL_COST_MAP"] == "True"
    assert "--restore-chat-history" not in argv


def test_a_task_without_verification_is_run_without(request_: RunRequest) -> None:
    argv = aider.invocation(replace(request_, test_command="")).argv
    assert not {"--auto-test", "--test-cmd"} & set(argv)


def test_the_history_of_a_task_is_taken_up_only_when_its_session_is_resumed(request_: RunRequest) -> None:
    argv = aider.invocation(request_).argv
    history = Path(argv[argv.index("--chat-history-file") + 1])
    assert history.is_relative_to(request_.settings.home)
    assert history.name == "acme-app.1.md"
    history.write_text("# what was said")
    again = aider.invocation(
        replace(request_, session_id="chat-history", marker="/srv/mail/backend-1/out/acme-app.1/3")
    ).argv
    assert "--restore-chat-history" in again
    assert str(history) in again
    assert history.exists()
    aider.invocation(request_)
    assert not history.exists()


def test_an_endpoint_of_one_s_own_and_its_key(request_: RunRequest) -> None:
    options = {
        "base_url": "http://127.0.0.1:1/v1",
        "env_key": "MY_KEY",
        "edit_format": "diff",
        "model_metadata_file": "/srv/prices.json",
    }
    assert set(options) == aider.OPTIONS
    configured = replace(request_.settings, options=options, environment={"MY_KEY": "sk-mine"})
    invocation = aider.invocation(replace(request_, settings=configured))
    assert invocation.environment["OPENAI_API_BASE"] == "http://127.0.0.1:1/v1"
    assert invocation.environment["OPENAI_API_KEY"] == "sk-mine"
    assert "MY_KEY" not in invocation.environment
    assert "sk-mine" not in " ".join(invocation.argv) + repr(invocation)
    assert invocation.argv[invocation.argv.index("--edit-format") + 1] == "diff"
