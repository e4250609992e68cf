"""The daemon's loop: read what is asked, run one attempt at a time, report. Everything it needs is in files."""

import os
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from loguru import logger

from agent_daemon import __version__
from agent_daemon.activity import ActivityMeter, own_control_group
from agent_daemon.assignments import Assignment, Inbox
from agent_daemon.execution import StopRequest
from agent_daemon.failpoints import reach
from agent_daemon.places import AttemptPlaces, attempt_places
from agent_daemon.processes import become_subreaper
from agent_daemon.protocol.codec import encode
from agent_daemon.protocol.files import make_folder, ring, write_file
from agent_daemon.protocol.model import (
    Activity,
    ReportError,
    ReportStatus,
    TaskingStatus,
    WorkstationFile,
)
from agent_daemon.protocol.paths import Root
from agent_daemon.reporting import AttemptReport
from agent_daemon.run import (
    STOP_CANCELLED,
    STOP_EDITED,
    STOP_PAUSED,
    STOP_SHUTDOWN,
    WorkRun,
    end_processes,
    release,
)

# How often a sign of life is written, unless the one who starts the daemon wants it sooner.
HEARTBEAT_SECONDS = 5.0
HEARTBEAT_VARIABLE = "CLOUD_CODE_HEARTBEAT_SECONDS"
SWEEP_SECONDS = 1.0
MESSAGES_AT_ONCE = 2000
RETRY_SECONDS = 60.0

FINISHED = frozenset(
    {
        ReportStatus.BLOCKED,
        ReportStatus.COMPLETED,
        ReportStatus.FAILED,
        ReportStatus.CANCELLED,
        ReportStatus.RELEASED,
    }
)

Key = tuple[str, int]


@dataclass
class _Worker:
    """The one thing being done now, in a thread of its own."""

    key: Key
    thread: threading.Thread
    stop: StopRequest
    assignment: Assignment


