"""After an attempt: its work copied to where only the supervisor writes."""

import contextlib
import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from agent_daemon.protocol.errors import Problem, ProtocolError
from agent_daemon.protocol.files import copy_file, make_folder
from agent_daemon.protocol.paths import Root
from supervisor.core.decision import Failed, Save, Saved
from supervisor.core.record import Attempt, TaskRecord
from supervisor.errors import CloudCodeError
from supervisor.git.quarantine import import_bundle
from supervisor.git.request import SALVAGE_LIMITS, Imported, ImportRequest
from supervisor.jobs.project import Project, import_grounds, replace_durably
from supervisor.ports import Scan

MAX_SALVAGE_BYTES = SALVAGE_LIMITS.bundle_bytes


def save(root: Root, project: Project, task: TaskRecord, attempt: Attempt, job: Save) -> Saved | Failed:
    """Copy an ended attempt's bundle to `state/salvage/`, checked in a throw-away quarantine."""
    target = root.salvaged(task.id, attempt.number)
    make_folder(target.parent)
    staged = target.with_suffix(".new")
    staged.unlink(missing_ok=True)
    try:
        if _is_saved(target, attempt):
            return Saved(attempt=attempt.number, holds_secret=_held_already(root, project, task, attempt, target))
        relative = f"{task.id}/{attempt.number}/{attempt.bundle}"
        copied = copy_file(root.mail_out(attempt.workstation), relative, staged, max_bytes=MAX_SALVAGE_BYTES)
        if copied.sha256 != attempt.bundle_sha256:
            return Failed(code="E_DIGEST", message="the bundle is not the one that was reported")
        imported = _look_at(root, project, task, attempt, staged)
        _keep_earlier(target)
        replace_durably(staged, target)
        return Saved(attempt=attempt.number, holds_secret=imported.holds_secret)
    except FileNotFoundError:
        return Failed(code="E_NO_BUNDLE", message=f"{attempt.bundle} is not there")
    except ProtocolError as error:
        return Failed(code=error.problem.code, message=error.problem.message)
    finally:
        staged.unlink(missing_ok=True)


def _look_at(root: Root, project: Project, task: TaskRecord, attempt: Attempt, bundle: Path) -> Imported:
    """Import it into a throw-away quarantine."""
    quarantine = root.quarantine / f"{task.id}.{attempt.number}.salvage.git"
    try:
        return import_bundle(
            ImportRequest(
                quarantine=quarantine,
                bundle=bundle,
                claimed_head=attempt.bundle_head or "",
                claimed_base=attempt.bundle_base,
                purpose="salvage",
                limits=SALVAGE_LIMITS,
                scan=_search(project),
                **import_grounds(root, project, task, attempt),
            )
        )
    finally:
        shutil.rmtree(quarantine, ignore_errors=True)


def _held_already(root: Root, project: Project, task: TaskRecord, attempt: Attempt, bundle: Path) -> bool:
    """Whether what lies there since before a crash, or for another job, holds a secret; it stays either way."""
    try:
        return _look_at(root, project, task, attempt, bundle).holds_secret
    except (ProtocolError, CloudCodeError, OSError):
        return attempt.holds_secret


def _search(project: Project) -> Scan | None:
    """The project's scan, for work that is saved whether or not it can be searched now."""
    scan = project.scan
    if scan is None:
        return None

    def search(content: Iterator[bytes]) -> Problem | None:
        try:
            return scan(content)
        except CloudCodeError:
            return None

    return search


def _keep_earlier(target: Path) -> None:
    """What was saved of this attempt before somebody touched its worktree stays beside the new bundle."""
    with contextlib.suppress(FileNotFoundError), target.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        target.rename(target.with_name(f"{target.stem}.earlier-{digest[:8]}.bundle"))


def _is_saved(target: Path, attempt: Attempt) -> bool:
    try:
        with target.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == attempt.bundle_sha256
    except FileNotFoundError:
        return False
