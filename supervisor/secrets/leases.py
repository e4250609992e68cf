"""What a Vault lends for one attempt, and the book of it: nothing is lent that would be forgotten by a crash.

Each thing is lent under a token of its own, whose accessor is in the book before anything is lent under it: to
revoke that token takes back whatever was lent, whether or not its lease was written down. Until it is in the book,
the token ends by itself soon.
"""

import base64
import hashlib
import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, ValidationError

from agent_daemon.failpoints import reach
from supervisor.errors import CloudCodeError
from supervisor.secrets.book import Held, read_pages, remove_page, wear_former, write_page
from supervisor.secrets.identity import IdentityFile
from supervisor.secrets.sealed import seal, unseal
from supervisor.secrets.vault import read_path, text_of
from supervisor.secrets.vault_errors import VaultError
from supervisor.secrets.vault_session import VaultSession

if TYPE_CHECKING:
    import hvac

# What is not in the book by then is nobody's.
_UNNOTED_SECONDS = 60
# Renewed for less than this part of what was asked for, a lease is at its end.
_AT_ITS_END = 0.5
# So many values that were lent are searched for after their end.
_FORMER = 200


class Entry(BaseModel):
    """One page of the book. `session` is our token under which the lease's token was made: it goes with that.

    `lease` is empty until something was lent. `sealed` holds the token and the value, encrypted.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    task: str
    grant: str
    attempt: int
    path: str
    accessor: str
    session: str
    lease: str = ""
    seconds: float = 0
    renewable: bool = False
    sealed: str = ""

    @property
    def name(self) -> str:
        return hashlib.sha256(self.accessor.encode()).hexdigest()[:20]


class _Secret(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    token: str
    value: str


@dataclass(kw_only=True)
class Lent(Held[Entry]):
    """A lease as this process knows it; a worn one cannot be renewed."""

    secret: _Secret | None = field(default=None, repr=False)

    @property
    def is_lent(self) -> bool:
        """Whether there is a value to be given; without one it is only to be taken back."""
        return self.secret is not None


@dataclass
class Leases:
    """Lends, renews and takes back, from any thread; each page has one job at a time."""

    session: VaultSession
    folder: Path
    identity: IdentityFile
    _book: dict[str, Lent] = field(default_factory=dict, init=False, repr=False)
    _former: deque[tuple[str, str]] = field(default_factory=lambda: deque(maxlen=_FORMER), init=False, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    def __post_init__(self) -> None:
        """Take the book of an earlier run up: how long each lease lasts is asked at once."""
        pages = sorted(read_pages(self.folder, Entry), key=lambda page: _changed_at(page[0]))
        self._book |= {entry.name: Lent(entry=entry, secret=self._opened(entry)) for _, entry in pages}
        wear_former(self._book.values())

    def _opened(self, entry: Entry) -> _Secret | None:
        if not entry.sealed:
            return None
        try:
            return _Secret.model_validate_json(unseal(base64.b64decode(entry.sealed), self.identity, self.folder))
        except (CloudCodeError, ValidationError, ValueError):
            return None

    def pages(self) -> list[Lent]:
        with self._lock:
            return list(self._book.values())

    def values(self) -> Mapping[str, str]:
        """What is lent and what was, by names for people: it is searched for in all that leaves."""
        with self._lock:
            live = [(one.entry, one.secret) for one in self._book.values()]
            found = {f"{name} ({number})": value for number, (name, value) in enumerate(self._former)}
        return found | {
            f"{entry.path}, lent for {entry.task} {entry.grant} ({entry.name[:6]})": secret.value
            for entry, secret in live
            if secret is not None
        }

    # --- one lease ------------------------------------------------------------------------------------------

    def lend(self, task: str, grant: str, attempt: int, path: str, template: str | None) -> str:
        """The value that is lent to this attempt: what it has already, or another one. CloudCodeError."""
        with self._lock:
            for one in self._book.values():
                entry = one.entry
                if (entry.task, entry.grant, entry.attempt, entry.path) != (task, grant, attempt, path):
                    continue
                if one.secret is not None and not one.is_worn:
                    return one.secret.value
        session = self.session.signed_in().accessor
        meta = {"task": task, "grant": grant, "attempt": str(attempt)}
        made = self.session.call("make a token for a lease", lambda client: _make_token(client, meta))
        reach("lease.token_made")
        entry = Entry(
            task=task, grant=grant, attempt=attempt, path=path, accessor=made["accessor"], session=session
        )
        lent = Lent(entry=entry)
        write_page(self.folder, entry.name, entry)
        with self._lock:
            self._book[entry.name] = lent
        reach("lease.token_noted")
        return self._lend_under(lent, made["client_token"], template)

    def _lend_under(self, lent: Lent, token: str, template: str | None) -> str:
        entry = lent.entry

        def ask(client: "hvac.Client") -> tuple[str, float, bool, str]:
            told = read_path(self.session, client, entry.path)
            value = filled(template, told["data"]) if template else text_of(told["data"])
            return str(told["lease_id"]), float(told["lease_duration"]), bool(told["renewable"]), value

        lease, seconds, renewable, value = self.session.asked(f"read {entry.path}", token, ask)
        if not lease:
            message = f"Vault lends nothing at {entry.path}: what lies there has no lease."
            mend = (
                "Name the path of a dynamic engine, such as database/creds/ROLE; what lies still is a `secret:`."
            )
            raise VaultError("E_VAULT_REFUSED", message, mend)
        reach("lease.lent")
        self.session.asked(
            "renew a lease's token", token, lambda c: c.auth.token.renew_self(increment=int(seconds))
        )
        secret = _Secret(token=token, value=value)
        sealed = base64.b64encode(seal(secret.model_dump_json().encode(), self.identity)).decode()
        facts = {"lease": lease, "seconds": seconds, "renewable": renewable, "sealed": sealed}
        entry = entry.model_copy(update=facts)
        with self._lock:  # (it is to be searched for before anybody has it)
            lent.entry, lent.secret, lent.renew_at = entry, secret, time.monotonic() + seconds * 2 / 3
        write_page(self.folder, entry.name, entry)
        reach("lease.noted")
        return value

    def renew(self, name: str, left_seconds: float) -> bool:
        """Have it last for as long as before, or as it is wanted at most. False: it is at its end."""
        with self._lock:
            lent = self._book.get(name)
        if lent is None:
            return True
        entry, secret = lent.entry, lent.secret
        wanted = max(1, int(min(entry.seconds, left_seconds)))
        granted = 0.0
        if secret is not None and entry.renewable and self.session.signed_in().accessor == entry.session:

            def ask(client: "hvac.Client") -> float:
                client.auth.token.renew_self(increment=wanted + _UNNOTED_SECONDS)
                return float(client.sys.renew_lease(entry.lease, increment=wanted)["lease_duration"])

            try:
                granted = self.session.asked("renew a lease", secret.token, ask)
            except VaultError as error:
                if error.code not in ("E_VAULT_DENIED", "E_VAULT_REFUSED"):
                    raise
        lent.is_worn = granted < wanted * _AT_ITS_END
        lent.renew_at = time.monotonic() + max(granted, wanted) * 2 / 3
        return not lent.is_worn

    def revoke(self, name: str) -> None:
        """Take it back, and forget it once that is certain. VaultError where it cannot be done now."""
        with self._lock:
            lent = self._book.get(name)
        if lent is None:
            return
        accessor = lent.entry.accessor
        try:
            self.session.call("revoke a lease", lambda client: client.auth.token.revoke_accessor(accessor))
        except VaultError as error:
            if "invalid accessor" not in error.message:  # it has ended by itself, or was revoked before a crash
                raise
        reach("lease.revoked")
        remove_page(self.folder, name)
        with self._lock:
            self._book.pop(name, None)
            if lent.secret is not None:
                self._former.append((f"{lent.entry.path}, lent before", lent.secret.value))


def _changed_at(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def _make_token(client: "hvac.Client", meta: dict[str, str]) -> dict[str, str]:
    told = client.auth.token.create(
        ttl=f"{_UNNOTED_SECONDS}s", renewable=True, display_name="cloud-code", meta=meta
    )
    return {key: str(told["auth"][key]) for key in ("accessor", "client_token")}


def filled(template: str, data: Mapping[str, Any]) -> str:
    """The template with the fields of what is lent; percent-encoded where it is an address. VaultError."""
    address = "://" in template
    fields = {key: quote(str(value), safe="") if address else str(value) for key, value in data.items()}
    try:
        return template.format_map(fields)
    except (KeyError, ValueError, IndexError, AttributeError):
        message = f"The template asks for what is not lent; there are: {', '.join(sorted(fields))}."
        raise VaultError("E_VAULT_REFUSED", message, "Correct `template` in config.yaml.") from None
