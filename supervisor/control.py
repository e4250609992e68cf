"""Giving commands from outside the loop: to the running supervisor, or with its own code when none runs."""

import contextlib
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from agent_daemon.protocol.files import make_folder
from agent_daemon.protocol.paths import Root
from supervisor import spool
from supervisor.core.commands import Actor, Command, CommandAnswer, CommandKind
from supervisor.errors import CloudCodeError, writing
from supervisor.reader import is_locked
from supervisor.running import running_supervisor

WAIT_SECONDS = 10.0
_LOOK_SECONDS = 0.5


def new_command(
    kind: CommandKind,
    target: str,
    actor: str,
    args: dict[str, Any],
    *,
    if_revision: int | None = None,
) -> Command:
    """A command of a person at this machine; `if_revision` is that of the record as the person saw it."""
    return Command(
        id=spool.new_command_id(),
        at=datetime.now(UTC),
        actor=Actor(id=actor),
        channel="cli",
        kind=kind,
        target=target,
        args=args,
        if_revision=if_revision,
    )


def give(root: Root, command: Command, wait_seconds: float = WAIT_SECONDS) -> CommandAnswer:
    """What became of the command: carried out by the supervisor that runs, or here when none does.

    CloudCodeError: E_NO_ANSWER (the command is withdrawn), or why no supervisor could be built here.
    """
    (answer,) = give_all(root, [command], wait_seconds)
    if answer is not None:
        return answer
    running = running_supervisor(root)
    who = f" (process {running.pid})" if running else ""
    raise CloudCodeError(
        "E_NO_ANSWER",
        f"The supervisor of {root.path}{who} did not answer within {wait_seconds:g} s; the command was withdrawn.",
        "Look at `cloud-code status` and at its log, then give the command again.",
    )


def give_all(
    root: Root, commands: Sequence[Command], wait_seconds: float = WAIT_SECONDS
) -> list[CommandAnswer | None]:
    """The same for several at once; None for each that nobody answered in time and that was withdrawn."""
    answers: dict[str, CommandAnswer] = {}

    def take(patience_seconds: float) -> None:
        deadline = time.monotonic() + patience_seconds
        for command in commands:
            if command.id not in answers:
                left = max(0.01, deadline - time.monotonic())
                answer = spool.wait_for_answer(root.commands, command.id, left)
                answers.update({command.id: answer} if answer is not None else {})

    try:
        with writing(root.commands):
            make_folder(root.commands)
            for command in commands:
                spool.post(root.commands, command)
        deadline = time.monotonic() + wait_seconds
        while len(answers) < len(commands) and time.monotonic() < deadline:
            _stand_in(root)
            take(_LOOK_SECONDS)
    finally:
        for command in commands:
            spool.withdraw(root.commands, command.id)
    take(_LOOK_SECONDS)  # one may just have been carried out
    return [answers.get(command.id) for command in commands]


def _stand_in(root: Root) -> None:
    """Carry out what lies in the spool with the supervisor's own code, if its lock is free."""
    from supervisor.app import locked  # heavy, and not needed where another one answers at once

    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(locked(root))
        except CloudCodeError as error:
            # A member of the group may give commands, and hold no lock.
            if error.code == "E_LOCKED" or (error.code == "E_NOT_WRITABLE" and is_locked(root)):
                return
            raise
        _carry_out_spooled(root)


def _carry_out_spooled(root: Root) -> None:
    """With the lock held: what a supervisor does on its start, then the commands; no daemon is started."""
    from supervisor.app import Supervisor

    supervisor = Supervisor(root)
    try:
        supervisor.recover()
        supervisor.people.take_commands(supervisor.ledger)
        for name, station in supervisor.fleet.stations.items():
            handle = supervisor.fleet.stop(name) if station.file.wanted == "stopped" else None
            if handle is not None:
                supervisor.work.stop_daemon(name, handle)
        supervisor.loop.drain()
    finally:
        supervisor.pool.close()
        supervisor.events.close()
