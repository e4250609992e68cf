"""The Codex adapter on captured output of the real program (tests/samples/codex)."""

import itertools
import json
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent_daemon.clis import ADAPTERS, codex
from agent_daemon.clis.base import CliSettings, Progress, RunRequest, Usage, Verdict
from agent_daemon.execution import Finished
from tests.unit import cli_samples
from tests.unit.cli_samples import ENDED, FAILED, lines_in, names_in

NAMES = names_in("codex")
STOPPED = replace(cli_samples.STOPPED, exit_code=-15)


def lines_of(name: str) -> list[tuple[str, str]]:
    return lines_in("codex", name)


def events_of(name: str) -> list[Progress]:
    return [event for stream, line in lines_of(name) for event in codex.parse(stream, line)]


def verdict_of(name: str, finished: Finished, previous: Usage | None = None) -> Verdict:
    return codex.verdict(finished, events_of(name), previous=previous)


EXPECTED = {
    "ok": (ENDED, "completed", "Done: fixed add()"),
    "noop": (ENDED, "completed", "I looked at it"),
    "badedit": (ENDED, "completed", "Done: fixed add()"),
    "default": (ENDED, "completed", "Done: fixed add()"),
    "resume": (ENDED, "completed", "RESUMED with 9"),
    "401": (FAILED, "authentication", "unexpected status 401"),
    "nokey": (FAILED, "authentication", "Missing environment variable"),
    "429": (FAILED, "overloaded", "exceeded retry limit"),
    "500": (FAILED, "overloaded", "high demand"),
    "503": (FAILED, "overloaded", "503 Service Unavailable"),
    "late-500-1": (FAILED, "overloaded", "high demand"),
    "truncate": (FAILED, "overloaded", "stream disconnected"),
    "quota": (FAILED, "quota", "Quota exceeded"),
    "toolong": (FAILED, "context_too_long", "ran out of room"),
    "resume-unknown": (FAILED, "crashed", "no rollout found"),
    "term-tool": (STOPPED, "interrupted", "stopped"),
    "int-tool": (replace(STOPPED, exit_code=1), "interrupted", "stopped"),
    "builtin2": (replace(STOPPED, reason="timeout"), "hung", "time limit"),
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


def test_what_a_good_run_did() -> None:
    events = events_of("ok")
    told = [(event.kind, event.path or event.command or event.message) for event in events]
    command = "python3 -m pytest -q"
    assert told == [
        ("session", ""),
        ("file_edited", "/srv/repo/calc.py"),
        ("usage", ""),
        ("tool_call", command),
        ("command_run", command),
        ("usage", ""),
        ("message", "Done: fixed add() in calc.py and the tests pass."),
        ("usage", ""),
        ("result", ""),
    ]
    assert next(event.exit_code for event in events if event.kind == "command_run") == 1


def test_the_usage_of_a_run() -> None:
    verdict = verdict_of("ok", ENDED)
    assert verdict.usage == Usage(input_tokens=3300, cached_input_tokens=600, output_tokens=153, turns=3)
    assert verdict.session_id == "01a1f9ce-5eb2-78e2-baf8-b8235227f6b1"


def test_the_usage_of_a_resumed_run_is_without_the_earlier_one() -> None:
    before = verdict_of("ok", ENDED).usage
    usage = verdict_of("resume", ENDED, previous=before).usage
    assert usage == Usage(input_tokens=1000, cached_input_tokens=200, output_tokens=50, turns=1)


def test_usage_never_goes_below_zero() -> None:
    far = Usage(input_tokens=10**9, cached_input_tokens=10**9, output_tokens=10**9)
    assert verdict_of("resume", ENDED, previous=far).usage == Usage(turns=1)


def test_waiting_is_no_progress() -> None:
    kinds = {event.kind for event in events_of("builtin2")} - {"session"}
    assert kinds == {"message", "retry"}


def test_a_session_that_is_gone_is_not_offered_again() -> None:
    assert verdict_of("resume-unknown", FAILED).session_id is None


def test_nothing_said_and_rc_zero_is_no_success() -> None:
    assert codex.verdict(ENDED, []).outcome == "no_result"
    assert codex.verdict(FAILED, []).outcome == "crashed"


def test_what_did_not_start() -> None:
    never = replace(ENDED, exit_code=None, reason="not_started", detail="could not start codex: no such file")
    verdict = codex.verdict(never, [])
    assert (verdict.outcome, verdict.message) == ("crashed", "could not start codex: no such file")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("Rate limit reached. Please try again in 1.898s.", 1.898),
        ("Rate limit reached. Please try again in 20ms", 0.02),
        ("You've hit your usage limit. Try again in 3 days 4 hours 5 minutes.", 3 * 86400 + 4 * 3600 + 300),
        ("rate limit, retry after 30 seconds", 30.0),
        ("rate limit reached, try again in a moment", None),
    ],
)
def test_the_time_to_wait_is_taken_from_the_text(text: str, seconds: float | None) -> None:
    events = codex.parse("stdout", json.dumps({"type": "turn.failed", "error": {"message": text}}))
    assert codex.verdict(FAILED, events).retry_after_seconds == (pytest.approx(seconds) if seconds else None)


