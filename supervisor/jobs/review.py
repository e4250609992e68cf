"""What became of delivered work on its remote: merged, taken over under another name, thrown away, or in conflict
with what its base branch is by now.
"""

import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from loguru import logger

from agent_daemon.protocol.paths import Root
from supervisor.core.decision import Failed, Save
from supervisor.core.delivery import RequestSeen
from supervisor.core.record import Attempt, BaseConflict, Delivery, TaskRecord
from supervisor.git import mirror as mirrors
from supervisor.git.bundle import Rejected
from supervisor.git.errors import GitError
from supervisor.git.merging import is_contained
from supervisor.git.mirror import Mirror
from supervisor.git.quarantine import import_bundle
from supervisor.git.request import SALVAGE_LIMITS, ImportRequest
from supervisor.jobs.base_check import find_conflict
from supervisor.jobs.project import Project, import_grounds
from supervisor.jobs.salvage import save

_LIMITS = SALVAGE_LIMITS.process


@dataclass(frozen=True)
class Fit:
    """How a branch on which `delivered` was pushed last would merge with its base branch now."""

    delivered: str
    conflict: BaseConflict | None


@dataclass(frozen=True)
class Looked:
    """What a look found: the requests that are decided, and, of others that moved, how they fit.

    `problem` is why some of them could not be looked at.
    """

    decided: dict[str, RequestSeen] = field(default_factory=dict)
    compared: dict[str, Fit] = field(default_factory=dict)
    problem: Failed | None = None


@dataclass(frozen=True, kw_only=True)
class _Open:
    """A task in review that is not merged: where its base branch is now, and its own, if that is still there."""

    task: TaskRecord
    delivery: Delivery
    base_tip: str
    tip: str | None

    @property
    def place(self) -> tuple[str, str | None, str]:
        return (self.delivery.pushed_head, self.tip, self.base_tip)


