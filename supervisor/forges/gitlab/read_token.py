"""A token for an agent: one of the project's, that reads it as a Reporter and is revoked with the attempt.

GitLab knows days only: it would end by itself at the next midnight by UTC that is an hour away. Making one takes
a Maintainer's token, and on GitLab.com a paid plan (GitLab's documentation of project access tokens).
"""

import contextlib
from collections.abc import Iterator
from datetime import UTC, datetime, time, timedelta

from supervisor.forges.errors import ForgeError
from supervisor.forges.gitlab.client import GitLabClient, project_path
from supervisor.ports import MintedToken

# Who may read the code of a private project.
_REPORTER = 20
_LEAST = timedelta(hours=1)


class ReadTokens:
    """See `ports.Minter`. With `api` the token reads the project by the API, too."""

    def __init__(self, client: GitLabClient, repository: str, *, api: bool) -> None:
        self._client = client
        self._path = f"{project_path(repository)}/access_tokens"
        self._scopes = ["read_repository", *(["read_api"] if api else [])]

    def mint(self, name: str) -> MintedToken:
        ends = datetime.combine((self._client.now() + _LEAST).date() + timedelta(days=1), time(), tzinfo=UTC)
        body = {"name": name, "scopes": self._scopes, "access_level": _REPORTER}
        with self._refusals():
            made = self._client.create(self._path, body | {"expires_at": ends.date().isoformat()})
        number, token = str(made["id"]), str(made.get("token") or "")
        if not token or set(made.get("scopes", ())) - set(self._scopes):
            self.revoke(name, number, token)
            message = "GitLab made a token that is not the one that was asked for; it is revoked."
            raise ForgeError("E_FORGE_ANSWER", message, "See the project's access tokens.")
        return MintedToken(id=number, token=token, ends=ends)

    def revoke(self, name: str, number: str, token: str) -> None:
        for each in [number] if number else self._named(name):
            try:
                self._client.change("DELETE", f"{self._path}/{each}")
            except ForgeError as error:
                if error.code != "E_FORGE_GONE":  # it has ended, or was revoked before
                    raise

    def _named(self, name: str) -> list[str]:
        """Those of this name: an answer with a number was lost."""
        listed = self._client.pages(self._path, {"state": "active"})
        return [str(one["id"]) for one in listed if one.get("name") == name]

    def probe(self) -> None:
        with self._refusals():
            self._client.get(self._path, {"per_page": "1"})

    @contextlib.contextmanager
    def _refusals(self) -> Iterator[None]:
        try:
            yield
        except ForgeError as error:
            if not error.is_hidden:
                raise
            message = f"GitLab lets us make no token of the project: {error.message}"
            mend = "Sign in with a Maintainer's token; on GitLab.com it takes a paid plan."
            raise ForgeError(error.code, message, mend) from None
