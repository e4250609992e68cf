"""What the daemon is to do for an attempt, from what is asked and what is reported."""

import pytest

from agent_daemon.duties import FINISHED, awaits_verification, is_due, may_release
from agent_daemon.protocol.model import (
    ReportStatus,
    Result,
    TaskingStatus,
    TaskingTask,
    TaskReport,
    VerificationCommand,
    VerificationResult,
)
from tests.unit.conftest import make_tasking

SHA, DIGEST = "a" * 40, "d" * 64
OLD, NEW = (VerificationCommand(name="tests", command=line) for line in ("pytest", "pytest -x"))
RESULT = Result(kind="commits", bundle="result.bundle", sha256=DIGEST, head=SHA, base=SHA)
DOCUMENT = Result(kind="document", document="document.md", sha256=DIGEST)
COMPLETED = TaskReport(
    attempt=1,
    status=ReportStatus.COMPLETED,
    result=RESULT,
    verification=(VerificationResult(name="tests", command="pytest", exit_code=0, commit=SHA),),
)


def task(status: TaskingStatus = TaskingStatus.ASSIGNED, **fields: object) -> TaskingTask:
    return make_tasking(status=status, **fields)


@pytest.mark.parametrize("status", list(ReportStatus))
def test_what_has_ended_is_only_released(status: ReportStatus) -> None:
    report = TaskReport(attempt=1, status=status)
    assert is_due(task(TaskingStatus.RELEASED), report) is (status is not ReportStatus.RELEASED)
    for wanted in (TaskingStatus.CANCELLED, TaskingStatus.ASSIGNED):
        assert is_due(task(wanted), report) is (status not in FINISHED)
    paused = is_due(task(TaskingStatus.PAUSED), report)
    assert paused is (status not in FINISHED and status is not ReportStatus.PAUSED)


@pytest.mark.parametrize(
    ("wanted", "changes", "due"),
    [
        ({"verification": (OLD,)}, {}, False),
        ({"verification": (NEW,)}, {}, True),
        ({"verification": (OLD, NEW)}, {}, True),
        ({"verification": ()}, {}, False),
        ({"verification": (NEW,), "ended": True}, {}, False),
        ({"verification": (NEW,)}, {"status": ReportStatus.FAILED}, False),
        ({"verification": (NEW,)}, {"result": None}, False),
        (
            {"verification": (NEW,)},
            {"result": Result(kind="document", document="document.md", sha256=DIGEST)},
            False,
        ),
    ],
)
def test_a_claim_is_verified_again_when_its_commands_were_edited(
    wanted: dict[str, object], changes: dict[str, object], due: bool
) -> None:
    report = COMPLETED.model_copy(update=changes)
    assert awaits_verification(task(**wanted), report) is due
    assert is_due(task(**wanted), report) is due


def test_only_what_was_handed_in_and_saved_is_released() -> None:
    assert may_release(COMPLETED, DIGEST)
    assert not may_release(COMPLETED, None) and not may_release(COMPLETED, "e" * 64)
    assert may_release(TaskReport(attempt=1, status=ReportStatus.FAILED), None), "it handed nothing in"
