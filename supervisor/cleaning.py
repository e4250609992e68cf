"""Clean-up as the loop does it: has everything surveyed, decides, and brings about what was decided.

The supervisor itself removes what it keeps in `state/`; what lies with a workstation it asks that to remove. What
has changed since it was surveyed is left for the next time.
"""

import os
import uuid
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from agent_daemon.failpoints import reach
from agent_daemon.protocol.errors import ProtocolError
from agent_daemon.protocol.model import MAX_CLEANUP_ITEMS, Cleanup, CleanupDone, CleanupItem, utc
from agent_daemon.protocol.paths import Root
from supervisor.clock import Clock
from supervisor.core.cleanup import Candidate, decide, let_go
from supervisor.core.decision import Decision, Event, Failed
from supervisor.core.record import TaskRecord
from supervisor.ledger import Ledger
from supervisor.mail import Mail
from supervisor.pool import JobPool
from supervisor.records import RecordStore
from supervisor.runs import RunLog, read_runs
from supervisor.survey import Survey, bundles_of, survey

JOB = "Clean"
# So that the loop goes on: what is left over is removed the next time.
MAX_REMOVALS = 500
MAX_TOLD = 20
# So long a workstation may be at one list; one that does not run answers no list.
ANSWER_SECONDS = 60.0


