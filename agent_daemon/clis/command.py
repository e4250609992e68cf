"""Any program as a coding CLI: an argument list of the operator, the prompt on standard input.

In `CliSettings.argv` and `arguments` these stand for their values, inside single arguments and never through
a shell: ``{prompt_file}`` ``{worktree}`` ``{model}`` ``{session_id}`` ``{max_turns}``. An argument that names
a value which there is none of (``--session={session_id}`` in a first run) is left out.

`prompt` is ``stdin`` (the default), ``file`` (``{prompt_file}`` says where; nothing on standard input), or
``argument``: one sentence that names the file is added as the last argument, for a text from an issue is
never an argument itself.

The program may print JSON lines such as ``{"type": "progress", "message": "…"}``; the types are progress, log,
status, heartbeat, retry (it waits and gets nowhere, which is no sign of life), error and result. All of them
may carry path, command with exit_code, tool_call, session_id, and the usage of a step; error and result may
carry an outcome, and a result's usage is that of the whole run; an error that says "try again in 2h" tells when
a quota lasts again. Every other line is a message. The exit code decides, unless an error was printed that no
result followed.
"""

import functools
import re
from collections.abc import Sequence
from typing import Literal, cast

from agent_daemon.clis.base import (
    About,
    CostTold,
    EventType,
    Progress,
    ProgressKind,
    RunRequest,
    Usage,
    Verdict,
    as_outcome,
    bare_environment,
    ended_early,
    json_object,
    last_message,
    last_session,
    no_usage_log,
    plus,
    printable,
    text_of,
    usage_of,
)
from agent_daemon.clis.failures import retry_after_seconds
from agent_daemon.execution import Finished, Invocation

can_resume = True
MCP = False
PROGRAM = ""
SPEAKS: Literal["text", "events"] = "text"
INSTALL = ""
ABOUT = About()
TELLS_COST: CostTold = "steps"
OPTIONS: frozenset[str] = frozenset()

_PLACEHOLDER = re.compile(r"\{(prompt_file|worktree|model|session_id|max_turns)\}")
_KINDS: dict[str, ProgressKind] = {
    "heartbeat": "heartbeat",
    "progress": "message",
    "log": "message",
    "status": "message",
    "retry": "retry",
    "error": "error",
    "result": "result",
}

usage_log = no_usage_log


def invocation(request: RunRequest) -> Invocation:
    settings = request.settings
    argv = _filled((*settings.argv, *settings.arguments), request)
    if settings.prompt == "argument":
        argv += (f"Read the file {request.prompt_file} and do the task that it describes.",)
    return Invocation(
        argv=argv,
        cwd=request.worktree,
        environment=bare_environment(settings),
        stdin=request.prompt.encode("utf-8", "replace") if settings.prompt == "stdin" else None,
        success_exit_codes=settings.success_exit_codes,
        marker=request.marker,
    )


def _filled(argv: tuple[str, ...], request: RunRequest) -> tuple[str, ...]:
    values = {
        "prompt_file": str(request.prompt_file),
        "worktree": str(request.worktree),
        "model": request.settings.model,
        "session_id": request.session_id or "",
        "max_turns": "" if request.max_turns is None else str(request.max_turns),
    }
    return tuple(
        _PLACEHOLDER.sub(lambda match: values[match[1]], argument)
        for argument in argv
        if all(values[name] for name in _PLACEHOLDER.findall(argument))
    )


def parse(stream: str, line: str) -> list[Progress]:
    event = json_object(line) if stream == "stdout" else None
    kind = _KINDS.get(text_of(event, "type")) if event else None
    if event is None or kind is None:
        message = printable(line)
        return [Progress(kind="message", message=message)] if message else []
    named = cast(EventType, text_of(event, "type")) if kind == "message" else None
    path, command = text_of(event, "path") or None, text_of(event, "command") or None
    exit_code = event.get("exit_code")
    if kind == "message" and (path or command):
        kind = "file_edited" if path else "command_run"
    return [
        Progress(
            kind=kind,
            type=named,
            message=text_of(event, "message"),
            path=path,
            command=command,
            exit_code=exit_code if type(exit_code) is int else None,
            session_id=text_of(event, "session_id") or None,
            call_id=text_of(event, "tool_call") or None,
            usage=usage_of(event.get("usage")),
            outcome=as_outcome(text_of(event, "outcome")) if kind in ("error", "result") else None,
        )
    ]


def verdict(finished: Finished, events: Sequence[Progress], *, previous: Usage | None = None) -> Verdict:
    told = next((event.usage for event in reversed(events) if event.kind == "result" and event.usage), None)
    usage = told or functools.reduce(plus, (event.usage for event in events if event.usage), Usage())
    session = last_session(events)
    if early := ended_early(finished):
        return Verdict(outcome=early[0], message=early[1], usage=usage, session_id=session)
    last = next((event for event in reversed(events) if event.kind in ("error", "result")), None)
    said = last.message if last else ""
    if last is not None and last.kind == "error":
        return Verdict(
            outcome=last.outcome or "crashed",
            message=said or "the program reported an error",
            retry_after_seconds=retry_after_seconds(said),
            usage=usage,
            session_id=session,
        )
    said = said or last_message(events, "message")
    if not finished.succeeded:
        message = f"exit code {finished.exit_code}" + (f": {said}" if said else "")
        return Verdict(outcome="crashed", message=message, usage=usage, session_id=session)
    outcome = last.outcome if last and last.outcome else "completed"
    return Verdict(outcome=outcome, message=said, usage=usage, session_id=session)
