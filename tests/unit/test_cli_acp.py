"""The adapter for the Agent Client Protocol on captured conversations of real CLIs (tests/samples/acp)."""

import json
import sqlite3
import sys
import tracemalloc
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent_daemon.acp.ledger import Ledger
from agent_daemon.acp.order import Order, choose, offered_modes
from agent_daemon.acp.telling import Telling, failure_told
from agent_daemon.clis import ADAPTERS
from agent_daemon.clis.acp import line_of, progress_of
from agent_daemon.clis.base import Adapter, CliSettings, Progress, RunRequest, Usage, Verdict
from agent_daemon.clis.profiles import PROFILES
from agent_daemon.execution import Finished
from agent_daemon.protocol.model import Mcp, McpServer
from tests.unit.cli_samples import ENDED, FAILED, SAMPLES, STOPPED, names_in

NAMES = names_in("acp")
DONE = "Done: fixed add() in calc.py and the tests pass."
COMMAND = "python3 -m pytest -q"
ADAPTER_OF = {
    "claude": "claude-agent-acp",
    "claudezed": "claude-agent-acp",
    "codex": "codex-acp",
    "codexzed": "codex-acp",
}


def adapter_of(name: str) -> Adapter:
    cli = name.partition("-")[0]
    return ADAPTERS[ADAPTER_OF.get(cli, cli)]


def messages_of(name: str) -> list[dict]:
    return [json.loads(line) for line in (SAMPLES / "acp" / f"{name}.jsonl").read_text().splitlines()]


def told(messages: list[dict], **more: bool) -> list[Progress]:
    telling = Telling(**more)
    return [
        event
        for message in messages
        for event in (telling.sent if message.get("dir") == ">" else telling.received)(message)
    ]


def replayed(name: str, messages: list[dict] | None = None) -> list[Progress]:
    """What the adapter reads from what the bridge prints."""
    events = told(messages_of(name) if messages is None else messages)
    return [event for one in events for event in adapter_of(name).parse("stdout", line_of(one))]


def verdict_of(name: str, finished: Finished = ENDED) -> Verdict:
    return adapter_of(name).verdict(finished, replayed(name))


EXPECTED = {
    "auggie-401": (FAILED, "authentication", "401 Unauthorized"),
    "claude-401": (FAILED, "authentication", "Authentication required"),
    "claude-500": (FAILED, "overloaded", "500 Internal server error"),
    "claude-toolong": (FAILED, "context_too_long", "Prompt is too long"),
    "codex-401": (FAILED, "authentication", "Authentication required"),
    "codex-500": (ENDED, "overloaded", "high demand"),
    "codex-quota": (FAILED, "quota", "Quota exceeded"),
    "codex-toolong": (ENDED, "context_too_long", "exceeds the context window"),
    "copilot-401": (ENDED, "authentication", "HTTP 401"),
    "copilot-500": (ENDED, "overloaded", "500 The server had an error"),
    "gemini-401": (FAILED, "authentication", "API key not valid"),
    "opencode-401": (FAILED, "authentication", "Incorrect API key"),
    "opencode-500": (FAILED, "overloaded", "The server had an error"),
    "opencode-toolong": (FAILED, "context_too_long", "too large to compact"),
    "qwen-401": (FAILED, "authentication", "401 Incorrect API key"),
    **{name: (STOPPED, "interrupted", "stopped") for name in NAMES if name.endswith("-cancel")},
    **{name: (ENDED, "completed", DONE) for name in NAMES if name.endswith(("-ok", "-reject"))},
    **{name: (ENDED, "completed", "RESUMED with") for name in NAMES if name.endswith("-load")},
}


def test_every_sample_is_judged() -> None:
    assert set(NAMES) == set(EXPECTED)
    assert {name.partition("-")[0] for name in NAMES} - {"claudezed", "codexzed"} == {
        profile.removesuffix("-acp").removesuffix("-agent") for profile in PROFILES
    }


