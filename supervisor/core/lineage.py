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
    """A renewable login that somebody has, or had in the same place before another one (`past`).

    `mark` stands for it; `place` tells the files of a host apart.
    """

    holder: Holder
    place: str
    mark: str
    past: bool = False


@dataclass(frozen=True, order=True)
class Shared:
    """A login in more than one place: who has it, and who had it before theirs was renewed; both sorted."""

    now: tuple[Holder, ...]
    before: tuple[Holder, ...] = ()

    @property
    def holders(self) -> tuple[Holder, ...]:
        return (*self.now, *self.before)


def shared_logins(seen: Iterable[Seen]) -> tuple[Shared, ...]:
    """Each login that somebody has and that is, or was, in another place, too.

    Who by configuration has the same file has it in one place: there it is renewed for all of them.
    """
    by_mark: dict[str, set[Seen]] = defaultdict(set)
    for one in seen:
        by_mark[one.mark].add(one)
    found = {_shared(group) for group in by_mark.values() if _is_shared(group)}
    parts = [one for one in found if any(set(one.holders) < set(other.holders) for other in found)]
    return tuple(sorted(found.difference(parts)))


def _is_shared(group: set[Seen]) -> bool:
    return len({one.place for one in group}) > 1 and not all(one.past for one in group)


def _shared(group: set[Seen]) -> Shared:
    now = {one.holder for one in group if not one.past}
    places = {one.place for one in group if not one.past}
    before = {one.holder for one in group if one.past and one.place not in places}
    return Shared(tuple(sorted(now)), tuple(sorted(before - now)))


def who_has(holders: Iterable[Holder]) -> str:
    """They in words, as ``codex of backend-1, backend-2 (.codex/auth.json)``."""
    alike = sorted((holder.cli, holder.login, holder.workstation) for holder in holders)
    return "; ".join(
        f"{cli} of {', '.join(workstation for *_, workstation in group)} ({login})"
        for (cli, login), group in groupby(alike, key=lambda one: one[:2])
    )
