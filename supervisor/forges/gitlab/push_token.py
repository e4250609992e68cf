"""A short-lived project access token for git, made with the main one where the instance lets that be done.

It can push and nothing else, and ends within two days; the API keeps the main token to itself. Making one takes a
Maintainer's token, and on GitLab.com a paid plan (GitLab's documentation of project access tokens).
"""

import contextlib
import threading
from datetime import UTC, datetime, timedelta

from loguru import logger

from supervisor.forges.errors import ForgeError
from supervisor.forges.gitlab.client import GitLabClient, project_path
from supervisor.forges.tokens import Tokens, generation_of

_DEVELOPER = 30
_RENEW_AFTER = timedelta(hours=20)
# It ends as the day begins (UTC) that GitLab is told: a day from now at the soonest.
_LIVES = timedelta(days=2)
# Where none can be made, it is tried again after this long.
_REST = timedelta(hours=1)


class PushToken:
    """What git pushes with: the project's own token, or the main one where none can be made (told in the log)."""

    def __init__(self, client: GitLabClient, repository: str, main: Tokens) -> None:
        self._client, self._main = client, main
        self._path = f"{project_path(repository)}/access_tokens"
        self._lock = threading.Lock()
        self._made: tuple[str, str] | None = None  # (its id, the token)
        self._next = datetime.min.replace(tzinfo=UTC)

    @property
    def generation(self) -> str:
        return self.current()[1]

    def login(self) -> str | None:
        return self._main.login()

    def current(self) -> tuple[str, str]:
        with self._lock:
            if self._client.now() >= self._next:
                self._renew()
            if self._made is None:
                return self._main.current()
            return self._made[1], generation_of(self._made[1])

    def _renew(self) -> None:
        """Make the next one, and end the one before."""
        now, before = self._client.now(), self._made
        ends = (now + _LIVES).date().isoformat()
        body = {"name": "cloud-code push", "scopes": ["write_repository"], "expires_at": ends}
        try:
            made = self._client.create(self._path, body | {"access_level": _DEVELOPER})
            self._made, self._next = (str(made["id"]), str(made["token"])), now + _RENEW_AFTER
        except (ForgeError, KeyError) as error:
            logger.warning("no token for pushing can be made, the main one is used: {}", error)
            self._made, self._next = None, now + _REST
        if before is not None:
            with contextlib.suppress(ForgeError):  # (it ends by itself)
                self._client.change("DELETE", f"{self._path}/{before[0]}")
