"""The root's own secrets as what agents are granted, each encrypted for one daemon."""

from dataclasses import dataclass

import pyrage

from supervisor.core.secret_settings import SecretSource
from supervisor.core.settings import Config
from supervisor.errors import CloudCodeError
from supervisor.secrets.sources import SecretReader


@dataclass(frozen=True)
class Granting:
    """See `jobs.credentials.Credentials`."""

    config: Config
    reader: SecretReader

    def value(self, credential_type: str, access: str) -> str:
        settings = self.config.credentials.get(credential_type)
        rule = settings.access.get(access) if settings is not None else None
        if rule is None:
            message = f"{credential_type} with the access '{access}' is not configured any more."
            raise CloudCodeError("E_CREDENTIAL_DENIED", message, "Configure it, or deny the request.")
        return self.reader.read(SecretSource(secret=rule.secret))

    def seal(self, plaintext: bytes, recipient: str) -> bytes:
        try:
            return bytes(pyrage.encrypt(plaintext, [pyrage.x25519.Recipient.from_str(recipient)]))
        except (pyrage.RecipientError, pyrage.EncryptError):
            message = "The workstation names no age recipient in its workstation.yaml."
            raise CloudCodeError("E_CREDENTIAL_RECIPIENT", message, "Restart the workstation.") from None