@pytest.mark.parametrize(
    "line",
    [
        "",
        "not json",
        "{",
        "[1, 2]",
        "null",
        '{"type": 7}',
        '{"type": "thread.started", "thread_id": ["x"]}',
        '{"type": "turn.completed"}',
        '{"type": "turn.completed", "usage": {"input_tokens": -5, "output_tokens": "many"}}',
        '{"type": "turn.failed", "error": "text"}',
        '{"type": "item.completed", "item": []}',
        '{"type": "item.completed", "item": {"type": "file_change", "status": "completed", "changes": {"a": 1}}}',
        '{"type": "item.completed", "item": {"type": "file_change", "status": "completed", "changes": [1]}}',
        '{"type": "item.completed", "item": {"type": "command_execution", "exit_code": "0"}}',
        '{"type": "item.completed", "item": {"type": "something_new", "x": {}}}',
        '{"type": "error", "message": "\\ud800 half a pair"}',
        '{"a": ' * 50_000,
        "9" * 10_000,
    ],
)
def test_odd_lines_are_borne(line: str) -> None:
    for stream in ("stdout", "stderr"):
        for event in codex.parse(stream, line):
            event.message.encode("utf-8")


ALL_LINES = [line for name in NAMES for line in lines_of(name)]


@settings(max_examples=60)
@given(st.data())
def test_lines_cut_anywhere_are_borne_and_never_succeed(data: st.DataObject) -> None:
    stream, line = data.draw(st.sampled_from(ALL_LINES))
    junk = st.text(st.characters(exclude_characters="}"), max_size=3)
    cut = line[: data.draw(st.integers(0, len(line) - 1))] + data.draw(junk)
    events = codex.parse(stream, cut)
    assert all(event.kind in ("message", "error") for event in events)
    assert codex.verdict(ENDED, events).outcome != "completed"


@settings(max_examples=60)
@given(
    st.recursive(
        st.none() | st.integers() | st.text(),
        lambda inner: st.dictionaries(
            st.sampled_from(
                ["type", "item", "message", "error", "usage", "changes", "thread_id", "status", "text"]
            ),
            inner,
        ),
    )
)
def test_any_json_is_borne(value: object) -> None:
    codex.verdict(FAILED, codex.parse("stdout", json.dumps(value)))


# --- how it is started -------------------------------------------------------------------------------


@pytest.fixture
def request_(tmp_path: Path) -> RunRequest:
    configuration = CliSettings(
        name="codex",
        adapter="codex",
        model="gpt-5.5",
        home=tmp_path / "home",
        environment={"OPENAI_API_KEY": "sk-key", "NPM_TOKEN": "npm-token", "HARMLESS": "1"},
    )
    return RunRequest(
        prompt="--fix $(it)\n",
        prompt_file=tmp_path / "prompt.md",
        worktree=tmp_path / "tree",
        settings=configuration,
        marker="acme-app.1/2",
    )


def configured(argv: tuple[str, ...]) -> dict[str, object]:
    """The -c pairs as the program reads them: dotted TOML keys."""
    pairs = [value for flag, value in itertools.pairwise(argv) if flag == "-c"]
    return tomllib.loads("\n".join(pairs))


def test_a_first_run(request_: RunRequest, tmp_path: Path) -> None:
    invocation = ADAPTERS["codex"].invocation(request_)
    argv = invocation.argv
    assert argv[:4] == ("codex", "exec", "-C", str(tmp_path / "tree"))
    assert argv[-1] == "-"
    assert {"--json", "--dangerously-bypass-approvals-and-sandbox"} < set(argv)
    assert argv[argv.index("-m") + 1] == "gpt-5.5"
    assert invocation.stdin == b"--fix $(it)\n"
    assert invocation.cwd == tmp_path / "tree"
    assert invocation.marker == "acme-app.1/2"
    assert configured(argv)["allow_login_shell"] is False


def test_a_resumed_run_names_its_session_and_no_folder(request_: RunRequest) -> None:
    argv = codex.invocation(replace(request_, session_id="01a1-x")).argv
    assert argv[:4] == ("codex", "exec", "resume", "01a1-x")
    assert "-C" not in argv
    assert argv[-1] == "-"


