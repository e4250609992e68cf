"""A token for an agent: an App's, for one repository, that reads what is in it and lives an hour.

GitHub lists no such tokens: one whose answer was lost ends by itself.
"""

from collections.abc import Callable
from contextlib import suppress

from supervisor.forges.errors import ForgeError
from supervisor.forges.github.app import AppTokens
from supervisor.forges.github.client import GitHubClient
from supervisor.forges.tokens import TokenFrom, Tokens
from supervisor.ports import MintedToken

PERMISSIONS = {"contents": "read", "metadata": "read"}


class ReadTokens:
    """See `ports.Minter`. `client` signs in with the token that is to be revoked."""

    def __init__(self, app: AppTokens, client: Callable[[Tokens], GitHubClient]) -> None:
        self._app, self._client = app, client

    def mint(self, name: str) -> MintedToken:
        made = self._app.ask(PERMISSIONS)
        if set(made.permissions.values()) - {"read"}:
            with suppress(ForgeError):  # (else it ends within the hour)
                self.revoke(name, "", made.token)
            message = "GitHub made a token that may more than read; it is taken back."
            raise ForgeError("E_FORGE_ANSWER", message, "See the App's permissions.")
        return MintedToken(id="", token=made.token, ends=made.ends)

    def revoke(self, name: str, number: str, token: str) -> None:
        if not token:
            return
        try:
            self._client(TokenFrom(lambda: token)).change("DELETE", "/installation/token")
        except ForgeError as error:
            if "answered with 401" not in error.message:  # it has ended, or was revoked before
                raise

    def probe(self) -> None:
        self._app.probe(PERMISSIONS)
