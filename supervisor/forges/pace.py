"""Keeping a forge's manners: writes one after another, creates at least a second apart and bounded per hour.

GitHub asks for both (at most 80 contents a minute and 500 an hour); GitLab limits notes per minute.
"""

import threading
import time
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from supervisor.forges.errors import ForgeError

CREATE_GAP_SECONDS = 1.0
CREATES_PER_HOUR = 400
_LONGEST_WAIT_SECONDS = 10


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
        """Return when the next create may be sent; callers are let through in turn.

        ForgeError E_FORGE_LIMIT where that would take long: this hour has had its share.
        """
        with self._lock:
            while (pause := self._pause()) > 0:
                if pause > _LONGEST_WAIT_SECONDS:
                    again = datetime.now(UTC) + timedelta(seconds=pause)
                    message = f"{self._per_hour} things were made within an hour, which is enough."
                    raise ForgeError("E_FORGE_LIMIT", message, retryable=True, retry_at=again)
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
