"""How a run of a coding CLI can end, what a daemon reports of each end, and what the supervisor does then.

This is the only table of it: `docs/coding-clis.md` tells it to people.
"""

from dataclasses import dataclass
from enum import StrEnum

from agent_daemon.protocol.model import WaitReason


class Consequence(StrEnum):
    """What follows. All but the first, PARK and ASK count as a failure of the CLI that is at work."""

    HAND_IN = "hand in"  # what is left is committed, verified and handed in
    RETRY = "retry"  # another attempt at once
    AGAIN = "again"  # another attempt after the usual pause
    BACK_OFF = "back off"  # another attempt after a longer pause
    PARK = "park"  # another attempt when a limit is lifted; where nobody said when, a person is asked
    NEXT = "next"  # the next CLI at once; where there is none, another attempt after the usual pause
    HAND_OVER = "hand over"  # the next CLI at once; after the last one a person is asked
    ASK = "ask"  # a person is asked


@dataclass(frozen=True)
class End:
    """`reason`: reported as blocked for it; without one the attempt failed, with the outcome's code."""

    then: Consequence
    reason: WaitReason | None = None


ENDS: dict[str, End] = {
    "completed": End(Consequence.HAND_IN),
    "needs_input": End(Consequence.ASK, WaitReason.QUESTION),
    "authentication": End(Consequence.ASK, WaitReason.CREDENTIAL),
    "budget": End(Consequence.ASK, WaitReason.BUDGET),
    "quota": End(Consequence.PARK, WaitReason.QUOTA),
    "overloaded": End(Consequence.BACK_OFF),
    "context_too_long": End(Consequence.HAND_OVER),
    "refused": End(Consequence.HAND_OVER),
    "turn_limit": End(Consequence.RETRY),
    "interrupted": End(Consequence.RETRY),
    "crashed": End(Consequence.AGAIN),
    "hung": End(Consequence.NEXT),
    "no_result": End(Consequence.AGAIN),
}


def code_of(outcome: str) -> str:
    """The error code with which an attempt fails that came to this end."""
    return f"E_CLI_{outcome.upper()}"


# The program of the CLI is not there, or cannot be run as it is configured: every attempt with it meets the same.
NOT_STARTED = "E_CLI_NOT_STARTED"

_BY_CODE = {
    code_of(outcome): end.then
    for outcome, end in ENDS.items()
    if end.reason is None and end.then is not Consequence.HAND_IN
} | {NOT_STARTED: Consequence.HAND_OVER}


def follows_from(code: str | None) -> Consequence:
    """What follows from a failed attempt's code; whatever is no end of a CLI is tried again."""
    return _BY_CODE.get(code or "", Consequence.AGAIN)