@pytest.mark.parametrize("name", NAMES)
def test_the_verdict_on_each_sample(name: str) -> None:
    finished, outcome, said = EXPECTED[name]
    verdict = verdict_of(name, finished)
    assert (verdict.outcome, said in verdict.message) == (outcome, True), verdict
    assert verdict.session_id


@pytest.mark.parametrize("name", NAMES)
def test_no_sample_succeeds_when_it_did_not_end_by_itself(name: str) -> None:
    assert verdict_of(name, STOPPED).outcome == "interrupted"
    assert verdict_of(name, replace(STOPPED, stop_reason="budget")).outcome == "budget"


@pytest.mark.parametrize("name", [name for name in NAMES if name.endswith("-cancel")])
def test_a_cancelled_prompt_says_so(name: str) -> None:
    assert replayed(name)[-1].outcome == "interrupted"


# The adapter of Zed for Codex gave models an edit tool that it told nothing of.
@pytest.mark.parametrize("name", [name for name in NAMES if name.endswith("-ok") and name != "codexzed-ok"])
def test_what_a_good_run_did(name: str) -> None:
    events = replayed(name)
    assert [event.path for event in events if event.kind == "file_edited"] == ["/srv/repo/calc.py"]
    runs = [event for event in events if event.kind == "command_run"]
    assert [event.command for event in runs] == [COMMAND]
    # Gemini CLI and Claude's adapters tell no exit code of a command that went well.
    assert runs[0].exit_code == (None if name.startswith(("gemini", "claude")) else 0)
    announced = [event for event in events if event.kind == "tool_call" and event.command]
    assert [(event.command, event.call_id) for event in announced] == [(COMMAND, runs[0].call_id)]
    assert [event.message for event in events if event.kind == "message"][-1] == DONE
    # One turn for each reply: some read the file before they edit it.
    assert sum(event.usage.turns for event in events if event.usage) in (3, 4)


USAGE = {
    "auggie-ok": Usage(turns=3),
    "claude-ok": Usage(
        model="claude-opus-5-5",
        input_tokens=5400,
        cached_input_tokens=800,
        output_tokens=206,
        cost_usd=0.02772,
        turns=4,
    ),
    "codex-ok": Usage(model="gpt-5.5", input_tokens=3300, cached_input_tokens=600, output_tokens=153, turns=3),
    "copilot-ok": Usage(input_tokens=4600, cached_input_tokens=800, output_tokens=206, turns=4),
    "gemini-ok": Usage(model="gemini-2.5-pro", input_tokens=3300, output_tokens=153, turns=3),
    # It tells the tokens of the last reply only, but the cost of all.
    "opencode-ok": Usage(input_tokens=1300, cached_input_tokens=200, output_tokens=53, cost_usd=0.01449, turns=4),
    "qwen-ok": Usage(input_tokens=4600, cached_input_tokens=800, output_tokens=206, turns=4),
    "codex-cancel": Usage(model="gpt-5.5", input_tokens=2100, cached_input_tokens=400, output_tokens=101, turns=2),
}


@pytest.mark.parametrize("name", USAGE)
def test_the_usage_of_a_run(name: str) -> None:
    assert verdict_of(name).usage == USAGE[name]


def test_what_a_session_cost_before_is_not_counted_again() -> None:
    costs = [event.usage.cost_usd for event in told(messages_of("opencode-load"), resumed=True) if event.usage]
    assert not any(costs)  # one sum alone does not say what was added to it
    assert not any(
        event.usage.cost_usd for event in told(messages_of("opencode-ok"), tells_cost=False) if event.usage
    )


