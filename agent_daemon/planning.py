"""An attempt that only plans: its words are handed in as a plan, and what it changed all the same is undone."""

import contextlib
from dataclasses import replace
from typing import Any

from agent_daemon import checkout, handover, workplace
from agent_daemon.attempt import Attempt
from agent_daemon.clis.base import Verdict
from agent_daemon.git import commit_of
from agent_daemon.places import AttemptPlaces
from agent_daemon.prompt import PLAN_PATH
from agent_daemon.protocol.errors import ProtocolError
from agent_daemon.protocol.files import read_file, write_file
from agent_daemon.protocol.model import (
    MAX_PLAN_BYTES,
    BlockedReason,
    ReportError,
    ReportStatus,
    TaskingTask,
    WaitReason,
)
from agent_daemon.reporting import clip_bytes
from agent_daemon.stage import Stage

PLAN = "plan.md"
EDITS = "plan-edits.bundle"
_MAX_FILE_BYTES = 1024 * 1024
_CUT = "\n[… the plan is longer than this, and the rest of it does not count]"


def judge(verdict: Verdict, said: str) -> Verdict:
    """A CLI in its planning mode is refused what it must not do: no failure, if it said something in the end."""
    if verdict.outcome == "refused" and said:
        return replace(verdict, outcome="completed", message=said)
    return verdict


def remember(attempt: Attempt) -> None:
    """Note what lies in the worktree before the CLI runs, unless an earlier run of the attempt did. GitError."""
    worktree = attempt.places.worktree
    if attempt.stage is not None and attempt.stage.before_tree is not None:
        return
    with contextlib.suppress(OSError):
        (worktree / PLAN_PATH).unlink()  # that of an earlier attempt
    head = checkout.head(worktree)
    attempt.advance(before_head=head, before_tree=handover.tree_of_everything(worktree, head))


def undo_edits(task: TaskingTask, places: AttemptPlaces, stage: Stage | None) -> str:
    """Bring the worktree back to what it was, its edits bundled beside the report; says what to tell. GitError."""
    worktree = places.worktree
    if stage is None or stage.before_head is None or stage.before_tree is None or not workplace.owns(task, places):
        return ""
    workplace.end_processes(places)
    workplace.link_files(places)
    checkout.find_again(places.clone, worktree)
    checkout.remove_stale_locks(worktree)
    head = commit_of(worktree, "HEAD")
    if head == stage.before_head and handover.tree_of_everything(worktree, head) == stage.before_tree:
        return ""
    base = handover.result_base(worktree, task.base_branch, task.base_commit)
    kept = handover.make_salvage(worktree, base, places.outbox / EDITS)
    checkout.put_back(worktree, task.branch, stage.before_head, stage.before_tree)
    where = f": they are kept in {EDITS}" if kept is not None else ""
    return f"It was to plan only, and changed files: that is undone{where}"


def hand_in(attempt: Attempt) -> dict[str, Any]:
    """The closing fields of an attempt that has planned: it waits for a person to approve the plan."""
    if undone := undo_edits(attempt.task, attempt.places, attempt.stage):
        attempt.tell({}, undone)
    said = attempt.mask.hide(_written(attempt) or (attempt.stage.message if attempt.stage else ""))
    text = clip_bytes(said.strip(), MAX_PLAN_BYTES, _CUT)
    if not text:
        error = ReportError(code="E_NO_PLAN", message="it ended without a plan")
        return {"status": ReportStatus.FAILED, "error": error, "salvage": None}
    write_file(attempt.places.outbox / PLAN, text.encode())
    return {
        "status": ReportStatus.BLOCKED,
        "blocked_reason": BlockedReason(reason=WaitReason.APPROVAL),
        "blockers": ("the plan waits for an approval",),
        "question": None,
        "recommend_handoff": None,
        "plan": text,
        "salvage": None,
    }


def _written(attempt: Attempt) -> str:
    """The plan where the agent wrote it into a file."""
    with contextlib.suppress(ProtocolError, OSError):
        data = read_file(attempt.places.worktree, PLAN_PATH, max_bytes=_MAX_FILE_BYTES).data
        return data.decode("utf-8", "replace").strip()
    return ""
