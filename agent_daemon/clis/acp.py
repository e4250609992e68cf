"""Any coding CLI that speaks the Agent Client Protocol; what is particular to one is its profile.

The protocol is spoken by `agent_daemon.acp`, a program between the daemon and the CLI that prints what was said
and done. It is asked to stop by SIGINT: then it cancels the prompt, and the CLI mostly still tells what it used.
"""

import json
import shutil
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from re import Pattern
from typing import Any, Literal

from agent_daemon.acp.order import SESSION_LOST, Order
from agent_daemon.clis.base import (
    About,
    CliSettings,
    CostTold,
    Outcome,
    Progress,
    RunRequest,
    Usage,
    Verdict,
    as_outcome,
    bare_environment,
    ended_early,
    json_object,
    last_message,
    last_session,
    printable,
    sum_of_usage,
    text_of,
    usage_of,
)
from agent_daemon.clis.failures import failure_named, retry_after_seconds
from agent_daemon.clis.mcp import servers_of
from agent_daemon.execution import Finished, Invocation

_STOP_SIGNALS = ((signal.SIGINT, 3.5), (signal.SIGTERM, 1.5))
_KINDS = ("message", "tool_call", "file_edited", "command_run", "usage", "retry", "error", "session", "result")

Start = Callable[[CliSettings, dict[str, str]], tuple[str, ...]]


def _no_more(_settings: CliSettings, _environment: dict[str, str]) -> tuple[str, ...]:
    return ()


@dataclass(frozen=True, kw_only=True)
class Profile:
    """What is particular to one CLI.

    `tried`, `logins`, `log_in` and `folders` are those of `About`. `arguments` make it speak the protocol, `key`
    and `base_url` are its variables for a key and an endpoint, `own_keys` if that key is for an endpoint of one's
    own only, `model_option` its option for a model, `environment` keeps it quiet. `start` completes the
    environment and returns further arguments. `mode` is chosen in the session where it is offered, the tool calls
    named in `declined` are not allowed. Its words for trying again match `retries`, what nobody needs to read
    `noise`; where it gives an error for the model's last message, `failures` matches it. `usage_log` finds the
    file of a session that tells more of its usage than the protocol does, and `parse_usage` reads a line of it;
    `ledger` is a database in its home that does so.
    """

    program: str
    arguments: tuple[str, ...]
    install: str
    tried: str = ""
    logins: tuple[str, ...] = ()
    log_in: str = ""
    folders: Mapping[str, str] = field(default_factory=dict)
    key: str = ""
    base_url: str = ""
    own_keys: bool = False
    model_option: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    start: Start = _no_more
    mode: str = ""
    declined: tuple[str, ...] = ()
    tells_cost: CostTold = "never"
    retries: Pattern[str] | None = None
    noise: Pattern[str] | None = None
    failures: Pattern[str] | None = None
    usage_log: Callable[[CliSettings, str], Path | None] | None = None
    parse_usage: Callable[[str], list[Progress]] | None = None
    ledger: str = ""


