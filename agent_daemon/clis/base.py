"""What every coding CLI has in common: the values that go in and out of an adapter, and its interface."""

import contextlib
import functools
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, Protocol, cast, get_args

from agent_daemon.egress import proxy_variables
from agent_daemon.execution import Finished, Invocation
from agent_daemon.hiding import Mask, mask_of
from agent_daemon.protocol.model import Mcp

Outcome = Literal[
    "completed",
    "needs_input",
    "refused",
    "authentication",
    "quota",
    "overloaded",
    "context_too_long",
    "turn_limit",
    "budget",
    "crashed",
    "interrupted",
    "hung",
    "no_result",
]
OUTCOMES: frozenset[str] = frozenset(get_args(Outcome))

# No run uses so much of anything: what is told beyond it is nonsense, and too large to be reckoned with.
MAX_COUNT = 10**12
_MESSAGE_CHARACTERS = 12_000  # a plan may be that long

# What a run cost: with its steps, once at its end (a limit of cost is held by itself till then), or not at all.
CostTold = Literal["steps", "end", "never"]

ProgressKind = Literal[
    "message",
    "tool_call",
    "file_edited",
    "command_run",
    "usage",
    "retry",
    "error",
    "session",
    "result",
    "heartbeat",
]
EventType = Literal["progress", "log", "result", "error", "status", "heartbeat"]


@dataclass(frozen=True, kw_only=True)
class CliSettings:
    """One coding CLI as configured.

    `adapter` is a key of `ADAPTERS`; `argv` is how the program is started (empty: the adapter's usual
    name); `arguments` are added by the operator; `environment` is given as it is; `pass_environment` names
    what is passed on from the daemon's own environment (the CLI's key, say). `prompt` tells the adapter
    ``command`` how the prompt is handed over. `home` becomes HOME and holds the CLI's configuration and
    sessions. `commands` is a folder that comes first on its PATH. `mcp` are the MCP servers that it is given.
    `options` are the adapter's own, named in its OPTIONS. `granted` are variables that the commands which the
    model runs are meant to see, though their names look like secrets.
    """

    name: str
    adapter: str
    argv: tuple[str, ...] = ()
    model: str = ""
    arguments: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    pass_environment: tuple[str, ...] = ()
    prompt: Literal["stdin", "file", "argument"] = "stdin"
    success_exit_codes: tuple[int, ...] = (0,)
    home: Path
    commands: Path | None = None
    mcp: Mcp | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    granted: frozenset[str] = frozenset()


@dataclass(frozen=True, kw_only=True)
class RunRequest:
    """One run of a CLI. `session_id` resumes that session; `marker` ends with ``<task>/<attempt>``.

    `max_turns` and `cost_usd` are passed on where the CLI knows such a limit; `test_command`, which checks the
    work, where it can run one after its edits. `plan`: it is to plan and to change nothing, in a mode of its own
    for that where it has one.
    """

    prompt: str = field(repr=False)
    prompt_file: Path
    worktree: Path
    settings: CliSettings
    session_id: str | None = None
    max_turns: int | None = None
    cost_usd: float | None = None
    test_command: str = ""
    plan: bool = False
    marker: str = ""


@dataclass(frozen=True, kw_only=True)
class Usage:
    """What models cost so far. `input_tokens` include the cached ones; `cost_usd` is None when not told."""

    model: str = ""
    input_tokens: int = 0
    cached_input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float | None = None
    turns: int = 0


@dataclass(frozen=True, kw_only=True)
class Progress:
    """One thing that a CLI said or did.

    ``result`` is the CLI's own word that it is done, ``retry`` that it waits and gets nowhere. `outcome` is
    set where the CLI names it itself, `retry_at` where it says when a limit is lifted. `call_id` is the CLI's
    name for the tool call that it is about. `of_session`: its usage is the sum of the whole session so far.
    ``heartbeat`` says that it lives, and nothing else. `type` is the one of its event where the program names it.
    """

    kind: ProgressKind
    message: str = ""
    path: str | None = None
    command: str | None = None
    exit_code: int | None = None
    usage: Usage | None = None
    session_id: str | None = None
    outcome: Outcome | None = None
    retry_at: datetime | None = None
    call_id: str | None = None
    of_session: bool = False
    type: EventType | None = None


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """How a run is to be taken: `outcome` decides, `message` is one sentence for people.

    `usage` is this run's alone, without the earlier runs of its session. `session_id` is None when the
    session cannot be resumed; `session_gone`: the one that was to be resumed is not there, and nothing was done.
    `retry_at` or `retry_after_seconds` tell when a quota lasts again, if known.
    """

    outcome: Outcome
    message: str
    retry_after_seconds: float | None = None
    retry_at: datetime | None = None
    usage: Usage = field(default_factory=Usage)
    session_id: str | None = None
    session_gone: bool = False


