"""A token for an agent: one of the project's, that reads it as a Reporter and is revoked with the attempt.

GitLab knows days only: it would end by itself at the next midnight by UTC that is an hour away. Making one takes
a Maintainer's token, and on GitLab.com a paid plan (GitLab's documentation of project access tokens).
"""

import contextlib
import re
from collections.abc import Iterator
from datetime import UTC, datetime, time, timedelta

from supervisor.core.mint_rules import MAINTAINER, role, scope_lack
from supervisor.forges.errors import ForgeError
from supervisor.forges.gitlab.client import GitLabClient, access_level, project_path
from supervisor.ports import MintedToken

# Who may read the code of a private project.
_REPORTER = 20
_LEAST = timedelta(hours=1)
_NO_PLAN = "On GitLab.com it takes a paid plan; elsewhere an administrator or the group may have turned them off."
# Whose token is a project's or a group's, and makes no others (GitLab's documentation of both).
_BOT = re.compile(r"(project|group)_[0-9]+_bot")


class ReadTokens:
    """See `ports.Minter`. With `api` the token reads the project by the API, too."""

    def __init__(self, client: GitLabClient, repository: str, *, api: bool) -> None:
        self._client, self._repository = client, repository
        self._path = f"{project_path(repository)}/access_tokens"
        self._scopes = ["read_repository", *(["read_api"] if api else [])]

    def mint(self, name: str) -> MintedToken:
        ends = datetime.combine((self._client.now() + _LEAST).date() + timedelta(days=1), time(), tzinfo=UTC)
        body = {"name": name, "scopes": self._scopes, "access_level": _REPORTER}
        with self._refusals():
            made = self._client.create(self._path, body | {"expires_at": ends.date().isoformat()})
        number, token = str(made["id"]), str(made.get("token") or "")
        if not token or set(made.get("scopes", ())) - set(self._scopes):
            with contextlib.suppress(ForgeError):  # (else it is looked for by its name)
                self.revoke(name, number, token)
            message = "GitLab made a token that is not the one that was asked for; it is taken back."
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
        """E_MINT_RIGHTS where it is known what is missing: a scope, another kind of account, or the role."""
        why = scope_lack(self._scopes_of_ours())
        if why is not None:
            raise ForgeError("E_MINT_RIGHTS", f"GitLab: {why}.", "Sign in with a token that has the scope `api`.")
        if _BOT.match(self._client.login):
            message = f"GitLab: {self._client.login} is a project's or group's token, which can make no others."
            mend = "Sign in with the token of an account that is a Maintainer of the project."
            raise ForgeError("E_MINT_RIGHTS", message, mend)
        try:
            self._client.get(self._path, {"per_page": "1"})
        except ForgeError as error:
            raise self._role_lack() if error.is_hidden else error from None

    def _scopes_of_ours(self) -> list[str]:
        """The scopes of the token that signs in; not every kind tells them, and then it is tried."""
        try:
            return [str(scope) for scope in self._client.get("/personal_access_tokens/self").get("scopes") or ()]
        except ForgeError as error:
            if error.retryable:
                raise
            return ["api"]

    def _role_lack(self) -> ForgeError:
        """Who may make tokens may see them, and nobody sees any where the plan has none."""
        level = access_level(self._client.get(project_path(self._repository)))
        if level >= MAINTAINER:
            message = (
                f"GitLab shows {self._client.login} no access tokens of the project, whose {role(level)} it is."
            )
            return ForgeError("E_MINT_RIGHTS", f"{message} Expected is a project that has such.", _NO_PLAN)
        message = f"GitLab: {self._client.login} is {role(level)} of the project, expected is {role(MAINTAINER)}."
        return ForgeError("E_MINT_RIGHTS", message, "Make the account a Maintainer of the project.")

    @contextlib.contextmanager
    def _refusals(self) -> Iterator[None]:
        try:
            yield
        except ForgeError as error:
            told = "does not have permission" in error.message  # (by a 400)
            if error.code != "E_FORGE_DENIED" and not told:
                raise
            message = f"GitLab lets us make no token of the project: {error.message}"
            raise ForgeError("E_MINT_RIGHTS", message, f"Sign in with a Maintainer's token. {_NO_PLAN}") from None