@dataclass(frozen=True)
class AcpAdapter:
    """An `Adapter` for the CLI of a profile."""

    profile: Profile
    can_resume: bool = True
    MCP: bool = True
    SPEAKS: Literal["text", "events"] = "events"

    @property
    def PROGRAM(self) -> str:  # noqa: N802
        """How it is started without an `argv`."""
        return self.profile.program

    @property
    def INSTALL(self) -> str:  # noqa: N802
        """The command that installs it."""
        return self.profile.install

    @property
    def TELLS_COST(self) -> CostTold:  # noqa: N802
        """When it may tell what it cost."""
        return self.profile.tells_cost

    @property
    def ABOUT(self) -> About:  # noqa: N802
        """What `workstation clis` and `doctor` look for."""
        profile = self.profile
        return About(
            tried=profile.tried,
            keys=(profile.key,) if profile.key else (),
            logins=profile.logins,
            log_in=profile.log_in,
            folders=profile.folders,
        )

    @property
    def OPTIONS(self) -> frozenset[str]:  # noqa: N802
        """``base_url`` and ``env_key``, where it can be told of an endpoint of one's own."""
        return frozenset({"base_url", "env_key"} if self.profile.base_url else {"env_key"})

    def invocation(self, request: RunRequest) -> Invocation:
        """The bridge, with the CLI as its argument; the order is its standard input."""
        profile, settings = self.profile, request.settings
        environment = dict(profile.environment) | bare_environment(settings)
        name = settings.options.get("env_key", profile.key)
        if (
            name != profile.key
            and name in environment
            and ("base_url" in settings.options or not profile.own_keys)
        ):
            environment[profile.key] = environment.pop(name)
        if profile.base_url and "base_url" in settings.options:
            environment.setdefault(profile.base_url, settings.options["base_url"])
        more = profile.start(settings, environment)
        model = (profile.model_option, settings.model) if profile.model_option and settings.model else ()
        argv = (*(settings.argv or (profile.program,)), *profile.arguments, *model, *more, *settings.arguments)
        order = Order(
            prompt=request.prompt,
            cwd=str(request.worktree),
            session_id=request.session_id,
            ledger=str(settings.home / profile.ledger) if profile.ledger else None,
            mode=profile.mode,
            declined=profile.declined,
            mcp_servers=tuple(_mcp_servers(settings, environment)),
        )
        # Isolated: nothing that lies in the worktree is imported. What is not there fails as any program does.
        there = shutil.which(argv[0], path=environment.get("PATH")) is not None
        bridge = (sys.executable, "-I", "-m", "agent_daemon.acp", "--") if there else ()
        return Invocation(
            argv=(*bridge, *argv),
            cwd=request.worktree,
            environment=environment,
            stdin=order.encode(),
            stop_signals=_STOP_SIGNALS,
            success_exit_codes=settings.success_exit_codes,
            marker=request.marker,
        )

    def usage_log(self, settings: CliSettings, session_id: str) -> Path | None:
        """The file of the session that the profile knows."""
        find = self.profile.usage_log
        return find(settings, session_id) if find is not None else None

    def parse(self, stream: str, line: str) -> list[Progress]:
        """The bridge's events as they are; what the CLI itself writes beside them is for people."""
        if stream == "usage":
            return self.profile.parse_usage(line) if self.profile.parse_usage is not None else []
        if stream == "stdout" and line.startswith('{"jsonrpc"'):
            return []
        event = json_object(line) if stream == "stdout" else None
        if event is not None and event.get("event") in _KINDS:
            return [self._in_its_words(progress_of(event))]
        message = "" if line[:1] in (" ", "\t", "}") else printable(line)  # traces and dumps are for cli.log
        event_of_line = self._in_its_words(Progress(kind="message", message=message))
        noise = self.profile.noise
        noisy = event_of_line.kind == "message" and noise is not None and noise.search(message)
        return [] if not message or noisy else [event_of_line]

    def _in_its_words(self, event: Progress) -> Progress:
        """A message that only says that it waits for another try; the pattern's group is what to tell of it."""
        retries = self.profile.retries
        waits = retries.search(event.message) if event.kind == "message" and retries is not None else None
        return replace(event, kind="retry", message=waits[waits.re.groups]) if waits else event

    def verdict(self, finished: Finished, events: Sequence[Progress], *, previous: Usage | None = None) -> Verdict:
        """By the CLI's word that its turn ended and how, unless that word stands for an error."""
        whole = Verdict(
            outcome="completed", message="", usage=usage_of_run(events), session_id=last_session(events)
        )
        if early := ended_early(finished):
            return _ended_early(whole, *early, last_message(events, "retry"))
        errors = [event for event in events if event.kind == "error"]
        result = next((event for event in reversed(events) if event.kind == "result"), None)
        if errors:
            return _failed(whole, errors, [event.message for event in events if event.kind == "retry"])
        if result is None:
            # What was said last may be the model's words: they name no failure.
            said, waited = last_message(events, "message", "retry"), last_message(events, "retry")
            outcome = failure_named(waited) if not finished.succeeded else None
            message = f"exit code {finished.exit_code}" + (f": {said}" if said else "")
            return replace(whole, outcome=outcome or "no_result", message=message)
        return self._ended(whole, result, last_message(events, "retry"))

    def _ended(self, whole: Verdict, result: Progress, waited: str) -> Verdict:
        """The turn ended; where a CLI says nothing of an error, what it waited for last may tell."""
        outcome, said = result.outcome or "crashed", result.message
        failures = self.profile.failures
        if outcome == "completed" and failures is not None and failures.search(said):
            outcome = failure_named(said) or "crashed"
        elif outcome == "no_result" and waited:
            outcome, said = failure_named(waited) or outcome, f"{said}: {waited}"
        wait = None if outcome == "completed" else retry_after_seconds(said)
        return replace(whole, outcome=outcome, message=said, retry_after_seconds=wait)


