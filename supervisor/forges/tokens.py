"""Where a client gets its token from."""

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from supervisor.core.settings import SecretSource
from supervisor.forges.errors import ForgeError

_MAX_SECRET_BYTES = 64 * 1024


def generation_of(token: str) -> str:
    """A name for a token that does not tell it."""
    return hashlib.sha256(token.encode()).hexdigest()[:12]


class Tokens(Protocol):
    """Where a client gets its token from; asked before every request."""

    @property
    def generation(self) -> str:
        """Names the token now in use without telling it."""

    def current(self) -> tuple[str, str]:
        """The token and its generation."""

    def login(self) -> str | None:
        """The account that the token is of, where that is known without asking with it."""


@dataclass(frozen=True)
class TokenFrom:
    """A personal access token, read anew each time, so that another one needs no restart."""

    read: Callable[[], str] = field(repr=False)

    @property
    def generation(self) -> str:
        return generation_of(self.read())

    def current(self) -> tuple[str, str]:
        token = self.read()
        return token, generation_of(token)

    def login(self) -> str | None:
        return None


def read_secret(source: SecretSource, folder: Path) -> str:
    """The secret at this place; relative paths are below `folder`. ForgeError E_FORGE_TOKEN if there is none."""
    if source.env is not None:
        found = os.environ.get(source.env, "")
        mend = f"Set {source.env} around `cloud-code run`."
    else:
        path = folder / Path(source.file or "").expanduser()
        mend = f"Write the secret into {path}, readable for the supervisor's user alone (chmod 600)."
        found = _read(path, mend)
    if not found.strip():
        raise ForgeError("E_FORGE_TOKEN", f"There is no secret in {source}.", mend, retryable=True)
    return found.strip()


def _read(path: Path, mend: str) -> str:
    """A secret in a file that nobody else may read."""
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_mode & 0o007:
                message = f"{path} can be read by every user of this machine."
                raise ForgeError("E_FORGE_TOKEN", message, f"chmod 600 {path}", retryable=True)
            return file.read(_MAX_SECRET_BYTES).decode(errors="replace")
    except OSError as error:
        message = f"{path} cannot be read: {error.strerror}."
        raise ForgeError("E_FORGE_TOKEN", message, mend, retryable=True) from None
