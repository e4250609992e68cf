"""Claude Code (`claude -p --output-format stream-json`), known from version 2.1.329.

It has limits of turns and of cost of its own, which it looks at after a reply. Its permissions are bypassed:
the workstation is the sandbox. What one run cost is told in its last event, what its session cost beside it.
Its key is given through a descriptor and not in its environment, so that the commands which the model runs find
it neither there nor in ``/proc``. Its own scrubbing (``CLAUDE_CODE_SUBPROCESS_ENV_SCRUB``) wants bubblewrap and
denies what is not allowed by name, so that it is of no use here. Options:

``base_url``, ``env_key``: another endpoint with the Messages protocol, and the name of the variable that holds
its key (``ANTHROPIC_API_KEY`` when not given); ``max_retries``: its patience; ``fallback_model``: models for when
the first one is overloaded, with commas between; ``hide_key``: ``no`` for a wrapper that passes no descriptors on.
"""

import os
import re
import signal
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from agent_daemon.clis.base import (
    About,
    CliSettings,
    CostTold,
    Outcome,
    Progress,
    RunRequest,
    Usage,
    Verdict,
    bare_environment,
    count_of,
    ended_early,
    json_object,
    last_message,
    last_session,
    no_usage_log,
    printable,
    sum_of_usage,
    text_of,
    usd_of,
    words_of,
)
from agent_daemon.clis.failures import failure_named, retry_after_seconds
from agent_daemon.clis.mcp import file_content, read_entries
from agent_daemon.execution import Finished, Invocation
from agent_daemon.protocol.files import write_file

can_resume = True
MCP = True
PROGRAM = "claude"
SPEAKS: Literal["text", "events"] = "events"
INSTALL = "npm install --global @anthropic-ai/claude-code"
ABOUT = About(
    tried="2.1.329",
    keys=("ANTHROPIC_API_KEY", "CLAUDE_CODE_OAUTH_TOKEN", "ANTHROPIC_AUTH_TOKEN"),
    logins=(".claude/.credentials.json",),
    log_in="claude auth login",
    folders={"CLAUDE_CONFIG_DIR": ".claude"},
)
TELLS_COST: CostTold = "end"
OPTIONS: frozenset[str] = frozenset({"base_url", "env_key", "max_retries", "fallback_model", "hide_key"})

_KEY = "ANTHROPIC_API_KEY"
_BY_DESCRIPTOR = {
    _KEY: "CLAUDE_CODE_API_KEY_FILE_DESCRIPTOR",
    "CLAUDE_CODE_OAUTH_TOKEN": "CLAUDE_CODE_OAUTH_TOKEN_FILE_DESCRIPTOR",
}
# SIGINT makes it tell what the run cost before it ends.
_STOP_SIGNALS = ((signal.SIGINT, 2.5), (signal.SIGTERM, 2.5))
_NO_SUCH_SESSION = re.compile(r"no conversation found", re.IGNORECASE)
_EXIT_CODE = re.compile(r"(?:Error: )?Exit code (\d{1,3})\b")
_EDITS = frozenset({"Edit", "MultiEdit", "Write", "NotebookEdit"})
_ENDS: dict[str, Outcome] = {
    "max_turns": "turn_limit",
    "budget_exhausted": "budget",
    "prompt_too_long": "context_too_long",
    "aborted_tools": "interrupted",
    "aborted_streaming": "interrupted",
}

usage_log = no_usage_log


