"""`agent-daemon salvage`: what an attempt left behind is bundled and reported for a daemon that is dead.

It runs with the same mounts as the daemon, starts no coding CLI and needs no network. The daemon's lock is
held all the while, for the report has one writer.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from filelock import FileLock, Timeout

from agent_daemon.attempt import has_begun
from agent_daemon.git import GitError, git_paths
from agent_daemon.places import AttemptPlaces, attempt_places
from agent_daemon.planning import undo_edits
from agent_daemon.protocol.codec import decode
from agent_daemon.protocol.errors import ProtocolError
from agent_daemon.protocol.files import make_folder, read_file
from agent_daemon.protocol.model import UNDERSTOOD, ReportStatus, Salvage, Tasking, TaskingStatus, TaskReport
from agent_daemon.protocol.paths import Root
from agent_daemon.reporting import AttemptReport
from agent_daemon.stage import read_stage
from agent_daemon.workplace import leave, salvage

NOT_BUNDLED = "E_NOT_BUNDLED"
_ENDED = frozenset({ReportStatus.BLOCKED, ReportStatus.COMPLETED, ReportStatus.FAILED, ReportStatus.CANCELLED})


class DaemonRunsError(Exception):
    """A living daemon serves the workstation: what is asked for is its own work."""


class SalvageError(Exception):
    """The attempt could not be bundled; the message is one sentence. Its worktree stays as it is."""


@contextmanager
def daemon_lock(root: Root, workstation: str) -> Iterator[None]:
    """Hold what a daemon of this workstation holds while it lives; DaemonRunsError when one does."""
    make_folder(root.mail_out(workstation))
    lock = FileLock(root.mail_out(workstation) / "daemon.lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise DaemonRunsError(f"another daemon serves {workstation} in {root.path}") from None
    try:
        yield
    finally:
        lock.release()


def salvage_attempt(root: Root, workstation: str, task_id: str, attempt: int) -> str:
    """Bundle and report one attempt, and return a sentence about it; with `daemon_lock` held.

    One whose report already names a bundle that is there, or that left nothing, stays as it is. SalvageError.
    """
    tasking = _read_tasking(root, workstation, task_id, attempt)
    places = attempt_places(root, workstation, tasking)
    report = AttemptReport(
        places.outbox,
        root.bell_out(workstation),
        task_id=task_id,
        attempt=attempt,
        agent_id=workstation,
        agent_type=workstation.rpartition("-")[0],
    )
    if tasking.task.status is TaskingStatus.RELEASED or report.value.status is ReportStatus.RELEASED:
        return f"{task_id}, attempt {attempt}: its work has been saved already"
    if _is_handed_in(report.value, places):
        return f"{task_id}, attempt {attempt}: its work has been bundled already"
    try:
        stage = read_stage(places.outbox)
        undone = undo_edits(tasking.task, places, stage) if tasking.task.phase == "plan" else ""
        made = salvage(tasking.task, places, begun=has_begun(report.value, stage))
        told = _sentence(made, places)
    except (GitError, OSError) as error:
        raise SalvageError(f"{NOT_BUNDLED}: {task_id}, attempt {attempt}: {error}") from error
    if report.value.status not in _ENDED:
        report.update(status=ReportStatus.CANCELLED)
    failure = report.value.error
    report.update(salvage=made, error=None if failure and failure.code == NOT_BUNDLED else failure)
    report.update(**leave(tasking.task, places))
    if undone:
        report.progress(undone)
    report.progress(told)
    report.write(time.monotonic)
    if report.changed:
        raise SalvageError(f"{NOT_BUNDLED}: the report of {task_id}, attempt {attempt}, could not be written")
    return f"{task_id}, attempt {attempt}: {told}"


def _read_tasking(root: Root, workstation: str, task_id: str, attempt: int) -> Tasking:
    name = f"{task_id}/{attempt}/tasking.yaml"
    try:
        data = read_file(root.mail_in(workstation), name).data
        tasking = decode(Tasking, data, file=f"mail/{workstation}/in/{name}", understood=UNDERSTOOD)
    except FileNotFoundError:
        raise SalvageError(f"E_NO_ATTEMPT: mail/{workstation}/in/{name} is not there") from None
    except ProtocolError as error:
        raise SalvageError(str(error.problem)) from None
    if [(task.id, task.attempt) for task in tasking.tasks] != [(task_id, attempt)]:
        raise SalvageError(f"E_WRONG_TASK: mail/{workstation}/in/{name} speaks of another attempt")
    return tasking


def _is_handed_in(report: TaskReport, places: AttemptPlaces) -> bool:
    """Whether an ended attempt's report says all there is to say about its work."""
    if report.status not in _ENDED:
        return False
    bundle = next((work.bundle for work in (report.salvage, report.result) if work is not None), None)
    if bundle is not None:
        return (places.outbox / bundle).is_file()
    return report.error is None or report.error.code != NOT_BUNDLED


def _sentence(made: Salvage | None, places: AttemptPlaces) -> str:
    """What was bundled, and what was not: ignored files never are."""
    if made is None:
        return "it left nothing behind that had to be bundled"
    options = ("-z", "--others", "--ignored", "--exclude-standard", "--directory")
    ignored = (
        git_paths("ls-files", *options, folder=places.worktree, check=False) if places.worktree.exists() else []
    )
    left_out = [path for path in ignored if not path.startswith(b".cloud-code")]
    left = f"; {len(left_out)} ignored path(s) are not in it" if left_out else ""
    return f"what it left behind was bundled{left}"
