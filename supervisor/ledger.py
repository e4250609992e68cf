"""The live records in memory and what follows from changing one: save, tell the workstation, log."""

from collections import deque
from collections.abc import Callable, Iterator

from loguru import logger

from agent_daemon.failpoints import reach
from agent_daemon.protocol.errors import ProtocolError
from agent_daemon.protocol.model import SupervisorIdentity, Tasking, TaskReport, utc
from agent_daemon.protocol.paths import Root
from supervisor.clock import Clock
from supervisor.core.decision import Decision, Event
from supervisor.core.plan import Seen
from supervisor.core.record import Attempt, Source, TaskRecord
from supervisor.core.record import Mail as MailState
from supervisor.core.salvage import must_hand_in
from supervisor.core.schedule import DependencyState, unmet
from supervisor.core.sentences import level_of, line
from supervisor.core.settings import Config
from supervisor.core.states import State
from supervisor.core.surroundings import Surroundings
from supervisor.core.tasking import Places, digest_of_wanted, render_agent_config, render_tasking
from supervisor.core.telling import announce, is_told
from supervisor.events import EventLog
from supervisor.mail import Box, Mail, digest, encode_tasking
from supervisor.records import RecordStore
from supervisor.terminal import plain_line


class Ledger:
    """Owns the records of live tasks. Every change goes through `apply`, in the loop's thread."""

    def __init__(
        self,
        root: Root,
        config: Config,
        store: RecordStore,
        mail: Mail,
        events: EventLog,
        clock: Clock,
        identity: SupervisorIdentity,
    ) -> None:
        self._root, self.config, self._store, self._mail = root, config, store, mail
        self._events, self._clock, self.identity = events, clock, identity
        self._since = clock.now()
        self.tasks: dict[str, TaskRecord] = {}
        self.reports: dict[str, dict[int, TaskReport]] = {}
        self.boxes: dict[str, dict[Box, None]] = {}
        # Attempts that are not in `boxes` any more, or were only made ready: their folders in `in/` are to go.
        self.closed: deque[Box] = deque()
        # Few of the live tasks have an attempt that has not ended: what is looked at often goes over these.
        self.under_way: dict[str, Box] = {}
        self.dirty: set[str] = set()
        # Tasks of which something is to be bundled: whether its daemon lives is looked at every second.
        self.to_be_bundled: set[str] = set()
        # For whom what is given to a workstation is encrypted: its daemon, as long as that lives.
        self.recipients: dict[str, str] = {}
        self._archived: dict[str, DependencyState] = {}
        # Told of each task that something was decided about, unless it has gone to the archive.
        self.on_apply: Callable[[TaskRecord], None] = lambda _: None
        # Told of each record that was written or read, and asked to have put down what follows before it goes:
        # where that cannot be, it stays.
        self.on_record: Callable[[TaskRecord], None] = lambda _: None
        self.settle: Callable[[], bool] = lambda: True

    def load(self, tasks: dict[str, TaskRecord]) -> None:
        """Take up the records of an earlier run; every one is planned anew."""
        for task in tasks.values():
            self.tasks[task.id] = task
            self._index(task)
            self.on_record(task)
        self.dirty.update(tasks)

    def sources(self) -> list[Source]:
        """The task files that live tasks came from, as far as they are not known to be deleted."""
        tasks = self.tasks.values()
        return [t.source for t in tasks if t.source.tracker == "local" and t.source.present]

    def ended_boxes(self) -> set[Box]:
        """The attempts that have ended and are not released."""
        return {box for boxes in self.boxes.values() for box in boxes} - set(self.under_way.values())

    def seen(self, task_id: str) -> Seen:
        box = self.under_way.get(task_id)
        recipient = self.recipients.get(box.workstation) if box is not None else None
        return Seen(reports=self.reports.get(task_id, {}), watched_since=self._since, recipient=recipient)

    def hear_recipient(self, workstation: str, recipient: str | None) -> None:
        """A daemon that was started anew has a key of its own: what its attempt was given is given again."""
        if recipient is None or self.recipients.get(workstation) == recipient:
            return
        self.recipients[workstation] = recipient
        self.dirty |= {box.task_id for box in self.under_way.values() if box.workstation == workstation}

    def look_anew(self) -> None:
        """Nobody looked for a while: what was not seen meanwhile is held against nobody."""
        self._since = self._clock.now()

    def apply(self, decision: Decision) -> TaskRecord:
        """Make the decision true: record, then mail, then events. Raises OSError when the disk refuses."""
        before = self.tasks.get(decision.task.id)
        task = announce(before, decision.task, self.config.projects[decision.task.project])
        if before is None:
            reach("intake.before_record")
        if task != before:
            task = self._save(task)
            reach("record.saved_before_mail")
        task = self.tell(task)
        reach("mail.written_before_assigned_event")
        for event in decision.events:
            self.log(event, task)
        if _is_over(task) and is_told(task, self.config.projects[task.project].forge) and self.settle():
            self._archive(task)
        else:
            self.on_apply(task)
        return task

    def _save(self, task: TaskRecord) -> TaskRecord:
        saved = self._store.save(task)
        self.tasks[task.id] = saved
        self._index(saved)
        self.on_record(saved)
        self.dirty.add(task.id)
        return saved

    def _index(self, task: TaskRecord) -> None:
        live = task.live
        if live is None:
            self.under_way.pop(task.id, None)
        else:
            self.under_way[task.id] = Box(live.workstation, task.id, live.number)
        if any(must_hand_in(task, a, self.reports.get(task.id, {}).get(a.number)) for a in task.attempts):
            self.to_be_bundled.add(task.id)
        else:
            self.to_be_bundled.discard(task.id)
        for attempt in task.attempts:
            box = Box(attempt.workstation, task.id, attempt.number)
            if _is_open(task, attempt):
                self.boxes.setdefault(attempt.workstation, {})[box] = None
            else:
                self._close(box)

    def _close(self, box: Box) -> None:
        """Nothing more is said to this attempt or heard of it."""
        if self.boxes.get(box.workstation, {}).pop(box, self) is None:
            self.closed.append(box)
            self._mail.forget(box)

    # --- mail -----------------------------------------------------------------------------------------

    def tell(self, task: TaskRecord) -> TaskRecord:
        """Bring the taskings of all attempts that are open to what the record wants."""
        for attempt in task.attempts:
            if _is_open(task, attempt):
                task = self._tell_attempt(task, attempt)
        return task

    def _tell_attempt(self, task: TaskRecord, attempt: Attempt) -> TaskRecord:
        box = Box(attempt.workstation, task.id, attempt.number)
        state = attempt.mail
        tasking = self.tasking_of(task, attempt, revision=state.revision + 1)
        wanted = digest_of_wanted(tasking)
        if wanted == state.wanted:
            return task
        data = encode_tasking(tasking, self._root)
        mail = MailState(
            revision=tasking.revision,
            digest=digest(data),
            previous_digest=state.digest,
            wanted=wanted,
            written_at=tasking.updated_at,
        )
        task = self._save(task.with_attempt(attempt.number, mail=mail))
        if attempt.ended_at is None:
            agent_config = render_agent_config(task, attempt, self.config, revision=tasking.revision)
            self._mail.write_attempt(box, agent_config, task.description)
        self._mail.write_tasking(box, data, ours=(state.digest, state.previous_digest))
        return task

    def retell(self) -> None:
        """Write every tasking again that is not on disk as it was last meant: the disk had refused it.

        What a person has written there is left to `Edits`.
        """
        for task in list(self.tasks.values()):
            for attempt in task.attempts:
                if not _is_open(task, attempt) or attempt.ended_at is None or not attempt.mail.digest:
                    continue  # those of live attempts are looked at all the time
                box = Box(attempt.workstation, task.id, attempt.number)
                found = self._mail.read_tasking(box)
                if found is None or digest(found) == attempt.mail.previous_digest:
                    task = self.rewrite(task, attempt)

    def rewrite(self, task: TaskRecord, attempt: Attempt) -> TaskRecord:
        """Write an attempt's tasking again although nothing is wanted differently."""
        return self._tell_attempt(
            task.with_attempt(attempt.number, mail=attempt.mail.evolve(wanted="")),
            attempt.evolve(mail=attempt.mail.evolve(wanted="")),
        )

    def tasking_of(self, task: TaskRecord, attempt: Attempt, revision: int) -> Tasking:
        mirror = self._root.mirror(self.config.projects[task.project].trust_domain, task.project)
        places = Places(
            workspace=str(
                self._root.task_workspace(attempt.workstation, task.id, attempt.workspace_mode).worktree
            ),
            workspace_source=str(mirror),
            inbox=str(self._root.attempt_in(attempt.workstation, task.id, attempt.number)),
        )
        now = utc(self._clock.now())
        return render_tasking(task, attempt, places, self.identity, revision=revision, now=now)

    # --- the rest -------------------------------------------------------------------------------------

    def log(self, event: Event, task: TaskRecord | None = None, workstation: str | None = None) -> None:
        """One event, to `events.jsonl` and to the log."""
        if task is not None and workstation is None:
            workstation = task.workstation
        entry = self._events.append(
            event.name,
            at=self._clock.now(),
            actor=event.actor,
            task=task.id if task else None,
            project=task.project if task else None,
            attempt=task.attempt or None if task else None,
            workstation=workstation,
            details=event.details,
        )
        logger.bind(event=entry).log(level_of(event.name, event.details), "{}", plain_line(line(entry)))

    def _archive(self, task: TaskRecord) -> None:
        self._store.archive(task)
        for attempt in task.attempts:
            if attempt.left_behind:
                worktree = self._root.task_workspace(attempt.workstation, task.id, attempt.workspace_mode).worktree
                details = {"attempt": attempt.number, "message": attempt.save_error, "worktree": str(worktree)}
                self.log(Event(name="work.left_behind", details=details), task, attempt.workstation)
        del self.tasks[task.id]
        self.reports.pop(task.id, None)
        self.under_way.pop(task.id, None)
        self.to_be_bundled.discard(task.id)
        self.dirty.discard(task.id)
        for attempt in task.attempts:
            self._close(Box(attempt.workstation, task.id, attempt.number))

    def forget(self, task_id: str) -> None:
        """An archived task goes for good."""
        self._store.remove_archived(task_id)
        self._archived.pop(task_id, None)

    def find(self, task_id: str) -> TaskRecord | None:
        """A live task, or an archived one read from disk."""
        if task_id in self.tasks:
            return self.tasks[task_id]
        return self._store.read_archived(task_id) if self._store.is_archived(task_id) else None

    def damage_of(self, task_id: str) -> str:
        """Why nobody can tell what became of this task: its record is damaged. Empty where it is not."""
        try:
            if self.find(task_id) is None and task_id in self._store.damaged_ids():
                return "its record lies in state/quarantine; mended, it belongs into state/tasks"
        except ProtocolError as error:
            return str(error)
        return ""

    def revive(self, task_id: str) -> None:
        """Bring an archived record back before it is changed."""
        if task_id not in self.tasks and self._store.is_archived(task_id):
            task = self._store.unarchive(task_id)
            self.tasks[task_id] = task
            self._archived.pop(task_id, None)
            self._index(task)

    def surroundings(self, task: TaskRecord) -> Surroundings:
        """What is seen around a task, as far as it is told to a forge."""
        report = self.reports.get(task.id, {}).get(task.attempt)
        waits: list[str] = []
        if task.state is State.PENDING and task.depends_on:
            waits = unmet(task, self.dependency_states(iter([task])))
        now, timing = self._clock.now(), self.config.timing
        return Surroundings(now=now, running=True, report=report, unmet=tuple(waits), timing=timing)

    def dependency_states(self, tasks: Iterator[TaskRecord]) -> dict[str, DependencyState]:
        """The state of everything that these tasks depend on, archived tasks included."""
        states = {}
        for task in tasks:
            for dependency in task.depends_on:
                found = self._dependency(dependency.task)
                if found is not None:
                    states[dependency.task] = found
        return states

    def _dependency(self, task_id: str) -> DependencyState | None:
        if task_id in self.tasks:
            return _dependency_state(self.tasks[task_id])
        if task_id not in self._archived and self._store.is_archived(task_id):
            try:
                self._archived[task_id] = _dependency_state(self._store.read_archived(task_id))
            except ProtocolError as error:
                logger.error("E_RECORD_DAMAGED: the archived record of {}: {}", task_id, error)
                return None
        return self._archived.get(task_id)


def _dependency_state(task: TaskRecord) -> DependencyState:
    head = task.delivery.pushed_head if task.delivery else None
    return DependencyState(state=task.state, pushed_head=head)


def _is_open(task: TaskRecord, attempt: Attempt) -> bool:
    """Whether the attempt's workstation is still told of it, and heard.

    One that is abandoned has been told what there is to tell before its task is run again.
    """
    return not attempt.released and not (attempt.abandoned and attempt.rerun < task.rerun)


def _is_over(task: TaskRecord) -> bool:
    """Ended, only for a person anything of it is left with a workstation, nothing is on its way to the remote."""
    sending = any(effect.status == "sending" for effect in task.effects)
    return task.ended and not sending and all(_is_done_with(attempt) for attempt in task.attempts)


def _is_done_with(attempt: Attempt) -> bool:
    return attempt.released or attempt.left_behind or (attempt.abandoned and attempt.settled)
