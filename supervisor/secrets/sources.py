"""From a place that the configuration names to the secret that is there."""

import os
from dataclasses import dataclass
from pathlib import Path

from agent_daemon.protocol.paths import Root
from supervisor.core.settings import SecretSource, SecretsSettings
from supervisor.errors import CloudCodeError
from supervisor.secrets.age_file import AgeFile
from supervisor.secrets.identity import IdentityFile
from supervisor.secrets.use import note_use

_MAX_SECRET_BYTES = 64 * 1024


def open_age_file(root: Root, settings: SecretsSettings) -> AgeFile:
    """The root's own secrets; relative paths are below the root. Nothing is read yet."""
    configured = None if settings.identity is None else root.path / Path(settings.identity).expanduser()
    return AgeFile(root.path / Path(settings.file).expanduser(), IdentityFile.find(configured))


@dataclass
class SecretReader:
    """Reads secrets, anew each time: another value needs no restart."""

    root: Root
    kept: AgeFile

    @classmethod
    def of(cls, root: Root, settings: SecretsSettings) -> "SecretReader":
        return cls(root, open_age_file(root, settings))

    def read(self, source: SecretSource) -> str:
        """The secret at this place. CloudCodeError E_NO_SECRET or E_SECRETS_* if there is none to be had."""
        if source.secret is not None:
            found = self._kept(source.secret)
            mend = f"Set it: `cloud-code secret set {source.secret}`."
        elif source.env is not None:
            found = os.environ.get(source.env, "")
            mend = f"Set {source.env} around `cloud-code run`."
        else:
            path = self.root.path / Path(source.file or "").expanduser()
            mend = f"Write the secret into {path}, readable for the supervisor's user alone (chmod 600)."
            found = _read(path, mend)
        if not found.strip():
            raise CloudCodeError("E_NO_SECRET", f"There is no secret in {source}.", mend)
        return found.strip()

    def _kept(self, name: str) -> str:
        secret = self.kept.read().get(name)
        if secret is None:
            return ""
        note_use(self.root, name)
        return secret.value.get_secret_value()


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
