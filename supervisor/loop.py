"""The loop: observe, plan, apply. One thread decides and alone writes records; events only wake it."""

import contextlib
import heapq
import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from loguru import logger

from agent_daemon.failpoints import reach
from agent_daemon.protocol.errors import Problem
from supervisor.clock import Clock
from supervisor.core.attempts import occupies
from supervisor.core.budgets import Purse
from supervisor.core.decision import Event, problem_details
from supervisor.core.liveness import ABSENCE_SECONDS, Watching
from supervisor.core.plan import lose_attempt, next_deadline, plan_task
from supervisor.core.record import TaskRecord
from supervisor.core.schedule import schedule, stop_circle
from supervisor.core.states import ACTIVE, State
from supervisor.edits import Edits
from supervisor.fleet import Fleet, FleetNews
from supervisor.issues import Issues
from supervisor.ledger import Ledger
from supervisor.mail import Mail
from supervisor.people import People
from supervisor.pool import JobPool, Message
from supervisor.pools import Pools
from supervisor.ports import Tracker
from supervisor.renewal import Renewal
from supervisor.replies import Replies
from supervisor.reports import Reports
from supervisor.storyteller import Storyteller
from supervisor.upkeep import Upkeep
from supervisor.vigil import Vigil
from supervisor.work import Work

SWEEP_SECONDS = 1.0
NEVER = -1e9


