"""A repository on GitHub as the supervisor's `Forge`: reading, writing, and whether the token may do both."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from supervisor.core.access import (
    HookSeen,
    judge_account,
    judge_end,
    judge_hook,
    judge_issues,
    judge_labels,
    judge_name,
    judge_push,
    unseen_hook,
)
from supervisor.core.forge import Budget, Cursor, Finding, ForgeNews, Watched
from supervisor.core.settings import TriggerSettings
from supervisor.forges.errors import ForgeError, gathered
from supervisor.forges.github.client import GitHubClient
from supervisor.forges.github.reading import Poll
from supervisor.forges.github.writing import Writer

_PERMISSIONS = "contents, issues, pull requests (read and write), checks and commit statuses (read)"
_EVENTS = frozenset({"issues", "issue_comment", "pull_request", "pull_request_review", "check_suite"})


class GitHubForge(Writer):
    """Issues, comments and pull requests of `repository` (``owner/name``)."""

    def __init__(self, client: GitHubClient, repository: str, trigger: TriggerSettings) -> None:
        super().__init__(client, repository)
        self._repository, self._trigger = repository, trigger

    @property
    def login(self) -> str:
        return self._client.login

    def read(self, cursor: Cursor, watched: Watched) -> ForgeNews:
        return Poll(self._client, self._repository, self._trigger, cursor).read(watched)

    def budget(self) -> Budget:
        return self._client.budget

    def check_access(self, hook: str | None = None) -> tuple[Finding, ...]:
        return gathered(self._findings(hook))

    def _findings(self, hook: str | None) -> Iterator[Finding]:
        yield judge_account(self.login, self._client.account())
        answer = self._client.answer(self._path)
        found: dict[str, Any] = answer.data
        yield judge_name(self._repository, str(found.get("full_name")))
        if self._client.is_app:
            yield Finding(what="scopes", ok=True, message=f"an App's token for {self._repository} alone")
        else:
            yield _scopes(answer.headers.get("x-oauth-scopes"), private=bool(found.get("private")))
        ending = judge_end(_end_of(answer.headers), self._client.now())
        if ending is not None:
            yield ending
        mend = f"Give the account write access to the repository, and a fine-grained token: {_PERMISSIONS}."
        may = self._client.is_app or bool((found.get("permissions") or {}).get("push"))
        yield judge_push(may, bool(found.get("archived")), mend)
        yield judge_issues(bool(found.get("has_issues")), "the repository")
        yield from self._reads(str(found.get("default_branch")))
        known = [str(label["name"]) for label in self._client.pages(f"{self._path}/labels", {})]
        yield from judge_labels(self._trigger.labels, known)
        if hook is not None:
            yield self._hook(hook)

    def _reads(self, branch: str) -> Iterator[Finding]:
        """A fine-grained token's permissions are not told: what it may not read is refused."""
        reads = {
            "pull requests": "pulls",
            "checks": f"commits/{branch}/check-runs",
            "commit statuses": f"commits/{branch}/status",
        }
        for what, path in reads.items():
            try:
                self._client.get(f"{self._path}/{path}", {"per_page": "1"})
            except ForgeError as error:
                if error.code == "E_FORGE_DENIED":
                    mend = f"Give the token {_PERMISSIONS}."
                    yield Finding(what=what, ok=False, message=f"may not read {what}", mend=mend)

    def _hook(self, path: str) -> Finding:
        listed = self._client.shown(f"{self._path}/hooks")
        if listed is None:
            return unseen_hook(path, "an administrator of the repository")
        return judge_hook([_hook_of(item) for item in listed], path, _EVENTS)


def _scopes(told: str | None, *, private: bool) -> Finding:
    """Classic tokens tell what they may; for others, what they do is looked at instead."""
    if told is None:
        return Finding(what="scopes", ok=True, message="GitHub does not tell those of this kind of token")
    scopes = sorted({scope.strip() for scope in told.split(",")} - {""})
    ok = "repo" in scopes or ("public_repo" in scopes and not private)
    message = f"a classic token with {', '.join(scopes) or 'no scope'}"
    return Finding(what="scopes", ok=ok, message=message, mend=f"Make a fine-grained token: {_PERMISSIONS}.")


def _end_of(headers: Mapping[str, str]) -> datetime | None:
    told = headers.get("github-authentication-token-expiration", "").replace("UTC", "+0000")
    try:
        return datetime.strptime(told, "%Y-%m-%d %H:%M:%S %z")
    except ValueError:
        return None


def _hook_of(item: Mapping[str, Any]) -> HookSeen:
    config, last = item.get("config") or {}, item.get("last_response") or {}
    code, trouble = last.get("code"), ""
    if config.get("content_type") != "json":
        trouble = "its content type is not application/json"
    elif isinstance(code, int) and not 200 <= code < 300:
        trouble = f"the last delivery was answered with {code} ({last.get('message') or last.get('status')})"
    return HookSeen(
        url=str(config.get("url") or ""),
        active=bool(item.get("active")),
        events=frozenset(map(str, item.get("events") or ())),
        trouble=trouble,
    )
