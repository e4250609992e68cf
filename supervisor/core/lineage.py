"""One login of a subscription in several places, where a renewal logs out all others (RFC 9700, 4.14.2)."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby


@dataclass(frozen=True, order=True)
class Holder:
    """Who has a login: a CLI of a workstation, in a file of its home or in a variable."""

    workstation: str
    cli: str
    login: str


@dataclass(frozen=True)
class Seen:
    """A renewable login that somebody has. `mark` stands for it; `place` tells the files of a host apart."""

    holder: Holder
    place: str
    mark: str


def shared_logins(seen: Iterable[Seen]) -> tuple[tuple[Holder, ...], ...]:
    """For each login that is in more than one place all who have it, sorted.

    Who by configuration has the same file has it in one place: there it is renewed for all of them.
    """
    by_mark: dict[str, set[Seen]] = defaultdict(set)
    for one in seen:
        by_mark[one.mark].add(one)
    groups = {
        frozenset(one.holder for one in group)
        for group in by_mark.values()
        if len({one.place for one in group}) > 1
    }
    whole = [group for group in groups if not any(group < other for other in groups)]
    return tuple(sorted(tuple(sorted(group)) for group in whole))


def who_has(holders: Iterable[Holder]) -> str:
    """They in words, as ``codex of backend-1, backend-2 (.codex/auth.json)``."""
    alike = sorted((holder.cli, holder.login, holder.workstation) for holder in holders)
    return "; ".join(
        f"{cli} of {', '.join(workstation for *_, workstation in group)} ({login})"
        for (cli, login), group in groupby(alike, key=lambda one: one[:2])
    )
