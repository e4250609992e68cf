"""The daemon's loop: read what is asked, run one attempt at a time, report. Everything it needs is in files."""

import os
import queue
import threading
import time
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from loguru import logger

from agent_daemon import duties
from agent_daemon.activity import ActivityMeter, own_control_group
from agent_daemon.assignments import Assignment, Inbox
from agent_daemon.attempt import (
    STOP_CANCELLED,
    STOP_EDITED,
    STOP_PAUSED,
    STOP_SHUTDOWN,
    STOP_UNRESPONSIVE,
    Attempt,
    has_begun,
)
from agent_daemon.failpoints import reach
from agent_daemon.handing_in import interrupted
from agent_daemon.heartbeat import Heartbeat
from agent_daemon.places import attempt_places
from agent_daemon.processes import become_subreaper
from agent_daemon.protocol.files import make_folder, ring
from agent_daemon.protocol.model import ReportStatus, TaskingStatus, TaskingTask
from agent_daemon.protocol.paths import Root
from agent_daemon.reporting import AttemptReport
from agent_daemon.run import cancel, release, work
from agent_daemon.stage import read_stage, text_digest
from agent_daemon.worker import Job, Key, Worker, start_worker
from agent_daemon.workplace import end_processes

SWEEP_SECONDS = 1.0
MESSAGES_AT_ONCE = 2000
RETRY_SECONDS = 60.0

_UNDER_WAY = (ReportStatus.IN_PROGRESS, ReportStatus.VERIFYING, ReportStatus.WAITING)


@dataclass
class _Entry:
    """What is known of one attempt; `assignment` is None once its folder in `in/` is gone."""

    report: AttemptReport
    assignment: Assignment | None
    not_before: float = 0.0
    release_refused: str | None = ""