def invocation(request: RunRequest) -> Invocation:
    settings = request.settings
    environment = _environment(request)
    hidden = _BY_DESCRIPTOR if settings.options.get("hide_key") != "no" else {}
    secrets = {way: environment.pop(name) for name, way in hidden.items() if environment.get(name)}
    limits: dict[str, object] = {
        "--model": settings.model,
        "--fallback-model": settings.options.get("fallback_model"),
        "--resume": request.session_id,
        "--max-turns": request.max_turns,
        "--max-budget-usd": request.cost_usd,
        "--mcp-config": _mcp_file(settings),
    }
    return Invocation(
        argv=(
            *(settings.argv or (PROGRAM,)),
            *("-p", "--output-format", "stream-json", "--verbose", "--include-partial-messages"),
            *(("--permission-mode", "plan") if request.plan else ("--dangerously-skip-permissions",)),
            *(part for name, value in limits.items() if value for part in (name, str(value))),
            *(("--strict-mcp-config",) if settings.mcp is not None else ()),
            *settings.arguments,
        ),
        cwd=request.worktree,
        environment=environment,
        secrets=secrets,
        stdin=request.prompt.encode("utf-8", "replace"),
        stop_signals=_STOP_SIGNALS,
        success_exit_codes=settings.success_exit_codes,
        marker=request.marker,
    )


def _mcp_file(settings: CliSettings) -> str | None:
    """Its own form is that of the file; it puts variables in where it starts a server."""
    if settings.mcp is None:
        return None
    if settings.mcp.file is not None:
        read_entries(settings.mcp.file)
        return str(Path(settings.mcp.file).absolute())
    path = settings.home / "mcp.json"
    write_file(path, file_content(settings.mcp.servers))
    return str(path)


def _environment(request: RunRequest) -> dict[str, str]:
    settings = request.settings
    environment = bare_environment(settings)
    folder = settings.home / ".claude"
    folder.mkdir(parents=True, exist_ok=True)
    given = {
        "CLAUDE_CONFIG_DIR": str(folder),
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "DISABLE_AUTOUPDATER": "1",
        "CLAUDE_CODE_MAX_RETRIES": settings.options.get("max_retries", "3"),
    }
    if os.geteuid() == 0:  # as root it bypasses permissions only where it is told that this is a sandbox
        given["IS_SANDBOX"] = "1"
    if "base_url" in settings.options:
        given["ANTHROPIC_BASE_URL"] = settings.options["base_url"]
    name = settings.options.get("env_key", _KEY)
    if name != _KEY and name in environment:
        given[_KEY] = environment.pop(name)
    return given | environment


def parse(stream: str, line: str) -> list[Progress]:
    event = json_object(line) if stream == "stdout" else None
    if event is None:
        return words_of(line)
    match event.get("type"):
        case "system":
            return _system(event)
        case "assistant":
            return _assistant(event)
        case "user":
            return _tool_results(event)
        case "stream_event":
            return _step(event)
        case "rate_limit_event":
            return _limited(event)
        case "result":
            return [_result(event)]
    return []


def _system(event: dict[str, Any]) -> list[Progress]:
    kind = text_of(event, "subtype")
    if kind == "init":
        return [Progress(kind="session", session_id=text_of(event, "session_id") or None)]
    if kind == "api_retry":
        status = event.get("error_status")
        why = text_of(event, "error") + (f" ({status})" if type(status) is int else "")
        tries = f"try {count_of(event, 'attempt')} of {count_of(event, 'max_retries')}"
        return [Progress(kind="retry", message=f"{why}, {tries}")]
    if kind == "permission_denied":
        return [Progress(kind="message", message=f"not permitted: {text_of(event, 'tool_name')}")]
    return []


def _content(event: Mapping[str, Any]) -> list[dict[str, Any]]:
    message = event.get("message")
    content = message.get("content") if isinstance(message, dict) else None
    return [block for block in content if isinstance(block, dict)] if isinstance(content, list) else []


def _assistant(event: dict[str, Any]) -> list[Progress]:
    failed = bool(event.get("is_api_error_message")) or bool(event.get("error"))
    told = []
    for block in _content(event):
        text = text_of(block, "text")
        if block.get("type") == "tool_use":
            told.append(_tool_call(block))
        elif block.get("type") == "text" and text:
            told.append(Progress(kind="error" if failed else "message", message=text))
    return told


