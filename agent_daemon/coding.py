"""One run of the coding CLI on a prepared worktree: prompt in, progress and a verdict out."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from agent_daemon.activity import ActivityMeter
from agent_daemon.clis import ADAPTERS
from agent_daemon.clis.base import CliSettings, Progress, RunRequest, Verdict, as_outcome
from agent_daemon.clis.base import Usage as CliUsage
from agent_daemon.execution import Finished, ProcessLimits, StopRequest, run_process
from agent_daemon.failpoints import reach
from agent_daemon.git import Identity
from agent_daemon.places import AttemptPlaces
from agent_daemon.prompt import render_prompt
from agent_daemon.protocol.files import write_file
from agent_daemon.protocol.model import AgentConfig, External, Session, TaskingTask, TaskReport, Usage

MAX_EVENTS = 20_000
# Messages that follow each other faster are not told one by one; the log has them all.
TELL_SECONDS = 0.05

# An agent's own git must not ask a server for the content of git-lfs files when it checks something out.
_NO_FETCH = {"GIT_LFS_SKIP_SMUDGE": "1"}

Tell = Callable[[dict[str, Any], str | None], None]


@dataclass
class CodingRun:
    """What one run of the CLI needs; `tell(fields, message)` passes report fields and a progress message on.

    `resumed` says that an earlier run of this attempt was interrupted; `changed` that the task's text was
    edited meanwhile; `known` is what the report says so far.
    """

    task: TaskingTask
    config: AgentConfig
    places: AttemptPlaces
    agent_type: str
    known: TaskReport
    tell: Tell
    external: External | None = None
    resumed: bool = False
    changed: bool = False
    stop: StopRequest = field(default_factory=StopRequest)
    meter: ActivityMeter = field(default_factory=ActivityMeter)
    used: CliUsage = field(default_factory=CliUsage, init=False)
    told_at: float = field(default=0.0, init=False)
    started: bool = field(default=True, init=False)

    def run(self) -> Verdict:
        """Run the CLI to its end, or to the end that a limit or a stop puts to it."""
        cli = self.config.cli
        adapter = ADAPTERS[cli.adapter]
        session = self._session_to_resume() if adapter.can_resume else None
        prompt = render_prompt(
            self.task,
            agent_type=self.agent_type,
            description=self._whole_description(),
            resumed=self.resumed and not self.changed,
            changed=self.changed,
            prompt_folder=self.config.prompt_folder,
            external=self.external,
        )
        prompt_file = self.places.logs / "prompt.md"
        write_file(prompt_file, prompt.encode(errors="replace"))
        invocation = adapter.invocation(
            RunRequest(
                prompt=prompt,
                prompt_file=prompt_file,
                worktree=self.places.worktree,
                settings=self.settings(),
                session_id=session,
                max_turns=self.task.limits.max_turns,
                marker=self.places.marker,
            )
        )
        events: list[Progress] = []

        def on_line(stream: str, line: str) -> None:
            told = adapter.parse(stream, line)
            # A line that means nothing shows life, one that only speaks of another try does not.
            self.meter.heard(line, progress=not told or any(event.kind != "retry" for event in told))
            for event in told:
                self._take_event(event, events)

        reach_once = [lambda: reach("daemon.cli_running")]

        def on_tick(pid: int, output_bytes: int) -> None:
            self.meter.tick(pid, output_bytes)
            if reach_once and events:
                reach_once.pop()()

        self.meter.begin()
        try:
            finished = run_process(
                invocation,
                limits=ProcessLimits(
                    wall_seconds=self.task.limits.timeout_minutes * 60, output_bytes=self.config.output_limit_bytes
                ),
                on_line=on_line,
                stop=self.stop,
                log=self.places.logs / "cli.log",
                on_tick=on_tick,
            )
        finally:
            self.meter.end()
        self.started = finished.reason != "not_started"
        verdict = adapter.verdict(finished, events, previous=_previous(self.known) if session else None)
        limit = as_outcome(self.stop.reason)
        if limit is not None and verdict.outcome == "completed":
            verdict = replace(verdict, outcome=limit)  # it came to its end just as its limit was passed
        self._tell_verdict(verdict, finished)
        return verdict

    def _session_to_resume(self) -> str | None:
        if self.known.session is not None and self.known.session.cli == self.config.cli.name:
            return self.known.session.id
        return self.config.resume_session

    def _whole_description(self) -> str:
        """The text of `description.md` where the tasking holds only its beginning."""
        if self.task.description_sha256 is None:
            return self.task.description
        try:
            return (self.places.inbox / "description.md").read_text(errors="replace")
        except FileNotFoundError:
            return self.task.description

    def settings(self) -> CliSettings:
        """The adapter's form of the configured CLI, with the home that this workstation keeps for it.

        The identity lets an agent commit its own steps; the home has no configuration of git.
        """
        cli = self.config.cli
        identity = Identity(name=self.config.identity.name, email=self.config.identity.email)
        return CliSettings(
            name=cli.name,
            adapter=cli.adapter,
            argv=cli.argv,
            model=cli.model or "",
            arguments=cli.arguments,
            environment=identity.environment() | _NO_FETCH | cli.environment,
            pass_environment=cli.pass_environment,
            prompt=cli.prompt,
            success_exit_codes=cli.success_exit_codes,
            home=self.places.homes / cli.name,
            options=cli.options,
        )

    def _take_event(self, event: Progress, events: list[Progress]) -> None:
        events.append(event)
        if len(events) > MAX_EVENTS:  # a chatty program: what it said long ago decides nothing
            events[:] = [e for e in events[:-1000] if e.kind != "message"] + events[-1000:]
        fields: dict[str, Any] = {}
        if event.session_id:
            fields["session"] = Session(cli=self.config.cli.name, id=event.session_id[:500])
        if event.usage is not None and event.kind != "result":  # a result's is a sum, told with the verdict
            self.used = _plus(self.used, event.usage)
            fields["usage"] = _usage(self.used)
            self._hold_limits()
        now = time.monotonic()
        if not fields and now - self.told_at < TELL_SECONDS:
            return  # the report is written once a second: the next thing that is said will be newer
        self.told_at = now
        self.tell(fields, describe(event))

    def _hold_limits(self) -> None:
        """End the run when what its CLI has told of turns, tokens and cost passes the task's limits."""
        limits, used = self.task.limits, self.used
        if limits.max_turns is not None and used.turns > limits.max_turns:
            self.stop.set("turn_limit")
        if limits.max_tokens is not None and used.input_tokens + used.output_tokens > limits.max_tokens:
            self.stop.set("budget")
        if limits.cost_usd is not None and (used.cost_usd or 0) > limits.cost_usd:
            self.stop.set("budget")

    def _tell_verdict(self, verdict: Verdict, finished: Finished) -> None:
        # A run that was ended has no closing sum of its own: what its steps told is what is known.
        fields: dict[str, Any] = {"usage": _usage(verdict.usage if finished.reason == "exited" else self.used)}
        if verdict.session_id:
            fields["session"] = Session(cli=self.config.cli.name, id=verdict.session_id[:500])
        name = self.config.cli.name
        self.tell(fields, f"{name} ended after {finished.duration_seconds:.0f} s: {verdict.outcome}")


