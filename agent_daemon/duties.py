"""What is to be done for an attempt now: from what is asked and what is reported. Pure."""

from agent_daemon.protocol.model import Interruption, ReportStatus, TaskingStatus, TaskingTask, TaskReport

FINISHED = frozenset(
    {
        ReportStatus.BLOCKED,
        ReportStatus.COMPLETED,
        ReportStatus.FAILED,
        ReportStatus.CANCELLED,
        ReportStatus.RELEASED,
    }
)
ENDED = FINISHED - {ReportStatus.RELEASED}
# Releases come first, for they make room; then whatever ends work; new work last.
ORDER = (TaskingStatus.RELEASED, TaskingStatus.CANCELLED, TaskingStatus.PAUSED, TaskingStatus.ASSIGNED)


def is_due(task: TaskingTask, report: TaskReport) -> bool:
    """Whether an attempt that nothing is done for now needs anything done for what is wanted of it."""
    wanted, status = task.status, report.status
    if wanted is TaskingStatus.RELEASED:
        return status is not ReportStatus.RELEASED
    if wanted is TaskingStatus.PAUSED:
        return status not in FINISHED and status is not ReportStatus.PAUSED
    if wanted is TaskingStatus.ASSIGNED and awaits_verification(task, report):
        return True
    return status not in FINISHED


def awaits_verification(task: TaskingTask, report: TaskReport) -> bool:
    """Whether what was completed is to be verified again: a command was edited after the others were run."""
    result = report.result
    if task.ended or report.status is not ReportStatus.COMPLETED or result is None or result.kind != "commits":
        return False
    return any(report.run_of(command) is None for command in task.verification)


def may_release(report: TaskReport, saved_sha256: str | None) -> bool:
    """Nothing is removed unless the supervisor names the very work that it has saved."""
    handed_in = report.salvage or report.result
    return handed_in is None or handed_in.sha256 == saved_sha256


def to_interrupt(task: TaskingTask, report: TaskReport) -> Interruption | None:
    """The interruption of the CLI that is asked for and has not been carried out."""
    asked = task.interruption
    return asked if asked is not None and asked.number > report.interruptions else None


def is_to_end(task: TaskingTask, report: TaskReport) -> bool:
    """Whether the attempt is to end because its CLI showed no sign of life again."""
    asked = to_interrupt(task, report)
    return asked is not None and asked.then == "end"
