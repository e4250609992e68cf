"""From a place that the configuration names to the secret that is there."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from agent_daemon.protocol.paths import Root
from supervisor.core.secret_settings import SecretSource, SecretsSettings, VaultSettings
from supervisor.errors import CloudCodeError
from supervisor.ports import Minter
from supervisor.secrets.age_file import AgeFile
from supervisor.secrets.identity import IdentityFile
from supervisor.secrets.leases import Leases
from supervisor.secrets.minting import Minting
from supervisor.secrets.sealed import SealedFile
from supervisor.secrets.store import AgeStore, EnvStore, SecretStore
from supervisor.secrets.use import note_use
from supervisor.secrets.vault import VaultStore
from supervisor.secrets.vault_session import VaultSession

_MAX_SECRET_BYTES = 64 * 1024


def open_age_file(root: Root, settings: SecretsSettings) -> AgeFile:
    """The root's own secrets; relative paths are below the root. Nothing is read yet."""
    configured = None if settings.identity is None else root.path / Path(settings.identity).expanduser()
    return AgeFile(root.path / Path(settings.file).expanduser(), IdentityFile.find(configured))


def open_store(root: Root, settings: SecretsSettings) -> SecretStore:
    """Where the root's own secrets are kept. Nothing is read yet."""
    if settings.backend == "env":
        return EnvStore()
    if settings.backend == "age" or settings.vault is None:
        return AgeStore(open_age_file(root, settings))
    return VaultStore(open_session(root, settings.vault, settings))


def open_session(root: Root, vault: VaultSettings, settings: SecretsSettings) -> VaultSession:
    """The way into a Vault; nobody is asked yet."""
    identity = open_age_file(root, settings).identity
    reader = SecretReader(root, EnvStore())  # (what opens Vault is in a file or a variable)
    return VaultSession(vault, reader.read, root.path, SealedFile(root.vault_session, identity))


def open_leases(root: Root, settings: SecretsSettings, store: SecretStore) -> Leases | None:
    """What a Vault lends, as the book of an earlier run tells it; None without a Vault."""
    if not isinstance(store, VaultStore):
        return None
    return Leases(store.session, root.leases, open_age_file(root, settings).identity)


def open_minting(root: Root, settings: SecretsSettings, minter: Callable[[str, bool], Minter]) -> Minting:
    """What forges make for attempts, as the book of an earlier run tells it."""
    return Minting(minter, root.minted, open_age_file(root, settings).identity)


def values_of(minting: Minting, leases: Leases | None) -> Mapping[str, str]:
    """All that attempts were lent, or that was made for them, and what lends that."""
    lent = {**leases.values(), **leases.session.values()} if leases is not None else {}
    return {**minting.values(), **lent}


@dataclass
class SecretReader:
    """Reads secrets, anew each time: another value needs no restart."""

    root: Root
    store: SecretStore

    @classmethod
    def of(cls, root: Root, settings: SecretsSettings) -> "SecretReader":
        return cls(root, open_store(root, settings))

    def read(self, source: SecretSource) -> str:
        """The secret at this place. CloudCodeError E_NO_SECRET or E_SECRETS_* if there is none to be had."""
        if source.secret is not None:
            found = self._kept(source.secret)
            mend = self.store.mend(source.secret)
        elif source.env is not None:
            found = os.environ.get(source.env, "")
            mend = f"Set {source.env} around `cloud-code run`."
        else:
            path = self.root.path / Path(source.file or "").expanduser()
            mend = f"Write the secret into {path}, readable for the supervisor's user alone (chmod 600)."
            found = _read(path, mend)
        if not found.strip():
            raise CloudCodeError("E_NO_SECRET", f"There is nothing in {source}.", mend)
        return found.strip()

    def _kept(self, name: str) -> str:
        secret = self.store.get(name)
        if secret is None:
            return ""
        note_use(self.root, name)
        return secret


def _read(path: Path, mend: str) -> str:
    """A secret in a file that nobody else may read."""
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_mode & 0o007:
                message = f"{path} can be read by every user of this machine."
                raise CloudCodeError("E_NO_SECRET", message, f"chmod 600 {path}")
            return file.read(_MAX_SECRET_BYTES).decode(errors="replace")
    except OSError as error:
        message = f"{path} cannot be read: {error.strerror}."
        raise CloudCodeError("E_NO_SECRET", message, mend) from None
