"""What is told of refused connections: the first of a kind at once, more of it by their number, all of it bounded.

An agent can be refused ten thousand times a second. So what it asks for is counted by host, port and code; a
workstation has so many lines a minute, and what finds no place among them is counted together.
"""

from dataclasses import dataclass, field
from typing import Final

REPEAT_SECONDS: Final = 60.0
FORGET_SECONDS: Final = 600.0
LINES_A_MINUTE: Final = 10
KINDS_KEPT: Final = 100


@dataclass(frozen=True)
class Refusal:
    """One thing that was not connected to. `host` is what was asked for; port 0 where it could not be told."""

    code: str
    host: str
    port: int
    message: str


@dataclass(frozen=True)
class Told:
    """A line to write: this refusal, so many times since the last line of it.

    `kinds` is more than one where the line stands for several kinds that found no place of their own.
    `age_seconds`: since the last of it was refused, for whose work that was may have ended since.
    """

    refusal: Refusal
    count: int
    kinds: int = 1
    age_seconds: float = 0.0


@dataclass
class _Kind:
    refusal: Refusal
    count: int = 0
    last_at: float = 0.0
    told_at: float | None = None


@dataclass
class Refusals:
    """The refusals of one workstation that are not told yet. Times are monotonic seconds."""

    _kinds: dict[tuple[str, str, int], _Kind] = field(default_factory=dict)
    _more: int = 0
    _more_last: Refusal | None = None
    _more_last_at: float = 0.0
    _more_told_at: float = -REPEAT_SECONDS
    _room: float = LINES_A_MINUTE
    _room_at: float = 0.0

    def note(self, refusal: Refusal, now: float) -> None:
        """Count one."""
        key = refusal.code, refusal.host, refusal.port
        kind = self._kinds.get(key)
        if kind is None:
            if len(self._kinds) >= KINDS_KEPT:
                self._more += 1
                self._more_last, self._more_last_at = refusal, now
                return
            kind = self._kinds[key] = _Kind(refusal)
        kind.count, kind.last_at = kind.count + 1, now

    def due(self, now: float) -> list[Told]:
        """The lines to write now; what they tell counts as told."""
        self._room = min(LINES_A_MINUTE, self._room + max(0.0, now - self._room_at) * LINES_A_MINUTE / 60)
        self._room_at = now
        told = []
        waiting = [kind for kind in self._kinds.values() if kind.count and _is_due(kind, now)]
        for kind in sorted(waiting, key=lambda kind: kind.told_at is not None):  # what is new comes first
            if self._room < 1:
                break
            self._room -= 1
            told.append(Told(kind.refusal, kind.count, age_seconds=now - kind.last_at))
            kind.count, kind.told_at = 0, now
        self._forget(now)
        if self._more_last is not None and now - self._more_told_at >= REPEAT_SECONDS:
            age = now - self._more_last_at
            told.append(Told(self._more_last, self._more, kinds=2, age_seconds=age))
            self._more, self._more_last, self._more_told_at = 0, None, now
        return told

    def _forget(self, now: float) -> None:
        old = [
            key
            for key, kind in self._kinds.items()
            if not kind.count and kind.told_at is not None and now - kind.told_at >= FORGET_SECONDS
        ]
        for key in old:
            del self._kinds[key]


def _is_due(kind: _Kind, now: float) -> bool:
    return kind.told_at is None or now - kind.told_at >= REPEAT_SECONDS
