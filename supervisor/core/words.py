"""Numbers and lists in words."""


def count(number: int, noun: str, plural: str = "") -> str:
    """``1 file``, ``3 files``; `plural` where an s is not enough."""
    return f"{number} {noun if number == 1 else plural or noun + 's'}"
