"""What a pure decision returns: the record as it should be, what to tell, and what slow work to start."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from agent_daemon.protocol.errors import Problem
from agent_daemon.protocol.model import Feedback
from supervisor.core.record import TaskRecord


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something worth a line in `events.jsonl`; `name` is `noun.verb`, details are plain values."""

    name: str
    details: dict[str, Any] = field(default_factory=dict)
    actor: str = "supervisor"


def problem_details(problem: Problem) -> dict[str, Any]:
    """A problem as the details of an event."""
    return {
        "code": problem.code,
        "message": problem.message,
        "file": problem.file,
        "line": problem.line,
        "place": problem.place,
        "expected": problem.expected,
        "mend": problem.mend,
    }


MAX_TOLD = 5  # of a claim's problems in its event; the next attempt is told of all


def claim_refused(attempt: int, problems: Sequence[Problem]) -> Event:
    """What an attempt claimed is not taken."""
    details = {
        "attempt": attempt,
        "codes": list(dict.fromkeys(problem.code for problem in problems)),
        "problems": [problem_details(problem) for problem in problems[:MAX_TOLD]],
    }
    return Event(name="claim.refused", details=details)


def problem_of(feedback: Feedback) -> Problem:
    """What an agent is told, in the form in which people are told."""
    values = feedback.model_dump() | {"message": feedback.message.split("\n", 1)[0]}
    return Problem(**values)


@dataclass(frozen=True, kw_only=True)
class Job:
    """Slow work for the pool. Its key is unique among the jobs under way; its outcome goes back to the loop."""

    task_id: str

    @property
    def key(self) -> str:
        return f"{type(self).__name__}:{self.task_id}"


@dataclass(frozen=True, kw_only=True)
class Prepare(Job):
    """Bring the mirror up to date, choose base and start commits, lay `start.bundle` ready."""

    workstation: str
    cli: str
    attempt: int
    rerun: int


@dataclass(frozen=True, kw_only=True)
class Inspect(Job):
    """Import what the attempt handed in into a quarantine and check it."""

    attempt: int
    approved: bool = False


@dataclass(frozen=True, kw_only=True)
class Save(Job):
    """Copy an ended attempt's work to `state/salvage/`."""

    attempt: int


@dataclass(frozen=True, kw_only=True)
class Saved:
    """An ended attempt's work lies in `state/salvage/`. `holds_secret`: it is not to be kept beyond its task."""

    attempt: int
    holds_secret: bool = False


@dataclass(frozen=True, kw_only=True)
class Bundle(Job):
    """Have an attempt's work bundled, where no daemon lives that does it."""

    attempt: int


@dataclass(frozen=True, kw_only=True)
class Push(Job):
    """Push the delivered head to the task's branch; `effect` is the key of what is to happen once."""

    effect: str


@dataclass(frozen=True, kw_only=True)
class OpenRequest(Job):
    """Open the request for the pushed branch, or bring its text up to date; `effect` as for a push."""

    effect: str


@dataclass(frozen=True, kw_only=True)
class Look(Job):
    """See whether a push or a request happened whose outcome was not heard, and which is not wanted any more."""

    effect: str
    branch: str


@dataclass(frozen=True, kw_only=True)
class Give(Job):
    """Encrypt what was granted for the workstation's daemon, and lay it ready for the attempt."""

    grant: str
    attempt: int
    recipient: str

    @property
    def key(self) -> str:
        return f"Give:{self.task_id}:{self.grant}"


@dataclass(frozen=True, kw_only=True)
class Probe(Job):
    """See whether what was granted can be had again: a task waits for it."""

    grant: str

    @property
    def key(self) -> str:
        return f"Probe:{self.task_id}:{self.grant}"


@dataclass(frozen=True, kw_only=True)
class Failed:
    """A job that did not come through: `code` and one sentence. `retryable`: it may come through later.

    `retry_at`: not before, says who refused it.
    """

    code: str
    message: str
    retryable: bool = False
    retry_at: datetime | None = None

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"


@dataclass(frozen=True)
class Given:
    """A granted value lies ready. `mark` names the value without telling it."""

    mark: str


@dataclass(frozen=True, kw_only=True)
class Decision:
    """The outcome of one pure step over one task."""

    task: TaskRecord
    events: tuple[Event, ...] = ()
    jobs: tuple[Job, ...] = ()

    def then(self, other: "Decision") -> "Decision":
        """`other` was decided from this decision's record: both, in order."""
        return Decision(task=other.task, events=self.events + other.events, jobs=self.jobs + other.jobs)
