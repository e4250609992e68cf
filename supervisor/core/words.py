"""Numbers and lists in words."""

from collections.abc import Sequence


def count(number: int, noun: str, plural: str = "") -> str:
    """``1 file``, ``3 files``; `plural` where an s is not enough."""
    return f"{number} {noun if number == 1 else plural or noun + 's'}"


def size(count: int | None) -> str:
    """A number of bytes for people: ``812 B``, ``1.4 MiB``; empty when it is not known."""
    if count is None:
        return ""
    amount, unit = float(count), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if amount < 1000:
            break
        amount, unit = amount / 1024, larger
    return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"


def some(names: Sequence[str], most: int = 5) -> str:
    """The first of these by name, the others by number."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"{', '.join(names[:most])}{more}"
