"""What a task's work changes, as a diff: taken from wherever the work lies now, in a throw-away repository."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

from agent_daemon.protocol.paths import Root
from supervisor.core.record import Attempt, Delivery, TaskRecord
from supervisor.errors import CloudCodeError
from supervisor.git import mirror as mirrors
from supervisor.git.command import Limits
from supervisor.git.merging import try_merge
from supervisor.git.mirror import Mirror
from supervisor.git.quarantine import SALVAGE_LIMITS, Identity, ImportRequest, diff_text, import_bundle
from supervisor.ports import CodeHost

MAX_DIFF_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class Changes:
    """A diff as text (of an agent's making), and where it was found. `cut`: it goes on.

    `base` is a commit; or a tree, where the work stands on another task's and on a base branch that moved since.
    """

    source: str
    base: str
    head: str
    text: str
    cut: bool


def changes_of(root: Root, task: TaskRecord, mirror: Mirror, host: CodeHost) -> Changes:
    """The change of a task's newest work. CloudCodeError E_NO_WORK when there is none to be seen yet; GitError."""
    if not mirror.path.is_dir():
        raise CloudCodeError("E_NO_WORK", f"Nothing of {task.project} has been fetched yet.")
    with tempfile.TemporaryDirectory(prefix="cloud-code-diff-") as folder:
        scratch = Path(folder) / "scratch.git"
        if task.delivery is not None:
            return _delivered(root, task, task.delivery, mirror, host, scratch)
        for attempt in reversed(task.attempts):
            held = root.held_bundle(task.id, attempt.number)
            saved = root.salvaged(task.id, attempt.number)
            for path, kind in ((held, "held for approval"), (saved, "saved")):
                if path.exists():
                    source = f"attempt {attempt.number}, {kind} ({path})"
                    return _bundled(task, attempt, path, source, mirror, scratch)
    raise CloudCodeError(
        "E_NO_WORK",
        f"{task.id} has no work that has reached the supervisor.",
        f"`cloud-code task show {task.id}` lists what the agent reports so far.",
    )


def _delivered(
    root: Root, task: TaskRecord, delivery: Delivery, mirror: Mirror, host: CodeHost, scratch: Path
) -> Changes:
    """Of accepted work: the mirror has it when it is merged, the quarantine before the push, else the remote."""
    head, start = delivery.pushed_head, _start_of(task, delivery.attempt)
    quarantine = root.quarantine / f"{task.id}.{delivery.attempt}.git"
    for place, source in ((mirror.path, "merged"), (quarantine, "accepted, not pushed yet")):
        if place.is_dir() and mirrors.resolve(Mirror(place), head) is not None:
            mirrors.make_repository(scratch, Mirror(place))
            return _read(scratch, delivery.base, head, source, start)
    mirrors.make_repository(scratch, mirror)
    ref = f"refs/heads/{task.branch}"
    host.fetch(scratch, (f"+{ref}:{ref}",))
    if mirrors.resolve(Mirror(scratch), head) is None:
        raise CloudCodeError("E_NO_WORK", f"The branch {task.branch} no longer holds {head[:12]}.")
    return _read(scratch, delivery.base, head, f"pushed to {task.branch}", start)


def _bundled(
    task: TaskRecord, attempt: Attempt, bundle: Path, source: str, mirror: Mirror, scratch: Path
) -> Changes:
    """Raises Rejected when the bundle cannot be read."""
    request = ImportRequest(
        quarantine=scratch,
        bundle=bundle,
        mirror=mirror.path,
        base_branch=task.base_branch,
        base_commit=task.base_commit or "",
        claimed_head=attempt.bundle_head,
        identity=Identity(bot_name="Cloud Code", bot_email="cloud-code@localhost"),
        limits=SALVAGE_LIMITS,
        purpose="salvage",
    )
    imported = import_bundle(request)
    return _read(scratch, imported.base, imported.head, source, _start_of(task, attempt.number))


def _start_of(task: TaskRecord, number: int) -> str | None:
    """The head of another task that this run of the task has started from, if it has."""
    newest = task.attempt_number(number)
    run = [a for a in task.attempts if newest is not None and a.rerun == newest.rerun and a.number <= number]
    return next((a.shared_tip for a in reversed(run) if a.shared_branch not in (None, a.branch)), None)


def _own_base(git_dir: Path, base: str, head: str, start: str | None) -> str:
    """What the task's own changes are told from: upstream at `base`, with the other task's work that is in it."""
    known = start is not None and mirrors.resolve(Mirror(git_dir), start) is not None
    if start is None or not known or not mirrors.descends(git_dir, start, head):
        return base
    if mirrors.descends(git_dir, base, start):
        return start
    merge = try_merge(git_dir, base, start, Limits())
    return merge.tree if merge.clean else base


def _read(git_dir: Path, base: str, head: str, source: str, start: str | None) -> Changes:
    base = _own_base(git_dir, base, head, start)
    text = diff_text(git_dir, base, head, MAX_DIFF_BYTES)
    cut = len(text.encode(errors="replace")) >= MAX_DIFF_BYTES
    return Changes(source=source, base=base, head=head, text=text, cut=cut)
