"""A GitHub App's tokens, minted for one repository and renewed before they end."""

import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta

import requests
from github import Auth, GithubException, GithubIntegration
from jwt.exceptions import PyJWTError

from supervisor.forges.errors import Answer, ForgeError, limit_ends
from supervisor.forges.tokens import generation_of

# What a project needs of a repository, and no more. Workflows are left out: changing them is held for a person.
PERMISSIONS = {
    "contents": "write",
    "issues": "write",
    "pull_requests": "write",
    "checks": "read",
    "statuses": "read",
}
_RENEW_BEFORE = timedelta(minutes=10)


def _named(permissions: Mapping[str, str]) -> str:
    return ", ".join(f"{name}: {level}" for name, level in permissions.items())


class AppTokens:
    """Installation tokens of a GitHub App, narrowed to one repository and `PERMISSIONS`, an hour each."""

    def __init__(
        self,
        api_url: str,
        app_id: str,
        private_key: Callable[[], str],
        repository: str,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._api_url, self._app_id, self._private_key = api_url, app_id, private_key
        self._owner, _, self._name = repository.partition("/")
        self._now = now
        self._lock = threading.Lock()
        self._token = self._slug = ""
        self._ends = datetime.min.replace(tzinfo=UTC)

    @property
    def generation(self) -> str:
        return self.current()[1]

    def current(self) -> tuple[str, str]:
        with self._lock:
            if self._now() + _RENEW_BEFORE >= self._ends:
                self._mint()
            return self._token, generation_of(self._token)

    def login(self) -> str:
        """The App's own account, by the name that its installation tells."""
        self.current()
        return f"{self._slug}[bot]"

    def _mint(self) -> None:
        """Ask for a token; PyGithub's own call for it cannot name the repository."""
        try:
            integration = GithubIntegration(
                auth=Auth.AppAuth(self._app_id, self._private_key()),
                base_url=self._api_url,
                timeout=20,
                retry=None,
                seconds_between_requests=0,
                seconds_between_writes=0,
            )
            requester = integration.requester
            _, found = requester.requestJsonAndCheck("GET", f"/repos/{self._owner}/{self._name}/installation")
            _, made = requester.requestJsonAndCheck(
                "POST",
                f"/app/installations/{int(found['id'])}/access_tokens",
                input={"repositories": [self._name], "permissions": PERMISSIONS},
            )
            self._slug = str(found["app_slug"])
            self._token, ends = str(made["token"]), str(made["expires_at"])
            self._ends = datetime.fromisoformat(ends.replace("Z", "+00:00"))
        except GithubException as error:
            headers = {name.lower(): value for name, value in (error.headers or {}).items()}
            answer = Answer(status=error.status, headers=headers, data=error.data)
            limited = limit_ends(answer, self._now())
            if limited is not None:
                message = f"GitHub gives the App no token now (status {error.status})."
                raise ForgeError("E_FORGE_LIMIT", message, retryable=True, retry_at=limited) from None
            mend = f"Install the App on the repository, with {_named(PERMISSIONS)}."
            message = f"GitHub gives the App no token for {self._owner}/{self._name} (status {error.status})."
            raise ForgeError("E_FORGE_DENIED", message, mend, retryable=error.status >= 500) from None
        except PyJWTError:
            mend = "Put the private key there that GitHub gave when it was made for the App, as it is (PEM)."
            message = f"What signs in the App {self._app_id} is no private key."
            raise ForgeError("E_FORGE_TOKEN", message, mend, retryable=True) from None
        except (requests.RequestException, ConnectionError, KeyError, TypeError, ValueError) as error:
            message = f"GitHub gives the App no token ({type(error).__name__})."
            raise ForgeError("E_FORGE_DOWN", message, retryable=True) from None