def test_what_opencode_sums_up_is_told_step_by_step(tmp_path: Path) -> None:
    """Also over a resumed session, with sub-agents, and not of other sessions."""
    path = tmp_path / "a b?.db"
    assert Ledger(path, "s").step() is None
    columns = "tokens_input, tokens_output, tokens_reasoning, tokens_cache_read, tokens_cache_write, cost"
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute(f"CREATE TABLE session (id, parent_id, {columns})")
        database.execute(
            "INSERT INTO session VALUES ('s', NULL, 100, 10, 1, 20, 3, 0.5), ('x', NULL, 9, 9, 9, 9, 9, 9)"
        )
        ledger = Ledger(path, "s")
        assert ledger.step() is None
        database.execute("UPDATE session SET tokens_input = 150, cost = 0.75 WHERE id = 's'")
        assert ledger.step() == Usage(input_tokens=50, cost_usd=0.25)
        database.execute("INSERT INTO session VALUES ('t', 's', 7, 1, 1, 2, 0, 0)")
        assert ledger.step() == Usage(input_tokens=9, cached_input_tokens=2, output_tokens=2)
    path.write_bytes(b"no database")
    assert ledger.step() is None


# Gemini CLI goes on repeating when it was prompted at once; the bridge lets it come to rest first.
@pytest.mark.parametrize("name", [name for name in NAMES if name.endswith("-load") and name != "gemini-load"])
def test_what_a_resumed_session_repeats_is_not_told_again(name: str) -> None:
    events = replayed(name)
    assert {event.kind for event in events} <= {"session", "usage", "message", "result"}
    assert sum(event.usage.turns for event in events if event.usage) == 1


@pytest.mark.parametrize(("name", "tries"), [("codex-500", 5), ("copilot-500", 5)])
def test_waiting_is_no_progress(name: str, tries: int) -> None:
    kinds = [event.kind for event in replayed(name)]
    assert kinds.count("retry") == tries
    assert "message" not in kinds[:-2]


def test_what_is_told_of_a_try_beside_the_conversation() -> None:
    line = 'timestamp=2026-01-01T00:00:00Z level=ERROR message="stream error" x=1 error.error="E: Rate limit"'
    assert ADAPTERS["opencode"].parse("stderr", line) == [Progress(kind="retry", message="E: Rate limit")]
    assert ADAPTERS["opencode"].parse("stderr", "timestamp=2026-01-01T00:00:00Z level=ERROR message=x") == []
    said = ADAPTERS["gemini"].parse("stderr", "Attempt 1 failed with status 503. Retrying with backoff...")
    assert [event.kind for event in said] == ["retry"]
    assert ADAPTERS["gemini"].parse("stderr", "    at async file:///x.js:1:2") == []
    assert ADAPTERS["gemini"].parse("stderr", "Node 18 is too old")[0].kind == "message"


def test_who_waits_for_hours_waits_for_something() -> None:
    waited = Progress(kind="retry", message="You exceeded your current quota. Please try again in 2h30m0s.")
    hung = replace(STOPPED, stop_reason="hung")
    verdict = ADAPTERS["opencode"].verdict(hung, [waited])
    assert (verdict.outcome, verdict.retry_after_seconds) == ("quota", 9000)
    assert ADAPTERS["opencode"].verdict(hung, []).outcome == "hung"


def prompt(*updates: dict, answer: dict | None = None) -> list[dict]:
    """A conversation with these updates after its prompt."""
    sent = {"dir": ">", "id": 2, "method": "session/prompt", "params": {"sessionId": "s"}}
    received = [{"method": "session/update", "params": {"sessionId": "s", "update": one}} for one in updates]
    return [sent, *received, {"id": 2, "result": answer or {"stopReason": "end_turn"}}]


def said(text: str, **more: str) -> dict:
    return {"sessionUpdate": "agent_message_chunk", "content": {"type": "text", "text": text}, **more}


def tool(status: str, **more: object) -> dict:
    return {"sessionUpdate": "tool_call_update", "toolCallId": "c", "status": status, **more}


def test_one_that_ends_without_a_last_word_broke_off() -> None:
    ran = tool("completed", kind="execute", title="true")
    for updates in ([], [said("I begin."), ran]):
        events = replayed("gemini", prompt(*updates))
        assert ADAPTERS["gemini"].verdict(ENDED, events).outcome == "no_result"
    assert ADAPTERS["gemini"].verdict(ENDED, replayed("gemini", prompt(ran, said("Done.")))).outcome == "completed"


