"""Secrets in a Vault: its key-value engine (version 2) behind `{secret: NAME}`."""

import json
import threading
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from supervisor.secrets.vault_session import VaultSession

if TYPE_CHECKING:
    import hvac

# A forge's token is wanted before each request: so long the last answer counts.
FRESH_SECONDS = 10.0
# What is to be known before something is pushed and was not there is looked for again after this.
_ABSENT_SECONDS = 60.0
# How long an answer that comes wrapped may lie.
_WRAP_TTL = "60s"


@dataclass
class VaultStore:
    """See `store.SecretStore`. A secret is the field `value` of its path, or the only field there is."""

    session: VaultSession
    _read_at: dict[str, float] = field(default_factory=dict, init=False)
    _values: dict[str, str] = field(default_factory=dict, init=False, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    def get(self, name: str) -> str | None:
        now = time.monotonic()
        with self._lock:
            if now - self._read_at.get(name, -FRESH_SECONDS) < FRESH_SECONDS:
                return self._values.get(name)
        return self.read(name)

    def read(self, name: str) -> str | None:
        """The value, asked for now."""
        found = self._ask(name)
        with self._lock:
            self._read_at[name] = time.monotonic()
            if found is None:
                self._values.pop(name, None)
            else:
                self._values[name] = found
        return found

    def known(self) -> Mapping[str, str]:
        with self._lock:
            return dict(self._values)

    def learn(self, names: Collection[str]) -> None:
        now = time.monotonic()
        with self._lock:
            wanted = [
                name
                for name in names
                if name not in self._values and now - self._read_at.get(name, -_ABSENT_SECONDS) >= _ABSENT_SECONDS
            ]
        for name in wanted:
            self.read(name)

    def mend(self, name: str) -> str:
        return f"Set it: `vault kv put -mount={self.session.settings.mount} {self._path(name)} value=-`."

    def _path(self, name: str) -> str:
        return f"{self.session.settings.prefix}/{name}"

    def _ask(self, name: str) -> str | None:
        from hvac.exceptions import InvalidPath

        path = f"{self.session.settings.mount}/data/{self._path(name)}"

        def ask(client: "hvac.Client") -> str | None:
            try:
                return text_of(read_path(self.session, client, path)["data"]["data"])
            except InvalidPath as error:
                if error.errors or error.json is None:
                    raise
                return None

        return self.session.call(f"read {path}", ask)


def read_path(session: VaultSession, client: "hvac.Client", path: str) -> Any:
    """What lies at a path; wrapped on its way where that is wanted: only who unwraps it has seen it."""
    wrap = _WRAP_TTL if session.settings.wrap_reads else None
    told = client.adapter.get(f"/v1/{path}", wrap_ttl=wrap)
    if wrap is None:
        return told
    token = told["wrap_info"]["token"]
    return session.asked(f"unwrap {path}", token, lambda unwrapping: unwrapping.sys.unwrap())


def text_of(data: Mapping[str, Any]) -> str:
    """One text of several fields: `value`, the only one, or all of them as JSON."""
    values = list(data.values())
    found = data["value"] if "value" in data else values[0] if len(values) == 1 else None
    return found if isinstance(found, str) else json.dumps(dict(data), sort_keys=True)
