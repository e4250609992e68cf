"""Watching over the attempts under way: what is seen of their CLIs leads to the next rung, each an event."""

from dataclasses import dataclass, field

from supervisor.clock import Clock
from supervisor.core.decision import Event
from supervisor.core.ladder import climb, is_ignored, reminder
from supervisor.core.liveness import Finding, find
from supervisor.core.record import TaskRecord
from supervisor.fleet import Fleet
from supervisor.ledger import Ledger
from supervisor.mail import Box, Mail
from supervisor.work import Work


@dataclass
class Vigil:
    """Looks once a second at every attempt that has not ended; called from the loop's thread."""

    clock: Clock
    ledger: Ledger
    mail: Mail
    fleet: Fleet
    work: Work

    _heeded: dict[Box, int] = field(default_factory=dict, init=False)

    def look(self) -> None:
        """Take the rung that is due for each attempt, if any."""
        under_way = list(self.ledger.under_way.values())
        for box in under_way:
            if not self._is_new_run(box):
                self._look_at(box, self.ledger.tasks[box.task_id], self._finding(box))
        for box in set(self._heeded) - set(under_way):
            del self._heeded[box]

    def _is_new_run(self, box: Box) -> bool:
        """Whether its CLI has been ended since the last look: what was seen of it says nothing about the next."""
        live = self.ledger.tasks[box.task_id].live
        asked = live.interruption if live is not None else None
        number = asked.number if asked is not None and asked.heeded else 0
        before, self._heeded[box] = self._heeded.get(box, 0), number
        if number > before:
            self.fleet.forget_run(box.workstation)
        return number > before

    def _finding(self, box: Box) -> Finding | None:
        """The concern that the CLI of this very attempt gives."""
        station = self.fleet.stations.get(box.workstation)
        activity = station.vitals.activity if station is not None else None
        if station is None or activity is None or (activity.task, activity.attempt) != (box.task_id, box.attempt):
            return None
        return find(station.vitals, self.ledger.config.timing)

    def _look_at(self, box: Box, task: TaskRecord, finding: Finding | None) -> None:
        now = self.clock.now()
        decision = climb(task, finding, now)
        if decision.task != task:
            self.ledger.apply(decision)
        if finding is None:
            return
        if any(event.name == "attempt.reminded" for event in decision.events):
            self.mail.write_feedback(box, (reminder(finding),), revision=int(now.timestamp()))
        if is_ignored(decision.task, finding, self.ledger.config.timing):
            self._restart(box, decision.task, finding)

    def _restart(self, box: Box, task: TaskRecord, finding: Finding) -> None:
        handle = self.fleet.restart(box.workstation)
        if handle is not None:
            details = {"attempt": box.attempt, "rule": "ignored", "seconds": round(finding.seconds)}
            self.ledger.log(Event(name="workstation.ignored", details=details), task, box.workstation)
            self.work.stop_daemon(box.workstation, handle)
