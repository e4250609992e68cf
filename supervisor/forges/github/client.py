"""Requests to GitHub's API through PyGithub: never repeated inside, one `Github` object a thread.

Why so (observed with PyGithub 2.10): its retries post a comment up to three times when an answer is lost; a
`Github` object shared by threads returned another address's answer; a 307 after a rename looks like success;
listed objects fetch themselves again when an attribute is missing.
"""

import json
from collections.abc import Mapping
from typing import Any

import requests
from github import Auth, Github, GithubException

from supervisor.forges.client import PAGE, TIMEOUT_SECONDS, ForgeClient
from supervisor.forges.errors import Answer, ForgeError

_API_VERSION = "2022-11-28"


class GitHubClient(ForgeClient[Github]):
    """The API at `url` (``https://api.github.com``, or ``…/api/v3`` of a GitHub Enterprise Server)."""

    @property
    def login(self) -> str:
        if self._login is None:
            self._login = self._tokens.login() or str(self.get("/user")["login"])
        return self._login

    @property
    def is_app(self) -> bool:
        """Whether an App signs in: its tokens are given with what a project needs, or not at all."""
        return self._tokens.login() is not None

    def graphql(self, query: str, variables: Mapping[str, Any]) -> dict[str, Any]:
        """The `data` of a GraphQL answer."""
        address = self._library().requester.graphql_url
        found = self._answer("POST", address, body={"query": query, "variables": dict(variables)}).data
        if not isinstance(found, dict) or found.get("errors") or not isinstance(found.get("data"), dict):
            raise ForgeError("E_FORGE_REFUSED", f"GraphQL refused: {str(found)[:300]}")
        data: dict[str, Any] = found["data"]
        return data

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
            message = f"{method} {path}: no answer ({type(error).__name__})."
            raise ForgeError("E_FORGE_DOWN", message, retryable=True) from None
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
