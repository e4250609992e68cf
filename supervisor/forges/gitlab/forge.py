"""A project on GitLab as the supervisor's `Forge`: reading, writing, and whether the token may do both."""

from collections.abc import Iterator, Mapping
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
from supervisor.forges.client import time_of
from supervisor.forges.errors import ForgeError, gathered
from supervisor.forges.gitlab.client import GitLabClient, access_level
from supervisor.forges.gitlab.reading import Poll
from supervisor.forges.gitlab.writing import Writer

_DEVELOPER = 30
_EVENTS = frozenset({"issues", "note", "merge_requests", "pipeline"})


class GitLabForge(Writer):
    """Issues, notes and merge requests of `repository` (``group/name``)."""

    def __init__(self, client: GitLabClient, repository: str, trigger: TriggerSettings) -> None:
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
        found = self._client.get(self._path)
        yield judge_name(self._repository, str(found.get("path_with_namespace")))
        yield from self._token()
        mend = "Make the account a Developer of the project, or a Maintainer where branches are protected."
        yield judge_push(access_level(found) >= _DEVELOPER, bool(found.get("archived")), mend)
        yield judge_issues(found.get("issues_access_level", "enabled") != "disabled", "the project")
        known = [str(label["name"]) for label in self._client.pages(f"{self._path}/labels", {})]
        yield from judge_labels(self._trigger.labels, known)
        if hook is not None:
            yield self._hook(hook)

    def _token(self) -> Iterator[Finding]:
        """What the token says of itself; not every kind does."""
        try:
            told = self._client.get("/personal_access_tokens/self")
        except ForgeError as error:
            if not error.retryable:
                yield Finding(what="scopes", ok=True, message="GitLab does not tell those of this kind of token")
                return
            raise
        scopes = sorted(map(str, told.get("scopes") or ()))
        message = f"a token with {', '.join(scopes) or 'no scope'}"
        yield Finding(
            what="scopes", ok="api" in scopes, message=message, mend="Make a token with the scope `api`."
        )
        ends = told.get("expires_at")
        ending = judge_end(time_of(f"{ends}T00:00:00Z") if ends else None, self._client.now())
        if ending is not None:
            yield ending

    def _hook(self, path: str) -> Finding:
        listed = self._client.shown(f"{self._path}/hooks")
        if listed is None:
            return unseen_hook(path, "a Maintainer of the project")
        return judge_hook([_hook_of(item) for item in listed], path, _EVENTS)


def _hook_of(item: Mapping[str, Any]) -> HookSeen:
    status = str(item.get("alert_status") or "executable")
    return HookSeen(
        url=str(item.get("url") or ""),
        active=status != "disabled",
        events=frozenset(name for name in _EVENTS if item.get(f"{name}_events")),
        trouble=""
        if status in ("executable", "disabled")
        else f"GitLab says that it is {status.replace('_', ' ')}",
    )
