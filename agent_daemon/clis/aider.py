"""Aider (`aider --message-file`), known from version 0.86.2.

It talks in plain text, ends with exit code 0 whatever happened, and cannot run commands of its own accord: after
each edit it runs the task's verification, and corrects itself three times at most. Its session is its chat
history, a file in its home. Options:

``base_url``, ``env_key``: an endpoint with OpenAI's Chat protocol, and the name of the variable that holds its key
(``OPENAI_API_KEY`` when not given); ``edit_format``: how the model writes its edits; ``model_metadata_file``:
prices and sizes of models that it does not know.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Literal

from agent_daemon.clis.base import (
    About,
    CostTold,
    Outcome,
    Progress,
    RunRequest,
    SessionGoneError,
    Usage,
    Verdict,
    bare_environment,
    ended_early,
    last_message,
    last_session,
    no_usage_log,
    printable,
    sum_of_usage,
)
from agent_daemon.clis.failures import failure_named, retry_after_seconds
from agent_daemon.execution import Finished, Invocation
from agent_daemon.hiding import looks_secret

can_resume = True
MCP = False
PROGRAM = "aider"
SPEAKS: Literal["text", "events"] = "text"
INSTALL = "uv tool install --python 3.12 aider-chat"
ABOUT = About(tried="0.86.2", keys=("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY", "OPENROUTER_API_KEY"))
TELLS_COST: CostTold = "steps"
OPTIONS: frozenset[str] = frozenset({"base_url", "env_key", "edit_format", "model_metadata_file"})

_KEY = "OPENAI_API_KEY"
_SESSION = "chat-history"
_QUIETLY = (
    *("--yes-always", "--no-pretty", "--no-stream", "--no-fancy-input", "--no-detect-urls", "--no-gitignore"),
    *("--no-show-model-warnings", "--no-show-release-notes", "--no-check-update", "--analytics-disable"),
    *("--no-auto-commits", "--no-dirty-commits", "--no-suggest-shell-commands"),
)
_NOISE = re.compile(
    r"Analytics have been|Detected dumb terminal|HTTPSConnectionPool\(|Git repo: |Repo-map: |Added .* to the chat"
    r"|Restored previous conversation|https://aider\.chat/|Update git (?:name|email) with: "
)
_PATHS = re.compile(r"\S*[./]\w\S*(?: +\S*[./]\w\S*)*$")
_EDITED = re.compile(r"Applied edit to (.+)")
_TOKENS = re.compile(r"Tokens: .*\breceived\b")
_COUNT = re.compile(r"([\d.,]+)([kM]?) (sent|cache hit|received)")
_COST = re.compile(r"Cost: \$([\d.,]+) message")
_UNITS = {"": 1, "k": 1_000, "M": 1_000_000}
# It tries again after these, and only then: waiting is no progress.
_TRIED_AGAIN = re.compile(
    r"litellm\.(?:RateLimit|InternalServer|ServiceUnavailable|APIConnection|Timeout|BadGateway|APIError)"
    r"|Retrying in |The API provider"
)
_ERROR = re.compile(r"litellm\.\w+(?:Error|Exceeded)\b")
_ENDS: tuple[tuple[re.Pattern[str], Outcome], ...] = (
    (re.compile(r"Only \d+ reflections allowed"), "turn_limit"),
    (re.compile(r"Model \S+ has hit a token limit"), "context_too_long"),
)

usage_log = no_usage_log


def invocation(request: RunRequest) -> Invocation:
    settings, options = request.settings, request.settings.options
    environment = {
        # Its lines are not to be broken, and its price list not to be fetched.
        "COLUMNS": "4000",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        **bare_environment(settings),
    }
    if "base_url" in options:
        environment.setdefault("OPENAI_API_BASE", options["base_url"])
    name = options.get("env_key", _KEY)
    if name != _KEY and name in environment:
        environment[_KEY] = environment.pop(name)
    history = _history(request)
    chosen = {
        "--model": settings.model,
        "--edit-format": options.get("edit_format"),
        "--model-metadata-file": options.get("model_metadata_file"),
        "--test-cmd": request.test_command and _without_keys(request.test_command, environment, settings.granted),
    }
    return Invocation(
        argv=(
            *(settings.argv or (PROGRAM,)),
            *_QUIETLY,
            *("--chat-history-file", str(history), "--input-history-file", str(history.with_suffix(".input"))),
            *(("--restore-chat-history",) if request.session_id else ()),
            *(part for option, value in chosen.items() if value for part in (option, value)),
            *(("--auto-test",) if request.test_command and not request.plan else ()),
            *(("--chat-mode", "ask") if request.plan else ()),
            *settings.arguments,
            *("--message-file", str(request.prompt_file)),
        ),
        cwd=request.worktree,
        environment=environment,
        success_exit_codes=settings.success_exit_codes,
        marker=request.marker,
    )


def _without_keys(command: str, environment: Mapping[str, str], granted: frozenset[str]) -> str:
    """Its tests are run with its own environment; they are to find no key there, but what was granted."""
    secret = (name for name in environment if looks_secret(name) and name.isidentifier())
    names = sorted(name for name in secret if name == _KEY or name not in granted)
    return f"unset {' '.join(names)}; {command}" if names else command


def _history(request: RunRequest) -> Path:
    """One for each task; what an earlier attempt said is taken up only where its session is resumed."""
    folder = request.settings.home / "aider"
    folder.mkdir(parents=True, exist_ok=True)
    history = folder / f"{Path(request.marker).parent.name or 'task'}.md"
    if request.session_id is None:
        history.unlink(missing_ok=True)
    elif not history.exists():
        raise SessionGoneError(f"there is no chat history {history}")
    return history


def parse(_stream: str, line: str) -> list[Progress]:
    message = printable(line)
    if not message or _NOISE.match(message):
        return []
    if message.startswith("Aider v"):
        return [Progress(kind="session", message=message, session_id=_SESSION)]
    edited = _EDITED.match(message)
    if edited is not None:
        return [Progress(kind="file_edited", path=edited[1], message="edit")]
    if _TOKENS.match(message):
        return [Progress(kind="usage", message=message, usage=_usage(message))]
    for pattern, outcome in _ENDS:
        if pattern.match(message):
            return [Progress(kind="error", message=message, outcome=outcome)]
    if _TRIED_AGAIN.match(message):
        return [Progress(kind="retry", message=message)]
    return [Progress(kind="error" if _ERROR.match(message) else "message", message=message)]


def _usage(message: str) -> Usage:
    """What one reply cost; the counts are rounded."""
    counts = {kind: _number(amount) * _UNITS[unit] for amount, unit, kind in _COUNT.findall(message)}
    cost, sent = _COST.search(message), int(counts.get("sent", 0))
    return Usage(
        input_tokens=sent,
        cached_input_tokens=min(sent, int(counts.get("cache hit", 0))),
        output_tokens=int(counts.get("received", 0)),
        cost_usd=_number(cost[1]) if cost else None,
        turns=1,
    )


def _number(text: str) -> float:
    try:
        return float(text.replace(",", "").rstrip("."))
    except ValueError:
        return 0.0


def verdict(finished: Finished, events: Sequence[Progress], *, previous: Usage | None = None) -> Verdict:
    whole = Verdict(outcome="completed", message="", usage=sum_of_usage(events), session_id=last_session(events))
    if early := ended_early(finished):
        return replace(whole, outcome=early[0], message=early[1])
    replies = [number for number, event in enumerate(events) if event.kind == "usage"]
    # What was said before the last reply came is history; an error after it is what ended the run.
    after = events[replies[-1] + 1 :] if replies else events
    named = next((event for event in reversed(after) if event.outcome is not None), None)
    if named is not None and named.outcome is not None:
        return replace(whole, outcome=named.outcome, message=named.message)
    wrong = [number for number, event in enumerate(after) if event.kind in ("error", "retry")]
    if wrong:
        # Where its lines are broken, the rest of an error comes as a message.
        text = " ".join(event.message for event in after[wrong[0] :])
        waits = (retry_after_seconds(event.message) for event in reversed(after))
        return replace(
            whole,
            outcome=failure_named(text) or "crashed",
            message=text[:600],
            retry_after_seconds=next((wait for wait in waits if wait is not None), None),
        )
    if not finished.succeeded:
        message = f"exit code {finished.exit_code}: {last_message(events, 'message')}"
        return replace(whole, outcome="crashed", message=message)
    if not replies:
        return replace(whole, outcome="no_result", message="it ended without an answer of its model")
    return replace(whole, message=_said([-1, *replies][-2:], events))


def _said(bounds: Sequence[int], events: Sequence[Progress]) -> str:
    """The words of the last reply, without its edits and the files that it was shown."""
    lines = [event.message for event in events[bounds[0] + 1 : bounds[1]] if event.kind == "message"]
    kept, inside = [], False
    for line, following in pairwise([*lines, ""]):
        if line.startswith("```"):
            inside = not inside
        elif not (inside or following.startswith("```") or line.startswith("Model: ") or _PATHS.match(line)):
            kept.append(line)
    return printable("\n".join(kept))
