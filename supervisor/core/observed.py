"""How long something has lain about: only time that a supervisor has seen pass counts.

Within one run of the supervisor the clock cannot jump (decision 4). From one run to the next it can, by a year:
so a pause between two runs counts as one day at most, and what is older than it can be shown to be, is young.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

from pydantic import AwareDatetime

from supervisor.core.record import Stored

LONGEST_PAUSE_SECONDS = 86_400.0
MAX_RUNS = 500


class Run(Stored):
    """One run of the supervisor, or several with pauses that count in full: by the wall clock of its start."""

    began: AwareDatetime
    until: AwareDatetime


class Runs(Stored):
    """`state/runs.yaml`: the runs, oldest first."""

    version: int = 1
    runs: tuple[Run, ...] = ()


def begin_run(runs: Sequence[Run], now: datetime) -> tuple[Run, ...]:
    """The runs with a new one; it goes on with the last one where nothing is lost by that."""
    last = runs[-1] if runs else None
    if last is not None and timedelta(0) <= now - last.until <= timedelta(seconds=LONGEST_PAUSE_SECONDS):
        return go_on(runs, now)
    return (*runs, Run(began=now, until=now))[-MAX_RUNS:]


def go_on(runs: Sequence[Run], now: datetime) -> tuple[Run, ...]:
    """The last run is under way, and it is `now`."""
    return (*runs[:-1], runs[-1].evolve(until=max(now, runs[-1].until))) if runs else ()


def observed_seconds(runs: Sequence[Run], since: datetime) -> float:
    """How long ago `since` was at least: never more than has really passed, but for a day for each jump.

    Clocks that were set back make the same time come twice: then the later one is meant.
    """
    index = max((number for number, run in enumerate(runs) if run.began <= since), default=-1)
    seconds = max(0.0, (runs[index].until - since).total_seconds()) if index >= 0 else 0.0
    for before, run in zip([None, *runs][index + 1 :], runs[index + 1 :], strict=False):
        seconds += (run.until - run.began).total_seconds()
        if before is not None:
            pause = (run.began - max(before.until, since)).total_seconds()
            seconds += min(max(0.0, pause), LONGEST_PAUSE_SECONDS)
    return seconds