def describe(event: Progress) -> str | None:
    """An event in a few words for the report; None for what only counts."""
    match event.kind:
        case "usage" | "session":
            return None
        case "file_edited" if event.path:
            return f"{event.message or 'edit'}: {event.path}"
        case "command_run" if event.command:
            code = f" → exit code {event.exit_code}" if event.exit_code is not None else ""
            return f"$ {event.command}{code}"
        case "retry":
            return f"waiting: {event.message}" if event.message else "waiting"
    return event.message or None


def _plus(one: CliUsage, other: CliUsage) -> CliUsage:
    costs = [usage.cost_usd for usage in (one, other) if usage.cost_usd is not None]
    return CliUsage(
        model=other.model or one.model,
        input_tokens=one.input_tokens + other.input_tokens,
        cached_input_tokens=one.cached_input_tokens + other.cached_input_tokens,
        output_tokens=one.output_tokens + other.output_tokens,
        cost_usd=sum(costs) if costs else None,
        turns=one.turns + other.turns,
    )


def _usage(usage: CliUsage) -> Usage:
    return Usage(
        model=usage.model or None,
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cost_usd=usage.cost_usd,
        turns=usage.turns,
    )


def _previous(known: TaskReport) -> CliUsage:
    return CliUsage(input_tokens=known.usage.input_tokens, output_tokens=known.usage.output_tokens)
