"""Bytes that are kept encrypted for the root's identity: a copy of the root opens nothing."""

from dataclasses import dataclass
from pathlib import Path

import pyrage

from agent_daemon.protocol.files import make_folder, write_file
from supervisor.errors import CloudCodeError, writing
from supervisor.secrets.identity import IdentityFile


def seal(data: bytes, identity: IdentityFile) -> bytes:
    """Encrypt for the newest identity, which is made where there is none."""
    return bytes(pyrage.encrypt(data, [identity.made()[-1].to_public()]))


def unseal(data: bytes, identity: IdentityFile, place: Path) -> bytes:
    """What lies at this place; CloudCodeError E_SECRETS_UNREADABLE or E_SECRETS_IDENTITY where it stays closed."""
    try:
        return bytes(pyrage.decrypt(data, identity.read()))
    except pyrage.DecryptError:
        message = f"{identity.path} does not open what the supervisor keeps in {place}."
        mend = f"Be the supervisor's user, or bring the identity back; without it, remove {place}."
        raise CloudCodeError("E_SECRETS_UNREADABLE", message, mend) from None


@dataclass(frozen=True)
class SealedFile:
    """One such file."""

    path: Path
    identity: IdentityFile

    def read(self) -> bytes | None:
        try:
            data = self.path.read_bytes()
        except OSError:
            return None
        return unseal(data, self.identity, self.path)

    def write(self, data: bytes) -> None:
        with writing(self.path):
            make_folder(self.path.parent)
            write_file(self.path, seal(data, self.identity), mode=0o600)
