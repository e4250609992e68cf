"""One run of the coding CLI on a prepared worktree: prompt in, progress and a verdict out."""

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from agent_daemon import planning
from agent_daemon.attempt import Attempt
from agent_daemon.bounds import Bounds
from agent_daemon.clis import ADAPTERS
from agent_daemon.clis.base import (
    CliSettings,
    Progress,
    SessionGoneError,
    Verdict,
    as_outcome,
    empty_temporary,
    last_message,
    mask_for,
)
from agent_daemon.clis.base import Usage as CliUsage
from agent_daemon.clis.mcp import McpError
from agent_daemon.event_log import EventLog, Wording
from agent_daemon.execution import Finished, ProcessLimits, run_process
from agent_daemon.failpoints import reach
from agent_daemon.going_on import session_to_resume
from agent_daemon.logins import keep_marks, key_of, login_files
from agent_daemon.memory import MemoryWatch
from agent_daemon.meter import Meter, Spent, in_words, spent_before
from agent_daemon.notes import LOOK_SECONDS, take_notes
from agent_daemon.protocol.model import Session, SessionSum
from agent_daemon.request import cli_settings, request_for
from agent_daemon.usage_log import UsageLog

# What a chatty program said long ago decides nothing: of more events than this the newest are kept, and of older
# ones so many of each kind, messages aside.
MAX_EVENTS, KEPT_EVENTS, KEPT_OF_A_KIND = 20_000, 10_000, 500
# Of what is said faster than this the last is told; the log has all of it.
TELL_SECONDS = 0.05


def run_cli(attempt: Attempt) -> "tuple[CodingRun, Verdict]":
    """Run an attempt's CLI in its session, or where that turns out to be gone, once more in a new one.

    It goes on where its limit ended it and it has been allowed more since.
    """
    coding, name, begun_anew = CodingRun(attempt), attempt.config.cli.name, False
    while True:
        verdict = coding.run()
        if coding.bounds.raised(verdict) and attempt.stop.take_back("budget"):
            attempt.resumed, attempt.changed, begun_anew = True, False, False
            attempt.tell({}, f"{name} is allowed more: it goes on")
            coding = CodingRun(attempt, before=coding.meter.total)
        elif verdict.session_gone and not begun_anew and not attempt.stop.is_set():
            begun_anew = True
            attempt.tell({}, f"The session of {name} cannot be resumed: a new one is told what was done before")
            coding = CodingRun(attempt, afresh=True, before=coding.meter.total)
        else:
            return coding, verdict


