"""A hand-written task: what `tasks/<name>.yaml` may say."""

from typing import Annotated, Any

from pydantic import Field, StringConstraints, field_validator, model_validator

from agent_daemon.protocol.model import (
    Expects,
    Limits,
    Priority,
    TaskType,
    VerificationCommand,
    WorkspaceMode,
    Written,
)
from supervisor.core.record import Dependency
from supervisor.core.secret_settings import Name

MAX_REPEATED_BYTES = 64 * 1024

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
    workspace_mode: WorkspaceMode | None = None
    expects: Expects = "commits"
    allow_empty: bool = False
    plan_approval: bool | None = None
    cancel: bool = False

    @field_validator("depends_on", mode="before")
    @classmethod
    def _plain_names(cls, value: Any) -> Any:
        """A plain string means: until verified, start from its head."""
        if isinstance(value, list | tuple):
            return [{"task": entry} if isinstance(entry, str) else entry for entry in value]
        return value

    @model_validator(mode="after")
    def _fits_a_report(self) -> "TaskFile":
        """Criteria and commands are repeated in every report, which a reader takes up to 256 KiB only."""
        commands = [command.command for command in self.verification or ()]
        size = sum(len(text.encode(errors="replace")) for text in (*self.acceptance_criteria, *commands))
        if size > MAX_REPEATED_BYTES:
            raise ValueError(
                f"acceptance_criteria and verification have {size} bytes, more than {MAX_REPEATED_BYTES} together"
            )
        return self

    @field_validator("verification", mode="after")
    @classmethod
    def _unique_names(
        cls, value: tuple[VerificationCommand, ...] | None
    ) -> tuple[VerificationCommand, ...] | None:
        names = [command.name for command in value or ()]
        if len(set(names)) != len(names):
            raise ValueError("two verification commands have the same name; give each its own")
        return value