def test_one_that_says_the_same_again_and_again_is_stopped() -> None:
    again = [said("Done.", messageId=f"m{number}") for number in range(9)]
    events = told(prompt(*again))
    assert [event.outcome for event in events if event.kind == "error"] == ["hung"]
    assert not [event for event in told(prompt(*again[:4])) if event.kind == "error"]


@pytest.mark.parametrize(
    ("reason", "outcome"),
    [
        ("max_tokens", "context_too_long"),
        ("max_turn_requests", "turn_limit"),
        ("refusal", "refused"),
        ("x", "crashed"),
    ],
)
def test_why_a_turn_stopped(reason: str, outcome: str) -> None:
    events = replayed("gemini", prompt(said("Well."), answer={"stopReason": reason}))
    assert ADAPTERS["gemini"].verdict(ENDED, events).outcome == outcome


def test_a_tool_that_failed_changed_nothing() -> None:
    diff = [{"type": "diff", "path": "a.py", "oldText": "", "newText": "x"}]
    events = told(prompt(tool("failed", kind="edit", title="Edit a.py", content=diff, rawOutput="no such text")))
    assert [event.kind for event in events] == ["usage", "tool_call", "message", "result"]
    assert events[2].message == "Edit a.py failed: no such text"


def test_what_tools_have_printed_is_not_kept_for_the_whole_run() -> None:
    following, size = Telling(), 200_000
    following.sent({"id": 1, "method": "session/prompt", "params": {"sessionId": "s"}})
    tracemalloc.start()
    try:
        for number in range(100):
            call = tool("completed", kind="execute", title="ls", rawOutput=str(number % 10) * size)
            update = call | {"toolCallId": f"c{number}"}
            params = json.loads(json.dumps({"update": update}))  # a text of its own
            following.received({"method": "session/update", "params": params})
            following.received({"method": "session/update", "params": params})
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 10 * size


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        ({"code": -32000, "message": "Authentication required"}, "authentication"),
        ({"code": 429, "message": "Slow down."}, "overloaded"),
        ({"code": 403, "message": "No."}, None),
        ({"code": -32603, "message": "Internal error", "data": {"errorKind": "server_error"}}, "overloaded"),
        ({"code": -32601, "message": "Method not found"}, None),
        ({}, None),
    ],
)
def test_failures_are_told_apart(error: dict, outcome: str | None) -> None:
    assert failure_told(error).outcome == outcome


def test_a_session_that_is_gone_is_not_tried_again() -> None:
    load = {"dir": ">", "id": 1, "method": "session/load", "params": {"sessionId": "s"}}
    events = replayed("gemini", [load, {"id": 1, "error": {"code": -32603, "message": "No such session"}}])
    verdict = ADAPTERS["gemini"].verdict(FAILED, events)
    assert (verdict.session_id, verdict.session_gone) == (None, True)


def test_one_that_never_got_so_far() -> None:
    events = ADAPTERS["gemini"].parse("stderr", "gemini needs Node 20")
    verdict = ADAPTERS["gemini"].verdict(FAILED, events)
    assert (verdict.outcome, "needs Node 20" in verdict.message) == ("no_result", True)


def test_the_words_of_a_model_that_broke_off_name_no_failure() -> None:
    events = replayed("gemini", prompt(said("Now for the billing page: it timed out."))[:-1])
    verdict = ADAPTERS["gemini"].verdict(
        replace(FAILED, exit_code=-9), [*events, Progress(kind="message", message="billing")]
    )
    assert verdict.outcome == "no_result"


OPTIONS = [
    {"optionId": "never", "kind": "reject_always"},
    {"optionId": "no", "kind": "reject_once"},
    {"optionId": "always", "kind": "allow_always"},
    {"optionId": "yes", "kind": "allow_once"},
]


def test_permission_is_given_once_and_indexing_elsewhere_is_not() -> None:
    order = Order(prompt="p", cwd="/", declined=PROFILES["auggie"].declined)
    asked = {"toolCall": {"toolCallId": "c"}, "options": OPTIONS}
    assert choose(order, asked)["outcome"]["optionId"] == "yes"
    assert choose(order, asked | {"options": OPTIONS[:3]})["outcome"]["optionId"] == "always"
    indexing = {"toolCallId": "workspace-indexing-permission"}
    assert choose(order, asked | {"toolCall": indexing})["outcome"]["optionId"] == "no"
    assert choose(order, {})["outcome"] == {"outcome": "cancelled"}


