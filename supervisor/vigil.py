"""Watching over the attempts under way: what is seen of their CLIs leads to the next rung, each an event."""

from dataclasses import dataclass, field, replace

from supervisor.clock import Clock
from supervisor.core.attempts import occupies
from supervisor.core.decision import Event
from supervisor.core.ladder import climb, is_ignored, reminder
from supervisor.core.liveness import Finding, Stretch, find, longest_seconds
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
    _stretches: dict[Box, Stretch] = field(default_factory=dict, init=False)

    def look(self, now: float) -> None:
        """Take the rung that is due for each attempt, if any; `now` in seconds of watching."""
        under_way = list(self.ledger.under_way.values())
        for box in under_way:
            if not self._is_new_run(box):
                self._look_at(box, self.ledger.tasks[box.task_id], self._finding(box))
            self._hold_to_time(box, self.ledger.tasks[box.task_id], now)
        for box in {*self._heeded, *self._stretches}.difference(under_way):
            self._heeded.pop(box, None)
            self._stretches.pop(box, None)

    def _hold_to_time(self, box: Box, task: TaskRecord, now: float) -> None:
        """A daemon that beats and never comes to an end is restarted; if that does not help, it is given up."""
        station, live = self.fleet.stations.get(box.workstation), task.live
        report = self.ledger.reports.get(box.task_id, {}).get(box.attempt)
        if station is None or live is None or not occupies(task, live, report):
            self._stretches.pop(box, None)
            return
        revision, started = live.mail.revision, station.life.started
        known = self._stretches.get(box) or Stretch(revision=revision, started=started, since=now)
        stretch = self._stretches[box] = known.at(revision, started, now)
        seconds = now - stretch.since
        if seconds < longest_seconds(task, self.ledger.config.timing):
            return
        if self._restart(box, task, "overdue", seconds, lost=stretch.restarts > 0):
            self._stretches[box] = replace(stretch, restarts=stretch.restarts + 1)

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
            self._restart(box, decision.task, "ignored", finding.seconds)

    def _restart(self, box: Box, task: TaskRecord, rule: str, seconds: float, *, lost: bool = False) -> bool:
        """Restart a workstation for a reason that is told; `lost`: give its attempt up once it is dead."""
        handle = self.fleet.restart(box.workstation)
        if handle is None:
            return False
        if lost:
            self.fleet.give_up(box.workstation)
        self.work.stop_daemon(box.workstation, handle)
        details = {"attempt": box.attempt, "rule": rule, "seconds": round(seconds)}
        self.ledger.log(Event(name=f"workstation.{rule}", details=details), task, box.workstation)
        return True
