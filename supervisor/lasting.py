"""What lasts is told when it begins, and again from time to time: `status` looks at the newest events alone."""

from dataclasses import dataclass, field

TELL_AGAIN_SECONDS = 900.0


@dataclass
class Lasting:
    """Something that is out of order for a while."""

    _said: str | None = field(default=None, init=False)
    _told_at: float = field(default=0.0, init=False)

    def is_told(self, said: str | None, now: float) -> bool:
        """Whether to tell that now, in monotonic seconds; None: it is in order (again)."""
        if said == self._said and (said is None or now - self._told_at < TELL_AGAIN_SECONDS):
            return False
        self._said, self._told_at = said, now
        return True
