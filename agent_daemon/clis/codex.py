"""The Codex CLI (`codex exec --json`), known from version 0.169.

It has no limit of turns or cost of its own and prints tokens only at the end of a turn, as a total of the
whole session; the file that it keeps of a session has that total after each reply. Its sandbox is off: the
workstation is the sandbox. Options:

``base_url``, ``env_key``: a provider of one's own with the Responses protocol, and the name of the variable
that holds its key (``OPENAI_API_KEY`` when not given); ``request_max_retries``, ``stream_max_retries``,
``stream_idle_timeout_ms``: its patience; ``shell_environment``: variables that the commands which the model
runs may see although they look like secrets, with blanks between; they see what the attempt was granted anyway.
"""

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from agent_daemon.clis.base import (
    About,
    CliSettings,
    CostTold,
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
    minus,
    text_of,
    words_of,
)
from agent_daemon.clis.failures import failure_named, retry_after_seconds
from agent_daemon.clis.mcp import servers_of
from agent_daemon.execution import Finished, Invocation
from agent_daemon.hiding import looks_secret
from agent_daemon.protocol.model import McpServer

can_resume = True
MCP = True
PROGRAM = "codex"
SPEAKS: Literal["text", "events"] = "events"
INSTALL = "npm install --global @openai/codex"
ABOUT = About(
    tried="0.169.0",
    keys=("OPENAI_API_KEY", "CODEX_API_KEY"),
    logins=(".codex/auth.json",),
    log_in="codex login --device-auth",
    folders={"CODEX_HOME": ".codex"},
)
TELLS_COST: CostTold = "never"
_PATIENCE = ("request_max_retries", "stream_max_retries", "stream_idle_timeout_ms")
OPTIONS: frozenset[str] = frozenset({"base_url", "env_key", "shell_environment", *_PATIENCE})

_PROVIDER = "cloud-code"
_KEY = "OPENAI_API_KEY"
_SHELLS = frozenset({"bash", "sh", "zsh"})
_CHANGES = {"add": "create", "update": "edit"}
_STEP = Progress(kind="usage", usage=Usage(turns=1))

_SESSION_ID = re.compile(r"[0-9A-Za-z-]{8,60}")
_NO_SUCH_SESSION = re.compile(r"no rollout found|thread/resume failed", re.IGNORECASE)

# As `-s read-only`, which `resume` does not know.
_READ_ONLY = ("-c", 'sandbox_mode="read-only"', "-c", 'approval_policy="never"')


def invocation(request: RunRequest) -> Invocation:
    settings = request.settings
    environment = bare_environment(settings)
    codex_home = settings.home / ".codex"
    codex_home.mkdir(parents=True, exist_ok=True)
    environment.setdefault("CODEX_HOME", str(codex_home))
    start = (*(settings.argv or (PROGRAM,)), "exec")
    # A resumed session keeps its folder, and `resume` does not know -C.
    place = ("resume", request.session_id) if request.session_id else ("-C", str(request.worktree))
    return Invocation(
        argv=(
            *start,
            *place,
            "--json",
            *(_READ_ONLY if request.plan else ("--dangerously-bypass-approvals-and-sandbox",)),
            *(("-m", settings.model) if settings.model else ()),
            *_configuration(settings, environment),
            *settings.arguments,
            "-",
        ),
        cwd=request.worktree,
        environment=environment,
        stdin=request.prompt.encode("utf-8", "replace"),
        success_exit_codes=settings.success_exit_codes,
        marker=request.marker,
    )


