"""What of a configuration is another than before, in lines for people. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from supervisor.core.settings import Config

# Values below a key of these names may be, or lead to, what is nobody's business.
_HIDDEN = frozenset({"environment", "auth", "mcp", "options", "argv", "arguments", "secret"})
_SHOWN_CHARACTERS = 60
MAX_LINES = 20


def config_changes(before: Config, after: Config) -> tuple[str, ...]:
    """One line for each value that differs, such as ``workstations.backend.count: 1 → 2``; empty if none does."""
    return tuple(_changes(before.model_dump(mode="json"), after.model_dump(mode="json"), ()))


def _changes(before: Any, after: Any, place: tuple[str, ...]) -> Iterator[str]:
    if not (isinstance(before, Mapping) and isinstance(after, Mapping)) or _HIDDEN.intersection(place):
        if before != after:
            yield f"{'.'.join(place)}: {_values(before, after, place)}"
        return
    for name in before:
        if name not in after:
            yield f"{'.'.join((*place, str(name)))}: removed"
    for name, value in after.items():
        if name not in before:
            yield f"{'.'.join((*place, str(name)))}: added"
        else:
            yield from _changes(before[name], value, (*place, str(name)))
    common = [name for name in before if name in after]
    if common != [name for name in after if name in before]:
        yield f"{'.'.join(place)}: in another order"


def _values(before: Any, after: Any, place: tuple[str, ...]) -> str:
    if _HIDDEN.intersection(place):
        return "changed"
    return f"{_shown(before)} → {_shown(after)}"


def _shown(value: Any) -> str:
    if (
        isinstance(value, Sequence)
        and not isinstance(value, str)
        and not any(isinstance(e, Mapping) for e in value)
    ):
        text = f"[{', '.join(str(entry) for entry in value)}]"
    elif isinstance(value, Mapping | Sequence) and not isinstance(value, str):
        text = "…"
    else:
        text = "nothing" if value is None else str(value)
    return text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 1] + "…"


def told(changes: Sequence[str]) -> str:
    """The changes on one line, as many as fit."""
    more = f"; and {len(changes) - MAX_LINES} more" if len(changes) > MAX_LINES else ""
    return "; ".join(changes[:MAX_LINES]) + more
