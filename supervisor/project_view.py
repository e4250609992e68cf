"""What `project list` shows: each configured project with what is under way in it."""

from collections.abc import Iterable
from dataclasses import dataclass

from supervisor.core.record import TaskRecord
from supervisor.core.settings import AuthSettings, Config
from supervisor.core.states import State


@dataclass(frozen=True, kw_only=True)
class ProjectRow:
    """A project as a list shows it; `signs_in` names the place of its secret and never tells it."""

    name: str
    forge: str
    repository: str
    signs_in: str
    poll_seconds: float
    webhook: bool
    live: int
    review: int


def project_rows(config: Config, tasks: Iterable[TaskRecord]) -> list[ProjectRow]:
    """A row for each project, in the order of the configuration."""
    live = [task for task in tasks if not task.ended]
    return [
        ProjectRow(
            name=name,
            forge=project.forge,
            repository=project.repository,
            signs_in=_signs_in(project.auth),
            poll_seconds=project.poll_seconds,
            webhook=project.webhook is not None and config.webhooks is not None,
            live=sum(task.project == name for task in live),
            review=sum(task.project == name and task.state is State.REVIEW for task in live),
        )
        for name, project in config.projects.items()
    ]


def _signs_in(auth: AuthSettings | None) -> str:
    if auth is None:
        return ""
    if auth.app is not None:
        return f"App {auth.app.id}, key in {auth.app.private_key}"
    return f"token in {auth.token}"
