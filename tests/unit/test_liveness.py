"""Who is taken for dead or hung: only by what was seen, only on the clock of looking."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_daemon.protocol.model import Activity, Limits, VerificationCommand, WorkstationFile
from supervisor.core.liveness import (
    LONGEST_BEAT_SECONDS,
    LONGEST_LOOK_SECONDS,
    Finding,
    Stretch,
    Vitals,
    Watching,
    find,
    longest_seconds,
    observe,
    pulse,
)
from supervisor.core.settings import TimingSettings
from tests.unit.conftest import make_task

TIMING = TimingSettings()


def activity(**changes: Any) -> Activity:
    return Activity(**({"task": "acme.login", "attempt": 1, "run": 1} | changes))


def sign(heartbeat: int, found: Activity | None = None) -> WorkstationFile:
    return WorkstationFile(
        revision=heartbeat, agent_id="backend-1", agent_type="backend", heartbeat=heartbeat, activity=found
    )


def after(looks: list[Activity | None], beat_seconds: float = 5.0) -> Vitals:
    """The vitals after so many beats, each with what the CLI was seen to do."""
    vitals = Vitals(beat_at=0.0)
    for number, found in enumerate(looks, start=1):
        vitals = observe(vitals, sign(number, found), number * beat_seconds)
    return vitals


def test_a_daemon_is_suspect_then_silent_by_its_heartbeat() -> None:
    vitals = observe(Vitals(beat_at=0.0), sign(1), 10.0)
    assert [pulse(vitals, TIMING, at) for at in (10.0, 39.9, 40.0, 129.9, 130.0)] == [
        "alive",
        "alive",
        "suspect",
        "suspect",
        "silent",
    ]
    assert observe(vitals, sign(1), 60.0) == vitals, "the same file again is no sign"


def test_a_cli_that_waits_for_input_is_ended_sooner_than_a_quiet_one() -> None:
    asks = [activity(waits_for_input=True)] * 40
    assert find(after(asks[:6]), TIMING) is None
    assert find(after(asks[:7]), TIMING) == Finding(rule="input", seconds=30, limit_seconds=120)
    assert find(after(asks[:25]), TIMING) == Finding(rule="input", seconds=120, limit_seconds=120)
    quiet = [activity()] * 200
    assert find(after(quiet[:90]), TIMING) is None
    assert find(after(quiet[:91]), TIMING) == Finding(rule="quiet", seconds=450, limit_seconds=900)
    found = find(after(quiet[:181]), TIMING)
    assert found is not None and found.is_over


@pytest.mark.parametrize(
    "sign_of_life",
    [
        {"output_bytes": 1},
        {"steps": 1},
        {"cpu_seconds": 0.25},
        {"cpu_seconds": 0.01, "queued_seconds": 0.74},
        {"waits_for_disk": True},
        {"run": 2},
        {"attempt": 2},
    ],
    ids=str,
)
def test_any_sign_of_life_begins_the_count_anew(sign_of_life: dict[str, Any]) -> None:
    vitals = after([activity(waits_for_input=True)] * 200)
    assert find(vitals, TIMING) is not None
    vitals = observe(vitals, sign(1000, activity(waits_for_input=True, **sign_of_life)), 1005.0)
    assert find(vitals, TIMING) is None
    assert (vitals.quiet_seconds, vitals.input_seconds) == (0, 0)


def idle(cpu: float, queued: float = 0.0) -> list[Activity | None]:
    """So much processor time, and time in line for one, in each second."""
    return [activity(cpu_seconds=n * 5 * cpu, queued_seconds=n * 5 * queued) for n in range(200)]


def test_next_to_no_processor_time_is_none() -> None:
    """Timers that look whether something has come, and on a busy machine stand in line for that."""
    assert find(after(idle(0.02)), TIMING) is not None
    assert find(after(idle(0.02, 0.09)), TIMING) is not None
    assert find(after(idle(0.06)), TIMING) is None
    assert find(after(idle(0.01, 0.5)), TIMING) is None, "it works, and gets next to nothing"


def test_where_no_cli_runs_nothing_is_quiet() -> None:
    assert find(after([None] * 500), TIMING) is None
    vitals = after([activity()] * 200)
    assert find(observe(vitals, sign(1000), 1005.0), TIMING) is None


def test_the_daemon_s_own_silence_is_not_that_of_its_cli() -> None:
    """It was stopped for an hour: its CLI may have worked, and may wait for its output to be read."""
    vitals = after([activity()] * 20)
    late = observe(vitals, sign(21, activity()), vitals.beat_at + 3600)
    assert late.quiet_seconds <= vitals.quiet_seconds + LONGEST_BEAT_SECONDS
    assert find(late, TIMING) is None


def test_a_stretch_begins_anew_with_news_and_with_a_restart() -> None:
    first = Stretch(revision=1, started=0.0, since=10.0)
    assert first.at(1, 0.0, 50.0) == first
    restarted = replace(first, restarts=1).at(1, 60.0, 61.0)
    assert (restarted.since, restarted.restarts) == (61.0, 1), "the restart did not make it another attempt"
    assert restarted.at(2, 60.0, 99.0) == Stretch(revision=2, started=60.0, since=99.0)


def test_an_attempt_may_take_what_its_own_limits_allow() -> None:
    checks = (VerificationCommand(name="a", command="a", timeout_seconds=100),)
    task = make_task(limits=Limits(timeout_minutes=2), verification=checks)
    assert longest_seconds(task, TIMING) == 120 + 100 + 3600


GAPS = st.lists(st.floats(0, 5000, allow_nan=False), max_size=60)


@given(GAPS)
def test_only_the_time_of_looking_counts(gaps: list[float]) -> None:
    watching, at = Watching().look(100.0), 100.0
    for gap in gaps:
        at += gap
        before, watching = watching, watching.look(at)
        assert 0 <= watching.seconds - before.seconds <= LONGEST_LOOK_SECONDS
        assert watching.missed == pytest.approx(gap - (watching.seconds - before.seconds), abs=1e-6)
    assert watching.seconds <= at - 100.0 + 1e-6


def test_a_clock_that_goes_back_takes_nothing_away() -> None:
    watching = Watching().look(100.0).look(103.0)
    assert replace(watching.look(50.0), looked_at=None) == replace(watching, looked_at=None, missed=0.0)


ACTS = st.sampled_from([{"output_bytes": 1}, {"steps": 1}, {"cpu_seconds": 1.5}])


@given(st.lists(st.tuples(st.floats(0.5, 20), ACTS, st.booleans()), min_size=1, max_size=120))
def test_one_that_does_something_between_any_two_looks_is_never_suspected(
    beats: list[tuple[float, dict[str, float], bool]],
) -> None:
    vitals, now, seen = Vitals(beat_at=0.0), 0.0, activity()
    for number, (gap, act, waits) in enumerate(beats, start=1):
        now += gap
        grown = {name: getattr(seen, name) + amount for name, amount in act.items()}
        seen = seen.model_copy(update={**grown, "waits_for_input": waits})
        vitals = observe(vitals, sign(number, seen), now)
        assert find(vitals, TIMING) is None


@given(st.floats(0.5, 5), st.booleans(), st.floats(0, 100))
def test_one_that_does_nothing_is_found_within_its_limit_and_a_beat(
    beat: float, waits: bool, start: float
) -> None:
    vitals, number = Vitals(beat_at=start), 0
    limit = TIMING.restart_after_seconds if waits else TIMING.hang_after_seconds
    found = None
    while found is None or not found.is_over:
        number += 1
        vitals = observe(vitals, sign(number, activity(waits_for_input=waits)), start + number * beat)
        found = find(vitals, TIMING)
    assert limit <= number * beat <= limit + 2 * beat + 0.001
    assert found.rule == ("input" if waits else "quiet")


@given(GAPS, st.booleans())
def test_a_supervisor_that_was_away_suspects_nobody_sooner(gaps: list[float], waits: bool) -> None:
    """However it was stopped and went on: no more than the time of looking is held against anyone."""
    watching, vitals, monotonic = Watching().look(0.0), Vitals(beat_at=0.0), 0.0
    for number, gap in enumerate(gaps, start=1):
        monotonic += gap
        watching = watching.look(monotonic)
        assert pulse(vitals, TIMING, watching.seconds) != "silent" or watching.seconds >= 120
        vitals = observe(vitals, sign(number, activity(waits_for_input=waits)), watching.seconds)
        assert max(vitals.quiet_seconds, vitals.input_seconds) <= watching.seconds
        assert vitals.quiet_seconds <= number * LONGEST_LOOK_SECONDS
