"""Where the files of an attempt are, inside its workstation."""

from dataclasses import dataclass
from pathlib import Path

from agent_daemon.protocol.model import Tasking, WorkspaceMode
from agent_daemon.protocol.paths import NOTES, Root


@dataclass(frozen=True, kw_only=True)
class AttemptPlaces:
    """Absolute paths of one attempt, and the mark that its processes carry.

    `own` is a folder that the task has for itself, its clone and worktree in it; None in the mode `shared`.
    `borrows`: the clone borrows the mirror's objects instead of having its own. `homes` are those of the CLIs.
    """

    inbox: Path
    outbox: Path
    clone: Path
    worktree: Path
    homes: Path
    own: Path | None = None
    borrows: bool = True

    @property
    def logs(self) -> Path:
        return self.outbox / "logs"

    @property
    def notes(self) -> Path:
        return self.outbox / NOTES

    @property
    def written(self) -> tuple[Path, ...]:
        """All the folders that its agent may have written in."""
        own = (self.own,) if self.own is not None else (self.clone, self.worktree.parent, self.homes)
        return (self.outbox, *own)

    @property
    def marker(self) -> str:
        return str(self.outbox)


def shared_homes(root: Root, workstation: str) -> Path:
    """The homes of its CLIs, which it keeps: logins and caches stay warm from task to task."""
    return root.workspace(workstation) / ".homes"


def attempt_places(root: Root, workstation: str, tasking: Tasking) -> AttemptPlaces:
    """Where the files of a tasking's attempt are."""
    task = tasking.task
    workspace = root.task_workspace(workstation, task.id, task.workspace_mode)
    isolated = task.workspace_mode is WorkspaceMode.ISOLATED
    homes = workspace.own / "home" if isolated and workspace.own else shared_homes(root, workstation)
    return AttemptPlaces(
        inbox=root.attempt_in(workstation, task.id, task.attempt),
        outbox=root.attempt_out(workstation, task.id, task.attempt),
        clone=workspace.clone,
        worktree=Path(tasking.workspace),
        homes=homes,
        own=workspace.own,
        borrows=not isolated,
    )