def test_the_key_is_in_the_environment_only(request_: RunRequest) -> None:
    invocation = codex.invocation(request_)
    assert invocation.environment["OPENAI_API_KEY"] == "sk-key"
    assert "sk-key" not in " ".join(invocation.argv)
    assert "sk-key" not in repr(invocation)
    assert "sk-key" not in repr(request_)


def test_commands_of_the_model_do_not_see_secrets_unless_told(request_: RunRequest) -> None:
    policy = configured(codex.invocation(request_).argv)["shell_environment_policy"]
    assert policy == {"exclude": ["NPM_TOKEN", "OPENAI_API_KEY"]}

    shown = replace(request_.settings, options={"shell_environment": "NPM_TOKEN OTHER"})
    policy = configured(codex.invocation(replace(request_, settings=shown)).argv)["shell_environment_policy"]
    assert policy == {"exclude": ["OPENAI_API_KEY"]}


def test_a_provider_of_one_s_own(request_: RunRequest) -> None:
    options = {"base_url": 'http://127.0.0.1:1/v1?a="b"', "env_key": "MY_KEY", "request_max_retries": "0"}
    assert set(options) <= codex.OPTIONS
    settings = replace(request_.settings, options=options)
    read = configured(codex.invocation(replace(request_, settings=settings)).argv)
    assert read["model_provider"] == "cloud-code"
    assert read["model_providers"] == {
        "cloud-code": {
            "name": "cloud-code",
            "base_url": 'http://127.0.0.1:1/v1?a="b"',
            "env_key": "MY_KEY",
            "wire_api": "responses",
            "request_max_retries": 0,
        }
    }


def test_the_environment_is_bare(request_: RunRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOST_SECRET", "1")
    monkeypatch.setenv("PASSED", "2")
    settings = replace(request_.settings, pass_environment=("PASSED", "ABSENT"))
    environment = codex.invocation(replace(request_, settings=settings)).environment
    assert environment["PASSED"] == "2"
    assert environment["HOME"] == str(tmp_path / "home")
    assert environment["CODEX_HOME"] == str(tmp_path / "home" / ".codex")
    assert not {"HOST_SECRET", "ABSENT"} & set(environment)
    assert Path(environment["TMPDIR"]).is_dir()
    assert Path(environment["CODEX_HOME"]).is_dir()


def test_arguments_of_the_operator_come_before_the_prompt(request_: RunRequest) -> None:
    settings = replace(request_.settings, argv=("/opt/codex", "--flag"), arguments=("--search",))
    argv = codex.invocation(replace(request_, settings=settings)).argv
    assert argv[:3] == ("/opt/codex", "--flag", "exec")
    assert argv[-2:] == ("--search", "-")


def test_its_record_of_the_session_tells_the_sum_after_each_reply() -> None:
    """`token_usage_record` at once, `token_count` once its command has ended; older versions tell only that."""
    counts = {"input_tokens": 2100, "cached_input_tokens": 400, "output_tokens": 101, "total_tokens": 2201}
    last = {"input_tokens": 1100, "output_tokens": 51}
    record = {"type": "token_usage_record", "payload": {"usage": last, "thread_token_usage": counts}}
    info = {"total_token_usage": counts, "last_token_usage": last}
    count = {"type": "event_msg", "payload": {"type": "token_count", "info": info}}
    told = Usage(input_tokens=2100, cached_input_tokens=400, output_tokens=101)
    for line in (record, count):
        assert codex.parse("usage", json.dumps(line)) == [Progress(kind="usage", usage=told, of_session=True)]
    context = {"type": "turn_context", "payload": {"model": "gpt-5.5"}}
    assert codex.parse("usage", json.dumps(context)) == [Progress(kind="usage", usage=Usage(model="gpt-5.5"))]
    for odd in (
        "",
        "[]",
        "{",
        '{"type": "event_msg"}',
        '{"type": "event_msg", "payload": {"type": "token_count"}}',
    ):
        assert codex.parse("usage", odd) == []


def test_only_the_record_of_this_session_in_its_own_home_is_looked_for(tmp_path: Path) -> None:
    settings = CliSettings(name="codex", adapter="codex", home=tmp_path)
    folder = tmp_path / ".codex" / "sessions" / "2026" / "01" / "07"
    folder.mkdir(parents=True)
    wanted = folder / "rollout-2026-01-07T10-30-00-0123-abcd-ef.jsonl"
    wanted.touch()
    (folder / "rollout-2026-01-07T10-30-00-other-one.jsonl").touch()
    assert codex.usage_log(settings, "0123-abcd-ef") == wanted
    for odd in ("*", "../../x", "", "unknown-session"):
        assert codex.usage_log(settings, odd) is None