def test_an_order_is_handed_over_whole() -> None:
    order = Order(prompt="ünïcode \ud800", cwd="/w", session_id="s", ledger="/x", mode="yolo", declined=("a",))
    assert Order.decode(order.encode()) == order
    assert offered_modes({"modes": {"availableModes": [{"id": "yolo"}, 3]}}) == {"yolo"}
    assert offered_modes({"modes": 3}) == set()


def request_for(name: str, home: Path, **more: object) -> RunRequest:
    program = home / "program"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    options = {"env_key": "MY_KEY"} | ({"base_url": "http://x/v1"} if PROFILES[name].base_url else {})
    given = CliSettings(
        name=name,
        adapter=name,
        argv=(str(program),),
        model="m",
        arguments=("--more",),
        environment={"MY_KEY": "secret"},
        options=options,
        home=home / "home",
    )
    return RunRequest(prompt="p", prompt_file=home / "p", worktree=home, settings=replace(given, **more))


@pytest.mark.parametrize("name", PROFILES)
def test_how_each_is_started(name: str, tmp_path: Path) -> None:
    invocation = ADAPTERS[name].invocation(request_for(name, tmp_path))
    assert invocation.argv[:5] == (sys.executable, "-I", "-m", "agent_daemon.acp", "--")
    assert invocation.argv[5:][:1] == (str(tmp_path / "program"),)
    assert invocation.argv[-1] == "--more"
    assert not [argument for argument in invocation.argv if "secret" in argument]
    assert "MY_KEY" not in invocation.environment
    assert any("secret" in value for value in invocation.environment.values())
    assert Order.decode(invocation.stdin or b"").cwd == str(tmp_path)


def test_mcp_servers_are_handed_over_with_the_order(tmp_path: Path) -> None:
    local = McpServer(command=("docs-mcp", "--all"), environment={"A": "b"}, pass_environment=("MY_KEY",))
    servers = Mcp(servers={"docs": local, "far": McpServer(url="https://x/mcp", bearer="TOKEN")})
    request = request_for("gemini", tmp_path, mcp=servers, options={}, environment={"MY_KEY": "k", "TOKEN": "t"})
    invocation = ADAPTERS["gemini"].invocation(request)
    assert Order.decode(invocation.stdin or b"").mcp_servers == (
        {
            "name": "docs",
            "command": "docs-mcp",
            "args": ["--all"],
            "env": [{"name": "MY_KEY", "value": "k"}, {"name": "A", "value": "b"}],
        },
        {
            "type": "http",
            "name": "far",
            "url": "https://x/mcp",
            "headers": [{"name": "Authorization", "value": "Bearer t"}],
        },
    )


def test_the_record_that_gemini_keeps_tells_the_tokens_of_each_reply(tmp_path: Path) -> None:
    adapter, session = ADAPTERS["gemini"], "904fee41-2a58-41e9-8744-5d0d493d3e23"
    settings = request_for("gemini", tmp_path).settings
    assert adapter.usage_log(settings, session) is None
    record = settings.home / ".gemini" / "tmp" / "tree" / "chats" / "session-2026-01-01T00-00-904fee41.jsonl"
    record.parent.mkdir(parents=True)
    record.write_text("{}\n")
    assert adapter.usage_log(settings, session) == record
    assert adapter.usage_log(settings, "../../x") is None
    tokens = {"input": 1000, "output": 50, "cached": 200, "thoughts": 7, "tool": 0, "total": 1057}
    usage = Usage(model="m", input_tokens=1000, cached_input_tokens=200, output_tokens=57)
    line = json.dumps({"id": "x", "type": "gemini", "tokens": tokens, "model": "m"})
    assert adapter.parse("usage", line) == [Progress(kind="usage", usage=usage)]
    assert adapter.parse("usage", json.dumps({"type": "user"})) == []


