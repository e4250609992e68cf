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


def is_due(wanted: TaskingStatus, status: ReportStatus) -> bool:
    """Whether an attempt that nothing is done for now needs anything done for what is wanted of it."""
    if wanted is TaskingStatus.RELEASED:
        return status is not ReportStatus.RELEASED
    if wanted is TaskingStatus.PAUSED:
        return status not in FINISHED and status is not ReportStatus.PAUSED
    return status not in FINISHED


def may_release(report: TaskReport, saved_sha256: str | None) -> bool:
    """Nothing is removed unless the supervisor names the very work that it has saved."""
    handed_in = report.salvage or report.result
    return handed_in is None or handed_in.sha256 == saved_sha256


def to_interrupt(task: TaskingTask, report: TaskReport) -> Interruption | None:
    """The interruption of the CLI that is asked for and has not been carried out."""
    asked = task.interruption
    return asked if asked is not None and asked.number > report.interruptions else None
