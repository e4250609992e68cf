"""The daemon's loop: read what is asked, run one attempt at a time, report. Everything it needs is in files."""

import contextlib
import os
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any

from loguru import logger

from agent_daemon import duties
from agent_daemon.activity import ActivityMeter, own_control_group
from agent_daemon.assignments import Assignment, Inbox, Key
from agent_daemon.attempt import (
    STOP_CANCELLED,
    STOP_EDITED,
    STOP_PAUSED,
    STOP_SHUTDOWN,
    STOP_UNRESPONSIVE,
)
from agent_daemon.cleanup import Cleaner
from agent_daemon.credentials import Keyring
from agent_daemon.entries import Entry, open_entry
from agent_daemon.handing_in import interrupted
from agent_daemon.heartbeat import Heartbeat
from agent_daemon.places import attempt_places
from agent_daemon.processes import become_subreaper
from agent_daemon.protocol.files import make_folder, ring
from agent_daemon.protocol.model import ReportStatus, TaskingStatus
from agent_daemon.protocol.paths import Root
from agent_daemon.room import RoomMeter
from agent_daemon.run import cancel, release, work
from agent_daemon.stage import text_digest
from agent_daemon.streams import BoundedLog
from agent_daemon.worker import Job, Worker, start_worker
from agent_daemon.workplace import end_all_processes, end_processes

SWEEP_SECONDS = 1.0
MESSAGES_AT_ONCE = 2000
CLEANUP_SECONDS = 2.0
EGRESS_LOG_BYTES = 256 * 1024


