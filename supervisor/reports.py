"""Reports taken in: good ones for planning, bad ones told to both sides and given up after a while."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from agent_daemon.protocol.errors import Problem
from agent_daemon.protocol.model import ReportStatus
from supervisor.clock import Clock
from supervisor.core.decision import Event, problem_details
from supervisor.core.plan import refuse_attempt
from supervisor.core.states import ACTIVE
from supervisor.ledger import Ledger
from supervisor.mail import Box, Mail, Taken, feedback_of
from supervisor.people import People

# A file that is being written is given this long before anyone is told of it.
PASSING_PROBLEM_SECONDS = 3.0
_PASSING_CODES = frozenset({"E_UNFINISHED", "E_CHANGING", "E_EMPTY"})


@dataclass
class _Trouble:
    """A report that cannot be taken, since when (monotonic seconds), and whether people were told."""

    problem: Problem
    since: float
    told: bool = False


@dataclass
class Reports:
    """Sweeps the mail; the last good report of an attempt stays in force while a bad one lies there."""

    clock: Clock
    ledger: Ledger
    mail: Mail
    people: People
    _troubles: dict[Box, _Trouble] = field(default_factory=dict, init=False)

    def take(self, stations: Iterable[str]) -> None:
        """Take what has changed in the mail of these workstations."""
        for name in list(stations):
            for taken in self.mail.sweep(list(self.ledger.boxes.get(name, ()))):
                self._take(taken)

    def _take(self, taken: Taken) -> None:
        box = taken.box
        if taken.problem is not None:
            known = self._troubles.get(box)
            since = known.since if known else self.clock.monotonic()
            told = known is not None and known.told and known.problem == taken.problem
            self._troubles[box] = _Trouble(taken.problem, since, told)
            self._tell(box, self._troubles[box])
            return
        if self._troubles.pop(box, None) is not None:
            self._log(box, "report.readable", {})
        if taken.report is not None:
            if taken.report.status is ReportStatus.CANCELLED:
                # Only a tasking makes a daemon cancel: a person may have edited it a moment ago.
                self.people.look_at_tasking(self.ledger, box)
            self.ledger.reports.setdefault(box.task_id, {})[box.attempt] = taken.report
            self.ledger.dirty.add(box.task_id)

    def look_after_troubles(self) -> None:
        """Tell of those that did not pass by themselves; after the grace period block their tasks."""
        for box, trouble in list(self._troubles.items()):
            self._tell(box, trouble)
            if self.clock.monotonic() - trouble.since >= self.ledger.config.timing.problem_grace_seconds:
                del self._troubles[box]
                self._give_up(box, trouble.problem)

    def _tell(self, box: Box, trouble: _Trouble) -> None:
        age = self.clock.monotonic() - trouble.since
        if trouble.told or (trouble.problem.code in _PASSING_CODES and age < PASSING_PROBLEM_SECONDS):
            return
        trouble.told = True
        self._log(box, "report.refused", problem_details(trouble.problem))
        task = self.ledger.tasks.get(box.task_id)
        attempt = task.attempt_number(box.attempt) if task else None
        if attempt is not None and attempt.ended_at is None:
            items = (feedback_of(trouble.problem, self.clock.now()),)
            self.mail.write_feedback(box, items, revision=int(self.clock.now().timestamp()))

    def _give_up(self, box: Box, problem: Problem) -> None:
        task = self.ledger.tasks.get(box.task_id)
        if task is not None and task.state in ACTIVE and task.live is not None and task.live.number == box.attempt:
            self.ledger.apply(refuse_attempt(task, str(problem), self.clock.now()))

    def _log(self, box: Box, name: str, details: dict[str, Any]) -> None:
        event = Event(name=name, details=details)
        self.ledger.log(event, self.ledger.tasks.get(box.task_id), box.workstation)
