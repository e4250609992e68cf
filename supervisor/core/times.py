"""Spans and points of time in words."""

from datetime import UTC, datetime, timedelta


def duration(seconds: float) -> str:
    """A span of time for people: ``45 s``, ``3 min``, ``2 h 5 min``, ``4 d``."""
    whole = max(0, round(seconds))
    if whole < 90:
        return f"{whole} s"
    minutes = round(whole / 60)
    if minutes < 90:
        return f"{minutes} min"
    if minutes < 48 * 60:
        hours, rest = divmod(minutes, 60)
        return f"{hours} h {rest} min" if rest else f"{hours} h"
    return f"{round(minutes / 1440)} d"


def when(moment: datetime | None, now: datetime) -> str:
    """A coming time: ``at 10:31:05 UTC (in 12 s)``, or ``at once``."""
    if moment is None or moment <= now:
        return "at once"
    day = "%H:%M:%S" if moment - now < timedelta(hours=12) else "%Y-%m-%d %H:%M"
    return f"at {moment.astimezone(UTC):{day}} UTC (in {duration((moment - now).total_seconds())})"
