"""A Vault with all that a root needs of it: the stand-in, or a real server that the environment names.

`CLOUD_CODE_TEST_VAULT_ADDR` and `CLOUD_CODE_TEST_VAULT_TOKEN` (one that may do everything) have the tests run
against that server instead, as far as nothing has to go wrong or to pass there. `CLOUD_CODE_TEST_VAULT_LEASE` is
then a path at which it lends something with a `username` and a `password`.
"""

import contextlib
import os
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from tests.fakes.vault import FakeVault

# What docs/secrets.md tells operators to write.
POLICY = """
path "secret/data/{prefix}/*" {{ capabilities = ["read"] }}
path "{lease}" {{ capabilities = ["read"] }}
path "auth/token/create" {{ capabilities = ["update"] }}
path "auth/token/revoke-accessor" {{ capabilities = ["update"] }}
path "sys/leases/renew" {{ capabilities = ["update"] }}
"""


@dataclass
class VaultSite:
    """One server. `fake` is None where it is a real one."""

    address: str
    root_token: str
    fake: FakeVault | None
    prefix: str
    lease: str = "database/creds/cc-rw"
    unseal_key: str = ""

    def ask(self, method: str, path: str, *, wrap: str | None = None, **body: Any) -> Any:
        """What the server answers to somebody who may do everything."""
        headers = {"X-Vault-Token": self.root_token} | ({"X-Vault-Wrap-TTL": wrap} if wrap else {})
        answer = requests.request(method, f"{self.address}/v1/{path}", headers=headers, json=body, timeout=60)
        assert answer.ok or answer.status_code == 404, answer.text
        return answer.json() if answer.content else {}

    def put(self, name: str, **fields: str) -> None:
        """Keep a secret of the root."""
        self.ask("POST", f"secret/data/{self.prefix}/{name}", data=fields)

    def prepare(self) -> None:
        """The policy, the AppRole and the database's role that the tests use."""
        policy = POLICY.format(prefix=self.prefix, lease=self.lease)
        self.ask("PUT", f"sys/policy/{self.prefix}", policy=policy)
        self.approle(token_ttl="20m")
        if self.fake is not None:
            self.lends(default_ttl="5m", max_ttl="1h")

    def seal(self) -> None:
        self.ask("PUT", "sys/seal")

    def unseal(self) -> None:
        if self.fake is not None:
            self.fake.unseal()
        else:
            self.ask("PUT", "sys/unseal", key=self.unseal_key)

    def lent(self) -> list[str]:
        """The leases that live now."""
        if self.fake is not None:
            return [lease.id for lease in self.fake.lent()]
        told = self.ask("LIST", f"sys/leases/lookup/{self.lease}")
        return list(told.get("data", {}).get("keys", ()))

    def lends(self, **role: str) -> None:
        """How the database's role lends."""
        self.ask("POST", "database/roles/cc-rw", db_name="pg", **role)

    def approle(self, **facts: str) -> None:
        with contextlib.suppress(AssertionError):  # it is there already
            self.ask("POST", "sys/auth/approle", type="approle")
        self.ask("POST", f"auth/approle/role/{self.prefix}", token_policies=self.prefix, **facts)

    def role_id(self) -> str:
        return str(self.ask("GET", f"auth/approle/role/{self.prefix}/role-id")["data"]["role_id"])

    def secret_id(self, *, wrap: str | None = None) -> str:
        """A secret id, or the token that wraps one."""
        made = self.ask("POST", f"auth/approle/role/{self.prefix}/secret-id", wrap=wrap)
        return str(made["wrap_info"]["token"] if wrap else made["data"]["secret_id"])

    def settings(self, folder: Path, *, wrapped: bool = False, **more: Any) -> dict[str, Any]:
        """`secrets` of config.yaml, signed in as the AppRole; the secret id lies in the folder."""
        place = folder / "secret-id"
        place.write_text(self.secret_id(wrap="60s" if wrapped else None))
        place.chmod(0o600)
        approle = {"role_id": self.role_id(), "secret_id": {"file": str(place)}, "wrapped": wrapped}
        vault = {"address": self.address, "prefix": self.prefix, "approle": approle, "timeout_seconds": 60}
        return {"backend": "vault", "identity": str(folder / "identity"), "vault": vault | more}


@contextlib.contextmanager
def vault_site(*, fake: bool = False) -> Iterator[VaultSite]:
    """`fake`: the stand-in in any case, for what cannot be had of a real server."""
    address, prefix = os.environ.get("CLOUD_CODE_TEST_VAULT_ADDR"), f"cc-{uuid.uuid4().hex[:8]}"
    if address and not fake:
        lease = os.environ.get("CLOUD_CODE_TEST_VAULT_LEASE", "database/creds/cc-rw")
        site = VaultSite(address, os.environ["CLOUD_CODE_TEST_VAULT_TOKEN"], None, prefix, lease)
        site.prepare()
        yield site
        return
    with FakeVault() as running:
        site = VaultSite(running.address, running.root_token, running, prefix)
        site.prepare()
        yield site