@dataclass
class Reviews:
    """Looks at the requests of one project, again and again; what has not moved is not compared twice."""

    root: Root
    project: Project
    _compared: dict[str, tuple[str, str | None, str]] = field(default_factory=dict, init=False)
    _gone: set[str] = field(default_factory=set, init=False)

    def look(self, tasks: Iterable[TaskRecord]) -> Looked:
        """What became of these tasks in review; without any, only the mirror is fetched.

        GitError, CloudCodeError.
        """
        host, mirror = self.project.host, self.project.mirror
        delivered = {task.id: task for task in tasks if task.delivery is not None}
        self._fetch(needed=bool(delivered))
        if not delivered:
            return Looked()
        merged = host.merged(mirror, delivered.values())
        looked = Looked(
            {
                task.id: RequestSeen(state="merged", head=task.delivery.pushed_head, base_branch=merged[task.id])
                for task in delivered.values()
                if task.id in merged and task.delivery is not None
            }
        )
        tips = host.branch_tips()
        bases = {name: mirrors.resolve(mirror, name) for name in {task.base_branch for task in delivered.values()}}
        open_ones = [
            _Open(task=task, delivery=task.delivery, base_tip=base_tip, tip=tips.get(task.branch))
            for task in delivered.values()
            if task.id not in merged and task.delivery is not None and (base_tip := bases[task.base_branch])
        ]
        problems: list[GitError] = []
        with self._fetched(open_ones) as (scratch, failed):
            for one in open_ones:
                try:
                    if one.task.branch in failed:
                        raise failed[one.task.branch]
                    found = self._look_closer(one, scratch, looked)
                except GitError as error:  # one branch that cannot be read keeps nothing else from being noticed
                    problems.append(error)
                    continue
                if found is not None:
                    looked.decided[one.task.id] = found
        self._gone &= delivered.keys()
        self._compared = {id_: at for id_, at in self._compared.items() if id_ in delivered}
        return replace(looked, problem=_as_failed(problems[0])) if problems else looked

    def _fetch(self, *, needed: bool) -> None:
        """Keep the mirror fresh, also for what is worked on; where that is all, a remote that is away can wait."""
        try:
            self.project.host.fetch_mirror(self.project.mirror)
        except GitError as error:
            if needed or error.code == "E_OBJECTS_DAMAGED":
                raise
            logger.info("the mirror {} is not fetched: {}", self.project.mirror.path.name, error)

    @contextmanager
    def _fetched(self, open_ones: list[_Open]) -> Iterator[tuple[Path, dict[str, GitError]]]:
        """A scratch repository with the branches of those that moved, and why some could not be fetched."""
        scratch = self.root.quarantine / f"{self.project.mirror.path.stem}.reviews.git"
        names = [one.task.branch for one in open_ones if one.tip is not None and self._has_moved(one)]
        shutil.rmtree(scratch, ignore_errors=True)
        try:
            if names:
                mirrors.make_repository(scratch, self.project.mirror)
            yield scratch, self._fetch_branches(scratch, names)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    def _fetch_branches(self, scratch: Path, names: list[str]) -> dict[str, GitError]:
        """Fetch them at once, or where that fails each by itself; those that failed, and why."""
        refspecs = tuple(f"+refs/heads/{name}:refs/heads/{name}" for name in names)
        try:
            if names:
                self.project.host.fetch(scratch, refspecs)
            return {}
        except GitError as error:
            if len(names) == 1 or error.code == "E_UNREACHABLE":
                return dict.fromkeys(names, error)
        failed: dict[str, GitError] = {}
        for name in names:
            failed |= self._fetch_branches(scratch, [name])
        return failed

    def _has_moved(self, one: _Open) -> bool:
        return self._compared.get(one.task.id) != one.place

    def _look_closer(self, one: _Open, scratch: Path, looked: Looked) -> RequestSeen | None:
        task, head = one.task, one.delivery.pushed_head
        if self._has_moved(one):
            if self._compare(one, scratch, looked):
                return RequestSeen(state="merged", head=head, base_branch=task.base_branch, commits=False)
            self._compared[task.id] = one.place
        if one.tip is not None:
            self._gone.discard(task.id)
            return None
        if task.id not in self._gone:  # said only when it is so twice: a server may be in the middle of something
            self._gone.add(task.id)
            return None
        return RequestSeen(state="closed", head=head, base_branch=task.base_branch)

    def _compare(self, one: _Open, scratch: Path, looked: Looked) -> bool:
        """Whether the base branch has all that the task changed, be it squashed or rebased; else how it fits."""
        try:
            if one.tip is None:
                return self._holds_what_is_kept(one)
            head = one.delivery.pushed_head
            known = mirrors.resolve(Mirror(scratch), head)
            if known is not None and is_contained(scratch, head, one.base_tip, _LIMITS):
                return True
            conflict = find_conflict(scratch, one.base_tip, one.tip)
            looked.compared[one.task.id] = Fit(delivered=head, conflict=conflict)
            return False
        except GitError as error:
            if error.retryable:
                raise
            return False

    def _holds_what_is_kept(self, one: _Open) -> bool:
        """The branch is gone: what the base branch is held against is the work as it is kept here."""
        scratch = self.root.quarantine / f"{one.task.id}.review.git"
        attempt = one.task.attempt_number(one.delivery.attempt)
        try:
            if attempt is None or not self._import(one.task, attempt):
                return False
            # Other commits than those that were pushed, with the same trees.
            return is_contained(scratch, one.delivery.claimed_head, one.base_tip, _LIMITS)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    def _import(self, task: TaskRecord, attempt: Attempt) -> bool:
        """Bring the work into the scratch repository from what is kept of it here, now that its branch is gone."""
        path = self.root.salvaged(task.id, attempt.number)
        if not path.exists():
            kept = save(self.root, self.project, task, attempt, Save(task_id=task.id, attempt=attempt.number))
            if isinstance(kept, Failed):
                return False
        try:
            import_bundle(
                ImportRequest(
                    quarantine=self.root.quarantine / f"{task.id}.review.git",
                    bundle=path,
                    claimed_head=attempt.bundle_head,
                    purpose="salvage",
                    limits=SALVAGE_LIMITS,
                    **import_grounds(self.root, self.project, task, attempt),
                )
            )
        except Rejected:
            return False
        return True


def _as_failed(error: GitError) -> Failed:
    return Failed(code=error.code, message=error.message, retryable=error.retryable)
