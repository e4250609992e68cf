"""Signed in to a Vault: by a token or as an AppRole, renewed at two thirds of its life, anew when that ends.

What was signed in with is kept, encrypted for the root's identity: what was lent under a token ends with it, and
is to outlive a restart; and a secret id that came wrapped can be had once only.
"""

import contextlib
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from supervisor.core.secret_settings import ApproleSettings, SecretSource, VaultSettings
from supervisor.secrets.sealed import SealedFile
from supervisor.secrets.vault_errors import VaultError, told_of

if TYPE_CHECKING:
    import hvac

T = TypeVar("T")

# Where nobody answered, the next ones who ask are told so for a while instead of waiting as long again.
_REST_SECONDS = 1.0
# Renewed for less than this part of what was asked for, a token nears the end that it cannot pass.
_NEARS_ITS_END = 0.5
_FOR_EVER = float("inf")


class _Kept(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    address: str
    token: str
    secret_id: str = ""


@dataclass(frozen=True)
class SignedIn:
    """A token of ours. Times are of the monotonic clock; `ttl_seconds` is what it was first given for."""

    token: str = field(repr=False)
    accessor: str
    policies: tuple[str, ...]
    renewable: bool
    ttl_seconds: float
    ends_at: float
    renew_at: float

    @property
    def left_seconds(self) -> float:
        return self.ends_at - time.monotonic()


@dataclass
class VaultSession:
    """Calls Vault for whoever asks, from any thread. `read` reads what is signed in with."""

    settings: VaultSettings
    read: Callable[[SecretSource], str]
    folder: Path
    kept: SealedFile
    _signed_in: SignedIn | None = field(default=None, init=False, repr=False)
    _given: str = field(default="", init=False, repr=False)
    _secret_id: str = field(default="", init=False, repr=False)
    _rest: tuple[float, VaultError] | None = field(default=None, init=False, repr=False)
    _lock: threading.RLock = field(default_factory=threading.RLock, init=False, repr=False)

    @property
    def address(self) -> str:
        return self.settings.address.rstrip("/")

    def call(self, what: str, ask: Callable[["hvac.Client"], T]) -> T:
        """What `ask` gets from a client that is signed in. VaultError E_VAULT_*.

        A token that has ended meanwhile is noticed, and another one got.
        """
        signed_in = self.signed_in()
        try:
            return self.asked(what, signed_in.token, ask)
        except VaultError as error:
            if error.code != "E_VAULT_DENIED" or self._is_alive(signed_in):
                raise
        return self.asked(what, self._again(signed_in).token, ask)

    def asked(self, what: str, token: str, ask: Callable[["hvac.Client"], T]) -> T:
        """The same with this very token, which may be empty."""
        from hvac.exceptions import InvalidPath

        rest = self._rest
        if rest is not None and time.monotonic() < rest[0]:
            raise rest[1]
        try:
            with told_of(self.address, what), self._client(token) as client:
                found = ask(client)
        except VaultError as error:
            if error.code == "E_VAULT_DOWN":
                self._rest = (time.monotonic() + _REST_SECONDS, error)
            raise
        except InvalidPath:
            message = f"Vault at {self.address} would not {what}: there is nothing."
            raise VaultError(
                "E_VAULT_REFUSED", message, "Correct the path in config.yaml, or put it there."
            ) from None
        return found

    @contextlib.contextmanager
    def _client(self, token: str) -> "Iterator[hvac.Client]":
        """A client of its own for each call: threads share none; variables (proxies, VAULT_*) say nothing."""
        import hvac
        import requests

        ca_file = self.settings.ca_file
        with requests.Session() as session:
            session.trust_env = False
            session.verify = str(self.folder / Path(ca_file).expanduser()) if ca_file is not None else True
            yield hvac.Client(
                url=self.address,
                token=token,
                session=session,
                timeout=self.settings.timeout_seconds,
                namespace=self.settings.namespace,
                allow_redirects=False,
            )

    def values(self) -> Mapping[str, str]:
        """What it is signed in with now, by names for people; nobody is asked, and nobody waits."""
        signed_in = self._signed_in
        token = signed_in.token if signed_in is not None else ""
        found = {"the token for Vault": token, "the secret id for Vault": self._secret_id}
        return {name: value for name, value in found.items() if value}

    # --- signing in ---------------------------------------------------------------------------------------

    def signed_in(self) -> SignedIn:
        """The token that is in use, got if there is none."""
        with self._lock:
            given = self.read(self.settings.token) if self.settings.token is not None else ""
            if self._signed_in is not None and given == self._given and self._signed_in.left_seconds > 0:
                return self._signed_in
            self._given = given
            found = self._take_up(given) or self._sign_in()
            self._signed_in = found
            return found

    def renew(self) -> bool:
        """Bring the token to a longer life once it is time; whether there is another one now.

        Where it nears an end that it cannot pass, an AppRole signs in anew: what was lent under the old one is to
        be lent anew before that end.
        """
        with self._lock:
            before = self.signed_in()
            if time.monotonic() < before.renew_at or not before.renewable:
                return False
            wanted = int(before.ttl_seconds)
            try:
                told = self.asked(
                    "renew its token", before.token, lambda c: c.auth.token.renew_self(increment=wanted)
                )
                seconds = float(told["auth"]["lease_duration"])
            except VaultError as error:
                if error.code not in ("E_VAULT_DENIED", "E_VAULT_REFUSED"):
                    raise
                seconds = 0.0
            if seconds >= wanted * _NEARS_ITS_END or self.settings.approle is None:
                self._signed_in = _lasting(before, seconds) if seconds > 0 else replace(before, renew_at=_FOR_EVER)
                return False
            self._signed_in = self._sign_in()
            return True

    def _again(self, before: SignedIn) -> SignedIn:
        """Sign in anew, unless another thread has."""
        with self._lock:
            if self._signed_in is before:
                self._signed_in = None
                if self.settings.approle is not None:
                    self._signed_in = self._sign_in()
            return self.signed_in()

    def _is_alive(self, signed_in: SignedIn) -> bool:
        try:
            self.asked("look its token up", signed_in.token, lambda client: client.auth.token.lookup_self())
        except VaultError as error:
            return error.code != "E_VAULT_DENIED"
        return True

    def _take_up(self, given: str) -> SignedIn | None:
        """The token that is configured, or that an earlier run signed in for, if it is still good."""
        token = given or self._kept_token()
        if not token:
            return None
        try:
            told = self.asked("look its token up", token, lambda client: client.auth.token.lookup_self())["data"]
        except VaultError as error:
            if error.code != "E_VAULT_DENIED" or given:
                raise
            return None
        ttl, first = float(told["ttl"]), float(told.get("creation_ttl") or told["ttl"])
        found = SignedIn(
            token=token,
            accessor=str(told["accessor"]),
            policies=tuple(map(str, told.get("policies") or ())),
            renewable=bool(told.get("renewable")) and ttl > 0,
            ttl_seconds=first or ttl,
            ends_at=_FOR_EVER,
            renew_at=_FOR_EVER,
        )
        return _lasting(found, ttl) if ttl > 0 else found

    def _kept_token(self) -> str:
        if self.settings.approle is None:
            return ""
        data = self.kept.read()  # (one that somebody else's identity opens is not written over)
        try:
            kept = _Kept.model_validate_json(data) if data is not None else None
        except ValidationError:
            return ""
        if kept is None or kept.address != self.address:
            return ""
        self._secret_id = kept.secret_id
        return kept.token

    def _sign_in(self) -> SignedIn:
        approle = self.settings.approle
        if approle is None:
            mend = f"Write another one to {self.settings.token}."
            raise VaultError("E_VAULT_DENIED", f"The token for Vault at {self.address} is good no longer.", mend)
        secret_id = self._secret_id_of(approle)

        def login(client: "hvac.Client") -> dict[str, dict[str, object]]:
            return client.auth.approle.login(  # type: ignore[no-any-return]
                approle.role_id, secret_id, use_token=False, mount_point=approle.mount
            )

        auth = self.asked("sign in as its AppRole", "", login)["auth"]
        ttl = float(str(auth["lease_duration"]))
        policies = auth.get("policies")
        found = SignedIn(
            token=str(auth["client_token"]),
            accessor=str(auth["accessor"]),
            policies=tuple(map(str, policies)) if isinstance(policies, list) else (),
            renewable=bool(auth.get("renewable")) and ttl > 0,
            ttl_seconds=ttl,
            ends_at=_FOR_EVER,
            renew_at=_FOR_EVER,
        )
        once = self._secret_id if approle.wrapped else ""
        kept = _Kept(address=self.address, token=found.token, secret_id=once)
        self.kept.write(kept.model_dump_json().encode())
        return _lasting(found, ttl) if ttl > 0 else found

    def _secret_id_of(self, approle: ApproleSettings) -> str:
        """The secret id; one that comes wrapped is unwrapped once, and kept. Somebody else's doing so is told."""
        if not approle.wrapped:
            return self.read(approle.secret_id)
        if self._secret_id:
            return self._secret_id
        token = self.read(approle.secret_id)
        self.kept.identity.made()  # (else it could not be kept, and is had once only)
        try:
            made_at = self._wrapped_at(token)
            if not re.search(rf"(?:^|/)auth/{re.escape(approle.mount)}/role/[^/]+/secret-id$", made_at):
                raise _wrapped_anew(approle, made_at)
            told = self.asked("unwrap the secret id", token, lambda client: client.sys.unwrap())
        except VaultError as error:
            if error.code not in ("E_VAULT_REFUSED", "E_VAULT_DENIED"):
                raise
            message = (
                f"The wrapped secret id in {approle.secret_id} is too old, or somebody has unwrapped it before."
            )
            mend = (
                "Find out who, if it was not this root's supervisor; then have another one made, and put it there."
            )
            raise VaultError("E_VAULT_WRAPPED", message, mend) from None
        self._secret_id = str(told["data"]["secret_id"])
        return self._secret_id

    def _wrapped_at(self, token: str) -> str:
        """The path whose answer a token wraps: who has seen a secret id could wrap it anew, at another one."""

        def look(client: "hvac.Client") -> str:
            told = client.adapter.post("/v1/sys/wrapping/lookup", json={"token": token})
            return str(told["data"]["creation_path"])

        return self.asked("look the wrapped secret id up", "", look)


def _wrapped_anew(approle: ApproleSettings, path: str) -> VaultError:
    message = (
        f"What is wrapped in {approle.secret_id} was made at {path[:200]}, and not where secret ids of"
        f" {approle.mount} are: somebody may have seen it, and wrapped it anew."
    )
    mend = "Find out who put it there; have the secret ids of the role destroyed, and another one made."
    return VaultError("E_VAULT_WRAPPED", message, mend)


def _lasting(signed_in: SignedIn, seconds: float) -> SignedIn:
    """The same from now on for so long; it is to be renewed when two thirds of that are over."""
    now = time.monotonic()
    return replace(signed_in, ends_at=now + seconds, renew_at=now + seconds * 2 / 3)
