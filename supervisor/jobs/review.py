"""What became of delivered work on its remote: merged, taken over under another name, or thrown away."""

import shutil
from collections.abc import Iterable
from dataclasses import dataclass, field

from agent_daemon.protocol.paths import Root
from supervisor.core.decision import Failed, Save
from supervisor.core.delivery import RequestSeen
from supervisor.core.record import Attempt, Delivery, TaskRecord
from supervisor.git import mirror as mirrors
from supervisor.git.bundle import Rejected
from supervisor.git.errors import GitError
from supervisor.git.merging import is_contained
from supervisor.git.mirror import Mirror
from supervisor.git.quarantine import import_bundle
from supervisor.git.request import SALVAGE_LIMITS, ImportRequest
from supervisor.jobs.project import Project, import_grounds
from supervisor.jobs.salvage import save

_LIMITS = SALVAGE_LIMITS.process


@dataclass
class Reviews:
    """Looks at the requests of one project, again and again; what has not moved is not compared twice."""

    root: Root
    project: Project
    _compared: dict[str, tuple[str, str]] = field(default_factory=dict, init=False)
    _gone: set[str] = field(default_factory=set, init=False)

    def look(self, tasks: Iterable[TaskRecord]) -> dict[str, RequestSeen]:
        """Of these tasks in review, those whose request is decided. GitError, CloudCodeError."""
        host, mirror = self.project.host, self.project.mirror
        host.fetch_mirror(mirror)
        delivered = {task.id: task for task in tasks if task.delivery is not None}
        merged = host.merged(mirror, delivered.values())
        seen = {id_: RequestSeen(state="merged", base_branch=branch) for id_, branch in merged.items()}
        tips = host.branch_tips()
        for task in delivered.values():
            if task.id not in seen:
                found = self._look_closer(task, gone=task.branch not in tips)
                if found is not None:
                    seen[task.id] = found
        self._gone &= delivered.keys()
        self._compared = {id_: at for id_, at in self._compared.items() if id_ in delivered}
        return seen

    def _look_closer(self, task: TaskRecord, *, gone: bool) -> RequestSeen | None:
        delivery, base_tip = task.delivery, mirrors.resolve(self.project.mirror, task.base_branch)
        if delivery is None or base_tip is None:
            return None
        now = (delivery.pushed_head, base_tip)
        if self._compared.get(task.id) != now:
            if self._holds_its_changes(task, delivery, base_tip, gone=gone):
                return RequestSeen(state="merged", base_branch=task.base_branch, commits=False)
            self._compared[task.id] = now
        if not gone:
            self._gone.discard(task.id)
            return None
        if task.id not in self._gone:  # said only when it is so twice: a server may be in the middle of something
            self._gone.add(task.id)
            return None
        return RequestSeen(state="closed", base_branch=task.base_branch)

    def _holds_its_changes(self, task: TaskRecord, delivery: Delivery, base_tip: str, *, gone: bool) -> bool:
        """Whether the base branch has all that the task changed, be it squashed or rebased."""
        scratch = self.root.quarantine / f"{task.id}.review.git"
        shutil.rmtree(scratch, ignore_errors=True)
        attempt = task.attempt_number(delivery.attempt)
        try:
            if not gone:
                mirrors.make_repository(scratch, self.project.mirror)
                refspec = f"+refs/heads/{task.branch}:refs/heads/work"
                mirrors.fetch(scratch, self.project.host.url(), (refspec,), None)
                head = delivery.pushed_head
            elif attempt is not None and self._import(task, attempt):
                head = delivery.claimed_head  # other commits than those that were pushed, with the same trees
            else:
                return False
            known = mirrors.resolve(Mirror(scratch), head)
            return known is not None and is_contained(scratch, head, base_tip, _LIMITS)
        except GitError as error:
            if error.retryable:
                raise
            return False
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
