"""Patterns of paths, as people write them in `protected_paths`; pure.

No regular expression: `**/a/**/a/**/b` against a hostile path would take it for hours, and nothing else runs
meanwhile. Here a path costs at most its parts times the pattern's, and a name its length times its pattern's.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice

_ACROSS = "**"
_MAX_FORMS = 64


@dataclass(frozen=True)
class Glob:
    """A pattern in the forms that it stands for, each a sequence of names; `**` is any number of names."""

    forms: tuple[tuple[str, ...], ...]

    def covers(self, path: str) -> bool:
        """Whether the path is meant, or a folder that it lies in."""
        names, known = _names(path)
        return any(_literals(form) <= known and _covers(form, names) for form in self.forms)


@lru_cache(maxsize=1_000)
def compile_glob(pattern: str) -> Glob:
    """``*`` and ``?`` stay within a name, ``**`` crosses folders; a folder's name covers what is in it.

    A pattern without a slash matches a name in every folder.
    """
    pattern = pattern.strip("/")
    if "/" not in pattern:
        pattern = f"**/{pattern}"
    return Glob(tuple(islice(_forms(tuple(pattern.split("/"))), _MAX_FORMS)))


def _forms(names: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """``a**b`` is ``a*b`` or ``a*/**/*b``; ``**`` at the end is what is in the folder: any name."""
    for position, name in enumerate(names):
        before, star, after = name.partition(_ACROSS)
        if star and name != _ACROSS:
            for middle in ((f"{before}*{after}",), (f"{before}*", _ACROSS, f"*{after}")):
                yield from _forms((*names[:position], *middle, *names[position + 1 :]))
            return
    yield (*names[:-1], "*") if names[-1] == _ACROSS else names


@lru_cache(maxsize=16)
def _names(path: str) -> tuple[tuple[str, ...], frozenset[str]]:
    names = tuple(path.split("/"))
    return names, frozenset(names)


@lru_cache(maxsize=1_000)
def _literals(form: tuple[str, ...]) -> frozenset[str]:
    """The names that must be in a path: a quick look spares most of the work."""
    return frozenset(name for name in form if "*" not in name and "?" not in name)


def _covers(form: tuple[str, ...], path: tuple[str, ...]) -> bool:
    """Name by name: `states` are the places of the form that may come next."""
    states = _passed(form, {0})
    for name in path:
        stays = {state for state in states if form[state] == _ACROSS}
        states = _passed(form, stays | {state + 1 for state in states - stays if is_like(form[state], name)})
        if len(form) in states:
            return True
        if not states:
            return False
    return False


def _passed(form: tuple[str, ...], states: set[int]) -> set[int]:
    """These states, and those that follow where `**` is no name at all."""
    for state in sorted(states):
        while state < len(form) and form[state] == _ACROSS:
            state += 1
            states.add(state)
    return states


@lru_cache(maxsize=10_000)
def is_like(pattern: str, name: str) -> bool:
    """Whether a name fits: ``*`` is any text, ``?`` one sign. Only the last star is ever tried again."""
    at, here = 0, 0
    star, tried = -1, 0
    while here < len(name):
        if at < len(pattern) and pattern[at] == "*":
            star, tried, at = at, here, at + 1
        elif at < len(pattern) and pattern[at] in ("?", name[here]):
            at, here = at + 1, here + 1
        elif star >= 0:
            tried += 1
            at, here = star + 1, tried
        else:
            return False
    return all(sign == "*" for sign in pattern[at:])


def literal_start(pattern: str) -> str:
    """What stands before the pattern's first wildcard."""
    return pattern.partition("*")[0].partition("?")[0]
