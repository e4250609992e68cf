"""The age of things by observed time: a clock that jumps makes nothing old."""

from datetime import datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from supervisor.core.observed import LONGEST_PAUSE_SECONDS, Run, begin_run, go_on, observed_seconds
from tests.unit.conftest import NOW

DAY = 86_400
YEAR = 365 * DAY
SPANS = st.integers(0, 40 * DAY)
JUMPS = st.one_of(st.just(0), st.integers(-2 * YEAR, 2 * YEAR))


def after(start: datetime, seconds: float) -> datetime:
    return start + timedelta(seconds=seconds)


class History:
    """Runs and pauses as they really were; `wall` is what the clock showed, `real` the seconds since the start."""

    def __init__(self) -> None:
        self.real, self.wall, self.runs = 0, NOW, begin_run((), NOW)

    def work(self, seconds: int) -> None:
        self.real, self.wall = self.real + seconds, after(self.wall, seconds)
        self.runs = go_on(self.runs, self.wall)

    def pause(self, seconds: int, jump: int) -> None:
        self.real, self.wall = self.real + seconds, after(self.wall, seconds + jump)
        self.runs = begin_run(self.runs, self.wall)


STEPS = st.lists(st.tuples(SPANS, SPANS, JUMPS), max_size=8)


@given(STEPS, SPANS, STEPS)
def test_nothing_is_older_than_it_is_but_for_a_day_for_each_jump(
    before: list[tuple[int, int, int]], work: int, later: list[tuple[int, int, int]]
) -> None:
    history = History()
    for seconds, pause, jump in before:
        history.work(seconds)
        history.pause(pause, jump)
    history.work(work)
    happened, real = history.wall, history.real
    for seconds, pause, jump in later:
        history.pause(pause, jump)
        history.work(seconds)
    age = observed_seconds(history.runs, happened)
    jumps = sum(jump != 0 for _, _, jump in later)
    assert 0 <= age <= history.real - real + jumps * LONGEST_PAUSE_SECONDS


@given(st.lists(st.tuples(SPANS, st.integers(0, DAY)), max_size=8))
def test_an_honest_clock_and_short_pauses_count_in_full(steps: list[tuple[int, int]]) -> None:
    history = History()
    for seconds, pause in steps:
        history.work(seconds)
        history.pause(pause, 0)
    assert observed_seconds(history.runs, NOW) == history.real
    assert len(history.runs) == 1


def test_a_year_that_nobody_saw_is_a_day() -> None:
    history = History()
    history.work(3600)
    history.pause(10, YEAR)
    assert observed_seconds(history.runs, NOW) == 3600 + DAY
    history.work(DAY)
    assert observed_seconds(history.runs, NOW) == 3600 + 2 * DAY


def test_what_was_before_the_first_known_run_is_at_least_as_old_as_that() -> None:
    runs = (Run(began=NOW, until=after(NOW, 100)),)
    assert observed_seconds(runs, after(NOW, -10 * YEAR)) == 100
    assert observed_seconds((), NOW) == 0
    assert observed_seconds(runs, after(NOW, YEAR)) == 0, "what is still to come has no age"
