"""After an attempt: its work copied to where only the supervisor writes."""

import contextlib
import hashlib
import shutil
from dataclasses import dataclass
from pathlib import Path

from agent_daemon.protocol.errors import ProtocolError
from agent_daemon.protocol.files import copy_file, make_folder
from agent_daemon.protocol.paths import Root
from supervisor.core.decision import Failed, Save
from supervisor.core.record import Attempt, TaskRecord
from supervisor.git.quarantine import import_bundle
from supervisor.git.request import SALVAGE_LIMITS, ImportRequest
from supervisor.jobs.project import Project, import_grounds, replace_durably

MAX_SALVAGE_BYTES = SALVAGE_LIMITS.bundle_bytes


@dataclass(frozen=True, kw_only=True)
class Saved:
    """An ended attempt's work lies in `state/salvage/`."""

    attempt: int


def save(root: Root, project: Project, task: TaskRecord, attempt: Attempt, job: Save) -> Saved | Failed:
    """Copy an ended attempt's bundle to `state/salvage/`, checked in a throw-away quarantine."""
    target = root.salvaged(task.id, attempt.number)
    make_folder(target.parent)
    if _is_saved(target, attempt):
        return Saved(attempt=attempt.number)
    staged = target.with_suffix(".new")
    staged.unlink(missing_ok=True)
    quarantine = root.quarantine / f"{task.id}.{attempt.number}.salvage.git"
    try:
        relative = f"{task.id}/{attempt.number}/{attempt.bundle}"
        copied = copy_file(root.mail_out(attempt.workstation), relative, staged, max_bytes=MAX_SALVAGE_BYTES)
        if copied.sha256 != attempt.bundle_sha256:
            return Failed(code="E_DIGEST", message="the bundle is not the one that was reported")
        import_bundle(
            ImportRequest(
                quarantine=quarantine,
                bundle=staged,
                claimed_head=attempt.bundle_head or "",
                claimed_base=attempt.bundle_base,
                purpose="salvage",
                limits=SALVAGE_LIMITS,
                **import_grounds(root, project, task, attempt),
            )
        )
        _keep_earlier(target)
        replace_durably(staged, target)
        return Saved(attempt=attempt.number)
    except FileNotFoundError:
        return Failed(code="E_NO_BUNDLE", message=f"{attempt.bundle} is not there")
    except ProtocolError as error:
        return Failed(code=error.problem.code, message=error.problem.message)
    finally:
        staged.unlink(missing_ok=True)
        shutil.rmtree(quarantine, ignore_errors=True)


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
