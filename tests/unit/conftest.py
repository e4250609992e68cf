"""Values that unit tests of the core start from."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from agent_daemon.protocol.model import TaskingStatus, TaskingTask
from supervisor.core.record import Attempt, Source, TaskRecord
from supervisor.core.settings import Config

NOW = datetime(2026, 1, 7, 10, 30, tzinfo=UTC)
SHA_A, SHA_B, SHA_C = "a" * 40, "b" * 40, "c" * 40
DIGEST = "d" * 64


def make_task(**changes: Any) -> TaskRecord:
    """A pending task as intake makes it, with some fields changed."""
    values: dict[str, Any] = {
        "id": "acme.login",
        "project": "acme",
        "source": Source(tracker="local", kind="file", ref="login.yaml", key="file:login", text_hash="h1"),
        "created_at": NOW,
        "title": "Fix the login",
        "specialist": "backend",
        "base_branch": "main",
        "branch": "cloud-code/login",
    }
    return TaskRecord(**(values | changes))


def make_tasking(**changes: Any) -> TaskingTask:
    """The entry of a tasking that asks for a first attempt, with some fields changed."""
    values: dict[str, Any] = {
        "id": "acme.1",
        "attempt": 1,
        "title": "Fix it",
        "status": TaskingStatus.ASSIGNED,
        "workspace_source": "/mirror",
        "branch": "cloud-code/1",
        "base_branch": "main",
        "base_commit": SHA_A,
    }
    return TaskingTask(**(values | changes))


def make_attempt(**changes: Any) -> Attempt:
    """A first attempt under way, with some fields changed."""
    values: dict[str, Any] = {
        "number": 1,
        "workstation": "backend-1",
        "branch": "cloud-code/login",
        "base_branch": "main",
        "base_commit": SHA_A,
        "cli": "codex",
        "started_at": NOW,
    }
    return Attempt(**(values | changes))


@pytest.fixture
def config() -> Config:
    return Config.model_validate(
        {
            "projects": {"acme": {"repository": "/srv/acme.git", "base_branch": "main"}},
            "workstations": {"backend": {"clis": ["codex"]}, "frontend": {"clis": ["codex"]}},
            "routing": {"frontend": ["css"], "backend": ["api"]},
            "retry": {"first_seconds": 10, "factor": 3, "cap_seconds": 100},
        }
    )


@pytest.fixture
def task() -> Callable[..., TaskRecord]:
    return make_task
