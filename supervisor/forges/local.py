"""The code host `local`: any git URL or path; its "request" is a Markdown file that the CLI shows."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from agent_daemon.protocol.files import write_file
from agent_daemon.protocol.paths import BRANCH_PREFIX, Root
from supervisor.core.record import Request, TaskRecord
from supervisor.core.render import render_request
from supervisor.core.settings import ProjectSettings
from supervisor.git import mirror as mirrors
from supervisor.git import remote
from supervisor.git.mirror import Mirror
from supervisor.git.mirror_repair import Renewed, renew_mirror
from supervisor.git.names import is_address

# A remote that hangs must not fill the pool with jobs that wait for its mirror.
MIRROR_LOCK_SECONDS = 20


class LocalHost:
    """Pushes to a plain git remote and writes what a pull request would say to `state/requests/`."""

    def __init__(self, root: Root, settings: ProjectSettings) -> None:
        self._root, self._settings = root, settings

    def url(self) -> str:
        repository = self._settings.repository
        if is_address(repository):
            return repository
        return str((self._root.path / Path(repository).expanduser()).resolve())

    def remote_tip(self, branch: str) -> str | None:
        return mirrors.remote_tip(self.url(), branch)

    def branch_tips(self) -> Mapping[str, str]:
        return mirrors.branch_tips(self.url(), f"{BRANCH_PREFIX}*")

    def default_branch(self) -> str:
        return mirrors.default_branch(self.url())

    def fetch_mirror(self, mirror: Mirror) -> None:
        mirrors.fetch_mirror(mirror, self.url(), lock_seconds=MIRROR_LOCK_SECONDS)

    def renew_mirror(self, mirror: Mirror) -> Renewed | None:
        return renew_mirror(mirror, self.url())

    def push(self, quarantine: Path, sha: str, branch: str, expected: str | None) -> None:
        remote.push(quarantine, self.url(), sha, branch, expected)

    def open_request(self, task: TaskRecord) -> Request:
        path = self._root.requests / f"{task.id}.md"
        write_file(path, render_request(task).encode(errors="replace"), mode=0o640)
        return self._request(task, path)

    def find_request(self, task: TaskRecord) -> Request | None:
        path = self._root.requests / f"{task.id}.md"
        head = task.delivery.pushed_head if task.delivery else ""
        try:
            return self._request(task, path) if head and head in path.read_text(errors="replace") else None
        except FileNotFoundError:
            return None

    def _request(self, task: TaskRecord, path: Path) -> Request:
        head = task.delivery.pushed_head if task.delivery else ""
        return Request(number=None, url=str(path), head=head, draft=False)

    def merged(self, mirror: Mirror, tasks: Iterable[TaskRecord]) -> Mapping[str, str]:
        delivered = [(task, task.delivery.pushed_head) for task in tasks if task.delivery]
        heads: dict[str, set[str]] = {}
        for task, head in delivered:
            heads.setdefault(task.base_branch, set()).add(head)
        found = {branch: mirrors.contained(mirror, shas, branch) for branch, shas in heads.items()}
        return {task.id: task.base_branch for task, head in delivered if head in found[task.base_branch]}
