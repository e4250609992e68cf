"""Looks after what is lent to attempts, or made for them: renewed while it is wanted, taken back after that.

Level-triggered: what the book of leases holds is compared with the records, also after a crash.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Protocol

from supervisor.clock import Clock
from supervisor.core.decision import Event, Failed
from supervisor.core.giving import is_live, mark_stale
from supervisor.core.record import Grant
from supervisor.lasting import Lasting
from supervisor.ledger import Ledger
from supervisor.pool import JobPool

JOB = "Lease"
# How often values that lie still are compared with what was given, and what could not be done is tried again.
_COMPARE_SECONDS = 5.0
_AGAIN_SECONDS = 5.0
# What a job does, as it is told where it fails.
_VERBS = {"revoke": "revoked", "renew": "renewed", "compare": "compared", "signed-in": "looked after"}

GrantKey = tuple[str, str]


class Page(Protocol):
    """Something lent for an attempt, as the book tells it."""

    @property
    def name(self) -> str: ...
    @property
    def grant_key(self) -> GrantKey: ...
    @property
    def attempt(self) -> int: ...
    @property
    def is_lent(self) -> bool: ...
    @property
    def is_worn(self) -> bool: ...
    @property
    def renew_at(self) -> float: ...


class Lender(Protocol):
    """What lends. All but `pages` may take long."""

    @property
    def lends(self) -> bool: ...

    def pages(self) -> Collection[Page]: ...

    def renew(self, name: str, left_seconds: float) -> bool:
        """Whether it lasts on; else it is worn."""

    def revoke(self, name: str) -> None: ...

    def keep_signed_in(self) -> None:
        """Renew what it is signed in with, when that is due."""

    def changed(self, given: Mapping[GrantKey, tuple[str, str, str]]) -> list[GrantKey]:
        """Of these grants, with type, access and the mark of what was given, those whose value is another one."""


@dataclass
class Lending:
    """Looked at once a second; `settle` takes the outcomes of its jobs."""

    clock: Clock
    ledger: Ledger
    pool: JobPool
    lender: Lender
    _compare_at: float = field(default=0.0, init=False)
    _signed_in_at: float = field(default=0.0, init=False)
    _rest: dict[str, float] = field(default_factory=dict, init=False)
    _failing: set[str] = field(default_factory=set, init=False)
    _told: dict[tuple[str, str], Lasting] = field(default_factory=lambda: defaultdict(Lasting), init=False)
    _owners: dict[str, GrantKey] = field(default_factory=dict, init=False)

    def look(self) -> None:
        """Start what is due; nothing here waits for anybody."""
        now = self.clock.monotonic()
        pages = self.lender.pages()
        for page in pages:
            self._owners[page.name] = page.grant_key
            if self._rest.get(page.name, 0.0) <= now:
                self._look_after(page)
        names = {page.name for page in pages}
        for name in self._rest.keys() - names:
            del self._rest[name]
        for subject in [one for one in self._failing if one.partition(":")[2] not in names | {""}]:
            self._works(subject)
        if self.lender.lends and now >= self._signed_in_at:
            self._signed_in_at = now + _AGAIN_SECONDS
            self.pool.submit(f"{JOB}:signed-in:", self.lender.keep_signed_in)
        if now >= self._compare_at:
            self._compare_at = now + _COMPARE_SECONDS
            given = self._given()
            if given:
                self.pool.submit(f"{JOB}:compare:", partial(self.lender.changed, given))
            else:
                self._works("compare:")

    def _look_after(self, page: Page) -> None:
        task_id, grant_id = page.grant_key
        task = self.ledger.tasks.get(task_id)
        grant = task.grant(grant_id) if task is not None else None
        busy = f"Give:{task_id}:{grant_id}", f"{JOB}:renew:{page.name}"
        if any(self.pool.under_way(key) for key in busy):
            return
        wanted = task is not None and grant is not None and is_live(task, grant, page.attempt)
        done = page.is_worn and grant is not None and not grant.stale
        if task is None or grant is None or not wanted or not page.is_lent or done:
            self.pool.submit(f"{JOB}:revoke:{page.name}", partial(self.lender.revoke, page.name))
        elif not page.is_worn and page.renew_at <= self.clock.monotonic():
            left = _left_seconds(grant, self.clock.now())
            work = partial(self.lender.renew, page.name, left)
            self.pool.submit(f"{JOB}:renew:{page.name}", work)

    def _given(self) -> dict[GrantKey, tuple[str, str, str]]:
        """What lies still and live attempts have been given."""
        return {
            (task.id, grant.id): (grant.type, grant.access, grant.mark)
            for task in self.ledger.tasks.values()
            for grant in task.grants
            if grant.given_to is not None and not grant.stale and is_live(task, grant, grant.given_to[0])
        }

    def settle(self, subject: str, outcome: bool | list[GrantKey] | Failed | None) -> None:
        """What became of a job."""
        what, _, name = subject.partition(":")
        if isinstance(outcome, Failed):
            self._rest[name] = self.clock.monotonic() + _AGAIN_SECONDS
            self._tell_failure(subject, outcome)
            return
        self._works(subject)
        if what == "compare" and isinstance(outcome, list):
            for key in outcome:
                self._give_anew(key, "its value is another one by now")
        elif what == "renew" and outcome is False:
            page = next((page for page in self.lender.pages() if page.name == name), None)
            if page is not None:
                self._give_anew(page.grant_key, "its lease cannot be renewed")
        elif what == "renew":
            self._tell(name, "credential.refreshed", "its lease lasts on")
        elif what == "revoke":
            self._tell(name, "credential.returned", "it is taken back where it came from")
            self._owners.pop(name, None)

    def _give_anew(self, key: GrantKey, why: str) -> None:
        task = self.ledger.tasks.get(key[0])
        if task is not None:
            self.ledger.apply(mark_stale(task, key[1], why))

    def _tell(self, name: str, event: str, message: str) -> None:
        """For the books; the task may have gone to the archive meanwhile."""
        task_id, grant_id = self._owners.get(name, ("", ""))
        task = self.ledger.find(task_id) if task_id else None
        grant = task.grant(grant_id) if task is not None else None
        details = {"id": grant_id, "message": message, "lease": name}
        if grant is not None:
            details |= {"type": grant.type, "access": grant.access, "scope": grant.scope}
        self.ledger.log(Event(name=event, details=details), task)

    def _tell_failure(self, subject: str, failed: Failed) -> None:
        """For each thing that is done, whatever it fails for besides for the same reason."""
        what, _, name = subject.partition(":")
        self._failing.add(subject)
        if not self._told[what, failed.code].is_told(failed.code, self.clock.monotonic()):
            return
        details = {"code": failed.code, "message": failed.message, "what": _VERBS[what], "lease": name}
        self.ledger.log(Event(name="lease.failed", details=details))

    def _works(self, subject: str) -> None:
        """This is done, or is to be done no longer; told once nothing fails any more."""
        if subject not in self._failing:
            return
        self._failing.remove(subject)
        if not self._failing:
            self._told.clear()
            self.ledger.log(Event(name="lease.works"))


def _left_seconds(grant: Grant, now: datetime) -> float:
    return (grant.expires_at - now).total_seconds() if grant.expires_at is not None else 0.0
