"""Where a client gets its token from."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from supervisor.core.secret_settings import SecretSource
from supervisor.errors import CloudCodeError
from supervisor.forges.errors import ForgeError

ReadSecret = Callable[[SecretSource], str]


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


def sign_in_with(read: ReadSecret, source: SecretSource) -> str:
    """The secret that a forge is signed in to with; ForgeError E_FORGE_TOKEN where there is none.

    A place that cannot be asked or opened now keeps its own code: that passes.
    """
    try:
        return read(source)
    except CloudCodeError as error:
        passes = getattr(error, "retryable", False) or error.code.startswith("E_SECRETS_")
        code = error.code if passes else "E_FORGE_TOKEN"
        raise ForgeError(code, error.message, error.mend, retryable=True) from None