class SessionGoneError(Exception):
    """An adapter sees before it starts its CLI that there is nothing of the session that it is to resume."""


@dataclass(frozen=True, kw_only=True)
class About:
    """What is known of a CLI beside how it is driven.

    `tried` is the oldest version that was tried; `keys` are the variables in which it looks for a key, `logins`
    the files in its home that hold a login, `log_in` the command that makes one in a terminal without a browser.
    `folders`: the variables that put a folder of its home elsewhere, with that folder's name.
    """

    tried: str = ""
    keys: tuple[str, ...] = ()
    logins: tuple[str, ...] = ()
    log_in: str = ""
    folders: Mapping[str, str] = field(default_factory=dict)


class Adapter(Protocol):
    """A module that knows one coding CLI; see `agent_daemon.clis` for how to add one."""

    @property
    def can_resume(self) -> bool: ...

    @property
    def OPTIONS(self) -> frozenset[str]: ...  # noqa: N802 (a module's constant)

    @property
    def MCP(self) -> bool: ...  # noqa: N802 (whether it can be given MCP servers)

    @property
    def PROGRAM(self) -> str: ...  # noqa: N802 (how it is started without an `argv`; empty: only with one)

    @property
    def SPEAKS(self) -> Literal["text", "events"]: ...  # noqa: N802 (whether people can read its output)

    @property
    def ABOUT(self) -> About: ...  # noqa: N802 (what `workstation clis` and `doctor` look for)

    @property
    def INSTALL(self) -> str: ...  # noqa: N802 (the command that installs it)

    @property
    def TELLS_COST(self) -> CostTold: ...  # noqa: N802 (when it may tell what it cost)

    def invocation(self, request: RunRequest) -> Invocation:
        """How to start it; makes what the CLI wants to find in its home. Raises McpError, SessionGoneError."""

    def parse(self, stream: str, line: str) -> list[Progress]:
        """What a line of ``stdout`` or ``stderr`` means; never raises, for the line may be anything."""

    def verdict(self, finished: Finished, events: Sequence[Progress], *, previous: Usage | None = None) -> Verdict:
        """What became of the run; `previous` is what earlier runs of the same session used."""

    def usage_log(self, settings: CliSettings, session_id: str) -> Path | None:
        """A file of the session in its home where it tells usage that its output does not tell, if there is one.

        Its lines are parsed as those of the stream ``usage``.
        """


def no_usage_log(_settings: CliSettings, _session_id: str) -> Path | None:
    """Of a CLI whose output tells everything."""
    return None


# Of a workstation's image, no secret among them: whom to trust, and where tools are installed.
_OF_THE_PLACE = (
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "PIP_CERT", "NODE_EXTRA_CA_CERTS", "GIT_SSL_CAINFO"),
    *("NPM_CONFIG_PREFIX", "PYTHONUSERBASE", "PIPX_HOME", "PIPX_BIN_DIR", "UV_TOOL_DIR", "UV_TOOL_BIN_DIR"),
)


def bare_environment(settings: CliSettings, inherited: Mapping[str, str] | None = None) -> dict[str, str]:
    """The whole environment of a CLI: a path, a home, a place for temporary files, and what is configured.

    Makes the home and the temporary folder. `inherited` is the daemon's own environment by default.
    """
    inherited = os.environ if inherited is None else inherited
    temporary = _temporary(settings)
    temporary.mkdir(parents=True, exist_ok=True)
    environment = {
        "PATH": inherited.get("PATH", "/usr/local/bin:/usr/bin:/bin"),
        "HOME": str(settings.home),
        "TMPDIR": str(temporary),
        "LANG": "C.UTF-8",
        "TERM": "dumb",
        **{name: inherited[name] for name in _OF_THE_PLACE if name in inherited},
        **proxy_variables(inherited),
        **{name: inherited[name] for name in settings.pass_environment if name in inherited},
        **settings.environment,
    }
    if settings.commands is not None:
        environment["PATH"] = f"{settings.commands}:{environment['PATH']}"
    return environment


def empty_temporary(settings: CliSettings) -> None:
    """Remove what earlier tasks left in the folder for temporary files, which nobody else ever empties."""
    folder = _temporary(settings)
    with contextlib.suppress(OSError):
        if folder.is_symlink():  # an agent's doing
            folder.unlink()
    shutil.rmtree(folder, ignore_errors=True)


def _temporary(settings: CliSettings) -> Path:
    return settings.home / "tmp"