@dataclass
class CodingRun:
    """One run of an attempt's CLI; `started` tells afterwards whether it could run, `mend` what to do if not.

    `afresh`: in a new session, whatever session there was. `before`: what earlier runs used, where that is more
    than the report says yet.
    """

    attempt: Attempt
    afresh: bool = False
    before: Spent | None = None
    told_at: float = field(default=0.0, init=False)
    untold: str | None = field(default=None, init=False)
    looked_at: float = field(default=0.0, init=False)
    started: bool = field(default=True, init=False)
    mend: str = field(default="install it where the workstation finds it, or correct its argv", init=False)
    session_id: str | None = field(default=None, init=False)
    wording: Wording = field(default_factory=Wording, init=False)
    memory: MemoryWatch = field(default_factory=MemoryWatch, init=False)

    def __post_init__(self) -> None:
        cli, before = self.attempt.config.cli, self.before or spent_before(self.attempt.known.usage)
        self.meter = Meter(prices=self.attempt.config.prices, model=cli.model or "", before=before)
        self.bounds = Bounds(self.attempt, self.meter)

    def run(self) -> Verdict:
        """Run the CLI to its end, or to the end that a limit or a stop puts to it."""
        try:
            return self._run()
        except SessionGoneError as error:
            return Verdict(outcome="crashed", message=str(error), session_gone=True)
        except McpError as error:
            self.started, self.mend = False, f"correct clis.{self.attempt.config.cli.name}.mcp in config.yaml"
            return Verdict(outcome="crashed", message=str(error))

    def _run(self) -> Verdict:
        attempt, events = self.attempt, list[Progress]()
        adapter = ADAPTERS[attempt.config.cli.adapter]
        session = session_to_resume(attempt) if adapter.can_resume and not self.afresh else None
        settings = cli_settings(attempt)
        usage_log = UsageLog(adapter, settings)
        previous = usage_log.skip(session) if session is not None else CliUsage()
        self._begin(session, previous)
        refused = self.bounds.refusal()
        if refused is not None:
            return Verdict(outcome="budget", message=refused)
        if not attempt.resumed:
            empty_temporary(settings)
        invocation = adapter.invocation(request_for(attempt, settings, session, self.bounds.left_usd))
        log = EventLog(attempt.places.logs, transcript=adapter.SPEAKS == "events")

        def take(event: Progress) -> None:
            self._take_event(event, events, log)

        def look_at_usage(*, ended: bool = False) -> None:
            named = session or self.session_id
            if named is not None:
                (usage_log.read_all if ended else usage_log.read)(named, take)

        def on_line(stream: str, line: str) -> None:
            told = adapter.parse(stream, line)
            # A line that means nothing shows life, one that only speaks of another try does not.
            attempt.meter.heard(line, progress=not told or any(event.kind != "retry" for event in told))
            for event in told:
                take(event)
            look_at_usage()

        reach_once = [lambda: reach("daemon.cli_running")]

        def on_tick(pid: int, output_bytes: int) -> None:
            attempt.meter.tick(pid, output_bytes)
            log.beat()
            self.bounds.look()
            look_at_usage()
            self._take_notes()
            self._tell({})
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
                mask=attempt.given.hidden_by(mask_for(settings, invocation.environment, invocation.secrets)),
            )

        with log:
            log.started(attempt.config.cli.name, session)
            attempt.meter.begin()
            self._keep_logins(settings, invocation.environment)
            try:
                finished = run()
            finally:
                attempt.meter.end()
                self._keep_logins(settings, invocation.environment)
            look_at_usage(ended=True)
            self._tell({}, at_once=True)
            verdict = self._judge(finished, events, previous)
            self.meter.close(verdict.usage)
            if verdict.outcome == "budget" and self.bounds.end is None:  # by a limit that the CLI holds itself
                verdict = replace(verdict, message=f"{verdict.message}: {in_words(self.meter.total)}")
            log.ended(verdict)
        self.started = finished.reason != "not_started"
        self._tell_verdict(verdict, finished)
        return verdict

    def _begin(self, session: str | None, previous: CliUsage) -> None:
        """Begin to count. What the session used before a daemon was killed, and no report told, comes first."""
        known = self.attempt.known.session
        if known is not None and known.id == session and known.counted is not None:
            self.meter.begin(CliUsage(**{name: getattr(known.counted, name) for name in SessionSum.model_fields}))
            self.meter.step(previous, of_session=True)
            self.attempt.know({"usage": self.meter.total.told(), "session": self._session(known.id)}, None)
        self.meter.begin(previous)

    def _session(self, session_id: str) -> Session:
        counted = SessionSum(**{name: getattr(self.meter.session, name) for name in SessionSum.model_fields})
        told = counted if counted != SessionSum() else None
        return Session(cli=self.attempt.config.cli.name, id=session_id[:500], counted=told)

    def _keep_logins(self, settings: CliSettings, environment: Mapping[str, str]) -> None:
        """Before and after, for a run may renew them."""
        home = Path(environment.get("HOME", settings.home))
        files = login_files(ADAPTERS[settings.adapter].ABOUT, home, environment)
        keep_marks(files, key_of(self.attempt.supervisor), settings.home)

    def _take_notes(self) -> None:
        if time.monotonic() - self.looked_at >= LOOK_SECONDS:
            take_notes(self.attempt)
            self.looked_at = time.monotonic()

    def _judge(self, finished: Finished, events: list[Progress], previous: CliUsage) -> Verdict:
        adapter = ADAPTERS[self.attempt.config.cli.adapter]
        verdict = adapter.verdict(finished, events, previous=previous)
        if verdict.outcome == "crashed" and (why := self.memory.ran_out()):
            verdict = replace(verdict, message=f"{why}; {verdict.message}")
        if self.attempt.task.phase == "plan":
            verdict = planning.judge(verdict, last_message(events, "message"))
        limit = as_outcome(self.attempt.stop.reason)
        if limit is not None and verdict.outcome == "completed":
            verdict = replace(verdict, outcome=limit)  # it came to its end just as its limit was passed
        return self.bounds.judged(verdict)

    def _take_event(self, event: Progress, events: list[Progress], log: EventLog) -> None:
        fields: dict[str, Any] = {}
        if event.usage is not None and event.kind != "result":  # a result's is a sum, told with the verdict
            usage = self.meter.step(event.usage, of_session=event.of_session)
            counts = usage.input_tokens + usage.output_tokens + usage.turns
            if event.kind == "usage" and counts == 0 and usage.cost_usd is None:
                return
            event = replace(event, usage=usage, of_session=False)
            fields["usage"] = self.meter.total.told()
        event = replace(event, path=self._in_the_worktree(event.path))
        said = self.wording.describe(event)
        log.add(event, said)
        if event.kind == "heartbeat":
            return
        events.append(event)
        if len(events) > MAX_EVENTS:
            events[:] = newest(events)
        self.session_id = event.session_id or self.session_id
        if self.session_id and (event.session_id or "usage" in fields):
            fields["session"] = self._session(self.session_id)
        self.bounds.see(event)
        if said is not None:
            self.untold = said
        self._tell(fields)

    def _tell(self, fields: dict[str, Any], *, at_once: bool = False) -> None:
        """Tell the fields, and what was said last, unless something has been told right before."""
        said, now = None, time.monotonic()
        if self.untold is not None and (at_once or now - self.told_at >= TELL_SECONDS):
            said, self.untold, self.told_at = self.untold, None, now
        if fields or said is not None:
            self.attempt.tell(fields, said)

    def _in_the_worktree(self, path: str | None) -> str | None:
        """The path as people know it; some CLIs tell whole ones."""
        return path.removeprefix(f"{self.attempt.places.worktree}/") if path else path

    def _tell_verdict(self, verdict: Verdict, finished: Finished) -> None:
        fields: dict[str, Any] = {"usage": self.meter.total.told()}
        if verdict.session_id:
            fields["session"] = self._session(verdict.session_id)
        name = self.attempt.config.cli.name
        used = f"; {in_words(self.meter.total)}" if self.meter.total.tokens else ""
        self.attempt.know(fields, f"{name} ended after {finished.duration_seconds:.0f} s: {verdict.outcome}{used}")


def newest(events: list[Progress]) -> list[Progress]:
    """The newest events, and of those before them the newest of each kind, messages aside."""
    counts, kept = Counter[str](), list[Progress]()
    for event in reversed(events[:-KEPT_EVENTS]):
        counts[event.kind] += 1
        if event.kind != "message" and counts[event.kind] <= KEPT_OF_A_KIND:
            kept.append(event)
    return [*reversed(kept), *events[-KEPT_EVENTS:]]
