"""What the words of an error mean, whichever coding CLI passes them on: they are the providers' and much alike."""

import re

from agent_daemon.clis.base import Outcome

# The first that matches decides: a quota is also an HTTP 429, and a retry that ran out names its cause last.
_FAILURES: tuple[tuple[Outcome, str], ...] = (
    ("context_too_long", r"context window|context_length_exceeded|maximum context length|input exceeds the"),
    ("context_too_long", r"prompt is too long|contextwindowexceeded|contextoverflow"),
    ("context_too_long", r"exceeds the maximum number of tokens"),
    ("quota", r"quota exceeded|ex(ceed|haust)ed your (current |daily )?quota|insufficient_quota"),
    ("quota", r"hit your ([\w-]+ )*limit"),
    ("quota", r"usage ?limit|usage not included|usage credits|purchase more credits|out of credits|billing"),
    ("quota", r"credit balance is too low|spend limit"),
    ("budget", r"session budget exceeded|budget_reached"),
    ("authentication", r"\b401\b|\b403 forbidden|missing environment variable|incorrect api key|invalid api key"),
    ("authentication", r"invalid_api_key|not logged in|log ?in again|refresh token|authenticationerror"),
    ("authentication", r"oauth token|permissiondeniederror"),
    ("refused", r"content_filter|content policy|has been flagged|hook blocked this request|usage policy"),
    ("overloaded", r"\b(429|500|502|503|504|529)\b|rate limit|ratelimiterror|high demand|overloaded|at capacity"),
    ("overloaded", r"capacity unavailable|stream disconnected|connection (failed|error)|connectionrefused"),
    ("overloaded", r"unable to connect|internalservererror|serviceunavailable|apiconnectionerror"),
    ("overloaded", r"network|timed? ?out|the server had an error|server_error"),
)
_TRY_AGAIN = re.compile(
    r"(?:try again|retry) (?:in|after)"
    r"((?:\s*\d+(?:\.\d+)?\s*(?:ms|days?|d|hours?|h|minutes?|m|seconds?|s)(?![a-z]))+)",
    re.IGNORECASE,
)
_AMOUNT = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|d|h|m|s)", re.IGNORECASE)
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def failure_named(text: str) -> Outcome | None:
    """What kind of failure a provider's or a CLI's words tell of; None when they tell of none that is known."""
    return next((outcome for outcome, words in _FAILURES if re.search(words, text, re.IGNORECASE)), None)


def retry_after_seconds(text: str) -> float | None:
    """How long the text says to wait before the next try."""
    named = _TRY_AGAIN.search(text)
    if named is None:
        return None
    return sum(float(amount) * _SECONDS[unit.lower()] for amount, unit in _AMOUNT.findall(named[1]))
