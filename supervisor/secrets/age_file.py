"""All secrets of a root in one file, encrypted with age: cheap to back up, of no use without its identity."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal

import pyrage
from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict, SecretStr, StringConstraints, ValidationError, field_serializer

from agent_daemon.protocol.files import write_file
from supervisor.core.secret_settings import SecretName
from supervisor.errors import CloudCodeError, refuse_root_in, writing
from supervisor.secrets.identity import IdentityFile

MAX_VALUE_BYTES = 64 * 1024
_LOCK_SECONDS = 10
_BY = Annotated[str, StringConstraints(max_length=200)]


class _Kept(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class Secret(_Kept):
    """One secret, and who made and last changed it."""

    value: SecretStr
    created_at: datetime
    created_by: _BY
    changed_at: datetime
    changed_by: _BY

    @field_serializer("value", when_used="json")
    def _plain(self, value: SecretStr) -> str:
        return value.get_secret_value()


class _Content(_Kept):
    """What is encrypted."""

    version: Literal[1] = 1
    secrets: dict[SecretName, Secret] = {}


@dataclass
class AgeFile:
    """The secrets by their names. One at a time changes them; a reader sees the file before a change or after."""

    path: Path
    identity: IdentityFile
    _seen: tuple[tuple[int, int, int], dict[str, Secret]] | None = field(default=None, init=False, repr=False)

    def read(self) -> dict[str, Secret]:
        """All secrets; none where there is no file. CloudCodeError E_SECRETS_* where they cannot be opened."""
        try:
            status = self.path.stat()
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise self._unreadable(str(error.strerror)) from None
        signature = (status.st_ino, status.st_mtime_ns, status.st_size)
        if self._seen is None or self._seen[0] != signature:
            self._seen = (signature, self._open().secrets)
        return dict(self._seen[1])

    def _open(self) -> _Content:
        identities = self.identity.read()
        try:
            return _Content.model_validate_json(pyrage.decrypt(self.path.read_bytes(), identities))
        except OSError as error:
            raise self._unreadable(str(error.strerror)) from None
        except pyrage.DecryptError:
            raise self._unreadable(f"{self.identity.path} does not open it") from None
        except ValidationError as error:
            raise self._unreadable(f"{error.errors(include_input=False)[0]['msg']} inside") from None

    def _unreadable(self, why: str) -> CloudCodeError:
        mend = f"Bring {self.path} back from a backup, or move it away and set the secrets anew."
        return CloudCodeError("E_SECRETS_UNREADABLE", f"{self.path} cannot be used: {why}.", mend)

    def change(self, update: Callable[[dict[str, Secret]], None]) -> None:
        """Have `update` change the secrets, and keep the result. Nothing is changed where it raises."""
        with self._alone():
            recipient = self.identity.made()[-1].to_public()
            secrets = self.read()
            update(secrets)
            self._write(secrets, recipient)

    def rotate_identity(self) -> None:
        """Encrypt for a new identity, and forget the old ones.

        Until the file is written both open it: killed in between, nothing is lost, and it can be done again.
        """
        with self._alone():
            new = pyrage.x25519.Identity.generate()
            self.identity.write([*self.identity.made(), new])
            self._write(self.read(), new.to_public())
            self.identity.write([new])

    def _write(self, secrets: dict[str, Secret], recipient: pyrage.x25519.Recipient) -> None:
        data = pyrage.encrypt(_Content(secrets=secrets).model_dump_json().encode(), [recipient])
        with writing(self.path):
            write_file(self.path, data, mode=0o600)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        refuse_root_in(self.path.parent)
        lock = FileLock(self.path.with_name(f".{self.path.name}.lock"), timeout=_LOCK_SECONDS, mode=0o600)
        try:
            with writing(self.path):
                lock.acquire()
        except Timeout:
            message = f"{self.path} is being changed by another command."
            raise CloudCodeError("E_SECRETS_BUSY", message, "Wait for it to end, and try again.") from None
        try:
            yield
        finally:
            lock.release()
