"""The bounds of one run of a coding CLI, by the limits that its task has now: asked before and during it."""

import math
import time
from dataclasses import dataclass, field, replace

from agent_daemon.attempt import Attempt
from agent_daemon.clis import ADAPTERS
from agent_daemon.clis.base import Outcome, Progress, Verdict
from agent_daemon.clis.failures import failure_named
from agent_daemon.meter import Meter, Reached, Repeats, allowed_usd, in_words, price_of, reached, usd
from agent_daemon.protocol.model import TaskingTask
from agent_daemon.stage import text_digest

# With a limit of cost, a CLI that tells neither tokens nor cost in so many turns is ended: its limit could not be
# held. Once it has told some, more may come with one reply; but what it tells them in may have been taken away.
BLIND_TURNS, BLIND_TURNS_LATER = 4, 25
# A CLI that did nothing but wait for its next try for so long is ended: Codex waits for a network without end.
PATIENCE_SECONDS = 300.0


@dataclass
class Bounds:
    """What a run may still do. `end`, once it is set, is why it is ended; the attempt's stop is set with it."""

    attempt: Attempt
    meter: Meter
    end: Reached | None = field(default=None, init=False)
    _repeats: Repeats = field(default_factory=Repeats, init=False)
    _waits: tuple[float, str] | None = field(default=None, init=False)
    _seen: tuple[int, float] = field(default=(0, 0.0), init=False)
    _turns_then: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self._began_with = self.attempt.latest()

    @property
    def left_usd(self) -> float | None:
        """What is left of the attempt's limit as it is now; None without one."""
        task = self.attempt.latest()
        allowed = allowed_usd(task.limits, task.allowance_usd)
        return None if allowed is None else max(0.0, allowed - (self.meter.total.cost_usd or 0.0))

    @property
    def allowed_usd(self) -> float | None:
        """What the attempt was allowed when the run began, which is what its end is to be understood by."""
        return allowed_usd(self._began_with.limits, self._began_with.allowance_usd)

    def refusal(self) -> str | None:
        """Why the CLI is not even started: nothing is left, or its cost could not be held below the limit."""
        cli, limit = self.attempt.config.cli, self._limit()
        if limit is not None:
            return limit.message
        if self.left_usd is None or ADAPTERS[cli.adapter].TELLS_COST != "never":
            return None
        if price_of(cli.model or "", self.attempt.config.prices) is not None:
            return None
        model = f"for {cli.model}" if cli.model else f"for what {cli.name} chooses, for it names no model"
        return (
            f"E_NO_PRICE: the task has a limit of cost, {cli.name} does not tell what it costs, and there is no "
            f"price {model}; add it to `prices` in config.yaml, or take cost_usd out of the limits"
        )

    def see(self, event: Progress) -> None:
        """Take note of an event that was counted, and end the run when there must be no other step."""
        self._repeats.see(event)
        used = (self.meter.run.tokens, self.meter.run.cost_usd or 0.0)
        if used != self._seen:
            self._seen, self._turns_then = used, self.meter.run.turns
        if event.kind == "retry":
            self._waits = (self._waits[0] if self._waits else time.monotonic(), event.message)
            if failure_named(event.message) == "quota":
                self.attempt.stop.set("quota")  # it would wait until the quota lasts again, for hours perhaps
        elif event.kind not in ("usage", "session"):
            self._waits = None
        self._end(self._limit())

    def look(self) -> None:
        """End a run that has waited for too long; asked while nothing is told."""
        since, why = self._waits or (math.inf, "")
        if time.monotonic() - since >= PATIENCE_SECONDS:
            outcome: Outcome = failure_named(why) or "overloaded"
            message = f"it did nothing but wait for {PATIENCE_SECONDS / 60:g} minutes: {why}"
            self._end(Reached(outcome=outcome, message=message))

    def judged(self, verdict: Verdict) -> Verdict:
        """The verdict in the words of what ended the run, where a limit did."""
        if self.end is not None and verdict.outcome == self.end.outcome:
            return replace(verdict, message=self.end.message)
        return verdict

    def raised(self, verdict: Verdict) -> bool:
        """Whether the run was ended by a limit that has been raised since it began, for the same work."""
        began, now = self._began_with, self.attempt.latest()
        more = any(more > before for before, more in zip(_room(began), _room(now), strict=True))
        goes = verdict.outcome == "budget" and more and self.refusal() is None
        return goes and text_digest(now) == text_digest(self.attempt.task)

    def _end(self, why: Reached | None) -> None:
        self.end = self.end or why
        if self.end is not None:
            self.attempt.stop.set(self.end.outcome)

    def _limit(self) -> Reached | None:
        """The limit that is reached, if one is. With a limit of cost, a cost that nobody tells is one, too."""
        task, total = self.attempt.latest(), self.meter.total
        found = reached(self.meter, task.limits, task.allowance_usd, self._repeats.count)
        if found is not None or self.left_usd is None:
            return found
        tells = ADAPTERS[self.attempt.config.cli.adapter].TELLS_COST
        # What is told at the end only is not told of a run that was killed: nobody knows what is left.
        if self.meter.before.unpriced if tells == "end" else total.unpriced:
            return Reached(outcome="budget", message=f"E_NO_PRICE: {in_words(total)}; add it to `prices`")
        blind = self.meter.run.turns - self._turns_then
        if tells != "end" and blind >= (BLIND_TURNS_LATER if any(self._seen) else BLIND_TURNS):
            more = "any more" if any(self._seen) else "while it works"
            message = f"E_NO_PRICE: it does not tell its tokens {more}, and may cost {usd(self.left_usd)}"
            return Reached(outcome="budget", message=message)
        return None


def _room(task: TaskingTask) -> tuple[float, float]:
    """USD and tokens that the attempt may use in all."""
    allowed, tokens = allowed_usd(task.limits, task.allowance_usd), task.limits.max_tokens
    return math.inf if allowed is None else allowed, math.inf if tokens is None else tokens
