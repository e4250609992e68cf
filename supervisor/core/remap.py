"""How an engine that remaps users turns numbers inside of containers into those of this host (`subuid(5)`). Pure.

The engine takes the lines of its user in `/etc/subuid` and `/etc/subgid` in their order: the first covers the
numbers from 0 on, the next goes on where that ends. So one line can leave one number be: the *hole*, through which
a workstation's agent is the supervisor's user on both sides, while root inside is nobody outside.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# Debian's own numbers end at 65534 (nobody); so many an image may use.
USUAL_SIZE = 65536
# Where a map begins that nothing else asks for elsewhere: beyond what useradd(8) gives out by itself.
USUAL_START = 500_000
_LINE = re.compile(r"([^:#\s]+):(\d{1,10}):(\d{1,10})\s*")


@dataclass(frozen=True)
class Range:
    """Numbers of this host, from `start` on, which stand for as many inside."""

    start: int
    size: int


def engine_remaps(about: Mapping[str, Any]) -> bool:
    """By what the engine says of itself (`/info`)."""
    return any(option.startswith("name=userns") for option in about.get("SecurityOptions") or ())


def engine_is_rootless(about: Mapping[str, Any]) -> bool:
    return any(option.startswith("name=rootless") for option in about.get("SecurityOptions") or ())


def ranges_of(text: str, user: str) -> tuple[Range, ...]:
    """The lines of one user in a file such as `/etc/subuid`."""
    return tuple(found for name, found in _lines(text) if name == user)


def mapping_from(text: str, root: int) -> tuple[Range, ...]:
    """The lines of the user for whom root inside is this number outside; nothing where nobody's are."""
    names = dict.fromkeys(name for name, _ in _lines(text))
    found = (ranges_of(text, name) for name in names)
    return next((ranges for ranges in found if ranges[0].start == root), ())


def outside(ranges: Iterable[Range], inside: int) -> int | None:
    """What a number inside is on this host; None where it is not mapped."""
    for one in ranges:
        if inside < one.size:
            return one.start + inside
        inside -= one.size
    return None


def punched(ranges: Sequence[Range], number: int, start: int = USUAL_START) -> tuple[Range, ...]:
    """The map with one number left be; of all others those that were mapped are what they were.

    An empty map is made from `start` on. ValueError where another number inside is that one outside already, or
    root inside would be left be.
    """
    if number == 0:
        raise ValueError("root inside would be root of this host")
    whole = tuple(ranges) or (Range(start, max(USUAL_SIZE, number + 2)),)
    if outside(whole, number) == number:
        return whole
    if any(one.start <= number < one.start + one.size for one in whole):
        raise ValueError(f"{number} of this host stands for another number inside")
    made, covered = list[Range](), 0
    for one in whole:
        if covered <= number < covered + one.size:
            before = number - covered
            after = Range(one.start + before + 1, one.size - before - 1)
            made += [part for part in (Range(one.start, before), Range(number, 1), after) if part.size]
        else:
            made.append(one)
        covered += one.size
    if covered <= number:
        raise ValueError(f"the map ends at {covered}, and {number} is beyond it")
    return tuple(made)


def free_start(texts: Iterable[str], numbers: Iterable[int], size: int) -> int:
    """Where as many numbers are nobody's: neither in these files, nor among the numbers of users and groups."""
    taken = [found for text in texts for _, found in _lines(text)] + [Range(number, 1) for number in numbers]
    start = USUAL_START
    while meets := [one for one in taken if one.start < start + size and start < one.start + one.size]:
        start = max(one.start + one.size for one in meets)
    return start


def with_lines(text: str, user: str, ranges: Iterable[Range]) -> str:
    """The file with these lines of a user in the place of those that there are."""
    rest = [line for line in text.splitlines() if not ((found := _LINE.fullmatch(line)) and found[1] == user)]
    return "".join(f"{line}\n" for line in [*rest, *(f"{user}:{one.start}:{one.size}" for one in ranges)])


def _lines(text: str) -> Iterable[tuple[str, Range]]:
    for line in text.splitlines():
        if found := _LINE.fullmatch(line):
            yield found[1], Range(int(found[2]), int(found[3]))