def test_a_program_that_is_not_there_is_not_started(tmp_path: Path) -> None:
    gone = request_for("gemini", tmp_path, argv=("/nonexistent/gemini",))
    assert ADAPTERS["gemini"].invocation(gone).argv[0] == "/nonexistent/gemini"


def test_settings_of_the_user_are_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "home" / ".gemini" / "settings.json"
    ADAPTERS["gemini"].invocation(request_for("gemini", tmp_path))
    assert json.loads(path.read_text())["privacy"] == {"usageStatisticsEnabled": False}
    path.write_text("{}")
    ADAPTERS["gemini"].invocation(request_for("gemini", tmp_path))
    assert path.read_text() == "{}"


# --- whatever comes ---------------------------------------------------------------------------------------

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
KEYS = st.sampled_from(
    [
        *(
            "sessionUpdate",
            "toolCallId",
            "status",
            "kind",
            "title",
            "content",
            "rawInput",
            "rawOutput",
            "locations",
        ),
        *(
            "cost",
            "usage",
            "_meta",
            "messageId",
            "text",
            "stopReason",
            "modes",
            "amount",
            "error",
            "code",
            "message",
        ),
    ]
)
WORDS = st.sampled_from(
    ["tool_call", "tool_call_update", "usage_update", "agent_message_chunk", "completed", "execute"]
)
UPDATES = st.dictionaries(KEYS, WORDS | ANYTHING | st.dictionaries(KEYS, ANYTHING, max_size=3), max_size=8)


@settings(deadline=None)
@given(st.data())
def test_no_sample_needs_to_be_whole(data: st.DataObject) -> None:
    """Cut anywhere, with unknown things between: no word of it is lost that was there, and nothing breaks."""
    name = data.draw(st.sampled_from(NAMES))
    messages = messages_of(name)
    kept = messages[: data.draw(st.integers(0, len(messages)))]
    place = data.draw(st.integers(0, len(kept)))
    unknown = {"dir": "<", "method": "session/update", "params": {"update": data.draw(UPDATES)}}
    events = replayed(name, [*kept[:place], unknown, *kept[place:]])
    adapter_of(name).verdict(ENDED, events)
    done = any(message.get("dir") == "<" and "stopReason" in (message.get("result") or {}) for message in kept)
    if not done:
        assert adapter_of(name).verdict(ENDED, replayed(name, kept)).outcome != "completed"


PARTS = ANYTHING | UPDATES
MESSAGES = st.fixed_dictionaries(
    {},
    optional={
        "id": st.none() | st.integers(0, 3) | st.text(max_size=3),
        "method": st.sampled_from(["session/update", "session/request_permission", "session/prompt"]) | ANYTHING,
        "params": PARTS | st.fixed_dictionaries({"update": PARTS}),
        "result": PARTS,
        "error": PARTS,
    },
)


@settings(deadline=None)
@given(st.lists(MESSAGES, max_size=5))
def test_no_message_breaks_it(messages: list[dict]) -> None:
    told([*messages_of("gemini-ok")[:6], *messages])


@given(st.text() | st.dictionaries(KEYS | st.just("event"), ANYTHING | WORDS).map(json.dumps))
def test_no_line_breaks_it(line: str) -> None:
    for name in PROFILES:
        for stream in ("stdout", "stderr", "usage"):
            for event in ADAPTERS[name].parse(stream, line):
                event.message.encode()


@given(UPDATES.map(lambda fields: {"event": "usage", **fields}))
def test_no_event_breaks_it(event: dict) -> None:
    assert progress_of(event).kind == "usage"


@settings(deadline=None)
@given(st.sampled_from(NAMES), st.integers(0, 4000))
def test_a_line_comes_through_and_may_be_cut(name: str, length: int) -> None:
    for event in told(messages_of(name)):
        [read] = adapter_of(name).parse("stdout", line_of(event))
        assert read.kind == "retry" or read == event
        adapter_of(name).parse("stdout", line_of(event)[:length])
