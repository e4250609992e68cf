"""Writes to a forge keep apart, and rest when they are told to: in seconds of a clock that only sleeping moves."""

from dataclasses import dataclass

import pytest

from supervisor.forges.errors import ForgeError
from supervisor.forges.pace import Pace
from tests.fakes.forge.secondary import SecondaryLimit


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def pace(clock: Clock) -> Pace:
    return Pace(clock=clock, sleep=clock.sleep)


def test_creates_are_a_second_apart_and_other_writes_less(pace: Pace, clock: Clock) -> None:
    times = []
    for write in (pace.create, pace.change, pace.change, pace.create, pace.create):
        write()
        times.append(round(clock.now, 3))
    assert times == [0, 0.4, 0.8, 1.2, 2.2]


def test_what_is_written_as_fast_as_it_may_stays_below_the_documented_limits(pace: Pace, clock: Clock) -> None:
    limit = SecondaryLimit()
    for number in range(600):
        write, template = (pace.change, "/labels") if number % 3 else (pace.create, "/issues/{number}/comments")
        write()
        assert not limit.retry_after("POST", template, clock.now), f"{number} writes within {clock.now:.0f} s"
    assert limit.most["points a minute"] <= 800


def test_writes_make_room_for_reads(pace: Pace, clock: Clock) -> None:
    """Webhooks wake a poll often, and each of them reads what we have written ourselves."""
    limit, read_at = SecondaryLimit(), 0.0
    for number in range(400):
        while read_at <= clock.now:
            pace.was_read()
            assert not limit.retry_after("GET", "/issues", read_at)
            read_at += 1 / 6
        try:
            pace.change()
        except ForgeError:
            clock.now += 10
            continue
        assert not limit.retry_after("POST", "/labels", clock.now), f"{number} writes within {clock.now:.0f} s"
    assert clock.now < 600 and limit.most["points a minute"] > 700


def test_whatever_is_read_what_there_is_to_tell_is_told(pace: Pace, clock: Clock) -> None:
    for _ in range(20):
        for _ in range(1000):
            pace.was_read()
        pace.create()
    assert clock.now < 120


def test_reading_alone_for_weeks_fills_no_memory(pace: Pace, clock: Clock) -> None:
    for _ in range(20_000):
        pace.was_read()
        clock.now += 60
    assert len(pace._points) <= 1000
    before = clock.now
    pace.create()
    assert clock.now == before


def test_an_hour_has_its_share(pace: Pace, clock: Clock) -> None:
    for _ in range(400):
        pace.create()
    with pytest.raises(ForgeError) as refused:
        pace.create()
    assert refused.value.code == "E_FORGE_LIMIT" and refused.value.retry_at is not None
    assert "400 things were made there within an hour" in refused.value.message
    pace.change()
    clock.now = 3601
    pace.create()


def test_a_forge_that_refuses_is_left_alone(pace: Pace, clock: Clock) -> None:
    pace.rest(60)
    for write in (pace.change, pace.create):
        with pytest.raises(ForgeError, match=r"E_FORGE_LIMIT.*wants no other for a while"):
            write()
    clock.now = 55
    pace.change()
    assert clock.now == 60, "a short rest is waited for"
