"""A repository on GitHub as the supervisor's `Forge`: reading, writing, and whether the token may do both."""

from collections.abc import Iterator

from supervisor.core.forge import Budget, Cursor, Finding, ForgeNews, Watched
from supervisor.core.settings import TriggerSettings
from supervisor.forges.github.client import GitHubClient
from supervisor.forges.github.reading import Poll
from supervisor.forges.github.writing import Writer


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

    def check_access(self) -> tuple[Finding, ...]:
        return tuple(self._findings())

    def _findings(self) -> Iterator[Finding]:
        yield Finding(what="account", ok=True, message=f"signed in as {self.login}")
        found = self._client.get(self._path)
        may = found.get("permissions") or {}
        mend = "Give the account write access, or a fine-grained token: contents, issues, pull requests (write)."
        yield Finding(what="push", ok=bool(may.get("push")), message="may push and open requests", mend=mend)
        mend = "Turn issues on in the repository's settings; without them only commands in requests start tasks."
        yield Finding(what="issues", ok=bool(found.get("has_issues")), message="issues are on", mend=mend)
        known = {str(label["name"]).lower() for label in self._client.pages(f"{self._path}/labels", {})}
        for name in self._trigger.labels:
            yield Finding(
                what=f"label {name}",
                ok=name.lower() in known,
                message=f"the label {name} can be set",
                mend="The supervisor makes it when it starts.",
            )