def _mcp_servers(settings: CliSettings, environment: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """The servers as the protocol wants them; their secrets go where the order goes, through a pipe."""
    for name, server in servers_of(settings.mcp).items() if settings.mcp is not None else ():
        if server.url is not None:
            key = environment.get(server.bearer or "")
            headers = [{"name": "Authorization", "value": f"Bearer {key}"}] if key else []
            yield {"type": "http", "name": name, "url": server.url, "headers": headers}
        else:
            passed = {key: environment[key] for key in server.pass_environment if key in environment}
            variables = [{"name": key, "value": value} for key, value in (passed | server.environment).items()]
            yield {"name": name, "command": server.command[0], "args": [*server.command[1:]], "env": variables}


def _ended_early(whole: Verdict, outcome: Outcome, message: str, waited: str) -> Verdict:
    """Some wait for hours without a word: what they wait for is why they hung."""
    named = failure_named(waited) if outcome == "hung" and waited else None
    if named is not None:
        outcome, message = named, f"{message} while it waited: {waited}"
    wait = retry_after_seconds(waited) if outcome == "quota" else None
    return replace(whole, outcome=outcome, message=message, retry_after_seconds=wait)


def _failed(whole: Verdict, errors: Sequence[Progress], waits: Sequence[str]) -> Verdict:
    """The first error that is named, with the time that was told anywhere for the next try."""
    named = next((event for event in errors if event.outcome is not None), errors[-1])
    times = (retry_after_seconds(text) for text in [*(event.message for event in errors), *reversed(waits)])
    lost = any(event.message.startswith(SESSION_LOST) for event in errors)
    return replace(
        whole,
        outcome=named.outcome or "crashed",
        message=named.message,
        retry_after_seconds=next((seconds for seconds in times if seconds is not None), None),
        session_id=None if lost else whole.session_id,
        session_gone=lost,
    )


def usage_of_run(events: Sequence[Progress]) -> Usage:
    """The sum that the CLI told in the end for this run, else that of the replies; the turns are counted by us.

    Where replies told tokens, their cost may be one of the configured prices, and is left to who made it.
    """
    steps = sum_of_usage(events)
    counted = steps.input_tokens + steps.output_tokens
    total = next((event.usage for event in reversed(events) if event.kind == "result" and event.usage), None)
    known = replace(steps, cost_usd=None) if counted else steps
    if total is None or total.input_tokens + total.output_tokens < counted:
        return known
    return replace(total, cost_usd=known.cost_usd, turns=steps.turns)


def line_of(event: Progress) -> str:
    """An event as a line of the bridge; `progress_of` reads it."""
    told = {name: value for name, value in vars(event).items() if value not in (None, "")}
    if event.usage is not None:
        told["usage"] = vars(event.usage)
    return json.dumps({"event": told.pop("kind"), **told})


def progress_of(event: Mapping[str, Any]) -> Progress:
    """What a line of the bridge says; it is ours, and yet read with care."""
    code = event.get("exit_code")
    return Progress(
        kind=event["event"],
        message=text_of(event, "message"),
        path=text_of(event, "path") or None,
        command=text_of(event, "command") or None,
        exit_code=code if type(code) is int else None,
        usage=usage_of(event.get("usage")),
        session_id=text_of(event, "session_id") or None,
        outcome=as_outcome(text_of(event, "outcome")),
        call_id=text_of(event, "call_id") or None,
    )