@dataclass
class Loop:
    """Everything the loop works with, wired by `app`; `run` returns when asked to stop.

    `looks` are taken once a sweep, each by itself; what one returns is told. No attempt is given out while
    `may_begin` says no: without room on the disk, or where somebody stopped that. `on_beat` is called once a
    sweep, `on_pass` with each task that is planned and at the end of every pass that did not fail, or failed for
    the disk: the work goes on.
    """

    inbox: "queue.SimpleQueue[Message]"
    clock: Clock
    ledger: Ledger
    mail: Mail
    reports: Reports
    fleet: Fleet
    people: People
    edits: Edits
    vigil: Vigil
    work: Work
    upkeep: Upkeep
    pools: Pools
    renewal: Renewal
    issues: Issues
    storyteller: Storyteller
    replies: Replies
    pool: JobPool
    trackers: tuple[Tracker, ...]
    looks: tuple[Callable[[], Event | None], ...] = ()
    may_begin: Callable[[], bool] = lambda: True
    purse: Callable[[], Purse | None] = lambda: None
    refused: Callable[[], Iterable[Event]] = tuple
    clean: Callable[[], object] = lambda: None
    settle_cleaning: Callable[[Any], None] = lambda _: None
    settle_lending: Callable[[str, Any], None] = lambda *_: None
    on_beat: Callable[[], None] = lambda: None
    on_pass: Callable[[], None] = lambda: None

    _watching: Watching = field(default_factory=Watching, init=False)
    _last_sweep: float = field(default=NEVER, init=False)
    _deadlines: list[tuple[datetime, str]] = field(default_factory=list, init=False)
    _scheduling_due: bool = field(default=True, init=False)
    _stopping: bool = field(default=False, init=False)
    _retry_at: float | None = field(default=None, init=False)

    def run(self, stop: threading.Event) -> None:
        """Step until stopped; then finish the effects under way. Workstations go on working."""
        while not stop.is_set():
            with self.guard("a pass of the loop"):
                self.step(self.receive(self._patience()))
                self.on_pass()
        self._stopping = True
        self.drain()

    def drain(self) -> None:
        """Take in the outcomes of the jobs under way; start nothing new.

        What is done to idle workstations is not waited for: it stands in their files, and is begun anew.
        """
        deadline = self.clock.monotonic() + 20
        while (self.pool.count or self.storyteller.pool.count) and self.clock.monotonic() < deadline:
            for message in self.receive(0.2):
                if message[0] == "job":
                    with self.guard(f"settling {message[1]}"):
                        self._settle(message)
            self.on_pass()

    @contextlib.contextmanager
    def guard(self, what: str, task_id: str | None = None) -> Iterator[None]:
        """The boundary of one piece of work: its failure is told and the rest goes on.

        A disk that refuses stops nothing for good: what could not be written is decided again a second later.
        """
        try:
            yield
        except OSError as error:
            logger.error("E_STATE_DISK: {}: {}; trying again", what, error)
            self._retry_at = self.clock.monotonic() + SWEEP_SECONDS
            self.on_pass()
        except Exception as error:
            logger.exception("E_BUG in {}", what)
            with contextlib.suppress(OSError):
                details = {"code": "E_BUG", "message": f"{what}: {type(error).__name__}: {error}"}
                self._log(task_id, "supervisor.bug", details=details)

    def _patience(self) -> float:
        until_sweep = self._last_sweep + SWEEP_SECONDS - self.clock.monotonic()
        return max(0.0, 0.0 if self.ledger.dirty else until_sweep)

    def receive(self, timeout_seconds: float) -> list[Message]:
        """What has been posted; waits for the first message at most this long."""
        messages = []
        try:
            messages.append(
                self.inbox.get(timeout=timeout_seconds) if timeout_seconds > 0 else self.inbox.get_nowait()
            )
            while True:
                messages.append(self.inbox.get_nowait())
        except queue.Empty:
            return messages

    def step(self, messages: Iterable[Message] = ()) -> None:
        """One pass: what was heard, what is found on disk, what follows from it."""
        rung: set[str] = set()
        for message in messages:
            if message[0] == "job":
                with self.guard(f"settling {message[1]}"):
                    self._settle(message)
            elif message[0] == "bell":
                rung.add(message[1])
            elif message[0] == "poll":
                with self.guard("asking what is new"):
                    self.work.poll(message[1], self.ledger)
                    self.issues.poll(message[1], by_timer="timer" in message)
            elif message[0] == "clean":
                with self.guard("beginning a clean-up"):
                    self.clean()
            elif message[0] == "sources":
                for tracker in self.trackers:
                    tracker.wake()
        now = self.clock.monotonic()
        full = now - self._last_sweep >= SWEEP_SECONDS
        if self._last_sweep == NEVER:
            rung.update(self.ledger.boxes)  # the first look is at everything
        self.reports.take(rung, full=full)
        if full:
            self._last_sweep = now
            self._look_around(now)
        with self.guard("taking commands"):
            self._scheduling_due |= self.people.take_commands(self.ledger)
        self._plan()
        if self._scheduling_due and not self._stopping:
            self._schedule()

    # --- observe ------------------------------------------------------------------------------------

    def _look_around(self, now: float) -> None:
        self._watching = self._watching.look(now)
        if self._watching.missed >= ABSENCE_SECONDS:
            self.ledger.look_anew()
        watched = self._watching.seconds
        for name in self.fleet.stations:
            self._listen(name, watched)
        busy = self._busy()
        with self.guard("noting who works"):
            self.fleet.note_work(self._occupied())
        with self.guard("minding the pools"):
            self.pools.look(watched, busy)
        with self.guard("renewing daemons"):
            self.renewal.look(watched, busy)
        with self.guard("looking after the workstations"):
            self._scheduling_due |= self.upkeep.look(watched, busy)
        self._watch_fleet(watched, busy)
        with self.guard("watching over the agents"):
            self.vigil.look(watched)
        if not self._stopping:
            for tracker in self.trackers:
                with self.guard("taking tasks in"):
                    self._take_in(tracker)
        with self.guard("telling the forges"):
            if not self._stopping:
                self.storyteller.look()
                self.replies.look()
                self.issues.look()
        with self.guard("looking for edits"):
            self.edits.look(self.ledger)
        self.reports.look_after_troubles()
        self.ledger.dirty |= self.ledger.to_be_bundled
        for look in self.looks:
            with self.guard("looking after the rest"):
                event = look()
                if event is not None:
                    self._scheduling_due = True
                    self._tell(event)
        with self.guard("telling what was refused"):
            for event in self.refused():
                self._tell(event)
        if self._retry_at is not None and now >= self._retry_at:
            self._retry_at = None
            self.ledger.dirty.update(self.ledger.tasks)
            self.ledger.retell()
            for tracker in self.trackers:
                tracker.look_again(self.ledger.sources())
        self._wake_due()
        self.on_beat()

    def _watch_fleet(self, watched: float, busy: set[str]) -> None:
        """Each by itself: one that cannot be looked at keeps nobody from the others."""
        for name in self.fleet.stations:
            with self.guard(f"looking at {name}"):
                for news in self.fleet.check(name, watched, busy):
                    self._take_fleet_news(news)

    def _listen(self, name: str, watched: float) -> None:
        sign = self.mail.read_workstation(name)
        if isinstance(sign, Problem):
            if self.fleet.refused(name, watched):
                self._log(None, "workstation.refused", workstation=name, details=problem_details(sign))
        elif sign is not None:
            if self.fleet.heard(name, sign, watched):
                self._scheduling_due = True
                self._log(None, "workstation.recovered", workstation=name)
            self.ledger.hear_recipient(name, sign.recipient)

    def _take_in(self, tracker: Tracker) -> None:
        news = tracker.poll()
        for problem in news.problems:
            self._log(None, "input.refused", details=problem_details(problem))
        for draft in news.drafts:
            with self.guard(f"taking in {draft.id}"):
                self.people.take_draft(self.ledger, draft)
        for key in news.held:
            with self.guard(f"holding {key}"):
                self.people.take_hold(self.ledger, key)
        for key in news.gone:
            with self.guard(f"taking the deletion of {key}"):
                self.people.take_absence(self.ledger, key)

    def _take_fleet_news(self, news: FleetNews) -> None:
        if news.event:
            with self.guard(f"telling of {news.workstation}"):  # (what follows was decided, and is done)
                self._log(None, news.event, details=dict(news.details), workstation=news.workstation)
        self._scheduling_due = True
        if news.chore is not None:
            self.upkeep.start(news.workstation, news.chore)
        if news.stop is not None:
            self.work.stop_daemon(news.workstation, news.stop)
        if news.lost:
            for box in list(self.ledger.boxes.get(news.workstation, ())):
                task = self.ledger.tasks[box.task_id]
                if task.state in ACTIVE and task.live is not None and task.live.number == box.attempt:
                    now = self.clock.now()
                    lost = lose_attempt(task, verdict="workstation lost", now=now, config=self.ledger.config)
                    self.ledger.apply(lost)

    # --- plan and apply -------------------------------------------------------------------------------

    def _plan(self) -> None:
        planned = set[str]()
        while self.ledger.dirty:
            task = self.ledger.tasks.get(self.ledger.dirty.pop())
            if task is not None:
                with self.guard(f"planning {task.id}", task.id):
                    self._plan_task(task)
                if task.id not in planned:  # the first pass has thousands, and that takes long
                    planned.add(task.id)
                    self.on_pass()

    def _plan_task(self, task: TaskRecord) -> None:
        seen = self.ledger.seen(task.id)
        decision = plan_task(task, seen, self.ledger.config, self.clock.now())
        if decision.task != task or decision.events:
            reach("report.taken_before_save")
        after = self.ledger.apply(decision)
        if after.state is State.PENDING and after.depends_on:
            after = self.ledger.apply(stop_circle(after, self.ledger.tasks, self.clock.now()))
        if not self._stopping:
            for job in decision.jobs:
                self.work.start(job, after, self.ledger)
        self._scheduling_due = True
        deadline = next_deadline(after, seen, self.ledger.config)
        if deadline is not None:
            heapq.heappush(self._deadlines, (deadline, task.id))

    def _wake_due(self) -> None:
        now = self.clock.now()
        while self._deadlines and self._deadlines[0][0] <= now:
            self.ledger.dirty.add(heapq.heappop(self._deadlines)[1])

    def _settle(self, message: Message) -> None:
        _, key, outcome = message
        self.pool.finished(key)
        self.storyteller.pool.finished(key)
        self.issues.pool.finished(key)
        self.upkeep.pool.finished(key)
        self._scheduling_due = True
        reach_outcome(key)
        kind, _, subject = key.partition(":")
        if kind == "Clean":
            self.settle_cleaning(outcome)
        elif kind == "Chore":
            self.upkeep.settle(subject, outcome)
        elif kind == "Lease":
            self.settle_lending(subject, outcome)
        elif kind == "Read":
            self.issues.settle_read(subject, outcome)
        elif kind == "Tell":
            self.storyteller.settle(subject, outcome)
        elif kind == "Reply":
            self.replies.settle(subject, outcome)
        elif kind != "Unlink":
            self.work.settle(key, outcome, self.ledger)

    def _busy(self) -> set[str]:
        """Workstations with an attempt under way, or one being prepared."""
        return self.work.reserved() | self._occupied()

    def _occupied(self) -> set[str]:
        """Workstations with an attempt under way."""
        occupied = set()
        for box in self.ledger.under_way.values():
            task = self.ledger.tasks[box.task_id]
            report = self.ledger.reports.get(task.id, {}).get(box.attempt)
            if task.live is not None and occupies(task, task.live, report):
                occupied.add(box.workstation)
        return occupied

    def _schedule(self) -> None:
        self._scheduling_due = False
        if not self.may_begin():
            return
        busy = self._busy()
        free = [name for name in self.fleet.stations if name not in busy and self.fleet.usable(name)]
        pending = self._pending() if free or self.pools.wanted else []
        if not pending:
            self.pools.nothing_waits()
            return
        known = self.ledger.dependency_states(iter(pending))
        domains = {name: project.trust_domain for name, project in self.ledger.config.projects.items()}
        views = [self.fleet.view(name) for name in free]
        for assignment in schedule(pending, views, known, domains, self.clock.now(), self.purse()):
            self.work.prepare(assignment, self.ledger)
        if self.pools.wanted:
            self.pools.grow(self._pending(), known, domains, self._busy())

    def _pending(self) -> list[TaskRecord]:
        tasks = self.ledger.tasks.values()
        return [t for t in tasks if t.state is State.PENDING and not self.work.preparing(t.id)]

    def _tell(self, event: Event) -> None:
        """An event, and where it names a workstation, of the task that was under way there at the time."""
        name, said = event.details.get("workstation"), event.details.get("at")
        at = datetime.fromisoformat(said) if isinstance(said, str) else self.clock.now()
        tasks = self.ledger.tasks.values() if isinstance(name, str) else ()
        begun = [(since, task.id) for task in tasks if (since := task.at_work_since(str(name), at)) is not None]
        self.ledger.log(event, self.ledger.tasks[max(begun)[1]] if begun else None, name)

    def _log(
        self,
        task_id: str | None,
        name: str,
        *,
        details: dict[str, Any] | None = None,
        workstation: str | None = None,
    ) -> None:
        task: TaskRecord | None = self.ledger.tasks.get(task_id) if task_id else None
        self.ledger.log(Event(name=name, details=details or {}), task, workstation)


_OUTCOME_FAILPOINTS = {
    "Inspect": "inspect.imported",
    "Push": "push.done_before_record",
    "OpenRequest": "request.written_before_record",
    "Save": "save.copied_before_record",
    "Poll": "merge.seen_before_record",
}


def reach_outcome(key: str) -> None:
    """The failpoint between a job's effect and its record."""
    name = _OUTCOME_FAILPOINTS.get(key.split(":", 1)[0])
    if name is not None:
        reach(name)
