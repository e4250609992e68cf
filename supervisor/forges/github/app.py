"""A GitHub App's tokens, minted for one repository and renewed before they end."""

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import requests
from github import Auth, GithubException, GithubIntegration
from jwt.exceptions import PyJWTError

from supervisor.core.mint_rules import lacking
from supervisor.forges.errors import Answer, ForgeError, limit_ends
from supervisor.forges.tokens import generation_of

if TYPE_CHECKING:
    from github.Requester import Requester

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


@dataclass(frozen=True, kw_only=True)
class InstallationToken:
    """One of an App's tokens, with what GitHub says that it may, and the App's name."""

    slug: str
    token: str = field(repr=False)
    ends: datetime
    permissions: Mapping[str, str]


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

    def __repr__(self) -> str:
        return f"AppTokens({self._app_id}, {self._owner}/{self._name})"

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
        made = self.ask(PERMISSIONS)
        self._slug, self._token, self._ends = made.slug, made.token, made.ends

    def ask(self, permissions: Mapping[str, str]) -> InstallationToken:
        """Another token, with these permissions alone; PyGithub's own call for it cannot name the repository."""
        with self._refusals(permissions):
            requester = self._requester()
            found = self._installation(requester, permissions)
            _, made = requester.requestJsonAndCheck(
                "POST",
                f"/app/installations/{int(found['id'])}/access_tokens",
                input={"repositories": [self._name], "permissions": dict(permissions)},
            )
            return InstallationToken(
                slug=str(found["app_slug"]),
                token=str(made["token"]),
                ends=datetime.fromisoformat(str(made["expires_at"]).replace("Z", "+00:00")),
                permissions={str(name): str(level) for name, level in made["permissions"].items()},
            )

    def probe(self, permissions: Mapping[str, str]) -> None:
        """ForgeError where no token with these permissions could be had now; none is made."""
        with self._refusals(permissions):
            self._installation(self._requester(), permissions)

    def _installation(self, requester: "Requester", permissions: Mapping[str, str]) -> dict[str, Any]:
        """The App's installation on the repository; ForgeError where it cannot give these permissions."""
        _, found = requester.requestJsonAndCheck("GET", f"/repos/{self._owner}/{self._name}/installation")
        if found.get("suspended_at"):
            raise self._suspended()
        granted = found.get("permissions") or {}
        lacks = lacking(granted, permissions)
        if lacks:
            has = _named({name: granted.get(name, "none") for name in lacks})
            message = f"The App's installation on {self._owner} has {has}; expected is {_named(lacks)}."
            mend = "Give the App that permission, and accept it where the App is installed: it counts only then."
            raise ForgeError("E_APP_PERMISSIONS", message, mend)
        return dict(found)

    def _suspended(self) -> ForgeError:
        message = f"The App's installation on {self._owner} is suspended; expected is one that is in force."
        mend = "Unsuspend it in the settings of installed Apps; where the App's owner did it, only they can."
        return ForgeError("E_APP_SUSPENDED", message, mend)

    def _requester(self) -> "Requester":
        return GithubIntegration(
            auth=Auth.AppAuth(self._app_id, self._private_key()),
            base_url=self._api_url,
            timeout=20,
            retry=None,
            seconds_between_requests=0,
            seconds_between_writes=0,
        ).requester

    @contextlib.contextmanager
    def _refusals(self, permissions: Mapping[str, str]) -> Iterator[None]:
        """What goes wrong on the way to a token, as ForgeError."""
        try:
            yield
        except GithubException as error:
            headers = {name.lower(): value for name, value in (error.headers or {}).items()}
            answer = Answer(status=error.status, headers=headers, data=error.data)
            limited = limit_ends(answer, self._now())
            if limited is not None:
                message = f"GitHub gives the App no token now (status {error.status})."
                raise ForgeError("E_FORGE_LIMIT", message, retryable=True, retry_at=limited) from None
            if "suspended" in str(error.data):  # (not every installation tells that of itself)
                raise self._suspended() from None
            mend = f"Install the App on the repository, with {_named(permissions)}."
            message = f"GitHub gives the App no token for {self._owner}/{self._name} (status {error.status})."
            raise ForgeError("E_FORGE_DENIED", message, mend, retryable=error.status >= 500) from None
        except PyJWTError:
            mend = "Put the private key there that GitHub gave when it was made for the App, as it is (PEM)."
            message = f"What signs in the App {self._app_id} is no private key."
            raise ForgeError("E_FORGE_TOKEN", message, mend, retryable=True) from None
        except (requests.RequestException, ConnectionError, KeyError, TypeError, ValueError) as error:
            message = f"GitHub gives the App no token ({type(error).__name__})."
            raise ForgeError("E_FORGE_DOWN", message, retryable=True) from None