def _tool_call(block: dict[str, Any]) -> Progress:
    name, command = text_of(block, "name"), text_of(block, "input", "command")
    call = text_of(block, "id") or None
    if command:
        return Progress(kind="tool_call", message=printable(f"$ {command}"), command=command, call_id=call)
    if name in _EDITS:  # told once it is done
        return Progress(kind="tool_call", call_id=call)
    about = next(
        (
            found
            for key in ("file_path", "path", "pattern", "url", "query")
            if (found := text_of(block, "input", key))
        ),
        "",
    )
    return Progress(kind="tool_call", message=printable(f"{name} {about}"), call_id=call)


def _tool_results(event: dict[str, Any]) -> list[Progress]:
    """What came of the calls of one message: an edit, a command, or an error."""
    done, blocks = event.get("tool_use_result"), _content(event)
    call = next((found for block in blocks if (found := text_of(block, "tool_use_id"))), None)
    if isinstance(done, dict) and "structuredPatch" in done:
        kind = "create" if done.get("type") == "create" else "edit"
        return [Progress(kind="file_edited", path=text_of(done, "filePath"), message=kind, call_id=call)]
    if isinstance(done, dict) and "stdout" in done:
        return [Progress(kind="command_run", exit_code=0, call_id=call)]
    return [_failed_call(block) for block in blocks if block.get("is_error") is True]


def _failed_call(block: Mapping[str, Any]) -> Progress:
    text, call = text_of(block, "content"), text_of(block, "tool_use_id") or None
    code = _EXIT_CODE.match(text)
    if code is None:
        return Progress(kind="message", message=text.split("\n", 1)[0], call_id=call)
    return Progress(kind="command_run", message=f"exit code {code[1]}", exit_code=int(code[1]), call_id=call)


def _step(event: dict[str, Any]) -> list[Progress]:
    """One reply of the model: what it read is told at its beginning, what it wrote at its end."""
    inner = event.get("event")
    if not isinstance(inner, dict):
        return []
    if inner.get("type") == "message_start":
        message = inner.get("message")
        counts = message.get("usage") if isinstance(message, dict) else None
        read = _usage(counts if isinstance(counts, dict) else {}, text_of(inner, "message", "model"))
        return [Progress(kind="usage", usage=replace(read, output_tokens=0))]
    if inner.get("type") == "message_delta":
        counts = inner.get("usage")
        written = count_of(counts, "output_tokens") if isinstance(counts, dict) else 0
        return [Progress(kind="usage", usage=Usage(output_tokens=written, turns=1))]
    return []


def _usage(counts: Mapping[str, Any], model: str = "") -> Usage:
    cached = count_of(counts, "cache_read_input_tokens")
    return Usage(
        model=model,
        input_tokens=count_of(counts, "input_tokens") + count_of(counts, "cache_creation_input_tokens") + cached,
        cached_input_tokens=cached,
        output_tokens=count_of(counts, "output_tokens"),
    )


def _limited(event: dict[str, Any]) -> list[Progress]:
    """A limit of the subscription; one that only comes near is no news."""
    resets_at = _resets_at(event)
    if text_of(event, "rate_limit_info", "status") != "rejected":
        return []
    return [Progress(kind="retry", message="the limit of the subscription is reached", retry_at=resets_at)]


def _resets_at(event: Mapping[str, Any]) -> datetime | None:
    info = event.get("rate_limit_info")
    seconds = count_of(info, "resetsAt") if isinstance(info, dict) else 0
    return datetime.fromtimestamp(seconds, UTC) if 0 < seconds < 1e10 else None


def _result(event: dict[str, Any]) -> Progress:
    errors = event.get("errors")
    first = next((text for text in errors if isinstance(text, str)), "") if isinstance(errors, list) else ""
    message = text_of(event, "result") or printable(first)
    outcome = _outcome(event, message)
    if outcome == "refused":
        message = printable(f"not permitted: {', '.join(_denied(event))}; it said: {message}")
    return Progress(
        kind="result",
        message=message,
        usage=_usage_of_run(event),
        session_id=text_of(event, "session_id") or None,
        outcome=outcome,
    )


