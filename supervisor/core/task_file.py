"""A hand-written task: what `tasks/<name>.yaml` may say."""

from typing import Annotated, Any

from pydantic import Field, StringConstraints, field_validator

from agent_daemon.protocol.model import (
    Expects,
    Limits,
    Priority,
    TaskType,
    VerificationCommand,
    Written,
)
from supervisor.core.record import Dependency
from supervisor.core.settings import Name

Criterion = Annotated[str, StringConstraints(min_length=1, max_length=4000)]


class TaskFile(Written):
    """One task. Only `title` is needed, and `project` where more than one is configured."""

    title: Annotated[str, StringConstraints(min_length=1, max_length=1000)]
    project: Name | None = None
    description: Annotated[str, StringConstraints(max_length=200 * 1024)] = ""
    type: TaskType = "feature"
    priority: Priority = Priority.MEDIUM
    labels: tuple[Annotated[str, StringConstraints(min_length=1, max_length=100)], ...] = ()
    specialist: Name | None = None
    acceptance_criteria: tuple[Criterion, ...] = Field(default=(), max_length=200)
    verification: tuple[VerificationCommand, ...] | None = Field(default=None, max_length=50)
    related_files: tuple[str, ...] = Field(default=(), max_length=200)
    depends_on: tuple[Dependency, ...] = Field(default=(), max_length=50)
    limits: Limits | None = None
    max_failures: Annotated[int, Field(ge=1, le=100)] | None = None
    base_branch: Annotated[str, StringConstraints(min_length=1, max_length=200)] | None = None
    expects: Expects = "commits"
    allow_empty: bool = False
    cancel: bool = False

    @field_validator("depends_on", mode="before")
    @classmethod
    def _plain_names(cls, value: Any) -> Any:
        """A plain string means: until verified, start from its head."""
        if isinstance(value, list | tuple):
            return [{"task": entry} if isinstance(entry, str) else entry for entry in value]
        return value

    @field_validator("verification", mode="after")
    @classmethod
    def _unique_names(
        cls, value: tuple[VerificationCommand, ...] | None
    ) -> tuple[VerificationCommand, ...] | None:
        names = [command.name for command in value or ()]
        if len(set(names)) != len(names):
            raise ValueError("two verification commands have the same name; give each its own")
        return value
