"""The supervisor's clock: wall time that cannot jump."""

import time
from datetime import UTC, datetime, timedelta


class Clock:
    """Wall time read once at the start, then carried on by the monotonic clock.

    Setting the machine's clock forward or back by an hour therefore expires nothing and stops no timer.
    """

    def __init__(self) -> None:
        self._wall = datetime.now(UTC)
        self._monotonic = time.monotonic()

    def now(self) -> datetime:
        """The time in UTC, aware."""
        return self._wall + timedelta(seconds=time.monotonic() - self._monotonic)

    def monotonic(self) -> float:
        """Seconds; only differences mean something."""
        return time.monotonic()
