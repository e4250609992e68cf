"""Which version of the protocol a daemon speaks, and what is done with one that speaks another. Pure.

An upgrade of the supervisor leaves daemons alone, so that it may find older ones. Such a one ends its attempt,
gets no other, and is made anew as soon as it has nothing to do. If the new one is no better its image is old: a
person is told, once.
"""

from dataclasses import dataclass, replace
from typing import Literal

from agent_daemon.protocol.model import PROTOCOL_VERSION, ProtocolRange
from supervisor.core.liveness import LONGEST_BEAT_SECONDS


@dataclass(frozen=True, kw_only=True)
class Speech:
    """What is known of a daemon's protocol: None before its first sign of life.

    `renewed`: it was already made anew for this reason. `told`: a person was told that this did not help.
    """

    found: ProtocolRange | None = None
    renewed: bool = False
    told: bool = False

    @property
    def understood(self) -> bool:
        """Whether it may be given an attempt; one that has said nothing yet is taken for one of ours."""
        return self.found is None or self.found.min <= PROTOCOL_VERSION <= self.found.max

    @property
    def words(self) -> str:
        """The versions that it speaks."""
        if self.found is None:
            return "none yet"
        first, last = self.found.min, self.found.max
        return f"{first}" if first == last else f"{first} to {last}"

    def heard(self, found: ProtocolRange) -> "Speech":
        """After a sign of life; with a daemon that is understood everything begins anew."""
        after = replace(self, found=found)
        return Speech(found=found) if after.understood else after


Due = Literal["renew", "tell"]


def due(speech: Speech, *, busy: bool, chores: bool, seconds_since_start: float) -> Due | None:
    """What is to be done about a daemon now. One that has just been started may not have spoken for itself yet."""
    if speech.understood or chores:
        return None
    if not speech.renewed:
        return None if busy else "renew"
    return "tell" if not speech.told and seconds_since_start > LONGEST_BEAT_SECONDS else None
