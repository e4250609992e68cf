"""Where a client gets its token from."""

import hashlib
from dataclasses import dataclass, field
from typing import Protocol


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


@dataclass(frozen=True)
class FixedToken:
    """A personal access token."""

    value: str = field(repr=False)

    @property
    def generation(self) -> str:
        return generation_of(self.value)

    def current(self) -> tuple[str, str]:
        return self.value, self.generation
