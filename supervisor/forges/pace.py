"""Keeping a forge's manners: writes one after another and apart, creates a second apart and bounded per hour.

GitHub asks for it (at most 80 contents a minute and 500 an hour, and 900 points a minute, of which a write is
five); GitLab limits notes per minute.
"""

import threading
import time
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from supervisor.forges.errors import ForgeError

CREATE_GAP_SECONDS = 1.0
CREATES_PER_HOUR = 400
# How far apart other writes are, as a part of that gap: 150 writes a minute are 750 points.
_CHANGE_SHARE = 0.4
# Writes wait where a minute would have more points than this; the rest is for reads, which wait for nothing.
_POINTS_A_MINUTE = 750
_READ_POINTS, _WRITE_POINTS = 1, 5
# … but not for longer than this each: whatever is read, what there is to tell is told.
_LONGEST_YIELD_SECONDS = 5.0
# So many requests are remembered, more than a minute may have: while nothing is written, nobody forgets any.
_REMEMBERED = 1000
_LONGEST_WAIT_SECONDS = 10
_RESTS = "it has refused a request, and wants no other for a while"


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
        self._points: deque[tuple[float, int]] = deque(maxlen=_REMEMBERED)
        self._next = self._rest_until = 0.0

    def look(self) -> None:
        """ForgeError E_FORGE_LIMIT while the forge wants no request at all."""
        pause = self._rest_until - self._clock()
        if pause > 0:
            raise _refused(_RESTS, pause)

    def was_read(self) -> None:
        """Something was read: it counts for the minute's points."""
        self._points.append((self._clock(), _READ_POINTS))

    def create(self) -> None:
        """Return when the next create may be sent; callers are let through in turn.

        ForgeError E_FORGE_LIMIT where that would take long: this hour has had its share, or the forge refuses.
        """
        with self._lock:
            self._wait(self._before_create)
            self._made.append(self._clock())

    def change(self) -> None:
        """The same for every other write."""
        with self._lock:
            self._wait(self._before_write)

    def rest(self, seconds: float) -> None:
        """The forge has refused a request, and wants no other for so long."""
        with self._lock:
            self._rest_until = max(self._rest_until, self._clock() + seconds)
            self._next = max(self._next, self._rest_until)

    def _wait(self, pause_before: Callable[[float], float]) -> None:
        while (pause := pause_before(self._clock())) > 0:
            if pause > _LONGEST_WAIT_SECONDS:
                rests = self._rest_until > self._clock()
                raise _refused(
                    _RESTS if rests else f"{len(self._made)} things were made there within an hour", pause
                )
            self._sleep(pause)
        self._next = self._clock() + self._gap_seconds * _CHANGE_SHARE
        self._points.append((self._clock(), _WRITE_POINTS))

    def _before_write(self, now: float) -> float:
        return max(self._next, self._when_points_are_left(now)) - now

    def _when_points_are_left(self, now: float) -> float:
        """When the points of a minute leave room for one more write; at last whatever was read."""
        latest = max(now, self._next + _LONGEST_YIELD_SECONDS)
        while self._points and self._points[0][0] <= now - 60:
            self._points.popleft()
        counted = self._points.copy()  # (others read meanwhile)
        over = sum(points for _, points in counted) + _WRITE_POINTS - _POINTS_A_MINUTE
        for at, points in counted:
            if over <= 0:
                break
            over, now = over - points, at + 60
        return min(now, latest)

    def _before_create(self, now: float) -> float:
        while self._made and self._made[0] <= now - 3600:
            self._made.popleft()
        last = self._made[-1] + self._gap_seconds if self._made else now
        full = self._made[0] + 3600 if len(self._made) >= self._per_hour else now
        return max(self._next, last, full, self._when_points_are_left(now)) - now


def _refused(why: str, pause_seconds: float) -> ForgeError:
    again = datetime.now(UTC) + timedelta(seconds=pause_seconds)
    return ForgeError("E_FORGE_LIMIT", f"The forge was not asked: {why}.", retryable=True, retry_at=again)
