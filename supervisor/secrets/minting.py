"""Tokens that a forge makes for one attempt, and the book of them: what a crash leaves behind is taken back.

A page is written before the forge is asked, under a name that the token gets, too: where the answer was lost, it
is looked for by that name. Where a forge gives no names (GitHub) such a token ends by itself, within the hour.
"""

import base64
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from agent_daemon.failpoints import reach
from supervisor.errors import CloudCodeError
from supervisor.ports import Minter
from supervisor.secrets.book import Held, read_pages, remove_page, wear_former, write_page
from supervisor.secrets.identity import IdentityFile
from supervisor.secrets.sealed import seal, unseal

# No token is used for longer; another one takes its place some minutes before.
_LONGEST = timedelta(hours=1)
_BEFORE = timedelta(minutes=10)
# None of any forge lives longer: until it is known, what a page tells of may be there.
_AT_MOST = timedelta(days=2)
# Where no answer came in time, it may be made yet.
_SILENCE_SECONDS = 60
# So many values that were given are searched for after their end.
_FORMER = 200


class Entry(BaseModel):
    """One page of the book. `id` and `sealed`, the token encrypted, are empty until it was made."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    name: str
    project: str
    api: bool
    task: str
    grant: str
    attempt: int
    made_at: datetime
    ends: datetime
    id: str = ""
    sealed: str = ""


@dataclass(kw_only=True)
class Minted(Held[Entry]):
    """A token as this process knows it. Before `shown_at`, in monotonic seconds, it may be on its way yet."""

    token: str = field(default="", repr=False)
    shown_at: float = 0.0

    @property
    def is_lent(self) -> bool:
        return bool(self.token)


@dataclass
class Minting:
    """Has tokens made, replaced and revoked, from any thread. `minter`: of a project, and whether by its API."""

    minter: Callable[[str, bool], Minter]
    folder: Path
    identity: IdentityFile
    _book: dict[str, Minted] = field(default_factory=dict, init=False, repr=False)
    _former: deque[str] = field(default_factory=lambda: deque(maxlen=_FORMER), init=False, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    def __post_init__(self) -> None:
        """Take the book of an earlier run up."""
        for _, entry in read_pages(self.folder, Entry):
            self._book[entry.name] = Minted(entry=entry, token=self._opened(entry), renew_at=_renew_at(entry))
        wear_former(sorted(self._book.values(), key=lambda one: one.entry.made_at))

    def _opened(self, entry: Entry) -> str:
        try:
            return self._unsealed(entry) if entry.sealed else ""
        except (CloudCodeError, ValueError):
            return ""

    def _unsealed(self, entry: Entry) -> str:
        place = self.folder / f"{entry.name}.json"
        return unseal(base64.b64decode(entry.sealed), self.identity, place).decode()

    def pages(self) -> list[Minted]:
        with self._lock:
            return [one for one in self._book.values() if one.shown_at <= time.monotonic()]

    def values(self) -> Mapping[str, str]:
        """The tokens that are and were, by names for people: they are searched for in all that leaves."""
        with self._lock:
            live = {f"token {one.name}, made for {one.entry.task}": one.token for one in self._book.values()}
            former = {f"token that was made before ({number})": token for number, token in enumerate(self._former)}
        return former | {name: token for name, token in live.items() if token}

    def holds(self, name: str) -> bool:
        with self._lock:
            return name in self._book

    # --- one token ------------------------------------------------------------------------------------------

    def mint(self, task: str, grant: str, attempt: int, *, api: bool) -> str:
        """The token of this attempt: what it has already, or another one. CloudCodeError."""
        with self._lock:
            for one in self._book.values():
                if (*one.grant_key, one.attempt) == (task, grant, attempt) and one.is_lent and not one.is_worn:
                    return one.token
        self.identity.made()  # (without it nothing could be written down)
        now, name = datetime.now(UTC), f"cloud-code-{uuid.uuid4().hex[:16]}"
        entry = Entry(
            name=name,
            project=project_of(task),
            api=api,
            task=task,
            grant=grant,
            attempt=attempt,
            made_at=now,
            ends=now + _AT_MOST,
        )
        minter = self.minter(entry.project, api)
        write_page(self.folder, entry.name, entry)
        lent = Minted(entry=entry)
        with self._lock:
            self._book[name] = lent
        reach("mint.page_written")
        return self._mint_for(lent, minter)

    def _mint_for(self, lent: Minted, minter: Minter) -> str:
        try:
            made = minter.mint(lent.name)
        except CloudCodeError as error:
            if getattr(error, "silent", False):
                lent.shown_at = time.monotonic() + _SILENCE_SECONDS
            if getattr(error, "is_refusal", False):  # (there is nothing to be looked for)
                self._forget(lent)
            raise
        reach("mint.made")
        sealed = base64.b64encode(seal(made.token.encode(), self.identity)).decode()
        entry = lent.entry.model_copy(update={"id": made.id, "ends": made.ends, "sealed": sealed})
        with self._lock:  # (it is to be searched for before anybody has it)
            lent.entry, lent.token, lent.renew_at = entry, made.token, _renew_at(entry)
        try:
            write_page(self.folder, entry.name, entry)
        except CloudCodeError:
            lent.is_worn = True  # nobody is given what is not written down
            raise
        reach("mint.noted")
        return made.token

    def renew(self, name: str, left_seconds: float) -> bool:
        """Whether it does for as long as it is wanted; else another one is to take its place."""
        with self._lock:
            lent = self._book.get(name)
        if lent is None:
            return True
        if datetime.now(UTC) + timedelta(seconds=left_seconds) <= _end_of(lent.entry):
            lent.renew_at = float("inf")
        else:
            lent.is_worn = True
        return not lent.is_worn

    def revoke(self, name: str) -> None:
        """Have it ended, and forget it once that is certain. CloudCodeError where it cannot be done now."""
        with self._lock:
            lent = self._book.get(name)
        if lent is None:
            return
        entry = lent.entry
        try:
            if entry.sealed and not lent.token and not entry.id:
                lent.token = self._unsealed(entry)  # (what opens it was not there before: it may be now)
            self.minter(entry.project, entry.api).revoke(name, entry.id, lent.token)
        except CloudCodeError:
            if datetime.now(UTC) < entry.ends:  # (else it has ended by itself)
                raise
        reach("mint.revoked")
        self._forget(lent)

    def _forget(self, lent: Minted) -> None:
        remove_page(self.folder, lent.name)
        with self._lock:
            self._book.pop(lent.name, None)
            if lent.token:
                self._former.append(lent.token)


def project_of(task_id: str) -> str:
    """The project's name, which is what a task's id begins with."""
    return task_id.partition(".")[0]


def _end_of(entry: Entry) -> datetime:
    return min(entry.ends, entry.made_at + _LONGEST)


def _renew_at(entry: Entry) -> float:
    left = _end_of(entry) - _BEFORE - datetime.now(UTC)
    return time.monotonic() + left.total_seconds()