def _configuration(settings: CliSettings, environment: Mapping[str, str]) -> tuple[str, ...]:
    options = settings.options
    shown = {*options.get("shell_environment", "").split(), *(settings.granted - {options.get("env_key", _KEY)})}
    key = options.get("env_key", _KEY)
    hidden = sorted(name for name in environment if (looks_secret(name) or name == key) and name not in shown)
    values: dict[str, Any] = {
        # A login shell would read /etc/profile, which resets PATH and with it the project's tools.
        "allow_login_shell": False,
        # The environment is bare, so that these names are all there is to hide from the model's commands.
        "shell_environment_policy.exclude": hidden,
        # It talks to its model and to nobody else: no telemetry, no catalogue of plugins from the web.
        "analytics.enabled": False,
        "features.plugins": False,
        "check_for_update_on_startup": False,
    }
    if "base_url" in options:
        provider = {
            "name": _PROVIDER,
            "base_url": options["base_url"],
            "env_key": key,
            "wire_api": "responses",
            **{name: int(options[name]) for name in _PATIENCE if name in options},
        }
        values.update({f"model_providers.{_PROVIDER}.{name}": value for name, value in provider.items()})
        values["model_provider"] = _PROVIDER
    for name, server in servers_of(settings.mcp).items() if settings.mcp is not None else ():
        values.update({f"mcp_servers.{name}.{key}": value for key, value in _mcp_server(server).items()})
    # JSON's texts, numbers, booleans and lists of texts are also TOML's.
    return tuple(
        part
        for name, value in values.items()
        for part in ("-c", f"{name}={json.dumps(value, ensure_ascii=False)}")
    )


def usage_log(settings: CliSettings, session_id: str) -> Path | None:
    """Its own record of the session, to which it adds the tokens of each reply."""
    if not _SESSION_ID.fullmatch(session_id):
        return None
    folder = Path(settings.environment.get("CODEX_HOME") or settings.home / ".codex") / "sessions"
    found = sorted(folder.glob(f"*/*/*/rollout-*-{session_id}.jsonl"))
    return found[-1] if found else None


def _session_total(event: dict[str, Any] | None) -> list[Progress]:
    """What a line of that record tells of usage: the sum of the session, or which model comes next."""
    payload = event.get("payload") if event else None
    if not isinstance(payload, dict):
        return []
    if event and event.get("type") == "turn_context" and text_of(payload, "model"):
        return [Progress(kind="usage", usage=Usage(model=text_of(payload, "model")))]
    if event and event.get("type") == "token_usage_record":  # as soon as a reply is there; others tell it later
        return [Progress(kind="usage", usage=_usage(payload.get("thread_token_usage")), of_session=True)]
    info = payload.get("info")
    if payload.get("type") != "token_count" or not isinstance(info, dict):
        return []
    return [Progress(kind="usage", usage=_usage(info.get("total_token_usage")), of_session=True)]


def _mcp_server(server: McpServer) -> dict[str, Any]:
    """Its variables are passed on by name, so that no secret is an argument."""
    if server.url is not None:
        return {"url": server.url} | ({"bearer_token_env_var": server.bearer} if server.bearer else {})
    plain = {f"env.{name}": value for name, value in server.environment.items()}
    passed = {"env_vars": list(server.pass_environment)} if server.pass_environment else {}
    return {"command": server.command[0], "args": list(server.command[1:]), **plain, **passed}


def parse(stream: str, line: str) -> list[Progress]:
    if stream == "usage":
        return _session_total(json_object(line))
    event = json_object(line) if stream == "stdout" else None
    if event is None:
        return _plain(line)
    kind = text_of(event, "type")
    message = text_of(event, "message")
    if kind == "thread.started":
        return [Progress(kind="session", session_id=text_of(event, "thread_id") or None)]
    if kind == "turn.completed":
        return [Progress(kind="result", usage=_usage(event.get("usage")))]
    if kind == "turn.failed":
        return [Progress(kind="error", message=text_of(event, "error", "message"))]
    if kind == "error":
        return [Progress(kind="retry" if message.startswith("Reconnecting") else "error", message=message)]
    item = event.get("item")
    if not isinstance(item, dict):
        return []
    if kind == "item.started":
        return _item_started(item)
    return [*_item_completed(item)] if kind == "item.completed" else []


def _plain(line: str) -> list[Progress]:
    said = [event for event in words_of(line) if not event.message.startswith("Reading ")]
    return [replace(event, kind="error") if event.message.startswith("Error") else event for event in said]


