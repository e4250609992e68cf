"""One attempt under work, as everything that works on it sees it."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from agent_daemon.activity import ActivityMeter
from agent_daemon.credentials import Given
from agent_daemon.execution import StopRequest
from agent_daemon.hiding import Mask
from agent_daemon.places import AttemptPlaces
from agent_daemon.protocol.model import AgentConfig, External, ReportStatus, TaskingTask, TaskReport
from agent_daemon.stage import Stage, text_digest, write_stage

STOP_PAUSED, STOP_CANCELLED, STOP_EDITED, STOP_SHUTDOWN = "paused", "cancelled", "edited", "shutdown"
# The supervisor sees no sign of life of the CLI: that alone is ended, and the work goes on.
STOP_UNRESPONSIVE = "unresponsive"
_STOPS_FROM_OUTSIDE = frozenset({STOP_PAUSED, STOP_CANCELLED, STOP_EDITED, STOP_SHUTDOWN})
# How long a start waits for what was granted: laid ready it is within a second of its being seen.
PATIENCE_SECONDS = 15

Tell = Callable[[dict[str, Any], str | None], None]


@dataclass(kw_only=True)
class Attempt:
    """What one run of work on an attempt needs; `tell(fields, message)` passes report fields and progress on.

    `known` is what the report says so far, `latest()` the task as it reads now, `stage` how far earlier runs
    have come. `resumed`: the CLI was run before; `changed`: with another text; `begun`: there has been a
    worktree. `external`: what belongs to the project and is not in that. `given`: what it was granted in secret.
    `mask` hides the keys that its CLI is given. `supervisor` is the id of who asks for it.
    """

    task: TaskingTask
    config: AgentConfig
    places: AttemptPlaces
    agent_type: str
    known: TaskReport
    tell: Tell
    latest: Callable[[], TaskingTask]
    stage: Stage | None = None
    resumed: bool = False
    changed: bool = False
    begun: bool = False
    mask: Mask = field(default_factory=lambda: Mask(()))
    external: External | None = None
    supervisor: str = ""
    stop: StopRequest = field(default_factory=StopRequest)
    meter: ActivityMeter = field(default_factory=ActivityMeter)
    given: Given = field(default_factory=lambda: Given(None))

    @property
    def asked_to_stop(self) -> bool:
        """Someone outside wants it stopped; a limit of the CLI's run is something else."""
        return self.stop.reason in _STOPS_FROM_OUTSIDE

    def know(self, fields: dict[str, Any], message: str | None) -> None:
        """Tell it, and go by it from now on."""
        self.known = self.known.model_copy(update=fields)
        self.tell(fields, message)

    def advance(self, **changes: Any) -> None:
        """Note durably how far the attempt has come."""
        stage = self.stage or Stage(text_sha256=text_digest(self.task))
        self.stage = stage.model_copy(update={"revision": stage.revision + 1, **changes})
        write_stage(self.places.outbox, self.stage)


def has_begun(report: TaskReport, stage: Stage | None) -> bool:
    """Whether the attempt had a worktree; it may have been paused before."""
    not_yet = (ReportStatus.RECEIVED, ReportStatus.PLANNING, ReportStatus.PAUSED)
    return stage is not None or report.status not in not_yet


def wait_for_given(attempt: Attempt) -> None:
    """Give what was granted before a moment to come, so that what is started now has it in its variables.

    Such is what a person approved while the task waited for it, and everything after a daemon's restart.
    """
    deadline = time.monotonic() + PATIENCE_SECONDS
    while _is_to_come(attempt) and not attempt.stop.is_set() and time.monotonic() < deadline:
        time.sleep(0.02)


def _is_to_come(attempt: Attempt) -> bool:
    coming = (one for one in attempt.latest().credentials if one.on_its_way or one.status == "injected")
    return any(not attempt.given.has(one.id) for one in coming)
