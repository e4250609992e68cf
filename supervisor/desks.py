"""What is known of each project's forge: how far it was read, and when it is asked next."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from agent_daemon.protocol.paths import Root
from supervisor.core.forge import CALLS_AT_ONCE
from supervisor.core.settings import ProjectSettings
from supervisor.forge_state import ForgeState, read_forge_state, write_forge_state
from supervisor.jobs.project import Project


@dataclass
class Desk:
    """One project's forge. `again`: something may be new that the read under way, or a rest, has kept from us."""

    root: Root
    name: str
    settings: ProjectSettings
    project: Project
    state: ForgeState
    written_at: datetime | None = None
    again: bool = False
    polls: int = 0
    news_at: datetime | None = None
    failures: int = 0
    rests_until: datetime | None = None
    calls_left: float = CALLS_AT_ONCE
    not_before: datetime | None = None

    def write(self) -> None:
        write_forge_state(self.root, self.name, self.state)


def open_desks(root: Root, projects: Mapping[str, Project]) -> dict[str, Desk]:
    """One for each project that is on a forge, as it was left."""
    return {
        name: Desk(root, name, project.settings, project, read_forge_state(root, name))
        for name, project in projects.items()
        if project.forge is not None
    }