def _item_started(item: dict[str, Any]) -> list[Progress]:
    if item.get("type") != "command_execution":
        return []
    return [Progress(kind="tool_call", command=_command(item), call_id=_call_id(item))]


def _command(item: dict[str, Any]) -> str:
    """What the model runs, without the shell that Codex runs it in."""
    command = text_of(item, "command")
    try:
        words = shlex.split(command)
    except ValueError:
        return command
    inner = len(words) == 3 and words[1] in ("-c", "-lc") and words[0].rpartition("/")[2] in _SHELLS
    return words[2] if inner else command


def _call_id(item: dict[str, Any]) -> str | None:
    return text_of(item, "id") or None


def _item_completed(item: dict[str, Any]) -> list[Progress]:
    kind = text_of(item, "type")
    if kind == "agent_message":
        return [Progress(kind="message", message=text_of(item, "text")), _STEP]
    if kind == "error":  # a warning: what ends a turn comes as an event of its own
        return [Progress(kind="message", message=text_of(item, "message"))]
    if kind == "reasoning":
        return []
    status = text_of(item, "status")
    if kind == "command_execution":
        code = item.get("exit_code")
        return [
            Progress(
                kind="command_run",
                message=status,
                command=_command(item),
                exit_code=code if type(code) is int else None,
                call_id=_call_id(item),
            ),
            _STEP,
        ]
    if kind == "file_change":
        changes = item.get("changes")
        if status != "completed":
            return [Progress(kind="message", message=f"an edit did not apply ({status})"), _STEP]
        edits = [
            Progress(
                kind="file_edited",
                path=text_of(change, "path"),
                message=_CHANGES.get(text_of(change, "kind"), text_of(change, "kind")),
                call_id=_call_id(item),
            )
            for change in (changes if isinstance(changes, list) else [])
            if isinstance(change, dict)
        ]
        return [*edits, _STEP]
    named = " ".join(part for part in (kind, text_of(item, "tool"), text_of(item, "query")) if part)
    return [Progress(kind="tool_call", message=named, call_id=_call_id(item)), _STEP]


def _usage(value: Any) -> Usage:
    counts = value if isinstance(value, dict) else {}
    return Usage(
        input_tokens=count_of(counts, "input_tokens"),
        cached_input_tokens=count_of(counts, "cached_input_tokens"),
        output_tokens=count_of(counts, "output_tokens"),
    )


def verdict(finished: Finished, events: Sequence[Progress], *, previous: Usage | None = None) -> Verdict:
    usage, session = _usage_of_run(events, previous or Usage()), last_session(events)
    if early := ended_early(finished):
        return Verdict(outcome=early[0], message=early[1], usage=usage, session_id=session)
    done = any(event.kind == "result" for event in events)
    if finished.succeeded and done:
        message = last_message(events, "message")
        return Verdict(outcome="completed", message=message, usage=usage, session_id=session)
    errors = [event.message for event in reversed(events) if event.kind == "error" and event.message]
    if not errors and finished.succeeded:
        message = "it ended without saying that its turn was completed"
        return Verdict(outcome="no_result", message=message, usage=usage, session_id=session)
    for text in errors:
        outcome = failure_named(text)
        if outcome is not None:
            return Verdict(
                outcome=outcome,
                message=text,
                retry_after_seconds=retry_after_seconds(text),
                usage=usage,
                session_id=session,
            )
    message = errors[0] if errors else last_message(events, "message")
    message = f"exit code {finished.exit_code}" + (f": {message}" if message else "")
    lost = any(_NO_SUCH_SESSION.search(text) for text in errors)
    session = None if lost else session
    return Verdict(outcome="crashed", message=message, usage=usage, session_id=session, session_gone=lost)


def _usage_of_run(events: Sequence[Progress], previous: Usage) -> Usage:
    total = next((event.usage for event in reversed(events) if event.kind == "result" and event.usage), None)
    turns = sum(event.usage.turns for event in events if event.kind == "usage" and event.usage)
    if total is None:
        return Usage(turns=turns)
    return replace(minus(total, previous), turns=turns)