def mask_for(settings: CliSettings, *more: Mapping[str, str]) -> Mask:
    """What a CLI is handed over in secret: to be taken out of everything that is kept of its run."""
    given = bare_environment(settings)
    for variables in more:
        given |= variables
    return mask_of(given, settings.pass_environment)


def ended_early(finished: Finished) -> tuple[Outcome, str] | None:
    """The outcome of a run that did not come to its own end, with a sentence; None for one that did."""
    if finished.reason == "not_started":
        return "crashed", finished.detail
    if finished.reason == "timeout":
        return "hung", f"it was ended at {finished.detail or 'its time limit'}"
    if finished.reason == "output_limit":
        return "crashed", f"it was ended because it had written {finished.output_bytes} bytes"
    if finished.reason == "stopped":
        reason = finished.stop_reason
        return as_outcome(reason) or "interrupted", f"it was stopped ({reason})"
    if finished.signalled_by_us:
        return "interrupted", "it was ended by a signal from the daemon"
    return None


def as_outcome(text: str) -> Outcome | None:
    """The text as an outcome, if it is one."""
    return cast(Outcome, text) if text in OUTCOMES else None


def last_message(events: Sequence[Progress], *kinds: ProgressKind) -> str:
    """The newest message of one of these kinds, or an empty text."""
    return next((event.message for event in reversed(events) if event.kind in kinds and event.message), "")


def last_session(events: Sequence[Progress]) -> str | None:
    """The session that the CLI named last."""
    return next((event.session_id for event in reversed(events) if event.session_id), None)


def plus(one: Usage, other: Usage) -> Usage:
    """Both together; a cost that neither tells stays unknown."""
    costs = [usage.cost_usd for usage in (one, other) if usage.cost_usd is not None]
    return Usage(
        model=other.model or one.model,
        input_tokens=one.input_tokens + other.input_tokens,
        cached_input_tokens=one.cached_input_tokens + other.cached_input_tokens,
        output_tokens=one.output_tokens + other.output_tokens,
        cost_usd=sum(costs) if costs else None,
        turns=one.turns + other.turns,
    )


def minus(one: Usage, other: Usage) -> Usage:
    """The tokens of one without those of the other, none below 0; all else stays as it is in the first."""
    return replace(
        one,
        input_tokens=max(0, one.input_tokens - other.input_tokens),
        cached_input_tokens=max(0, one.cached_input_tokens - other.cached_input_tokens),
        output_tokens=max(0, one.output_tokens - other.output_tokens),
    )


def sum_of_usage(events: Sequence[Progress]) -> Usage:
    """What the single steps told, for a run that came to no closing sum."""
    steps = (event.usage for event in events if event.kind == "usage" and event.usage)
    return functools.reduce(plus, steps, Usage())


def json_object(line: str) -> dict[str, Any] | None:
    """The JSON object on a line; None for everything else, however odd."""
    if not line.lstrip().startswith("{"):
        return None
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def text_of(source: Mapping[str, Any], *keys: str) -> str:
    """The text below nested keys, at most 12,000 characters and fit to be written as UTF-8; else empty."""
    value: Any = source
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return printable(value) if isinstance(value, str) else ""


def printable(text: str) -> str:
    """The text as a message: shortened, without lone surrogates."""
    return text[:_MESSAGE_CHARACTERS].encode("utf-8", "replace").decode("utf-8").strip()


def words_of(line: str) -> list[Progress]:
    """A line that is no JSON as what it says; one that is the beginning of JSON was too long, and says nothing."""
    message = "" if line.startswith('{"') else printable(line)
    return [Progress(kind="message", message=message)] if message else []


def count_of(source: Mapping[str, Any], key: str) -> int:
    """A whole number from zero up to a million million; 0 for everything else."""
    value = source.get(key)
    whole = isinstance(value, int) and not isinstance(value, bool) and value >= 0
    return min(cast(int, value), MAX_COUNT) if whole else 0


def usd_of(source: Mapping[str, Any], key: str) -> float | None:
    """An amount of USD from zero up to a thousand million; None for everything else."""
    value = source.get(key)
    told = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e9
    return float(cast(float, value)) if told else None


def usage_of(value: Any) -> Usage | None:
    """What a mapping tells under the names of `Usage`; None for everything else."""
    if not isinstance(value, dict):
        return None
    return Usage(
        model=text_of(value, "model"),
        input_tokens=count_of(value, "input_tokens"),
        cached_input_tokens=count_of(value, "cached_input_tokens"),
        output_tokens=count_of(value, "output_tokens"),
        cost_usd=usd_of(value, "cost_usd"),
        turns=count_of(value, "turns"),
    )
