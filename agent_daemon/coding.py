"""One run of the coding CLI on a prepared worktree: prompt in, progress and a verdict out."""

import time
from dataclasses import dataclass, field, replace
from typing import Any

from agent_daemon.attempt import Attempt
from agent_daemon.clis import ADAPTERS
from agent_daemon.clis.base import CliSettings, Progress, RunRequest, Verdict, as_outcome, mask_for, plus
from agent_daemon.clis.base import Usage as CliUsage
from agent_daemon.conventions import find_conventions
from agent_daemon.event_log import EventLog
from agent_daemon.execution import Finished, ProcessLimits, run_process
from agent_daemon.failpoints import reach
from agent_daemon.git import identity_environment
from agent_daemon.prompt import render_prompt
from agent_daemon.protocol.files import write_file
from agent_daemon.protocol.model import Feedback, Session, TaskReport, Usage

MAX_EVENTS = 20_000
# Messages that follow each other faster are not told one by one; the log has them all.
TELL_SECONDS = 0.05

# An agent's own git must not ask a server for the content of git-lfs files when it checks something out.
_NO_FETCH = {"GIT_LFS_SKIP_SMUDGE": "1"}


@dataclass
class CodingRun:
    """One run of an attempt's CLI; `started` tells afterwards whether there was a program to run."""

    attempt: Attempt
    used: CliUsage = field(default_factory=CliUsage, init=False)
    told_at: float = field(default=0.0, init=False)
    started: bool = field(default=True, init=False)

    def run(self) -> Verdict:
        """Run the CLI to its end, or to the end that a limit or a stop puts to it."""
        attempt, events = self.attempt, list[Progress]()
        adapter = ADAPTERS[attempt.config.cli.adapter]
        session = _session_to_resume(attempt) if adapter.can_resume else None
        request = _request(attempt, session)
        invocation = adapter.invocation(request)
        log = EventLog(attempt.places.logs, transcript=adapter.SPEAKS == "events")

        def on_line(stream: str, line: str) -> None:
            told = adapter.parse(stream, line)
            # A line that means nothing shows life, one that only speaks of another try does not.
            attempt.meter.heard(line, progress=not told or any(event.kind != "retry" for event in told))
            for event in told:
                log.add(event, describe(event))
                self._take_event(event, events)

        reach_once = [lambda: reach("daemon.cli_running")]

        def on_tick(pid: int, output_bytes: int) -> None:
            attempt.meter.tick(pid, output_bytes)
            if reach_once and events:
                reach_once.pop()()

        def run() -> Finished:
            return run_process(
                invocation,
                limits=ProcessLimits(
                    wall_seconds=attempt.task.limits.timeout_minutes * 60,
                    output_bytes=attempt.config.output_limit_bytes,
                ),
                on_line=on_line,
                stop=attempt.stop,
                log=attempt.places.logs / "cli.log",
                on_tick=on_tick,
                mask=mask_for(request.settings, invocation.environment, invocation.secrets),
            )

        with log:
            log.started(attempt.config.cli.name, session)
            attempt.meter.begin()
            try:
                finished = run()
            finally:
                attempt.meter.end()
            verdict = self._judge(finished, events, session)
            log.ended(verdict)
        self.started = finished.reason != "not_started"
        self._tell_verdict(verdict, finished)
        return verdict

    def _judge(self, finished: Finished, events: list[Progress], session: str | None) -> Verdict:
        adapter, known = ADAPTERS[self.attempt.config.cli.adapter], self.attempt.known
        verdict = adapter.verdict(finished, events, previous=_previous(known) if session else None)
        limit = as_outcome(self.attempt.stop.reason)
        if limit is not None and verdict.outcome == "completed":
            return replace(verdict, outcome=limit)  # it came to its end just as its limit was passed
        return verdict

    def _take_event(self, event: Progress, events: list[Progress]) -> None:
        events.append(event)
        if len(events) > MAX_EVENTS:  # a chatty program: what it said long ago decides nothing
            events[:] = [e for e in events[:-1000] if e.kind != "message"] + events[-1000:]
        fields: dict[str, Any] = {}
        if event.session_id:
            fields["session"] = Session(cli=self.attempt.config.cli.name, id=event.session_id[:500])
        if event.usage is not None and event.kind != "result":  # a result's is a sum, told with the verdict
            self.used = plus(self.used, event.usage)
            fields["usage"] = _usage(self.used)
            self._hold_limits()
        now, said = time.monotonic(), describe(event)
        if not fields and now - self.told_at < TELL_SECONDS:
            return  # the report is written once a second: the next thing that is said will be newer
        if said is not None:
            self.told_at = now
        self.attempt.tell(fields, said)

    def _hold_limits(self) -> None:
        """End the run when what its CLI has told of turns, tokens and cost passes the task's limits."""
        limits, used = self.attempt.task.limits, self.used
        if limits.max_turns is not None and used.turns > limits.max_turns:
            self.attempt.stop.set("turn_limit")
        if limits.max_tokens is not None and _tokens(used) > limits.max_tokens:
            self.attempt.stop.set("budget")
        if limits.cost_usd is not None and (used.cost_usd or 0) > limits.cost_usd:
            self.attempt.stop.set("budget")

    def _tell_verdict(self, verdict: Verdict, finished: Finished) -> None:
        # A run that was ended mostly has no closing sum of its own: what its steps told is what is known then.
        summed_up = finished.reason == "exited" or _tokens(verdict.usage) >= max(1, _tokens(self.used))
        fields: dict[str, Any] = {"usage": _usage(verdict.usage if summed_up else self.used)}
        if verdict.session_id:
            fields["session"] = Session(cli=self.attempt.config.cli.name, id=verdict.session_id[:500])
        name = self.attempt.config.cli.name
        self.attempt.tell(fields, f"{name} ended after {finished.duration_seconds:.0f} s: {verdict.outcome}")


