"""The meter: what is counted of a run, whatever its CLI tells and however it ends."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_daemon.clis.base import Progress, Usage
from agent_daemon.meter import Meter, Repeats, Spent, in_words, price_of, reached, spent_before
from agent_daemon.protocol.model import Limits, Price

PRICES = {
    "big": Price(input=4, cached_input=1, output=8),
    "big-fast": Price(input=2, output=4),
    "small": Price(input=0.5, output=1),
}
counts = st.integers(0, 100_000)
models = st.sampled_from(["big", "big-fast-2026", "small", "unheard-of"])


@st.composite
def steps(draw: st.DrawFn) -> Usage:
    read = draw(counts)
    return Usage(
        model=draw(models),
        input_tokens=read,
        cached_input_tokens=draw(st.integers(0, read)),
        output_tokens=draw(counts),
        cost_usd=draw(st.none() | st.integers(0, 500).map(lambda cents: cents / 100)),
        turns=draw(st.integers(0, 2)),
    )


def counted(*told: Usage, before: Spent | None = None) -> Meter:
    meter = Meter(prices=PRICES, before=before or Spent())
    for usage in told:
        meter.step(usage)
    return meter


def same(one: Spent, other: Spent) -> bool:
    plain = {"told_usd": None, "priced_usd": None, "model": ""}
    amounts = [(one.told_usd, other.told_usd), (one.priced_usd, other.priced_usd)]
    return replace(one, **plain) == replace(other, **plain) and all(a == pytest.approx(b) for a, b in amounts)


def test_the_price_of_this_very_name_comes_before_the_longest_beginning() -> None:
    assert price_of("big", PRICES) == PRICES["big"]
    assert price_of("big-fast-2026", PRICES) == PRICES["big-fast"]
    assert price_of("big-slow", PRICES) == PRICES["big"]
    assert price_of("unheard-of", PRICES) is None
    assert price_of("", PRICES) is None


def test_cached_input_has_a_price_of_its_own_or_that_of_all_input() -> None:
    usage = Usage(model="big", input_tokens=1_000_000, cached_input_tokens=750_000, output_tokens=500_000)
    assert counted(usage).run.priced_usd == pytest.approx(1 + 0.75 + 4)
    assert counted(replace(usage, model="big-fast")).run.priced_usd == pytest.approx(2 + 2)


def test_a_model_without_a_price_is_stated_and_costs_nothing_that_is_known() -> None:
    spent = counted(Usage(model="unheard-of", input_tokens=10, turns=1)).total
    assert spent.cost_usd is None
    assert spent.cost_unknown == "no price for unheard-of"
    assert in_words(spent) == "10 tokens in 1 turn, cost unknown: no price for unheard-of"
    assert spent.told().cost_from is None


def test_a_cost_that_is_told_comes_before_the_prices_and_its_source_is_said() -> None:
    priced = counted(Usage(model="big", input_tokens=1_000_000)).total
    told = counted(Usage(model="big", input_tokens=1_000_000, cost_usd=0.5)).total
    assert (priced.told().cost_usd, priced.told().cost_from) == (4, "prices")
    assert (told.told().cost_usd, told.told().cost_from) == (0.5, "told")
    assert told.plus(priced).told().cost_from == "both"
    assert "as its CLI told" in in_words(told)
    assert "by the configured prices" in in_words(priced)


@given(st.lists(steps(), max_size=12))
def test_what_is_counted_only_grows(told: list[Usage]) -> None:
    meter = counted()
    for usage in told:
        before = meter.total
        meter.step(usage)
        after = meter.total
        assert after.tokens >= before.tokens and after.turns >= before.turns
        assert (after.cost_usd or 0) >= (before.cost_usd or 0)
        assert after.unpriced >= before.unpriced


@given(st.lists(steps(), max_size=8), st.randoms(use_true_random=False))
def test_the_order_of_the_steps_does_not_matter(told: list[Usage], random: object) -> None:
    shuffled = list(told)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert same(counted(*told).total, counted(*shuffled).total)


@given(st.lists(steps(), max_size=12), st.integers(0, 12))
def test_a_run_that_is_ended_and_resumed_is_the_sum_of_both(told: list[Usage], cut: int) -> None:
    """Also where a report has carried the first part."""
    whole = counted(*told).total
    first = counted(*told[:cut]).total
    assert same(counted(*told[cut:], before=first).total, whole)
    resumed = counted(*told[cut:], before=spent_before(first.told())).total
    assert resumed.tokens == whole.tokens and resumed.turns == whole.turns
    assert (resumed.cost_usd or 0) == pytest.approx(whole.cost_usd or 0)
    assert (resumed.cost_unknown == "") == (whole.cost_unknown == "")


@given(st.lists(steps(), max_size=8), st.lists(st.integers(0, 7), max_size=4))
def test_sums_of_a_session_count_what_is_new_and_nothing_twice(told: list[Usage], again: list[int]) -> None:
    """Whatever earlier runs of the session used, and however often a sum is repeated."""
    earlier = Usage(input_tokens=500, cached_input_tokens=400, output_tokens=30)
    meter, total = Meter(prices=PRICES, model="big", session=earlier), earlier
    for number, usage in enumerate(told):
        total = replace(
            total,
            model="big",
            input_tokens=total.input_tokens + usage.input_tokens,
            cached_input_tokens=total.cached_input_tokens + usage.cached_input_tokens,
            output_tokens=total.output_tokens + usage.output_tokens,
        )
        for _ in range(1 + again.count(number)):
            meter.step(total, of_session=True)
    plain = [replace(usage, model="big", cost_usd=None, turns=0) for usage in told]
    assert same(meter.total, counted(*plain).total)


@given(st.lists(steps(), max_size=8), steps())
def test_a_sum_that_is_told_at_the_end_never_makes_it_less(told: list[Usage], last: Usage) -> None:
    """But for the cost that the CLI states itself: it knows better than our prices."""
    meter = counted(*told)
    before = meter.run
    meter.close(last)
    after = meter.run
    assert after.input_tokens == max(before.input_tokens, last.input_tokens)
    assert after.output_tokens == max(before.output_tokens, last.output_tokens)
    if last.cost_usd is not None:
        assert after.cost_usd == max(last.cost_usd, before.told_usd or 0)
        assert after.cost_unknown == ""
    else:
        assert (after.cost_usd or 0) >= (before.cost_usd or 0)


def test_a_killed_run_keeps_what_its_steps_told() -> None:
    meter = counted(Usage(model="big", input_tokens=1_000_000, turns=1))
    meter.close(Usage())
    assert (meter.total.cost_usd, meter.total.turns) == (4, 1)


def test_another_run_in_a_new_session_begins_at_nothing_and_forgets_nothing() -> None:
    meter = Meter(prices=PRICES, model="big", session=Usage(input_tokens=500))
    meter.step(Usage(input_tokens=1500), of_session=True)
    meter.close(Usage())
    meter.begin(Usage())
    meter.step(Usage(input_tokens=700), of_session=True)
    meter.close(Usage(input_tokens=700))
    assert (meter.total.input_tokens, meter.run.input_tokens) == (1700, 700)


def test_limits_are_reached_before_the_next_step() -> None:
    meter = counted(Usage(model="big", input_tokens=500_000, output_tokens=250_000, turns=1))  # 4 USD
    assert reached(meter, Limits(cost_usd=8), None, 0) is None
    passed = reached(meter, Limits(cost_usd=7.5), None, 0)
    assert passed and passed.message.startswith("its next step would pass its limit of 7.50 USD: 750000 tokens")
    there = reached(meter, Limits(cost_usd=3.99), None, 0)
    assert there and there.message.startswith(
        "its limit of 3.99 USD is reached: 750000 tokens in 1 turn, 4.00 USD"
    )
    less = reached(meter, Limits(cost_usd=8.5), 4.0, 0)
    assert less, "the allowance counts, where there is one"
    assert less.message.startswith("its limit of 4.00 USD for this attempt (its task's cost_usd is 8.50 USD) is")
    assert reached(meter, Limits(cost_usd=3), 10.0, 0) is None
    tokens = reached(meter, Limits(max_tokens=750_000), None, 0)
    assert tokens and tokens.outcome == "budget"
    assert reached(meter, Limits(max_turns=1), None, 0) is None
    meter.step(Usage(turns=1))
    turns = reached(meter, Limits(max_turns=1), None, 0)
    assert turns and turns.outcome == "turn_limit"
    same_again = reached(meter, Limits(max_identical_actions=3), None, 3)
    assert same_again and same_again.outcome == "hung" and "3 times in a row" in same_again.message


def test_a_step_that_is_still_being_answered_foretells_nothing() -> None:
    """What it reads is told at its beginning, what it writes at its end."""
    meter = counted(Usage(model="big", input_tokens=500_000))
    assert meter.next_step_usd() == 0
    meter.step(Usage(output_tokens=250_000, turns=1))
    assert meter.next_step_usd() == pytest.approx(4)
    meter.step(Usage(input_tokens=250_000))
    assert meter.next_step_usd() == 0
    assert counted(Usage(cost_usd=0.5, turns=1)).next_step_usd() == 0.5


def test_what_earlier_runs_of_the_attempt_cost_counts_too() -> None:
    before = Spent(told_usd=3.0, input_tokens=5)
    meter = counted(Usage(model="big", input_tokens=250_000), before=before)
    assert reached(meter, Limits(cost_usd=4), None, 0)


def test_the_same_action_again_and_again() -> None:
    repeats = Repeats()
    seen = [
        Progress(kind="tool_call", command="ls", call_id="1"),
        Progress(kind="command_run", command="ls", exit_code=0, call_id="1"),
        Progress(kind="usage", usage=Usage(turns=1)),
        Progress(kind="message", message="Once more."),
        Progress(kind="tool_call", command="ls", call_id="2"),
        Progress(kind="retry", message="waiting"),
        Progress(kind="tool_call", command="ls", call_id="3"),
    ]
    for event in seen:
        repeats.see(event)
    assert repeats.count == 3
    repeats.see(Progress(kind="tool_call", command="ls -l"))
    assert repeats.count == 1
    for _ in range(5):  # edits of one file differ
        repeats.see(Progress(kind="file_edited", path="a.py"))
    assert repeats.count == 1
    for _ in range(4):  # of a program that tells only what it ran
        repeats.see(Progress(kind="command_run", command="make", exit_code=2))
    assert repeats.count == 4