@dataclass
class Daemon:
    """One workstation's daemon."""

    root: Root
    workstation: str
    agent_type: str
    _inbox: "queue.SimpleQueue[tuple[Any, ...]]" = field(default_factory=queue.SimpleQueue, init=False)
    _assignments: dict[Key, Assignment] = field(default_factory=dict, init=False)
    _reports: dict[Key, AttemptReport] = field(default_factory=dict, init=False)
    _worker: _Worker | None = field(default=None, init=False)
    _not_before: dict[Key, float] = field(default_factory=dict, init=False)
    _refused_releases: dict[Key, str | None] = field(default_factory=dict, init=False)
    _heartbeat: int = field(default=0, init=False)
    _beat_at: float = field(default=-1e9, init=False)
    _meter: ActivityMeter = field(default_factory=ActivityMeter, init=False)

    @property
    def _beat_seconds(self) -> float:
        wanted = os.environ.get(HEARTBEAT_VARIABLE, "")
        try:
            return min(HEARTBEAT_SECONDS, max(0.1, float(wanted)))
        except ValueError:
            return HEARTBEAT_SECONDS

    def wake(self) -> None:
        """Called by watchers: look at `in/` now."""
        self._inbox.put(("wake",))

    def run(self, stop: threading.Event) -> None:
        """Work until `stop` is set; then end the coding CLI and leave its worktree to the next daemon."""
        make_folder(self.root.mail_out(self.workstation))
        become_subreaper()
        self._meter.control_group = own_control_group()
        inbox = Inbox(self.root.mail_in(self.workstation))
        while not stop.is_set():
            self._read(inbox)
            self._decide()
            self._write_reports()
            self._beat()
            self._receive(min(SWEEP_SECONDS, self._beat_seconds))
        self._shut_down()

    # --- observe --------------------------------------------------------------------------------------

    def _read(self, inbox: Inbox) -> None:
        for assignment in inbox.read_changed():
            key = (assignment.task.id, assignment.task.attempt)
            before = self._assignments.get(key)
            self._assignments[key] = assignment
            if key not in self._reports:
                self._reports[key] = self._open_report(assignment)
            if before is not None and self._worker is not None and self._worker.key == key:
                self._heed_change(before, assignment)
        for key in inbox.told_wanting():
            if key in self._reports:
                self._reports[key].progress("The supervisor could not read the last report: writing it again")
                self._reports[key].write(time.monotonic)
        for key in inbox.vanished(self._assignments):
            logger.info("attempt {} {} is gone from in/", *key)
            del self._assignments[key]

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

    def _heed_change(self, before: Assignment, now: Assignment) -> None:
        """The text of the attempt under way was changed: interrupt it and go on with the new text."""
        if before.text != now.text and now.task.status is TaskingStatus.ASSIGNED and self._worker is not None:
            self._worker.stop.set(STOP_EDITED)

    def _receive(self, timeout_seconds: float) -> None:
        """Wait for news, then take what has come, but not for ever: the loop has to beat."""
        try:
            self._take(self._inbox.get(timeout=timeout_seconds))
            for _ in range(MESSAGES_AT_ONCE):
                self._take(self._inbox.get_nowait())
        except queue.Empty:
            return

    def _take(self, message: tuple[Any, ...]) -> None:
        if message[0] == "tell":
            _, key, fields, text = message
            report = self._reports[key]
            report.update(**fields)
            if text:
                report.progress(text)
            if "status" in fields:
                report.write(time.monotonic)
        elif message[0] == "done":
            self._finish(message[1], message[2])

    def _finish(self, key: Key, fields: dict[str, Any]) -> None:
        worker, self._worker = self._worker, None
        report = self._reports[key]
        if worker is not None and worker.stop.reason == STOP_EDITED and "error" not in fields:
            report.progress("The task's text was changed: going on with the new text")
            return
        if fields:
            report.update(**fields)
            report.progress(f"{fields.get('status', report.value.status)}".replace("_", " "))
            report.write(time.monotonic)

    # --- decide ---------------------------------------------------------------------------------------

    def _decide(self) -> None:
        """Bring what is done to what is asked; one piece of work at a time, releases first."""
        for key, assignment in self._assignments.items():
            self._reports[key].update(observed_revision=assignment.tasking.revision)
        if self._worker is not None:
            self._stop_if_asked(self._worker)
            return
        for rank in (
            TaskingStatus.RELEASED,
            TaskingStatus.CANCELLED,
            TaskingStatus.PAUSED,
            TaskingStatus.ASSIGNED,
        ):
            for key in sorted(self._assignments, key=lambda k: self._assignments[k].seen_at):
                if self._assignments[key].task.status is rank and self._act(key, rank):
                    return

    def _stop_if_asked(self, worker: _Worker) -> None:
        assignment = self._assignments.get(worker.key)
        if assignment is None or assignment.task.status in (TaskingStatus.CANCELLED, TaskingStatus.RELEASED):
            worker.stop.set(STOP_CANCELLED)
        elif assignment.task.status is TaskingStatus.PAUSED:
            worker.stop.set(STOP_PAUSED)

    def _act(self, key: Key, wanted: TaskingStatus) -> bool:
        """Do what is asked of an attempt that nothing is done for now; returns whether work was started."""
        report, assignment = self._reports[key], self._assignments[key]
        status = report.value.status
        if wanted is TaskingStatus.RELEASED and status is not ReportStatus.RELEASED and self._may_release(key):
            return self._start(key, lambda _stop: self._release(assignment))
        if wanted is TaskingStatus.CANCELLED and status not in FINISHED:
            return self._start(key, lambda stop: self._cancel(assignment, stop))
        if wanted is TaskingStatus.PAUSED and status not in FINISHED and status is not ReportStatus.PAUSED:
            report.update(status=ReportStatus.PAUSED)
            report.progress("Paused")
            report.write(time.monotonic)
        if wanted is TaskingStatus.ASSIGNED and status not in FINISHED:
            resumed = status not in (ReportStatus.RECEIVED, ReportStatus.PLANNING)
            return self._start(key, lambda stop: self._work(assignment, stop, resumed=resumed))
        return False

    # --- work, in a thread ----------------------------------------------------------------------------

    def _start(self, key: Key, work: Callable[[StopRequest], dict[str, Any]]) -> bool:
        stop = StopRequest()

        def body() -> None:
            try:
                fields = work(stop)
            except Exception as error:  # whatever went wrong is this attempt's end, told with its reason
                logger.exception("attempt {} {}", *key)
                fields = self._after_failure(key, stop, f"{type(error).__name__}: {error}"[:2000])
            self._inbox.put(("done", key, fields))

        thread = threading.Thread(target=body, name=f"attempt {key[0]} {key[1]}", daemon=True)
        self._worker = _Worker(key, thread, stop, self._assignments[key])
        thread.start()
        return True

    def _after_failure(self, key: Key, stop: StopRequest, message: str) -> dict[str, Any]:
        """Whatever went wrong, the work is bundled; where even that fails the report says so, and all stays."""
        try:
            salvage = self._run(self._assignments[key], stop).salvage()
        except Exception as error:
            logger.exception("attempt {} {} could not be bundled", *key)
            failure = ReportError(code="E_NOT_BUNDLED", message=f"{message}; bundling: {error}"[:2000])
            return {"status": ReportStatus.FAILED, "error": failure}
        failure = ReportError(code="E_DAEMON", message=message)
        return {"status": ReportStatus.FAILED, "error": failure, "salvage": salvage}

    def _work(self, assignment: Assignment, stop: StopRequest, *, resumed: bool) -> dict[str, Any]:
        run = self._run(assignment, stop)
        run.resumed, run.changed = resumed, resumed and assignment.changed
        return run.run()

    def _run(self, assignment: Assignment, stop: StopRequest) -> WorkRun:
        key = (assignment.task.id, assignment.task.attempt)

        def tell(fields: dict[str, Any], text: str | None) -> None:
            self._inbox.put(("tell", key, fields, text))

        return WorkRun(
            task=assignment.task,
            config=assignment.config,
            places=self._places(assignment),
            agent_type=self.agent_type,
            known=self._reports[key].value,
            latest=lambda: self._assignments.get(key, assignment).task,
            tell=tell,
            stop=stop,
            meter=self._meter,
        )

    def _cancel(self, assignment: Assignment, stop: StopRequest) -> dict[str, Any]:
        salvage = self._run(assignment, stop).salvage()
        return {"status": ReportStatus.CANCELLED, "salvage": salvage, "current_step": "Cancelled"}

    def _may_release(self, key: Key) -> bool:
        """Nothing is removed unless the supervisor names the very work that it has saved."""
        if time.monotonic() < self._not_before.get(key, 0.0):
            return False
        report, assignment = self._reports[key].value, self._assignments[key]
        handed_in, saved = report.salvage or report.result, assignment.task.released_sha256
        if handed_in is None or handed_in.sha256 == saved:
            return True
        if self._refused_releases.get(key) != saved:
            self._refused_releases[key] = saved
            logger.error("{} is released with {}, but {} was handed in: kept", key, saved, handed_in.sha256)
        return False

    def _release(self, assignment: Assignment) -> dict[str, Any]:
        task = assignment.task
        newer = [r for (name, n), r in self._reports.items() if name == task.id and n > task.attempt]
        in_use = any(r.value.status is not ReportStatus.RECEIVED for r in newer)
        try:
            release(task, self._places(assignment), in_use=in_use)
        except OSError as error:
            logger.error("{} {} is not released, tried again later: {}", task.id, task.attempt, error)
            self._not_before[(task.id, task.attempt)] = time.monotonic() + RETRY_SECONDS
            return {}
        return {"status": ReportStatus.RELEASED, "current_step": "Released"}

    def _places(self, assignment: Assignment) -> AttemptPlaces:
        return attempt_places(self.root, self.workstation, assignment.tasking)

    # --- report ---------------------------------------------------------------------------------------

    def _write_reports(self) -> None:
        for key, report in self._reports.items():
            assignment = self._assignments.get(key)
            interval = assignment.config.report_interval_seconds if assignment else 1.0
            if report.changed and time.monotonic() - report.written_at >= interval:
                report.write(time.monotonic)

    def _beat(self) -> None:
        """The sign of life: grows from this loop only, so that a loop that hangs falls silent."""
        if time.monotonic() - self._beat_at < self._beat_seconds:
            return
        self._heartbeat, self._beat_at = self._heartbeat + 1, time.monotonic()
        sign = WorkstationFile(
            revision=self._heartbeat,
            agent_id=self.workstation,
            agent_type=self.agent_type,
            daemon_version=__version__,
            heartbeat=self._heartbeat,
            current_task=self._worker.key[0] if self._worker else None,
            activity=self._activity(),
        )
        folder = self.root.mail_out(self.workstation)
        try:
            write_file(folder / "workstation.yaml", encode(sign, end=True))
        except OSError as error:
            logger.error("no sign of life is written: {}", error)

    def _activity(self) -> Activity | None:
        """What the coding CLI is seen to do now; None while none runs."""
        look, worker = self._meter.look(), self._worker
        if look is None or worker is None:
            return None
        return Activity(
            task=worker.key[0],
            attempt=worker.key[1],
            run=look.run,
            output_bytes=look.output_bytes,
            steps=look.steps,
            cpu_seconds=look.cpu_seconds,
            running=look.running,
            waits_for_input=look.waits_for_input,
            quiet_seconds=look.quiet_seconds,
        )

    def _shut_down(self) -> None:
        """End the CLI; the attempt stays as it is reported, and is carried on by the next daemon."""
        worker = self._worker
        if worker is not None:
            logger.info("ending the work on {} {}; it goes on after the next start", *worker.key)
            worker.stop.set(STOP_SHUTDOWN)
            deadline = time.monotonic() + 10
            while self._worker is not None and time.monotonic() < deadline:
                self._receive(0.2)
            end_processes(str(self.root.attempt_out(self.workstation, *worker.key)))
        for report in self._reports.values():
            if report.changed:
                report.write(time.monotonic)
        ring(self.root.bell_out(self.workstation))
        logger.info("daemon of {} ended, pid {}", self.workstation, os.getpid())