@dataclass
class Daemon:
    """One workstation's daemon; `step` is one pass of its loop. While it is `held`, it starts no work."""

    root: Root
    workstation: str
    agent_type: str
    held: Callable[[], bool] = lambda: False
    _messages: "queue.SimpleQueue[tuple[Any, ...]]" = field(default_factory=queue.SimpleQueue, init=False)
    _entries: dict[Key, Entry] = field(default_factory=dict, init=False)
    _worker: Worker | None = field(default=None, init=False)
    _meter: ActivityMeter = field(default_factory=ActivityMeter, init=False)
    _look_at: float = field(default=0.0, init=False)
    _ended: Callable[[], None] = field(default_factory=lambda: lambda: None, init=False)

    def __post_init__(self) -> None:
        self._inbox = Inbox(self.root.mail_in(self.workstation))
        self._keyring = Keyring(self.root.mail_in(self.workstation))

    def wake(self) -> None:
        """Called by watchers: look at `in/` now."""
        self._messages.put(("wake",))

    def hide(self, text: str) -> str:
        """The text without what attempts were given in secret, for the daemon's own log."""
        return self._keyring.hide(text)

    def hear_refused(self, message: str) -> None:
        """Called by the forwarder: something that runs here was not connected."""
        self._messages.put(("refused", message))

    def run(self, stop: threading.Event) -> None:
        """Work until `stop` is set; then end the coding CLI and leave its worktree to the next daemon."""
        folder = self.root.mail_out(self.workstation)
        make_folder(folder)
        become_subreaper()
        self._meter.control_group = own_control_group()
        cleaner = Cleaner(self.root, self.workstation)
        room = RoomMeter(self.root, self.workstation, lambda: self._worker is not None)
        room.start()
        self._ended = room.wake
        heartbeat = Heartbeat(
            folder,
            self.workstation,
            self.agent_type,
            self._meter,
            cleaner.clones,
            self._keyring.recipient,
            lambda: room.found,
        )
        heartbeat.beat(None, 0)
        end_all_processes(folder)
        cleaner.begin()
        while not stop.is_set():
            self.step()
            cleaner.look()
            heartbeat.beat(*(self._worker.key if self._worker else (None, 0)))
            self._receive(min(SWEEP_SECONDS, heartbeat.seconds))
        self._shut_down()
        cleaner.wait(CLEANUP_SECONDS)

    def step(self) -> None:
        """Look, once a second or when woken; then do what follows, and report."""
        if time.monotonic() >= self._look_at:
            self._look_at = time.monotonic() + SWEEP_SECONDS
            self._read()
        self._decide()
        self._write_reports()

    @property
    def known(self) -> list[Key]:
        """The attempts that are looked after."""
        return list(self._entries)

    # --- observe --------------------------------------------------------------------------------------

    def _read(self) -> None:
        for assignment in self._inbox.read_changed():
            key = (assignment.task.id, assignment.task.attempt)
            entry = self._entries.get(key)
            if entry is None:
                mask = self._keyring.of(*key).everything
                entry = open_entry(self.root, self.workstation, self.agent_type, assignment, mask)
                self._entries[key] = entry
            before = entry.assignment
            entry.heed(assignment)
            for said in self._keyring.take(self.root.attempt_in(self.workstation, *key), assignment.task):
                if entry.report.value.status not in duties.ENDED:  # nothing speaks over an attempt's last word
                    entry.say(said)
            if before is not None and self._worker is not None and self._worker.key == key:
                self._heed_change(self._worker, before, assignment)
        for key, said in self._inbox.told_wanting():
            if key in self._entries:
                self._entries[key].say(f"The supervisor says: {said}")
        self._keyring.expire()
        for key, entry in list(self._entries.items()):
            self._notice_absence(key, entry)

    def _notice_absence(self, key: Key, entry: Entry) -> None:
        """A released attempt whose tasking is gone is forgotten; of others, that is an order to stop."""
        if entry.report.value.status is ReportStatus.RELEASED:
            if not self._inbox.has_tasking(key):
                self._forget(key)
                with contextlib.suppress(OSError):  # a report and logs are left in them, mostly
                    entry.report.folder.rmdir()
                    entry.report.folder.parent.rmdir()
        elif not self._inbox.has_folder(key):
            if entry.assignment is not None:
                logger.warning("attempt {} {} is gone from in/, and was not released: it stays as it is", *key)
                entry.assignment = None
                self._inbox.forget(key)
            elif self._worker is None or self._worker.key != key:
                if entry.report.changed:
                    entry.report.write(time.monotonic)
                self._forget(key)

    def _forget(self, key: Key) -> None:
        """Keep it in mind no longer; what lies on disk stays there, and is read when it is asked for again."""
        self._inbox.forget(key)
        self._keyring.forget(*key)
        del self._entries[key]

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
        if message[0] == "wake":
            self._look_at = 0.0
        elif message[0] == "tell":
            _, key, fields, text = message
            report = self._entries[key].report
            report.update(**fields)
            if text:
                report.progress(text)
            if fields.keys() & {"status", "credential_requests"}:  # somebody waits for that
                report.write(time.monotonic)
        elif message[0] == "refused":
            self._note_refused(message[1])
        elif message[0] == "done":
            worker, self._worker = self._worker, None
            self._ended()
            reason = worker.attempt.stop.reason if worker is not None else ""
            self._entries[message[1]].finish(reason, message[2])

    def _note_refused(self, said: str) -> None:
        """In the log, and where somebody works, in its report and beside its logs."""
        logger.warning("not connected: {}", said)
        if self._worker is None:
            return
        self._entries[self._worker.key].report.progress(f"Not connected: {said}")
        logs = self._worker.attempt.places.logs
        if logs.is_dir():
            with BoundedLog(logs / "egress.log", EGRESS_LOG_BYTES) as log:
                log.write(f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} {said}\n".encode())

    # --- decide ---------------------------------------------------------------------------------------

    def _decide(self) -> None:
        """Bring what is done to what is asked; one piece of work at a time."""
        if self._worker is not None:
            self._stop_if_asked(self._worker)
            return
        if self.held():
            return
        now = time.monotonic()
        ranked = ((entry.rank(now), key) for key, entry in self._entries.items())
        for _, key in sorted((rank, key) for rank, key in ranked if rank is not None):
            entry = self._entries[key]
            if entry.assignment is not None and self._act(key, entry, entry.assignment):
                return

    def _stop_if_asked(self, worker: Worker) -> None:
        entry, stop = self._entries[worker.key], worker.attempt.stop
        task = entry.assignment.task if entry.assignment is not None else None
        if task is None or task.status in (TaskingStatus.CANCELLED, TaskingStatus.RELEASED):
            stop.set(STOP_CANCELLED)
        elif task.status is TaskingStatus.PAUSED:
            stop.set(STOP_PAUSED)
        elif duties.to_interrupt(task, entry.report.value) is not None:
            if self._meter.running:
                stop.set(STOP_UNRESPONSIVE)
            elif not stop.is_set():  # the CLI has come to its end, or is yet to be started
                entry.note_interruption()

    def _act(self, key: Key, entry: Entry, assignment: Assignment) -> bool:
        """Do what is asked of an attempt that nothing is done for now; returns whether work was started."""
        wanted, report = assignment.task.status, entry.report.value
        job: Job
        if wanted is TaskingStatus.PAUSED:
            entry.say("Paused", status=ReportStatus.PAUSED)
            return False
        if wanted is TaskingStatus.RELEASED:
            if not entry.may_release():
                return False
            job = partial(release, in_use=self._newer_has_begun(key))
        elif wanted is TaskingStatus.CANCELLED:
            job = cancel
        elif report.status is ReportStatus.COMPLETED:
            entry.verify_again()
            job = work
        elif duties.is_to_end(assignment.task, report):
            job = interrupted
        else:
            job = work
        if job is work:
            entry.note_interruption()
        self._start(key, entry, assignment, job)
        return True

    def _newer_has_begun(self, key: Key) -> bool:
        newer = [e for (task_id, attempt), e in self._entries.items() if task_id == key[0] and attempt > key[1]]
        return any(entry.report.value.status is not ReportStatus.RECEIVED for entry in newer)

    # --- work, in a thread ----------------------------------------------------------------------------

    def _start(self, key: Key, entry: Entry, assignment: Assignment, job: Job) -> None:
        def tell(fields: dict[str, Any], text: str | None) -> None:
            self._messages.put(("tell", key, fields, text))

        places = attempt_places(self.root, self.workstation, assignment.tasking)
        attempt = entry.attempt(assignment, places, tell, self._meter)
        attempt.given = self._keyring.of(*key)
        self._worker = start_worker(key, attempt, job, lambda fields: self._messages.put(("done", key, fields)))

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
            end_processes(worker.attempt.places)
        for entry in self._entries.values():
            if entry.report.changed:
                entry.report.write(time.monotonic)
        self._keyring.close()
        ring(self.root.bell_out(self.workstation))
        logger.info("daemon of {} ended, pid {}", self.workstation, os.getpid())