def _outcome(event: Mapping[str, Any], message: str) -> Outcome:
    """By the reason of the end, and not by `subtype`, which is ``success`` for errors of the provider, too."""
    reason, status = text_of(event, "terminal_reason"), event.get("api_error_status")
    if reason in _ENDS:
        return _ENDS[reason]
    if event.get("is_error") is False and text_of(event, "subtype") == "success":
        return "refused" if _denied(event) else "completed"
    named = failure_named(message)
    if status in (401, 403):
        return "authentication"
    if status == 429:
        limited = named == "quota" or text_of(event, "api_error") == "usage_limit_reached"
        return "quota" if limited else "overloaded"
    if isinstance(status, int) and status >= 500:
        return "overloaded"
    return named or "crashed"


def _denied(event: Mapping[str, Any]) -> list[str]:
    denials = event.get("permission_denials")
    listed = denials if isinstance(denials, list) else []
    return sorted({text_of(entry, "tool_name") or "a tool" for entry in listed if isinstance(entry, dict)})


def _usage_of_run(event: dict[str, Any]) -> Usage:
    """This run's alone. A price that it had to guess, for a model that it does not know, is none."""
    counts = event.get("usage")
    read = _usage(counts if isinstance(counts, dict) else {})
    turns = count_of(event, "num_turns")
    models = event.get("model_usage_since_last_result")
    listed = models.items() if isinstance(models, dict) else ()
    used = {name: value for name, value in listed if isinstance(value, dict)}
    if not used:
        return replace(read, turns=turns)
    cached = sum(count_of(each, "cacheReadInputTokens") for each in used.values())
    written = sum(count_of(each, "cacheCreationInputTokens") for each in used.values())
    costs = [None if each.get("costBasis") == "unknown" else usd_of(each, "costUSD") for each in used.values()]
    known = [cost for cost in costs if cost is not None]
    return Usage(
        model=printable(max(used, key=lambda name: count_of(used[name], "outputTokens"))),
        input_tokens=sum(count_of(each, "inputTokens") for each in used.values()) + cached + written,
        cached_input_tokens=cached,
        output_tokens=sum(count_of(each, "outputTokens") for each in used.values()),
        cost_usd=sum(known) if len(known) == len(costs) else None,
        turns=turns,
    )


def verdict(finished: Finished, events: Sequence[Progress], *, previous: Usage | None = None) -> Verdict:
    result = next((event for event in reversed(events) if event.kind == "result"), None)
    usage = result.usage if result is not None and result.usage is not None else sum_of_usage(events)
    whole = Verdict(outcome="crashed", message="", usage=usage, session_id=last_session(events))
    if early := ended_early(finished):
        return replace(whole, outcome=early[0], message=early[1])
    if result is None:
        return _without_result(finished, events, whole)
    if result.outcome == "completed" and not finished.succeeded:
        return replace(whole, message=f"exit code {finished.exit_code}: {result.message}")
    lost = result.outcome != "completed" and _NO_SUCH_SESSION.search(result.message)
    limits = (event.retry_at for event in reversed(events) if event.retry_at is not None)
    return replace(
        whole,
        outcome=result.outcome or "crashed",
        message=result.message,
        retry_at=next(limits, None),
        retry_after_seconds=retry_after_seconds(result.message),
        session_id=None if lost else whole.session_id,
        session_gone=bool(lost),
    )


def _without_result(finished: Finished, events: Sequence[Progress], whole: Verdict) -> Verdict:
    said = last_message(events, "error") or last_message(events, "message")
    if finished.succeeded:
        return replace(whole, outcome="no_result", message="it ended without a result")
    message = f"exit code {finished.exit_code}" + (f": {said}" if said else "")
    return replace(whole, outcome=failure_named(last_message(events, "error")) or "crashed", message=message)
