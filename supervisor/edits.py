"""People's edits of `tasking.yaml`: found, taken as that person's commands, or kept beside it with the reason."""

from dataclasses import dataclass, field

from agent_daemon.protocol.errors import ProtocolError
from agent_daemon.protocol.files import Signature
from agent_daemon.protocol.yaml_reader import read_yaml
from supervisor.clock import Clock
from supervisor.core.commands import Actor, Command, CommandRefusedError, apply_command
from supervisor.core.decision import Event
from supervisor.core.hand_edit import read_edit
from supervisor.core.record import Attempt, TaskRecord
from supervisor.ledger import Ledger
from supervisor.mail import Box, Mail, decode_tasking, digest, is_held
from supervisor.turns import Turns


@dataclass
class Edits:
    """Looks at the taskings of all attempts that are not released; a change must stay the same for a sweep."""

    clock: Clock
    mail: Mail
    _known: dict[Box, Signature | None] = field(default_factory=dict, init=False)
    _changing: dict[Box, Signature | None] = field(default_factory=dict, init=False)
    _turns: Turns = field(default_factory=Turns, init=False)

    def look(self, ledger: Ledger) -> None:
        """Find taskings that are not as they were written, and take or answer what people wrote there."""
        ended = self._turns.next(lambda: self._ended(ledger))
        for box in dict.fromkeys((*ledger.under_way.values(), *ended, *self._changing)):
            task = ledger.tasks.get(box.task_id)
            attempt = task.attempt_number(box.attempt) if task is not None else None
            if task is None or attempt is None or attempt.released or not attempt.mail.digest:
                self._forget(box)
                continue
            found = self.mail.tasking_signature(box)
            if found is not None and found == self._known.get(box):
                self._changing.pop(box, None)
                continue
            if box not in self._changing or found != self._changing[box]:
                self._changing[box] = found
                continue
            del self._changing[box]
            self._take(ledger, task, attempt, box)
            self._remember(ledger, box)

    def _remember(self, ledger: Ledger, box: Box) -> None:
        """Know the file by its look where it says what we wrote: an edit of this very moment is looked at next."""
        seen, data = self.mail.tasking_signature(box), self.mail.read_tasking(box)
        task = ledger.tasks.get(box.task_id)
        attempt = task.attempt_number(box.attempt) if task is not None else None
        if attempt is not None and data is not None and digest(data) != attempt.mail.digest:
            self._known.pop(box, None)
        else:
            self._known[box] = seen

    def _ended(self, ledger: Ledger) -> set[Box]:
        """The attempts that have ended and are not released; what is known of all others is forgotten."""
        live, ended = set(ledger.under_way.values()), ledger.ended_boxes()
        for box in set(self._known) - live - ended:
            self._forget(box)
        return ended

    def _forget(self, box: Box) -> None:
        self._known.pop(box, None)
        self._changing.pop(box, None)

    def look_at(self, ledger: Ledger, box: Box) -> None:
        """Take a person's edit of this tasking now, if there is one and its attempt lives."""
        task = ledger.tasks.get(box.task_id)
        live = task.live if task else None
        if task is not None and live is not None and live.number == box.attempt and not task.ended:
            self._take(ledger, task, live, box)

    def _take(self, ledger: Ledger, task: TaskRecord, attempt: Attempt, box: Box) -> None:
        data = self.mail.read_tasking(box)
        if data is not None and digest(data) == attempt.mail.digest:
            return
        if data is None or is_held(data) or digest(data) == attempt.mail.previous_digest:
            ledger.rewrite(task, attempt)
            return
        self.mail.consider(box, data)
        try:
            refused = self._carry_out(ledger, task, attempt, box, data)
            reason = f"A part of this edit was not taken: {'; '.join(refused)}" if refused else ""
        except (ProtocolError, CommandRefusedError) as error:
            reason = f"This edit was not taken: {error}"
        if reason:
            self.mail.reject_tasking(box, data, reason)
            details = {"message": reason, "kept": self.mail.tasking_path(box) + ".rejected"}
            ledger.log(Event(name="edit.refused", details=details, actor="operator"), task)
        current = ledger.tasks.get(task.id)
        now = current.attempt_number(attempt.number) if current else None
        if current is not None and now is not None and now.mail.digest == attempt.mail.digest:
            ledger.rewrite(current, now)  # nothing was wanted differently: put our own text back

    def _carry_out(
        self, ledger: Ledger, task: TaskRecord, attempt: Attempt, box: Box, data: bytes
    ) -> tuple[str, ...]:
        """Carry out what was edited; sentences on what of it could not be. Raises when nothing could."""
        if attempt.number != task.attempt:
            raise CommandRefusedError(
                f"attempt {attempt.number} of {task.id} is over, and nothing reads its tasking any more; "
                f"`cloud-code task edit {task.id}` changes the task"
            )
        shown = self.mail.tasking_path(box)
        edited = decode_tasking(data, shown)
        entries = read_yaml(data, file=shown).value["tasks"]
        if len(edited.tasks) != 1:
            raise CommandRefusedError("E_MANY_TASKS: a tasking holds exactly one task")
        wanted = ledger.tasking_of(task, attempt, revision=attempt.mail.revision).task
        edit = read_edit(edited.task, wanted, set(entries[0]))
        for number, (kind, args) in enumerate(edit.commands):
            command = Command(
                id=f"{kind}-{digest(data)[:38]}-{number}",  # of the file's content, so that it counts once
                at=self.clock.now(),
                actor=Actor(id="operator"),
                channel="tasking",
                kind=kind,
                target=task.id,
                args=args,
            )
            ledger.apply(apply_command(ledger.tasks[task.id], command, self.clock.now()))
        return edit.refused
