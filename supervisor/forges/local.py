"""The code host `local`: any git URL or path; its "request" is a Markdown file that the CLI shows."""

from pathlib import Path

from agent_daemon.protocol.files import write_file
from agent_daemon.protocol.paths import Root
from supervisor.core.record import Request, TaskRecord
from supervisor.core.render import render_request
from supervisor.core.settings import ProjectSettings
from supervisor.forges.git_remote import GitRemote
from supervisor.git.names import is_address


class LocalHost(GitRemote):
    """Pushes to a plain git remote and writes what a pull request would say to `state/requests/`."""

    def __init__(self, root: Root, settings: ProjectSettings) -> None:
        self._root = root
        repository = settings.repository
        if not is_address(repository):
            repository = str((root.path / Path(repository).expanduser()).resolve())
        super().__init__(repository)

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
