"""What people ask for: task files, and commands from the spool."""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field

from loguru import logger

from agent_daemon.protocol.errors import Problem, ProtocolError
from agent_daemon.protocol.paths import Root
from supervisor import spool
from supervisor.clock import Clock
from supervisor.core.chores import Chore, ChoreKind, refusal
from supervisor.core.commands import (
    Actor,
    Command,
    CommandAnswer,
    CommandRefusedError,
    apply_command,
    authorise,
    refuse_unknown_cli,
)
from supervisor.core.decided import what_was_decided
from supervisor.core.decision import Event, problem_details
from supervisor.core.intake import Draft, ingest, source_gone, source_held, when_told
from supervisor.core.record import Source, TaskRecord
from supervisor.draining import Draining
from supervisor.fleet import Fleet
from supervisor.ledger import Ledger
from supervisor.records import RecordStore, taken_otherwise
from supervisor.spending import Money
from supervisor.work import Work

_CHORES: dict[str, ChoreKind] = {
    "workstation-recreate": "recreate",
    "workstation-maintain": "maintain",
    "workstation-snapshot": "snapshot",
    "workstation-restore": "restore",
}
_DECIDING = ("approve", "deny", "answer", "revoke")


@dataclass
class People:
    """The door for people; everything here ends in a pure decision that the ledger applies.

    `offer` has a source read again: an ended task does not follow its file, and is run again with what that says.
    """

    root: Root
    clock: Clock
    store: RecordStore
    fleet: Fleet
    work: Work
    offer: Callable[[Source], None]
    clean: Callable[[], str] = lambda: "nothing is cleaned up here"
    money: Money | None = None
    draining: Draining | None = None
    _projects: set[str] = field(default_factory=set, init=False)

    # --- task files -----------------------------------------------------------------------------------

    def take_draft(self, ledger: Ledger, draft: Draft) -> None:
        """A draft becomes a task, changes one, or means nothing."""
        if draft.id in self.store.damaged_ids():
            mend = "mend the record in state/quarantine and move it back to state/tasks, or delete it there"
            self._refuse_damaged(ledger, f"{draft.id} is not taken in", mend)
            return
        try:
            known = ledger.find(draft.id)
            problem = self._other_project(ledger, draft) if known is None else None
        except ProtocolError as error:
            self._refuse_damaged(ledger, f"{draft.id} is not taken in: {error}", "mend the record, or delete it")
            return
        if problem is not None:
            ledger.log(Event(name="input.refused", details=problem_details(problem)))
            return
        decision = ingest(draft, known, ledger.config, self.clock.now())
        if decision is None:
            return
        ledger.revive(draft.id)
        task = ledger.apply(decision)
        if draft.text.cancel and not task.ended:
            self._cancel_by_file(ledger, task)

    def _other_project(self, ledger: Ledger, draft: Draft) -> Problem | None:
        """Whether a task of another project, be it ended or configured no longer, has this very source."""
        if not self._projects:
            self._projects |= self.store.projects()
        return taken_otherwise(self.store, draft, self._projects | set(ledger.config.projects))

    def _refuse_damaged(self, ledger: Ledger, message: str, mend: str) -> None:
        details = {"code": "E_RECORD_DAMAGED", "message": message, "mend": mend}
        ledger.log(Event(name="input.refused", details=details))

    def _cancel_by_file(self, ledger: Ledger, task: TaskRecord) -> None:
        command = Command(
            id=f"cancel-{task.source.text_hash[:40]}",  # of the file's content, so that it counts once
            at=self.clock.now(),
            actor=Actor(id="operator"),
            channel="tasking",
            kind="cancel",
            target=task.id,
            args={"reason": "the task file says `cancel: true`"},
        )
        ledger.apply(apply_command(task, command, self.clock.now()))

    def take_hold(self, ledger: Ledger, ref: str) -> None:
        """A task file vanished with too many others: the record of its live task remembers that it is away."""
        for project in ledger.config.projects:
            task = ledger.tasks.get(f"{project}.{ref}")
            decision = source_held(task) if task is not None and task.source.key == f"file:{ref}" else None
            if decision is not None:
                ledger.apply(decision)

    def take_absence(self, ledger: Ledger, ref: str) -> None:
        """A task file was deleted: whatever task came from it is cancelled, an ended one remembers it."""
        for project in ledger.config.projects:
            try:
                task = ledger.find(f"{project}.{ref}")
            except ProtocolError as error:
                message = f"the deletion of its file is not noted: {error}"
                self._refuse_damaged(ledger, message, "mend the record, or delete it")
                continue
            if task is None or task.source.key != f"file:{ref}":
                continue
            decision = source_gone(task, now=self.clock.now())
            if decision is not None:
                ledger.revive(task.id)
                ledger.apply(decision)

    # --- commands -------------------------------------------------------------------------------------

    def take_commands(self, ledger: Ledger) -> bool:
        """Carry out what lies in the spool, and answer; whether there was anything."""
        found = False
        for name, command in spool.pending(self.root.commands):
            found = True
            if isinstance(command, ProtocolError):
                answered = CommandAnswer(id=name.removesuffix(".yaml"), done=False, message=str(command.problem))
            else:
                answered = self._answer(ledger, command)
            try:
                spool.answer(self.root.commands, name, answered)
            except OSError as error:
                logger.error("the command {} cannot be answered: {}", name, error)
        return found

    def _answer(self, ledger: Ledger, command: Command) -> CommandAnswer:
        """What becomes of a command, also where it meets a mistake in this program: others wait behind it."""
        try:
            return self.carry_out(ledger, command)
        except OSError:
            raise
        except Exception as error:
            logger.exception("E_BUG in carrying out {} {}", command.kind, command.target)
            message = f"{command.kind} {command.target}: {type(error).__name__}: {error}"
            with contextlib.suppress(OSError):
                ledger.log(Event(name="supervisor.bug", details={"code": "E_BUG", "message": message}))
            return CommandAnswer(id=command.id, done=False, message=f"E_BUG: {message}")

    def carry_out(self, ledger: Ledger, command: Command) -> CommandAnswer:
        """One command, and what became of it in a sentence."""
        try:
            if spool.expired(command):
                raise CommandRefusedError(
                    "the command is older than a minute and was not carried out; give it again"
                )
            if command.kind == "clean":
                message = self.clean()
            elif command.kind == "budget-top-up" and self.money is not None:
                authorise(command.actor, command)
                message = self.money.top_up(command)
            elif command.kind in ("drain", "undrain"):
                authorise(command.actor, command)
                message = self._command_drain(ledger, command)
            elif command.kind.startswith("workstation-"):
                message = self._command_workstation(command)
            else:
                message = self._command_task(ledger, command)
        except ProtocolError as error:
            return CommandAnswer(id=command.id, done=False, message=f"the record cannot be read: {error.problem}")
        except CommandRefusedError as refusal:
            return CommandAnswer(id=command.id, done=False, message=str(refusal))
        return CommandAnswer(id=command.id, done=True, message=message)

    def _command_task(self, ledger: Ledger, command: Command) -> str:
        task = ledger.find(command.target)
        if task is None:
            raise CommandRefusedError(f"there is no task {command.target}; `cloud-code task list` shows them")
        refuse_unknown_cli(task, command, ledger.config.clis_for(task.project, task.specialist))
        if command.kind == "top-up" and self.money is not None and command.id not in task.applied_commands:
            self.money.refuse_top_up(task, command)
        decision = apply_command(task, command, self.clock.now())
        ledger.revive(task.id)
        after = ledger.apply(decision)
        if task.ended and not after.ended:
            self.offer(after.source)
        told = when_told(after) if command.kind == "edit" else ""
        told = self.money.told(after) if command.kind == "top-up" and self.money is not None else told
        decided = what_was_decided(task, after) if command.kind in _DECIDING else ""
        is_now = f"{after.id} is {after.state.words}" + (f": {told}" if told else "")
        return f"{decided}. {is_now}" if decided else is_now

    def _command_drain(self, ledger: Ledger, command: Command) -> str:
        if self.draining is None:
            raise CommandRefusedError("attempts are given out by nobody here")
        message, event = self.draining.ask(command.kind == "drain", command.actor.id)
        if event is not None:
            ledger.log(event)
        return message

    def _command_workstation(self, command: Command) -> str:
        name = command.target
        if name not in self.fleet.stations:
            known = ", ".join(self.fleet.stations)
            raise CommandRefusedError(f"there is no workstation {name}; there are {known}")
        if command.kind == "workstation-stop":
            self.fleet.want(name, "stopped")
            return f"{name} is being stopped; its attempt goes on when it is started again"
        if command.kind == "workstation-start":
            self.fleet.want(name, "running")
            return f"{name} is being started"
        if command.kind in _CHORES:
            return self._ask(name, _chore(command))
        handle = self.fleet.restart(name)
        if handle is not None:
            self.work.stop_daemon(name, handle)
        return f"{name} is being restarted"

    def _ask(self, name: str, chore: Chore) -> str:
        """Have something done to a workstation once it is idle; refused where its driver cannot."""
        station = self.fleet.stations[name]
        if why := refusal(chore, station.file.driver):
            raise CommandRefusedError(f"{name}: {why}")
        self.fleet.ask(name, chore)
        task = self.fleet.stations[name].current_task
        return f"{name}: {chore.words} follows once {f'it is done with {task}' if task else 'it is idle'}"


def _chore(command: Command) -> Chore:
    """What a person asks to have done; the values of a command are words."""
    named = command.args.get("snapshot")
    return Chore(
        kind=_CHORES[command.kind],
        id=command.id,
        fresh_tools=command.args.get("tools") == "fresh",
        snapshot=str(named) if named else None,
    )
