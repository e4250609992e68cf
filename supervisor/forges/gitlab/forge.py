"""A project on GitLab as the supervisor's `Forge`: reading, writing, and whether the token may do both."""

from collections.abc import Iterator

from supervisor.core.forge import Budget, Cursor, Finding, ForgeNews, Watched
from supervisor.core.settings import TriggerSettings
from supervisor.forges.gitlab.client import GitLabClient
from supervisor.forges.gitlab.reading import Poll
from supervisor.forges.gitlab.writing import Writer

_DEVELOPER = 30


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

    def check_access(self) -> tuple[Finding, ...]:
        return tuple(self._findings())

    def _findings(self) -> Iterator[Finding]:
        yield Finding(what="account", ok=True, message=f"signed in as {self.login}")
        found = self._client.get(self._path)
        permissions = found.get("permissions") or {}
        levels = [
            (permissions.get(kind) or {}).get("access_level") or 0 for kind in ("project_access", "group_access")
        ]
        mend = "Make the account a Developer of the project, or a Maintainer where branches are protected."
        yield Finding(what="push", ok=max(levels) >= _DEVELOPER, message="may push and open requests", mend=mend)
        on = found.get("issues_access_level", "enabled") != "disabled"
        mend = "Turn issues on in the project's settings; without them only commands in requests start tasks."
        yield Finding(what="issues", ok=on, message="issues are on", mend=mend)
        known = {str(label["name"]).lower() for label in self._client.pages(f"{self._path}/labels", {})}
        for name in self._trigger.labels:
            yield Finding(
                what=f"label {name}",
                ok=name.lower() in known,
                message=f"the label {name} can be set",
                mend="The supervisor makes it when it starts.",
            )