@dataclass
class Daemon:
    """One workstation's daemon."""

    root: Root
    workstation: str
    agent_type: str
    _messages: "queue.SimpleQueue[tuple[Any, ...]]" = field(default_factory=queue.SimpleQueue, init=False)
    _entries: dict[Key, _Entry] = field(default_factory=dict, init=False)
    _worker: Worker | None = field(default=None, init=False)
    _meter: ActivityMeter = field(default_factory=ActivityMeter, init=False)

    def wake(self) -> None:
        """Called by watchers: look at `in/` now."""
        self._messages.put(("wake",))

    def run(self, stop: threading.Event) -> None:
        """Work until `stop` is set; then end the coding CLI and leave its worktree to the next daemon."""
        folder = self.root.mail_out(self.workstation)
        make_folder(folder)
        become_subreaper()
        inbox = Inbox(self.root.mail_in(self.workstation))
        self._meter.control_group = own_control_group()
        heartbeat = Heartbeat(folder, self.workstation, self.agent_type, self._meter)
        while not stop.is_set():
            self._read(inbox)
            self._decide()
            self._write_reports()
            heartbeat.beat(*(self._worker.key if self._worker else (None, 0)))
            self._receive(min(SWEEP_SECONDS, heartbeat.seconds))
        self._shut_down()

    # --- observe --------------------------------------------------------------------------------------

    def _read(self, inbox: Inbox) -> None:
        for assignment in inbox.read_changed():
            key = (assignment.task.id, assignment.task.attempt)
            entry = self._entries.get(key)
            if entry is None:
                entry = self._entries[key] = _Entry(self._open_report(assignment), None)
            before, entry.assignment = entry.assignment, assignment
            if not duties.awaits_verification(assignment.task, entry.report.value):
                entry.report.update(observed_revision=assignment.tasking.revision)
            if before is not None and self._worker is not None and self._worker.key == key:
                self._heed_change(self._worker, before, assignment)
        for key, said in inbox.told_wanting():
            if key in self._entries:
                report = self._entries[key].report
                report.progress(f"The supervisor says: {said}")
                report.write(time.monotonic)
        for key in inbox.vanished([key for key, entry in self._entries.items() if entry.assignment]):
            logger.info("attempt {} {} is gone from in/", *key)
            self._entries[key].assignment = None

    def _open_report(self, assignment: Assignment) -> AttemptReport:
        task = assignment.task
        report = AttemptReport(
            self.root.attempt_out(self.workstation, task.id, task.attempt),
            self.root.bell_out(self.workstation),
            task_id=task.id,
            attempt=task.attempt,
            agent_id=self.workstation,
            agent_type=self.agent_type,
            cli=assignment.config.cli.name,
        )
        if report.revision == 0:
            report.update(observed_revision=assignment.tasking.revision)
            report.progress("Task received")
            report.write(time.monotonic)
            reach("daemon.received")
        return report

    @staticmethod
    def _heed_change(worker: Worker, before: Assignment, now: Assignment) -> None:
        """The text of the attempt under way was changed: interrupt it and go on with the new text."""
        if text_digest(before.task) != text_digest(now.task) and now.task.status is TaskingStatus.ASSIGNED:
            worker.attempt.stop.set(STOP_EDITED)

    def _receive(self, timeout_seconds: float) -> None:
        """Wait for news, then take what has come, but not for ever: the loop has to beat."""
        try:
            self._take(self._messages.get(timeout=timeout_seconds))
            for _ in range(MESSAGES_AT_ONCE):
                self._take(self._messages.get_nowait())
        except queue.Empty:
            return

    def _take(self, message: tuple[Any, ...]) -> None:
        if message[0] == "tell":
            _, key, fields, text = message
            report = self._entries[key].report
            report.update(**fields)
            if text:
                report.progress(text)
            if "status" in fields:
                report.write(time.monotonic)
        elif message[0] == "done":
            self._finish(message[1], message[2])

    def _finish(self, key: Key, fields: dict[str, Any]) -> None:
        worker, self._worker = self._worker, None
        entry = self._entries[key]
        report = entry.report
        if worker is not None and worker.attempt.stop.reason == STOP_EDITED and "error" not in fields:
            report.progress("The task's text was changed: going on with the new text")
            return
        if worker is not None and worker.attempt.stop.reason == STOP_UNRESPONSIVE and "status" not in fields:
            report.update(**fields)
            report.progress("The coding CLI showed no sign of life and was ended; its work is bundled and goes on")
            report.write(time.monotonic)
            return
        if entry.assignment is not None:
            ended = report.value.model_copy(update=fields)
            if duties.awaits_verification(entry.assignment.task, ended):
                fields = fields | {"status": ReportStatus.VERIFYING}
        if fields:
            if fields.get("status") in duties.ENDED:
                fields.setdefault("salvage", None)  # that of an interruption is no longer all there is
            report.update(**fields)
            report.progress(f"{fields.get('status', report.value.status)}".replace("_", " "))
            report.write(time.monotonic)
        else:
            entry.not_before = time.monotonic() + RETRY_SECONDS

    # --- decide ---------------------------------------------------------------------------------------

    def _decide(self) -> None:
        """Bring what is done to what is asked; one piece of work at a time."""
        if self._worker is not None:
            self._stop_if_asked(self._worker)
            return
        now = time.monotonic()
        due = [
            (duties.ORDER.index(entry.assignment.task.status), entry.assignment.seen_at, key)
            for key, entry in self._entries.items()
            if entry.assignment
            and now >= entry.not_before
            and duties.is_due(entry.assignment.task, entry.report.value)
        ]
        for _, _, key in sorted(due):
            entry = self._entries[key]
            if entry.assignment is not None and self._act(key, entry, entry.assignment):
                return

    def _stop_if_asked(self, worker: Worker) -> None:
        assignment = self._entries[worker.key].assignment
        if assignment is None or assignment.task.status in (TaskingStatus.CANCELLED, TaskingStatus.RELEASED):
            worker.attempt.stop.set(STOP_CANCELLED)
        elif assignment.task.status is TaskingStatus.PAUSED:
            worker.attempt.stop.set(STOP_PAUSED)
        elif duties.to_interrupt(assignment.task, self._entries[worker.key].report.value) is not None:
            if self._meter.running:
                worker.attempt.stop.set(STOP_UNRESPONSIVE)
            elif not worker.attempt.stop.is_set():  # the CLI has come to its end, or is yet to be started
                self._note_interruption(self._entries[worker.key], assignment)

    @staticmethod
    def _note_interruption(entry: _Entry, assignment: Assignment) -> None:
        asked = duties.to_interrupt(assignment.task, entry.report.value)
        if asked is not None:
            entry.report.update(interruptions=asked.number)
            entry.report.progress("The coding CLI is to be interrupted, but does not run now")
            entry.report.write(time.monotonic)

    def _act(self, key: Key, entry: _Entry, assignment: Assignment) -> bool:
        """Do what is asked of an attempt that nothing is done for now; returns whether work was started."""
        wanted, report = assignment.task.status, entry.report
        if wanted is TaskingStatus.PAUSED:
            report.update(status=ReportStatus.PAUSED)
            report.progress("Paused")
            report.write(time.monotonic)
        elif wanted is TaskingStatus.CANCELLED:
            return self._start(key, entry, assignment, cancel)
        elif wanted is TaskingStatus.ASSIGNED:
            if report.value.status is ReportStatus.COMPLETED:
                report.update(status=ReportStatus.VERIFYING, observed_revision=assignment.tasking.revision)
                report.progress("The verification commands were changed")
                report.write(time.monotonic)
            elif duties.is_to_end(assignment.task, report.value):
                return self._start(key, entry, assignment, interrupted)
            self._note_interruption(entry, assignment)
            return self._start(key, entry, assignment, work)
        elif self._may_release(entry, assignment):
            newer = [
                e.report.value for (name, number), e in self._entries.items() if name == key[0] and number > key[1]
            ]
            in_use = any(report.status is not ReportStatus.RECEIVED for report in newer)
            return self._start(key, entry, assignment, partial(release, in_use=in_use))
        return False

    def _may_release(self, entry: _Entry, assignment: Assignment) -> bool:
        saved = assignment.task.released_sha256
        if duties.may_release(entry.report.value, saved):
            return True
        if entry.release_refused != saved:
            entry.release_refused = saved
            logger.error(
                "{} is released with {}, which is not what was handed in: kept", assignment.task.id, saved
            )
        return False

    # --- work, in a thread ----------------------------------------------------------------------------

    def _start(self, key: Key, entry: _Entry, assignment: Assignment, job: Job) -> bool:
        def latest() -> TaskingTask:
            return (entry.assignment or assignment).task

        def tell(fields: dict[str, Any], text: str | None) -> None:
            self._messages.put(("tell", key, fields, text))

        places = attempt_places(self.root, self.workstation, assignment.tasking)
        stage = read_stage(places.outbox)
        attempt = Attempt(
            task=assignment.task,
            config=assignment.config,
            places=places,
            agent_type=self.agent_type,
            known=entry.report.value,
            tell=tell,
            latest=latest,
            stage=stage,
            resumed=stage is not None or entry.report.value.status in _UNDER_WAY,
            changed=stage is not None and stage.text_sha256 != text_digest(assignment.task),
            begun=stage is not None or has_begun(entry.report.value),
            meter=self._meter,
        )
        self._worker = start_worker(key, attempt, job, lambda fields: self._messages.put(("done", key, fields)))
        return True

    # --- report ---------------------------------------------------------------------------------------

    def _write_reports(self) -> None:
        for entry in self._entries.values():
            interval = entry.assignment.config.report_interval_seconds if entry.assignment else 1.0
            if entry.report.changed and time.monotonic() - entry.report.written_at >= interval:
                entry.report.write(time.monotonic)

    def _shut_down(self) -> None:
        """End the CLI; the attempt stays as it is reported, and is carried on by the next daemon."""
        worker = self._worker
        if worker is not None:
            logger.info("ending the work on {} {}; it goes on after the next start", *worker.key)
            worker.attempt.stop.set(STOP_SHUTDOWN)
            deadline = time.monotonic() + 10
            while self._worker is not None and time.monotonic() < deadline:
                self._receive(0.2)
            end_processes(worker.attempt.places.marker)
        for entry in self._entries.values():
            if entry.report.changed:
                entry.report.write(time.monotonic)
        ring(self.root.bell_out(self.workstation))
        logger.info("daemon of {} ended, pid {}", self.workstation, os.getpid())
