"""The work that is due by the clock: polls, a mirror's nightly maintenance, rounds of upkeep, clean-up."""

import queue
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from apscheduler.schedulers.background import BackgroundScheduler

from supervisor.calendars import maintenance_trigger
from supervisor.clock import Clock
from supervisor.core.decision import Event
from supervisor.core.settings import Config
from supervisor.pool import Message

CLOCK_BACK_SECONDS = 30.0
# Not in the midst of a start; soon enough for a supervisor that is started and stopped often.
FIRST_CLEANING = timedelta(minutes=5)


@dataclass
class Timetable:
    """It only wakes the loop and begins jobs; `maintain_mirror` has a job for each project."""

    config: Config
    clock: Clock
    inbox: "queue.SimpleQueue[Message]"
    maintain_mirror: Mapping[str, Callable[[], object]]
    begin_upkeep: Callable[[], None]
    _scheduler: BackgroundScheduler = field(init=False)
    _ahead: float | None = field(default=None, init=False)

    def start(self) -> None:
        self._scheduler = BackgroundScheduler(timezone="UTC")
        self._plan()
        self._scheduler.start()

    def stop(self) -> None:
        self._scheduler.shutdown(wait=False)

    def look(self) -> Event | None:
        """A clock that is set back would have it wait until it is where it was: all is planned anew."""
        ahead, before = time.time() - self.clock.monotonic(), self._ahead
        self._ahead = ahead
        if before is None or before - ahead < CLOCK_BACK_SECONDS:
            return None
        self._scheduler.remove_all_jobs()
        self._plan()
        return Event(name="clock.set_back", details={"seconds": round(before - ahead)})

    def _plan(self) -> None:
        once = {"max_instances": 1, "coalesce": True, "misfire_grace_time": None}
        wake, add = self.inbox.put, self._scheduler.add_job
        for name, project in self.config.projects.items():
            seconds = project.poll_seconds
            spread = min(seconds * 0.2, 30)  # so that projects do not ask all at once
            add(
                wake,
                "interval",
                args=[("poll", name, "timer")],
                seconds=seconds,
                jitter=spread,
                id=f"poll:{name}",
                **once,
            )
            maintain = self.maintain_mirror[name]
            add(maintain, "cron", hour=3, jitter=3600, id=f"maintain:{name}", misfire_grace_time=None)
        if (trigger := maintenance_trigger(self.config.maintenance)) is not None:
            add(self.begin_upkeep, trigger, id="maintenance", coalesce=True, misfire_grace_time=3600)
        if self.config.cleanup.enabled:
            first, hours = datetime.now(UTC) + FIRST_CLEANING, self.config.cleanup.interval_hours
            add(
                wake,
                "interval",
                args=[("clean",)],
                hours=hours,
                jitter=60,
                next_run_time=first,
                id="clean",
                **once,
            )