@dataclass
class Cleaning:
    """Started by the calendar or by a person; everything but the survey happens in the loop's thread."""

    root: Root
    clock: Clock
    ledger: Ledger
    store: RecordStore
    mail: Mail
    pool: JobPool
    runs: RunLog
    _doubts: set[tuple[str, str | None, int | None, str]] = field(default_factory=set, init=False)
    _answered: dict[str, int] = field(default_factory=dict, init=False)
    _awaited: dict[str, float] = field(default_factory=dict, init=False)
    _asked: dict[str, set[CleanupItem]] = field(default_factory=lambda: defaultdict(set), init=False)

    def start(self) -> str:
        """Begin, unless one is under way; what was begun, in a sentence."""
        if self.runs.runs:
            self.runs.note()
        runs = self.runs.runs or read_runs(self.root)
        begun = self.pool.submit(JOB, partial(survey, self.root, self.ledger.config, runs))
        what = "everything is being looked at" if begun else "a clean-up is under way already"
        return f"{what}; `cloud-code events` tells what is removed"

    def settle(self, outcome: Survey | Failed) -> None:
        """Decide from a survey, and carry it out."""
        if isinstance(outcome, Failed):
            details = {"code": outcome.code, "message": outcome.message}
            self.ledger.log(Event(name="cleanup.failed", details=details))
            return
        settings = self.ledger.config.cleanup
        candidates = decide(outcome.found, outcome.clones, outcome.room, settings, outcome.unreadable)
        chosen = [candidate for candidate in candidates if candidate.verdict == "remove"][:MAX_REMOVALS]
        for candidate in self._let_worktrees_go([c for c in chosen if c.kind == "worktree"], outcome):
            self.ledger.log(Event(name="cleanup.asked", details=_details(candidate)))
        removed = [c for c in chosen if c.kind in ("salvage", "held") and self._remove_bundles(c, outcome)]
        removed += [c for c in chosen if c.kind == "record" and self._forget(c, outcome)]
        kept = {_item(c) for c in candidates if c.verdict != "remove" and c.kind in ("output", "clone")}
        self._ask_workstations([c for c in chosen if c.kind in ("output", "clone")], kept)
        for candidate in removed:
            self.ledger.log(Event(name="cleanup.removed", details=_details(candidate)))
        self._tell_doubts(candidates)

    def _tell_doubts(self, candidates: Iterable[Candidate]) -> None:
        """Each once, as long as this supervisor runs."""
        doubts = {(c.kind, c.task, c.attempt, c.reason): c for c in candidates if c.verdict == "doubt"}
        for key in [key for key in doubts if key not in self._doubts][:MAX_TOLD]:
            self.ledger.log(Event(name="cleanup.doubt", details=_details(doubts[key])))
        self._doubts = set(doubts)

    # --- what the supervisor keeps --------------------------------------------------------------------------

    def _let_worktrees_go(self, candidates: list[Candidate], surveyed: Survey) -> list[Candidate]:
        by_task: dict[str, list[Candidate]] = defaultdict(list)
        for candidate in candidates:
            by_task[candidate.task or ""].append(candidate)
        done = []
        for task_id, some in by_task.items():
            task = self._unchanged(task_id, surveyed)
            if task is None or task_id not in self.ledger.tasks:
                continue
            for candidate in some:
                task = let_go(task, candidate.attempt or 0)
            self.ledger.apply(Decision(task=task))
            reach("cleanup.let_go")
            done += some
        return done

    def _unchanged(self, task_id: str, surveyed: Survey) -> TaskRecord | None:
        """The record as it is now, if it is the one that was decided about."""
        try:
            task = self.ledger.tasks.get(task_id) or self.store.find(task_id)
        except ProtocolError:
            return None
        same = task is not None and task.ended and task.revision == surveyed.revisions.get(task_id)
        return task if same else None

    def _remove_bundles(self, candidate: Candidate, surveyed: Survey) -> bool:
        task_id, number = candidate.task or "", candidate.attempt or 0
        if self._unchanged(task_id, surveyed) is None:
            return False
        folder = (self.root.salvage if candidate.kind == "salvage" else self.root.held) / task_id
        aside = [self._put_aside(path) for path in bundles_of(folder, number)]
        self.pool.submit(f"Unlink:{uuid.uuid4().hex}", partial(_unlink, aside, folder))
        return bool(aside)

    def _put_aside(self, path: Path) -> Path:
        """Out of the way at once; the room is given back by a job, or at the next start."""
        target = self.root.quarantine / f"removed-{uuid.uuid4().hex}"
        os.replace(path, target)
        reach("cleanup.put_aside")
        return target

    def _forget(self, candidate: Candidate, surveyed: Survey) -> bool:
        task_id = candidate.task or ""
        if self._unchanged(task_id, surveyed) is None or task_id in self.ledger.tasks:
            return False
        self.root.request(task_id).unlink(missing_ok=True)
        reach("cleanup.request_removed")
        self.ledger.forget(task_id)
        reach("cleanup.forgotten_before_event")
        return True

    # --- what the workstations keep -------------------------------------------------------------------------

    def _ask_workstations(self, candidates: list[Candidate], kept: set[CleanupItem]) -> None:
        """Each gets the list of what is to go now; what it kept the last time is asked for once more.

        While it is at the last list, its answer is awaited first (the next one would take that answer's place),
        unless something in the list is to be `kept` now.
        """
        wanted: dict[str, list[CleanupItem]] = defaultdict(list)
        for candidate in sorted(candidates, key=lambda c: -c.age_seconds):
            wanted[candidate.workstation or ""].append(_item(candidate))
        for name in sorted({*wanted, *self.mail.workstations()}):
            before = self.mail.asked_cleanup(name)
            items = tuple(wanted[name][:MAX_CLEANUP_ITEMS])
            if before is not None:
                self._asked[name].update(before.items)
            if not items and (before is None or not before.items):
                continue
            if before is not None and self._answered.get(name) != before.revision:
                is_at_it = before.items and self.clock.monotonic() < self._awaited.get(name, 0.0)
                if before.items == items or (is_at_it and not kept & {*before.items}):
                    continue
            self._asked[name].update(items)
            revision = before.revision + 1 if before is not None else int(self.clock.now().timestamp())
            asked = Cleanup(
                revision=revision,
                updated_at=utc(self.clock.now()),
                supervisor=self.ledger.identity,
                items=items,
            )
            self.mail.write_cleanup(name, asked)
            reach("cleanup.asked")
            self._awaited[name] = self.clock.monotonic() + ANSWER_SECONDS

    def look(self) -> None:
        """Tell what the workstations answered."""
        for name in self.mail.workstations():
            answer = self.mail.read_cleanup(name)
            if answer is None or self._answered.get(name) == answer.observed_revision:
                continue
            self._answered[name] = answer.observed_revision
            asked = self.mail.asked_cleanup(name)
            known = self._asked[name] | set(asked.items if asked is not None else ())
            self._tell_answers(name, known, answer.items)

    def _tell_answers(self, name: str, known: set[CleanupItem], answers: Iterable[CleanupDone]) -> None:
        """Only about what was asked for."""
        for item in answers:
            if CleanupItem.model_validate(item.model_dump()) not in known:
                continue
            named = item.model_dump(include=set(CleanupItem.model_fields), exclude_none=True)
            if item.done and item.bytes:
                event = Event(name="cleanup.removed", details=named | {"bytes": item.bytes})
                self.ledger.log(event, workstation=name)
            elif not item.done:
                self.ledger.log(
                    Event(name="cleanup.kept", details=named | {"reason": item.reason}), workstation=name
                )


def _unlink(aside: Iterable[Path], folder: Path) -> None:
    for path in aside:
        path.unlink(missing_ok=True)
    reach("cleanup.unlinked")
    try:
        folder.rmdir()
    except OSError:  # something else of the task is there
        return


def _item(candidate: Candidate) -> CleanupItem:
    if candidate.kind == "clone":
        return CleanupItem(kind="clone", project=candidate.project)
    return CleanupItem(kind="output", task=candidate.task, attempt=candidate.attempt)


def _details(candidate: Candidate) -> dict[str, object]:
    named = {
        "kind": candidate.kind,
        "task": candidate.task,
        "attempt": candidate.attempt,
        "workstation": candidate.workstation,
        "project": candidate.project,
        "bytes": candidate.size_bytes,
        "rule": candidate.rule or None,
        "reason": candidate.reason,
    }
    return {name: value for name, value in named.items() if value is not None}
