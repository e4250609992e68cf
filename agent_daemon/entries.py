"""What the daemon knows of one attempt: what is asked, what is reported, and how the two go on together."""

import time
from dataclasses import dataclass
from typing import Any

from loguru import logger

from agent_daemon import duties
from agent_daemon.activity import ActivityMeter
from agent_daemon.assignments import Assignment
from agent_daemon.attempt import STOP_EDITED, STOP_UNRESPONSIVE, Attempt, Tell, has_begun
from agent_daemon.failpoints import reach
from agent_daemon.hiding import Mask
from agent_daemon.places import AttemptPlaces
from agent_daemon.protocol.model import ReportStatus
from agent_daemon.protocol.paths import Root
from agent_daemon.reporting import AttemptReport
from agent_daemon.stage import read_stage, text_digest

RETRY_SECONDS = 60.0

_UNDER_WAY = (ReportStatus.IN_PROGRESS, ReportStatus.VERIFYING, ReportStatus.WAITING)


@dataclass
class Entry:
    """One attempt; `assignment` is None once its folder in `in/` is gone. Used from the loop's thread only."""

    report: AttemptReport
    assignment: Assignment | None = None
    not_before: float = 0.0
    release_refused: str | None = ""

    def say(self, text: str, **fields: Any) -> None:
        """Report something now."""
        self.report.update(**fields)
        self.report.progress(text)
        self.report.write(time.monotonic)

    def heed(self, assignment: Assignment) -> None:
        """Take what is asked now. A claim that lacks a command does not know of it before that is run."""
        self.assignment = assignment
        if not duties.awaits_verification(assignment.task, self.report.value):
            self.report.update(observed_revision=assignment.tasking.revision)

    def rank(self, now: float) -> tuple[int, float] | None:
        """The place in the line of what is to be done; None when nothing is."""
        if self.assignment is None or now < self.not_before:
            return None
        if not duties.is_due(self.assignment.task, self.report.value):
            return None
        return duties.ORDER.index(self.assignment.task.status), self.assignment.seen_at

    def verify_again(self) -> None:
        """What was completed is no longer: other commands are asked for."""
        if self.assignment is not None:
            revision = self.assignment.tasking.revision
            status = ReportStatus.VERIFYING
            self.say("The verification commands were changed", status=status, observed_revision=revision)

    def note_interruption(self) -> None:
        """An interruption is asked for, and there is nothing to interrupt."""
        asked = duties.to_interrupt(self.assignment.task, self.report.value) if self.assignment else None
        if asked is not None:
            self.say("The coding CLI is to be interrupted, but does not run now", interruptions=asked.number)

    def may_release(self) -> bool:
        """Whether what was handed in is what the supervisor has saved; told once when it is not."""
        if self.assignment is None:
            return False
        saved = self.assignment.task.released_sha256
        if duties.may_release(self.report.value, saved):
            return True
        if self.release_refused != saved:
            self.release_refused = saved
            task_id = self.assignment.task.id
            logger.error("{} is released with {}, which is not what was handed in: kept", task_id, saved)
        return False

    def finish(self, stop_reason: str, fields: dict[str, Any]) -> None:
        """Take the outcome of a piece of work; one without any is tried again later."""
        if stop_reason == STOP_EDITED and "error" not in fields:
            self.report.progress("The task's text was changed: going on with the new text")
            return
        if stop_reason == STOP_UNRESPONSIVE and "status" not in fields:
            told = "The coding CLI showed no sign of life and was ended; its work is bundled and goes on"
            self.say(told, **fields)
            return
        if not fields:
            self.not_before = time.monotonic() + RETRY_SECONDS
            return
        ended = self.report.value.model_copy(update=fields)
        if self.assignment is not None and duties.awaits_verification(self.assignment.task, ended):
            fields = fields | {"status": ReportStatus.VERIFYING}
        elif ended.status in duties.ENDED:
            fields.setdefault("salvage", None)  # that of an interruption is no longer all there is
        self.report.update(**fields)
        self.say(f"{self.report.value.status}".replace("_", " "))

    def attempt(self, assignment: Assignment, places: AttemptPlaces, tell: Tell, meter: ActivityMeter) -> Attempt:
        """The attempt as what works on it sees it."""
        known, stage = self.report.value, read_stage(places.outbox)
        return Attempt(
            task=assignment.task,
            config=assignment.config,
            places=places,
            agent_type=self.report.agent_type,
            known=known,
            tell=tell,
            latest=lambda: (self.assignment or assignment).task,
            stage=stage,
            resumed=stage is not None or known.status in _UNDER_WAY,
            changed=stage is not None and stage.text_sha256 != text_digest(assignment.task),
            begun=has_begun(known, stage),
            supervisor=assignment.tasking.supervisor.id,
            meter=meter,
        )


def open_entry(root: Root, workstation: str, agent_type: str, assignment: Assignment, mask: Mask) -> Entry:
    """The entry of an attempt that is new here; one that nobody has reported on is reported as received.

    `mask` hides what it was given in secret.
    """
    task = assignment.task
    report = AttemptReport(
        root.attempt_out(workstation, task.id, task.attempt),
        root.bell_out(workstation),
        task_id=task.id,
        attempt=task.attempt,
        agent_id=workstation,
        agent_type=agent_type,
        cli=assignment.config.cli.name,
        mask=mask,
    )
    entry = Entry(report)
    if report.revision == 0:
        entry.say("Task received", observed_revision=assignment.tasking.revision)
        reach("daemon.received")
    return entry
