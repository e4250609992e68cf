"""Requests to GitHub's API through PyGithub: never repeated inside, one `Github` object a thread.

Why so (observed with PyGithub 2.10): its retries post a comment up to three times when an answer is lost; a
`Github` object shared by threads returned another address's answer; a 307 after a rename looks like success;
listed objects fetch themselves again when an attribute is missing.
"""

import json
import logging
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import requests
from github import Auth, Github, GithubException

from supervisor.forges.client import PAGE, TIMEOUT_SECONDS, ForgeClient, unanswered
from supervisor.forges.errors import Answer, ForgeError, epoch, moved

# It tells of redirects, and at its lowest level of bodies with tokens in them.
logging.getLogger("github").setLevel(logging.WARNING)

_API_VERSION = "2022-11-28"
_LEAST_REST, _MOST_REST = timedelta(seconds=60), timedelta(hours=1)
_WENT_WRONG = "something went wrong while executing your query"  # (also where it took too long)
_GRAPHQL_CODES = {
    "NOT_FOUND": "E_FORGE_GONE",
    "FORBIDDEN": "E_FORGE_DENIED",
    "INSUFFICIENT_SCOPES": "E_FORGE_DENIED",
}


class GitHubClient(ForgeClient[Github]):
    """The API at `url` (``https://api.github.com``, or ``…/api/v3`` of a GitHub Enterprise Server)."""

    _LOGIN_KEY = "login"

    @property
    def is_app(self) -> bool:
        """Whether an App signs in: its tokens are given with what a project needs, or not at all."""
        return self._tokens.login() is not None

    def graphql(self, query: str, variables: Mapping[str, Any]) -> dict[str, Any]:
        """The `data` of a GraphQL answer, whose status is 200 also where it is refused."""
        address = self._library().requester.graphql_url
        answer = self._answer("POST", address, body={"query": query, "variables": dict(variables)})
        found = answer.data
        if not isinstance(found, dict) or found.get("errors") or not isinstance(found.get("data"), dict):
            raise self._graphql_error(answer)
        data: dict[str, Any] = found["data"]
        return data

    def _graphql_error(self, answer: Answer) -> ForgeError:
        errors = answer.data.get("errors") if isinstance(answer.data, dict) else None
        listed = [error for error in errors if isinstance(error, dict)] if isinstance(errors, list) else []
        kind = str(listed[0].get("type") or "") if listed else ""
        message = f"GraphQL refused: {str(errors or answer.data)[:300]}"
        if kind in ("RATE_LIMITED", "RATE_LIMIT"):
            reset = epoch(answer.limit("reset"))
            now = self.forge_now()
            again = min(max(reset or now, now + _LEAST_REST), now + _MOST_REST) - self._skew
            return ForgeError("E_FORGE_LIMIT", message, retryable=True, retry_at=again)
        if not kind and _WENT_WRONG in str(errors).lower():
            return ForgeError("E_FORGE_DOWN", message, retryable=True)
        return ForgeError(_GRAPHQL_CODES.get(kind, "E_FORGE_REFUSED"), message)

    def _send(
        self,
        method: str,
        path: str,
        parameters: Mapping[str, str] | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        body: Any = None,
    ) -> Answer:
        try:
            status, answered, text = self._library().requester.requestJson(
                method, path, parameters=dict(parameters or {}), headers=dict(headers or {}), input=body
            )
            return Answer(status=status, headers=answered, data=json.loads(text) if text else None)
        except (requests.RequestException, ConnectionError, TimeoutError) as error:
            raise unanswered(f"{method} {path}", error) from None
        except RuntimeError:  # (it would have to follow to another host, and take the token there)
            raise moved(f"{method} {path}") from None
        except (GithubException, AssertionError, ValueError) as error:
            message = f"{method} {path}: the answer makes no sense ({type(error).__name__})."
            raise ForgeError("E_FORGE_ANSWER", message, retryable=True) from None

    def _open(self, token: str) -> Github:
        return Github(
            auth=Auth.Token(token),
            base_url=self._url,
            timeout=TIMEOUT_SECONDS,
            per_page=PAGE,
            retry=None,
            seconds_between_requests=0,
            seconds_between_writes=0,
            lazy=True,
            api_version=_API_VERSION,
        )
