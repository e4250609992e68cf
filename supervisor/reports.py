"""Reports taken in: good ones for planning, bad ones told to both sides and given up after a while."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from agent_daemon.protocol.errors import Problem
from agent_daemon.protocol.model import ReportStatus, TaskReport
from supervisor.clock import Clock
from supervisor.core.decision import Event, problem_details
from supervisor.core.plan import refuse_attempt
from supervisor.core.states import ACTIVE
from supervisor.core.story import SHOWN_STEPS
from supervisor.edits import Edits
from supervisor.ledger import Ledger
from supervisor.mail import Box, Mail, Taken, feedback_of
from supervisor.turns import Turns

# A file that is being written is given this long before anyone is told of it.
PASSING_PROBLEM_SECONDS = 3.0
# After a problem was told, only one that stays is told of the same attempt: what comes and goes fills no log.
QUIET_SECONDS = 60.0
# How long the reports of one workstation may hold up a pass; what is left is next in its turn.
TURN_SECONDS = 0.2
_STEP_CHARACTERS, _CRITERIA_CHARACTERS = 300, 8000
_PASSING_CODES = frozenset({"E_UNFINISHED", "E_CHANGING", "E_EMPTY"})


@dataclass
class _Trouble:
    """A report that cannot be taken, and whether people were told of it.

    `since`: no report could be taken from then on; `standing`: for this very reason (monotonic seconds).
    """

    problem: Problem
    since: float
    standing: float
    told: bool = False


@dataclass
class Reports:
    """Sweeps the mail; the last good report of an attempt stays in force while a bad one lies there."""

    clock: Clock
    ledger: Ledger
    mail: Mail
    edits: Edits
    _troubles: dict[Box, _Trouble] = field(default_factory=dict, init=False)
    _told_at: dict[Box, float] = field(default_factory=dict, init=False)
    _next: dict[str, Box] = field(default_factory=dict, init=False)
    _turns: Turns = field(default_factory=Turns, init=False)

    def take(self, rung: Iterable[str], *, full: bool) -> None:
        """Take what has changed in the mail of the workstations that rang, each for its turn only.

        `full`: of the others too, the attempts under way and some of the ended ones.
        """
        chosen = {name: list(self.ledger.boxes.get(name, ())) for name in rung}
        if full:
            quiet = (*self.ledger.under_way.values(), *self._turns.next(self.ledger.ended_boxes))
            rang = set(chosen)
            for box in dict.fromkeys(quiet):
                if box.workstation not in rang:
                    chosen.setdefault(box.workstation, []).append(box)
        for name, boxes in chosen.items():
            self._take_turn(name, boxes)

    def _take_turn(self, name: str, boxes: list[Box]) -> None:
        """Begin after the box at which this workstation's last turn was over."""
        last = self._next.pop(name, None)
        start = boxes.index(last) + 1 if last in boxes else 0
        until = self.clock.monotonic() + TURN_SECONDS
        for taken in self.mail.sweep(boxes[start:] + boxes[:start]):
            self._take(taken)
            if self.clock.monotonic() > until:
                self._next[name] = taken.box
                break

    def _take(self, taken: Taken) -> None:
        box = taken.box
        if taken.problem is not None:
            known, now = self._troubles.get(box), self.clock.monotonic()
            if known is None or known.problem != taken.problem:
                self._troubles[box] = _Trouble(taken.problem, known.since if known else now, now)
            self._tell(box, self._troubles[box])
            return
        trouble = self._troubles.pop(box, None)
        if trouble is not None and trouble.told:
            self._log(box, "report.readable", {})
        if taken.fell_from is not None:
            self._log(box, "report.revision_fell", {"from": taken.fell_from, "to": taken.revision})
        if taken.report is not None:
            if taken.report.status in (ReportStatus.CANCELLED, ReportStatus.COMPLETED):
                # Only a tasking makes a daemon cancel, and it says which commands to verify with: a person may
                # have edited it a moment ago.
                self.edits.look_at(self.ledger, box)
            self.ledger.reports.setdefault(box.task_id, {})[box.attempt] = for_deciding(taken.report)
            self.ledger.dirty.add(box.task_id)

    def look_after_troubles(self) -> None:
        """Tell of those that did not pass by themselves; after the grace period block their tasks."""
        now = self.clock.monotonic()
        self._told_at = {box: at for box, at in self._told_at.items() if now - at < QUIET_SECONDS}
        for box, trouble in list(self._troubles.items()):
            over = self.clock.monotonic() - trouble.since >= self.ledger.config.timing.problem_grace_seconds
            self._tell(box, trouble, at_once=over)
            if over:
                del self._troubles[box]
                self._give_up(box, trouble.problem)

    def _tell(self, box: Box, trouble: _Trouble, *, at_once: bool = False) -> None:
        if trouble.told or not (at_once or self._is_due(box, trouble)):
            return
        trouble.told, self._told_at[box] = True, self.clock.monotonic()
        self._log(box, "report.refused", problem_details(trouble.problem))
        task = self.ledger.tasks.get(box.task_id)
        attempt = task.attempt_number(box.attempt) if task else None
        if attempt is not None and attempt.ended_at is None:
            items = (feedback_of(trouble.problem, self.clock.now()),)
            self.mail.write_feedback(box, items, revision=int(self.clock.now().timestamp()))

    def _is_due(self, box: Box, trouble: _Trouble) -> bool:
        """Whether a problem has to be told now; one that may pass by itself is given some seconds."""
        now = self.clock.monotonic()
        if now - self._told_at.get(box, -QUIET_SECONDS) < QUIET_SECONDS:
            return now - trouble.standing >= PASSING_PROBLEM_SECONDS
        passing = trouble.problem.code in _PASSING_CODES
        return not passing or now - trouble.since >= PASSING_PROBLEM_SECONDS

    def _give_up(self, box: Box, problem: Problem) -> None:
        task = self.ledger.tasks.get(box.task_id)
        if task is not None and task.state in ACTIVE and task.live is not None and task.live.number == box.attempt:
            self.ledger.apply(refuse_attempt(task, str(problem), self.clock.now()))

    def _log(self, box: Box, name: str, details: dict[str, Any]) -> None:
        event = Event(name=name, details=details)
        self.ledger.log(event, self.ledger.tasks.get(box.task_id), box.workstation)


def for_deciding(report: TaskReport) -> TaskReport:
    """The report without what is only shown, and read from its file for that: one is kept for each attempt.

    Of what a story tells a little is left: the newest steps, and criteria that are not too long.
    """
    steps = tuple(
        entry.model_copy(update={"message": entry.message[:_STEP_CHARACTERS], "details": {}})
        for entry in report.progress[-SHOWN_STEPS:]
    )
    criteria = report.acceptance_criteria
    if sum(len(entry.criterion) for entry in criteria) > _CRITERIA_CHARACTERS:
        criteria = ()
    return report.model_copy(
        update={"progress": steps, "files_modified": (), "commits": (), "acceptance_criteria": criteria}
    )
