"""Keeping a forge's manners: writes one after another, creates at least a second apart and bounded per hour.

GitHub asks for both (at most 80 contents a minute and 500 an hour); GitLab limits notes per minute.
"""

import threading
import time
from collections import deque
from collections.abc import Callable

CREATE_GAP_SECONDS = 1.0
CREATES_PER_HOUR = 400


class Pace:
    """Shared by all projects that one token serves. `clock` and `sleep` are monotonic seconds."""

    def __init__(
        self,
        gap_seconds: float = CREATE_GAP_SECONDS,
        per_hour: int = CREATES_PER_HOUR,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._gap_seconds, self._per_hour = gap_seconds, per_hour
        self._clock, self._sleep = clock, sleep
        self._lock = threading.Lock()
        self._made: deque[float] = deque()

    def wait(self) -> None:
        """Return when the next create may be sent; callers are let through in turn."""
        with self._lock:
            while (pause := self._pause()) > 0:
                self._sleep(pause)
            self._made.append(self._clock())

    def _pause(self) -> float:
        now = self._clock()
        while self._made and self._made[0] <= now - 3600:
            self._made.popleft()
        since = now - self._made[-1] if self._made else self._gap_seconds
        if len(self._made) >= self._per_hour:
            return self._made[0] + 3600 - now
        return max(0.0, self._gap_seconds - since)
