"""What an attempt has used, and which of its limits that reaches. Pure: it is told, and asked.

A step's usage is added; a sum that the CLI tells (of its run, of its session) is held against what was added, and
the larger counts, for a run that is killed tells no sum and a sum may leave steps out. What the CLI says that it
cost comes before what the configured prices make of its tokens; a model without a price has no cost, and that is
said.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from agent_daemon.clis.base import Outcome, Progress, Usage, minus
from agent_daemon.protocol.model import Limits, Price
from agent_daemon.protocol.model import Usage as ReportUsage
from agent_daemon.protocol.money import amount

_MILLION = 1_000_000
_DUST_USD = 1e-6
_MAX_NAME_CHARACTERS = 200


def price_of(model: str, prices: Mapping[str, Price]) -> Price | None:
    """The price under this very name, else under the longest beginning of it."""
    named = [name for name in prices if name and model.startswith(name)]
    return prices[max(named, key=len)] if named else None


def cost_usd(usage: Usage, price: Price) -> float:
    """What these tokens cost; `input_tokens` include the cached ones."""
    cached = min(usage.cached_input_tokens, usage.input_tokens)
    cached_price = price.input if price.cached_input is None else price.cached_input
    fresh = (usage.input_tokens - cached) * price.input
    return (fresh + cached * cached_price + usage.output_tokens * price.output) / _MILLION


@dataclass(frozen=True, kw_only=True)
class Spent:
    """Tokens and turns, and what they cost: as told, and by the prices. `unpriced` are models without either."""

    model: str = ""
    input_tokens: int = 0
    cached_input_tokens: int = 0
    output_tokens: int = 0
    turns: int = 0
    told_usd: float | None = None
    priced_usd: float | None = None
    unpriced: frozenset[str] = frozenset()

    @property
    def tokens(self) -> int:
        return self.input_tokens + self.output_tokens

    @property
    def cost_usd(self) -> float | None:
        """What is known of the cost; None when nothing is."""
        known = [usd for usd in (self.told_usd, self.priced_usd) if usd is not None]
        return sum(known) if known else None

    @property
    def cost_unknown(self) -> str:
        """Why `cost_usd` is not all of it; empty when it is."""
        models = ", ".join(sorted(self.unpriced))[:_MAX_NAME_CHARACTERS]
        return f"no price for {models or 'a model that is not named'}" if self.unpriced else ""

    def plus(self, other: "Spent") -> "Spent":
        """Both together."""
        return Spent(
            model=other.model or self.model,
            input_tokens=self.input_tokens + other.input_tokens,
            cached_input_tokens=self.cached_input_tokens + other.cached_input_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            turns=self.turns + other.turns,
            told_usd=_sum(self.told_usd, other.told_usd),
            priced_usd=_sum(self.priced_usd, other.priced_usd),
            unpriced=self.unpriced | other.unpriced,
        )

    def told(self) -> ReportUsage:
        """As the report has it."""
        source: Literal["told", "prices"] | None = None
        if self.cost_usd is not None:
            source = "told" if self.priced_usd is None else "prices"
        both = self.told_usd is not None and self.priced_usd is not None
        return ReportUsage(
            model=self.model[:_MAX_NAME_CHARACTERS] or None,
            input_tokens=self.input_tokens,
            cached_input_tokens=self.cached_input_tokens,
            output_tokens=self.output_tokens,
            cost_usd=self.cost_usd,
            cost_from="both" if both else source,
            cost_unknown=self.cost_unknown,
            turns=self.turns,
        )


def spent_before(usage: ReportUsage) -> Spent:
    """What a report says of earlier runs."""
    told = usage.cost_usd if usage.cost_from != "prices" else None
    unpriced = usage.cost_unknown.removeprefix("no price for ")
    return Spent(
        model=usage.model or "",
        input_tokens=usage.input_tokens,
        cached_input_tokens=usage.cached_input_tokens,
        output_tokens=usage.output_tokens,
        turns=usage.turns,
        told_usd=told,
        priced_usd=usage.cost_usd if usage.cost_from == "prices" else None,
        unpriced=frozenset([unpriced]) if unpriced else frozenset(),
    )


def _sum(one: float | None, other: float | None) -> float | None:
    return (one or 0.0) + (other or 0.0) if one is not None or other is not None else None


@dataclass
class Meter:
    """Counts one run of a CLI. `before` is what earlier runs of the attempt used, `model` the one configured.

    `session` is what the resumed session had used before, where the CLI tells sums of the session.
    """

    prices: Mapping[str, Price] = field(default_factory=dict)
    model: str = ""
    before: Spent = Spent()
    session: Usage = field(default_factory=Usage)
    run: Spent = field(default=Spent(), init=False)
    _step: Spent = field(default=Spent(), init=False)

    @property
    def total(self) -> Spent:
        """What the attempt has used, earlier runs included."""
        return self.before.plus(self.run)

    def begin(self, session: Usage) -> None:
        """Another run begins, in a session that has used so much before; what was counted is kept."""
        self.before, self.run, self._step = self.total, Spent(), Spent()
        self.session = session

    def step(self, usage: Usage, *, of_session: bool = False) -> Usage:
        """Count what one step used, or what has been added to the sum of the session; as it was counted."""
        if of_session:
            before, self.session = self.session, _larger(self.session, usage)
            usage = minus(self.session, before)
        self.model = usage.model or self.model
        spent = self._priced(usage)
        self.run = self.run.plus(spent)
        if usage.input_tokens or spent.told_usd is not None:
            self._step = Spent()
        self._step = self._step.plus(spent)
        return replace(usage, model=self.model, cost_usd=spent.cost_usd)

    def close(self, usage: Usage) -> None:
        """Take the sum that is told of the whole run, where it is more than what its steps told."""
        counted = self.run
        whole = Usage(
            model=usage.model or counted.model or self.model,
            input_tokens=max(usage.input_tokens, counted.input_tokens),
            cached_input_tokens=max(usage.cached_input_tokens, counted.cached_input_tokens),
            output_tokens=max(usage.output_tokens, counted.output_tokens),
            cost_usd=usage.cost_usd if usage.cost_usd is None else max(usage.cost_usd, counted.told_usd or 0.0),
            turns=max(usage.turns, counted.turns),
        )
        spent = self._priced(whole)
        if whole.cost_usd is None:  # nothing is told as a whole: what the steps cost, and what they left out
            more = whole.input_tokens + whole.output_tokens > counted.tokens
            spent = replace(
                spent,
                told_usd=counted.told_usd,
                priced_usd=_most(counted.priced_usd, spent.priced_usd if more else None),
                unpriced=counted.unpriced | (spent.unpriced if more else frozenset()),
            )
        self.run = spent

    def _priced(self, usage: Usage) -> Spent:
        model, tokens = usage.model or self.model, usage.input_tokens + usage.output_tokens
        price = price_of(model, self.prices)
        spent = Spent(
            model=model,
            input_tokens=usage.input_tokens,
            cached_input_tokens=usage.cached_input_tokens,
            output_tokens=usage.output_tokens,
            turns=usage.turns,
        )
        if usage.cost_usd is not None:
            return replace(spent, told_usd=usage.cost_usd)
        if price is not None:
            return replace(spent, priced_usd=cost_usd(usage, price)) if tokens else spent
        return replace(spent, unpriced=frozenset([model])) if tokens else spent

    def next_step_usd(self) -> float:
        """What the next step may cost: as much as the last one did; 0 while that is still being answered.

        When a step is counted the next one may have been asked for already, and a request that is broken off is
        paid for: only who looks ahead stays within one step of a limit.
        """
        answered = self._step.output_tokens or self._step.told_usd is not None
        return (self._step.cost_usd or 0.0) if answered else 0.0


def _most(one: float | None, other: float | None) -> float | None:
    return max((usd for usd in (one, other) if usd is not None), default=None)


def _larger(one: Usage, other: Usage) -> Usage:
    return replace(
        other,
        model=other.model or one.model,
        input_tokens=max(one.input_tokens, other.input_tokens),
        cached_input_tokens=max(one.cached_input_tokens, other.cached_input_tokens),
        output_tokens=max(one.output_tokens, other.output_tokens),
    )


@dataclass(frozen=True, kw_only=True)
class Reached:
    """A limit that ends a run: what the run is taken for, and what is said of it."""

    outcome: Outcome
    message: str


def allowed_usd(limits: Limits, allowance_usd: float | None) -> float | None:
    """What the attempt may cost; None without a limit."""
    return limits.cost_usd if allowance_usd is None else allowance_usd


def reached(meter: Meter, limits: Limits, allowance_usd: float | None, repeats: int) -> Reached | None:
    """The limit after which there must be no other step; `repeats`: the same action so often in a row."""
    spent, allowed = meter.total, allowed_usd(limits, allowance_usd)
    cost = spent.cost_usd or 0.0
    if allowed is not None and cost >= allowed - _DUST_USD:
        return Reached(outcome="budget", message=f"{_limit(limits, allowed)} is reached: {in_words(spent)}")
    if allowed is not None and cost + meter.next_step_usd() > allowed + _DUST_USD:
        message = f"its next step would pass {_limit(limits, allowed)}: {in_words(spent)}"
        return Reached(outcome="budget", message=message)
    if limits.max_tokens is not None and spent.tokens >= limits.max_tokens:
        message = f"its limit of {limits.max_tokens} tokens is reached: {in_words(spent)}"
        return Reached(outcome="budget", message=message)
    if limits.max_turns is not None and meter.run.turns > limits.max_turns:
        message = f"its limit of {limits.max_turns} turns is passed: {in_words(spent)}"
        return Reached(outcome="turn_limit", message=message)
    if limits.max_identical_actions is not None and repeats >= limits.max_identical_actions:
        return Reached(
            outcome="hung", message=f"it did the same thing {repeats} times in a row: {in_words(spent)}"
        )
    return None


def _limit(limits: Limits, allowed: float) -> str:
    """What the attempt may cost, and beside it what the person wrote, where that is another sum."""
    own = limits.cost_usd
    other = own is not None and abs(own - allowed) > _DUST_USD
    of = f" for this attempt (its task's cost_usd is {usd(own)})" if own is not None and other else ""
    return f"its limit of {usd(allowed)}{of}"


def usd(cost: float) -> str:
    """An amount with as many digits as it takes."""
    return f"{amount(cost)} USD"


def in_words(spent: Spent) -> str:
    """What was used, and who counted the cost."""
    told, priced = spent.told_usd is not None, spent.priced_usd is not None
    by = "as its CLI told" if told and not priced else "by the configured prices" if priced and not told else ""
    by = by or "in part by the configured prices"
    cost = [] if spent.cost_usd is None else [f"{usd(spent.cost_usd)} {by}"]
    unknown = [f"cost unknown: {spent.cost_unknown}"] if spent.unpriced else []
    tokens = [f"{spent.tokens} tokens"] if spent.tokens else []
    turns = [f"{spent.turns} turn{'' if spent.turns == 1 else 's'}"] if spent.turns else []
    used = [" in ".join([*tokens, *turns])] if tokens or turns else []
    return ", ".join([*used, *cost, *unknown]) or "nothing used"


@dataclass
class Repeats:
    """How often in a row a CLI did the very same thing: ran a command, or called a tool in the same way."""

    count: int = field(default=0, init=False)
    _last: str = field(default="", init=False)

    def see(self, event: Progress) -> None:
        """Take note of an event; what is only said or counted is no action, nor is the end of one."""
        if event.kind == "command_run" and (event.call_id is not None or not event.command):
            return
        if event.kind not in ("tool_call", "command_run", "file_edited"):
            return
        action = event.command or event.message if event.kind != "file_edited" else ""
        self.count = self.count + 1 if action and action == self._last else 1
        self._last = action or ""
