"""From a project's settings to its forge and its code host.

A forge is imported when a project has it: its library takes longer to import than all else of a start.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from agent_daemon.protocol.paths import Root
from supervisor.core.settings import GIT_USERS, PUBLIC_FORGES, AppSettings, ProjectSettings
from supervisor.errors import CloudCodeError
from supervisor.forges.local import LocalHost
from supervisor.forges.pace import Pace
from supervisor.forges.request_host import RequestHost
from supervisor.forges.tokens import ReadSecret, TokenFrom, Tokens, sign_in_with
from supervisor.git.credential import Credential
from supervisor.ports import CodeHost, Forge, Minter

if TYPE_CHECKING:
    from supervisor.forges.github.app import AppTokens


@dataclass
class Forges:
    """Opens forges; those that sign in alike share one pace."""

    root: Root
    read_secret: ReadSecret
    hide_in: Callable[[Any], Any] = lambda body: body
    _paces: dict[str, Pace] = field(default_factory=dict, init=False)

    def open(self, settings: ProjectSettings) -> tuple[Forge | None, CodeHost]:
        """The forge of a project, None where its tasks are files alone, and its code host.

        No request is made, and no secret read.
        """
        if settings.forge == "local":
            return None, LocalHost(self.root, settings)
        web = settings.web_address
        tokens = self._tokens(settings, web)
        auth = settings.auth
        pace = self._pace(settings)
        login = auth.login if auth is not None else None
        forge: Forge
        pushes = tokens
        if settings.forge == "github":
            from supervisor.forges.github.client import GitHubClient
            from supervisor.forges.github.forge import GitHubForge

            client = GitHubClient(_api(web), tokens, pace, login, self.hide_in)
            forge = GitHubForge(client, settings.repository, settings.trigger)
        else:
            from supervisor.forges.gitlab.client import GitLabClient
            from supervisor.forges.gitlab.forge import GitLabForge
            from supervisor.forges.gitlab.push_token import PushToken

            lab = GitLabClient(web, tokens, pace, login, self.hide_in)
            forge = GitLabForge(lab, settings.repository, settings.trigger)
            if auth is not None and auth.push == "project_token":
                pushes = PushToken(lab, settings.repository, tokens)
        credential = partial(_credential, web, GIT_USERS[settings.forge], pushes)
        return forge, RequestHost(forge, settings.request, f"{web}/{settings.repository}.git", credential)

    def minter(self, settings: ProjectSettings, *, api: bool) -> Minter:
        """What makes tokens for agents that read this project. CloudCodeError where its forge makes none."""
        web = settings.web_address
        if settings.forge == "gitlab":
            from supervisor.forges.gitlab.client import GitLabClient
            from supervisor.forges.gitlab.read_token import ReadTokens as ProjectTokens

            lab = GitLabClient(web, self._tokens(settings, web), self._pace(settings), None, self.hide_in)
            return ProjectTokens(lab, settings.repository, api=api)
        if settings.forge == "github" and settings.auth is not None and settings.auth.app is not None:
            from supervisor.forges.github.client import GitHubClient
            from supervisor.forges.github.read_token import ReadTokens

            pace = self._pace(settings)
            return ReadTokens(
                self._app(settings.auth.app, settings, web), lambda token: GitHubClient(_api(web), token, pace)
            )
        message = f"The forge of {settings.repository} makes no tokens for agents."
        raise CloudCodeError("E_CREDENTIAL_DENIED", message, "Sign in as a GitHub App, or say `secret:` instead.")

    def _pace(self, settings: ProjectSettings) -> Pace:
        return self._paces.setdefault(settings.account, Pace())

    def _app(self, app: AppSettings, settings: ProjectSettings, web: str) -> "AppTokens":
        from supervisor.forges.github.app import AppTokens

        key: Callable[[], str] = partial(sign_in_with, self.read_secret, app.private_key)
        return AppTokens(_api(web), app.id, key, settings.repository)

    def _tokens(self, settings: ProjectSettings, web: str) -> Tokens:
        auth = settings.auth
        if auth is None:
            message = f"The project at {settings.repository} has no `auth`: nobody can sign in to {web}."
            raise CloudCodeError("E_FORGE_TOKEN", message, "Add `auth: {token: {file: …}}` to it in config.yaml.")
        if auth.app is not None:
            return self._app(auth.app, settings, web)
        assert auth.token is not None  # noqa: S101 (the settings allow nothing else)
        return TokenFrom(partial(sign_in_with, self.read_secret, auth.token))


def _api(web: str) -> str:
    """GitHub's API: a host of its own, or below the pages of a GitHub Enterprise Server."""
    return "https://api.github.com" if web == PUBLIC_FORGES["github"] else f"{web}/api/v3"


def _credential(web: str, user: str, tokens: Tokens) -> Credential:
    parts = urlsplit(web)
    scheme: Literal["https", "http"] = "http" if parts.scheme == "http" else "https"
    return Credential.basic(parts.netloc, user, tokens.current()[0], scheme)
