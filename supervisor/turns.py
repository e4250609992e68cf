"""What is many and changes seldom is looked at in turns: some of it in each sweep, all of it in a round."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from supervisor.mail import Box

# Attempts that have ended, and wait for a merge or their release: the bell tells of a change before their turn.
ROUND_SWEEPS = 8


@dataclass
class Turns:
    """Hands out attempts, each once a round of `ROUND_SWEEPS` sweeps."""

    _left: list[Box] = field(default_factory=list, init=False)
    _at_once: int = field(default=0, init=False)

    def next(self, everything: Callable[[], Iterable[Box]]) -> list[Box]:
        """Those whose turn it is; `everything` is asked at the beginning of a round."""
        if not self._left:
            self._left = sorted(everything(), reverse=True)
            self._at_once = math.ceil(len(self._left) / ROUND_SWEEPS)
        taken = self._left[-self._at_once :] if self._at_once else []
        del self._left[len(self._left) - len(taken) :]
        return taken
