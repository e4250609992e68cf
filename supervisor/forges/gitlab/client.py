"""Requests to GitLab's API through python-gitlab: never repeated inside, no redirect followed.

Why so (observed with python-gitlab 8.6): it obeys a rate limit by sleeping up to ten times, its retries double
notes, and a private token follows a redirect to another host (a token sent as Bearer does not).
"""

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import requests
from gitlab import Gitlab
from gitlab.exceptions import GitlabError

from supervisor.forges.client import PAGE, TIMEOUT_SECONDS, ForgeClient, unanswered
from supervisor.forges.errors import Answer, ForgeError


class GitLabClient(ForgeClient[Gitlab]):
    """The API of the instance at `url` (``https://gitlab.com``)."""

    _LOGIN_KEY = "username"

    def _send(
        self,
        method: str,
        path: str,
        parameters: Mapping[str, str] | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        body: Any = None,
    ) -> Answer:
        self._threads.answered = None
        try:
            response = self._library().http_request(
                method.lower(),
                path,
                query_data=dict(parameters or {}),
                post_data=body,
                extra_headers=dict(headers or {}),
                obey_rate_limit=False,
                retry_transient_errors=False,
                max_retries=0,
            )
        except requests.TooManyRedirects as error:
            address = error.response.headers.get("Location", "") if error.response is not None else ""
            return Answer(status=307, headers={"location": address})
        except requests.RequestException as error:
            raise unanswered(f"{method} {path}", error) from None
        except GitlabError:  # (it tells of the status, but not of the headers)
            response = self._threads.answered
        if response is None:
            raise ForgeError("E_FORGE_ANSWER", f"{method} {path}: the answer makes no sense.", retryable=True)
        return _answer_of(method, path, response)

    def _open(self, token: str) -> Gitlab:
        session = requests.Session()
        session.max_redirects = 0
        session.hooks["response"].append(self._note)
        return Gitlab(
            self._url,
            oauth_token=token,
            timeout=TIMEOUT_SECONDS,
            per_page=PAGE,
            keep_base_url=True,
            session=session,
        )

    def _note(self, response: requests.Response, *_: Any, **__: Any) -> None:
        self._threads.answered = response


def _answer_of(method: str, path: str, response: requests.Response) -> Answer:
    headers = {name.lower(): value for name, value in response.headers.items()}
    try:
        data = json.loads(response.content) if response.content else None
    except ValueError:
        if response.status_code < 400:
            message = f"{method} {path}: the answer is no JSON."
            raise ForgeError("E_FORGE_ANSWER", message, retryable=True) from None
        data = {"message": response.text[:200]}
    return Answer(status=response.status_code, headers=headers, data=data)


def project_path(repository: str) -> str:
    """The API's path of a project that is named ``group/name``."""
    return f"/projects/{quote(repository, safe='')}"


def access_level(project: Mapping[str, Any]) -> int:
    """Our own level in a project as the API shows it, the project's or its group's; 0 where it tells none."""
    told = project.get("permissions") or {}
    return max((told.get(kind) or {}).get("access_level") or 0 for kind in ("project_access", "group_access"))
