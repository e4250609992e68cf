"""The age identity that opens the secrets of a root: given by systemd, or a file that only its user may read."""

import os
from dataclasses import dataclass
from pathlib import Path

import pyrage

from agent_daemon.protocol.files import write_file
from supervisor.errors import CloudCodeError, writing

# The name under which `LoadCredential=` or `LoadCredentialEncrypted=` of the unit gives it (systemd.exec(5)).
CREDENTIAL = "cloud-code-identity"
_MAX_BYTES = 64 * 1024


def default_place() -> Path:
    """Beside the configuration of the user's other programs, so that a copy of the root alone opens nothing."""
    base = os.environ.get("XDG_CONFIG_HOME")
    return (Path(base) if base else Path.home() / ".config") / "cloud-code" / "identity"


@dataclass(frozen=True)
class IdentityFile:
    """A file as `age-keygen` writes it; with several identities the last one is the one to encrypt for."""

    path: Path
    given: bool = False  # by systemd: not ours to write

    @classmethod
    def find(cls, configured: Path | None) -> "IdentityFile":
        """What systemd gives comes first, then the configured place, then the usual one."""
        folder = os.environ.get("CREDENTIALS_DIRECTORY")
        if folder and (Path(folder) / CREDENTIAL).exists():
            return cls(Path(folder) / CREDENTIAL, given=True)
        return cls(configured or default_place())

    def read(self) -> list[pyrage.x25519.Identity]:
        """All identities. CloudCodeError E_SECRETS_IDENTITY where there are none, or others may read them."""
        mend = (
            f"Bring {self.path} back from its backup; without it the secrets can only be set anew, "
            "in a file of their own."
        )
        try:
            with self.path.open("rb") as file:
                if os.fstat(file.fileno()).st_mode & 0o077 and not self.given:
                    message = f"{self.path} can be read by other users of this machine."
                    raise CloudCodeError("E_SECRETS_IDENTITY", message, f"chmod 600 {self.path}")
                lines = file.read(_MAX_BYTES).decode(errors="replace").splitlines()
        except OSError as error:
            message = f"The identity {self.path} cannot be read: {error.strerror}."
            raise CloudCodeError("E_SECRETS_IDENTITY", message, mend) from None
        try:
            found = [
                pyrage.x25519.Identity.from_str(line.strip())
                for line in lines
                if line.strip() and line.lstrip()[0] != "#"
            ]
        except pyrage.IdentityError:
            found = []
        if not found:
            message = f"{self.path} holds no age identity."
            raise CloudCodeError("E_SECRETS_IDENTITY", message, mend)
        return found

    def made(self) -> list[pyrage.x25519.Identity]:
        """The identities; a first one is made where there is no file."""
        if not self.given and not os.path.lexists(self.path):
            with writing(self.path):
                self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self.write([pyrage.x25519.Identity.generate()])
        return self.read()

    def write(self, identities: list[pyrage.x25519.Identity]) -> None:
        """Replace the file. CloudCodeError where that is systemd's."""
        if self.given:
            raise CloudCodeError(
                "E_SECRETS_IDENTITY",
                f"The identity is given by systemd ({self.path}) and cannot be replaced from here.",
                f"Make one with `age-keygen`, and give it to the unit as the credential {CREDENTIAL}.",
            )
        text = "".join(f"# public key: {one.to_public()}\n{one}\n" for one in identities)
        with writing(self.path):
            write_file(self.path, text.encode(), mode=0o600)
