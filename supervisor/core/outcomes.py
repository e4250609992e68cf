"""What the outcome of a job makes of its task."""

from datetime import datetime
from typing import Any

from agent_daemon.protocol.model import TaskReport
from supervisor.core.decision import (
    Bundle,
    Decision,
    Failed,
    Give,
    Given,
    Inspect,
    Job,
    Look,
    OpenRequest,
    Probe,
    Push,
    Save,
    Saved,
)
from supervisor.core.delivery import (
    Inspected,
    fail_inspection,
    fail_saving,
    settle_inspection,
    settle_look,
    settle_push,
    settle_request,
)
from supervisor.core.giving import settle_giving, settle_probe
from supervisor.core.record import Request, TaskRecord
from supervisor.core.salvage import settle_salvage
from supervisor.core.settings import RetrySettings


def settle(
    job: Job, outcome: Any, task: TaskRecord, report: TaskReport | None, retry: RetrySettings, now: datetime
) -> Decision:
    """Take in a job's outcome, Failed or whatever its kind gives; `report` is that of the attempt it was for.

    What came too late changes nothing. The outcome of `Prepare` is taken in by `assign`.
    """
    match job:
        case Inspect() | Save() | Bundle():
            return _of_attempt(job, outcome, task, report, retry, now)
        case Push():
            return settle_push(task, job.effect, outcome if isinstance(outcome, Failed) else None, now)
        case OpenRequest() if isinstance(outcome, Request | Failed):
            return settle_request(task, job.effect, outcome, now)
        case Give() if isinstance(outcome, Given | Failed):
            return settle_giving(task, job, outcome, now)
        case Probe():
            return settle_probe(task, job, outcome if isinstance(outcome, Failed) else None, now)
        case Look():
            return settle_look(task, job.effect, outcome, now)
    return Decision(task=task)


def _of_attempt(
    job: Inspect | Save | Bundle,
    outcome: Any,
    task: TaskRecord,
    report: TaskReport | None,
    retry: RetrySettings,
    now: datetime,
) -> Decision:
    match job:
        case Inspect() if isinstance(outcome, Inspected):
            return settle_inspection(task, outcome, report, retry, now)
        case Inspect() if isinstance(outcome, Failed):
            return fail_inspection(task, job.attempt, outcome, report, now)
        case Save() if isinstance(outcome, Failed):
            return fail_saving(task, job.attempt, outcome, now)
        case Save() if isinstance(outcome, Saved):
            saved = {"saved": True, "saved_in": "salvage", "save_error": None}
            return Decision(task=task.with_attempt(job.attempt, holds_secret=outcome.holds_secret, **saved))
        case Bundle() if isinstance(outcome, str | Failed):
            return settle_salvage(task, job.attempt, outcome, now)
    return Decision(task=task)