def _request(attempt: Attempt, session: str | None) -> RunRequest:
    prompt = render_prompt(
        attempt.task,
        agent_type=attempt.agent_type,
        description=_whole_description(attempt),
        resumed=attempt.resumed and not attempt.changed,
        changed=attempt.changed,
        feedback=_why_interrupted(attempt),
        prompt_folder=attempt.config.prompt_folder,
        external=attempt.external,
        conventions=find_conventions(attempt.places.worktree),
    )
    prompt_file = attempt.places.logs / "prompt.md"
    write_file(prompt_file, prompt.encode(errors="replace"))
    return RunRequest(
        prompt=prompt,
        prompt_file=prompt_file,
        worktree=attempt.places.worktree,
        settings=cli_settings(attempt),
        session_id=session,
        max_turns=attempt.task.limits.max_turns,
        cost_usd=attempt.task.limits.cost_usd,
        test_command=" && ".join(f"({check.command})" for check in attempt.task.verification),
        marker=attempt.places.marker,
    )


_INTERRUPTED = {
    "input": Feedback(
        code="E_CLI_WAITS",
        message="You were interrupted because something waited for somebody to type, and nobody can.",
        mend="start what asks questions so that it asks none: options like --yes, input from a file or /dev/null",
    ),
    "quiet": Feedback(
        code="E_CLI_QUIET",
        message="You were interrupted because nothing was written and nothing worked for a long time.",
        mend="give what may wait for ever a limit of time, and let long work show what it does",
    ),
}


def _why_interrupted(attempt: Attempt) -> tuple[Feedback, ...]:
    """What an agent is told whose run was ended because it showed no sign of life."""
    asked = attempt.task.interruption
    if not attempt.resumed or asked is None or attempt.known.interruptions < asked.number:
        return ()
    return tuple(filter(None, [_INTERRUPTED.get(asked.rule)]))


def _session_to_resume(attempt: Attempt) -> str | None:
    known = attempt.known.session
    return (
        known.id if known is not None and known.cli == attempt.config.cli.name else attempt.config.resume_session
    )


def _whole_description(attempt: Attempt) -> str:
    """The text of `description.md` where the tasking holds only its beginning."""
    if attempt.task.description_sha256 is None:
        return attempt.task.description
    try:
        return (attempt.places.inbox / "description.md").read_text(errors="replace")
    except FileNotFoundError:
        return attempt.task.description


def cli_settings(attempt: Attempt) -> CliSettings:
    """The adapter's form of the configured CLI, with the home that this workstation keeps for it.

    The identity lets an agent commit its own steps; the home has no configuration of git.
    """
    cli = attempt.config.cli
    return CliSettings(
        name=cli.name,
        adapter=cli.adapter,
        argv=cli.argv,
        model=cli.model or "",
        arguments=cli.arguments,
        environment=identity_environment(attempt.config.identity) | _NO_FETCH | cli.environment,
        pass_environment=cli.pass_environment,
        prompt=cli.prompt,
        success_exit_codes=cli.success_exit_codes,
        home=attempt.places.homes / cli.name,
        options=cli.options,
    )


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


def _tokens(usage: CliUsage) -> int:
    return usage.input_tokens + usage.output_tokens


def _usage(usage: CliUsage) -> Usage:
    return Usage(
        model=usage.model[:200] or None,
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cost_usd=usage.cost_usd,
        turns=usage.turns,
    )


def _previous(known: TaskReport) -> CliUsage:
    return CliUsage(input_tokens=known.usage.input_tokens, output_tokens=known.usage.output_tokens)
