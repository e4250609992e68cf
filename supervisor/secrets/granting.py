"""What agents are granted: the root's secrets, what a Vault lends or a forge makes, for one daemon each."""

import hmac
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pyrage

from supervisor.core.credentials import git_place
from supervisor.core.record import Grant
from supervisor.core.secret_settings import AccessSettings, SecretSource
from supervisor.core.settings import Config
from supervisor.errors import CloudCodeError
from supervisor.mail import Box
from supervisor.secrets.leases import Leases, Lent
from supervisor.secrets.minting import Minted, Minting, project_of
from supervisor.secrets.sources import SecretReader


@dataclass
class Granting:
    """See `jobs.credentials.Credentials` and `lending.Lender`. Without a Vault nothing is lent."""

    config: Config
    reader: SecretReader
    minting: Minting
    leases: Leases | None = None
    _key: bytes = field(default=b"", init=False, repr=False)

    def value(self, box: Box, grant: Grant) -> str:
        rule = self._rule(grant.type, grant.access)
        if rule.lease is not None:
            return self._lender().lend(box.task_id, grant.id, box.attempt, rule.lease, rule.template)
        if rule.mint is not None:
            return self.minting.mint(box.task_id, grant.id, box.attempt, api=rule.mint == "api")
        return self.reader.read(SecretSource(secret=rule.secret))

    def mark(self, value: str) -> str:
        """By the root's identity, so that nobody without it can try values; without one it holds for this run."""
        if not self._key:
            try:
                self._key = str(self.minting.identity.read()[-1]).encode()
            except CloudCodeError:
                self._key = os.urandom(32)
        return hmac.new(self._key, value.encode(), "sha256").hexdigest()[:32]

    def git_place(self, box: Box, grant: Grant) -> tuple[str, str] | None:
        project = self.config.projects.get(project_of(box.task_id))
        return git_place(grant.type, project) if project is not None else None

    def probe(self, task_id: str, credential_type: str, access: str) -> None:
        rule = self._rule(credential_type, access)
        if rule.lease is not None:
            self._lender().session.call("look its token up", lambda client: client.auth.token.lookup_self())
        elif rule.mint is not None:
            self.minting.minter(project_of(task_id), rule.mint == "api").probe()
        else:
            self.reader.read(SecretSource(secret=rule.secret))

    def _rule(self, credential_type: str, access: str) -> AccessSettings:
        settings = self.config.credentials.get(credential_type)
        rule = settings.access.get(access) if settings is not None else None
        if rule is None:
            message = f"{credential_type} with the access '{access}' is not configured any more."
            raise CloudCodeError("E_CREDENTIAL_DENIED", message, "Configure it, or deny the request.")
        return rule

    def _lender(self) -> Leases:
        if self.leases is None:
            message = "Nothing is lent here: the root's secrets are in no Vault."
            raise CloudCodeError("E_CREDENTIAL_DENIED", message, "Say `secret:` instead, or set `secrets.vault`.")
        return self.leases

    def seal(self, plaintext: bytes, recipient: str) -> bytes:
        try:
            return bytes(pyrage.encrypt(plaintext, [pyrage.x25519.Recipient.from_str(recipient)]))
        except (pyrage.RecipientError, pyrage.EncryptError):
            message = "The workstation names no age recipient in its workstation.yaml."
            raise CloudCodeError("E_CREDENTIAL_RECIPIENT", message, "Restart the workstation.") from None

    # --- what is lent ---------------------------------------------------------------------------------------

    @property
    def lends(self) -> bool:
        return self.leases is not None

    def pages(self) -> Sequence[Lent | Minted]:
        return [*(self.leases.pages() if self.leases is not None else ()), *self.minting.pages()]

    def renew(self, name: str, left_seconds: float) -> bool:
        return self._book_of(name).renew(name, left_seconds)

    def revoke(self, name: str) -> None:
        self._book_of(name).revoke(name)

    def _book_of(self, name: str) -> Leases | Minting:
        return self.minting if self.minting.holds(name) else self._lender()

    def keep_signed_in(self) -> None:
        self._lender().session.renew()

    def changed(self, given: Mapping[tuple[str, str], tuple[str, str, str]]) -> list[tuple[str, str]]:
        found = []
        for key, (credential_type, access, mark) in given.items():
            rule = self.config.credentials.get(credential_type)
            secret = rule.access[access].secret if rule is not None and access in rule.access else None
            value = self.reader.store.get(secret) if secret is not None else None
            if value is not None and self.mark(value.strip()) != mark:
                found.append(key)
        return found
