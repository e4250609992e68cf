"""Giving a command and telling what became of it: what every writing verb has in common."""

import getpass
from collections.abc import Iterable
from typing import Any

from agent_daemon.protocol.paths import Root
from supervisor.cli.output import here, note, progress, say
from supervisor.control import give, give_all, new_command
from supervisor.core.commands import CommandKind, WorkstationCommandKind
from supervisor.errors import CloudCodeError
from supervisor.reader import is_locked
from supervisor.service.host import start_command


def give_and_tell(
    root: Root,
    kind: CommandKind,
    target: str,
    args: dict[str, Any] | None = None,
    *,
    if_revision: int | None = None,
) -> str:
    """Have a command carried out; returns its id, raises CloudCodeError when it was refused."""
    from supervisor import log

    log.configure(level="WARNING")  # what the supervisor's own code says while it stands in
    command = new_command(kind, target, _person(), args or {}, if_revision=if_revision)
    with progress("waiting for the supervisor"):
        answer = give(root, command)
    if not answer.done:
        raise CloudCodeError("E_REFUSED", f"{answer.message}.")
    say(answer.message)
    if kind != "workstation-stop" and not is_locked(root):
        note(
            "No supervisor is running: what follows from this happens when one does "
            f"(`{here(start_command(root.path))}`)."
        )
    return command.id


def give_to_all(root: Root, kind: WorkstationCommandKind, targets: Iterable[str]) -> int:
    """One command to each of these workstations; returns the exit code: 1 when one of them was refused."""
    from supervisor import log

    log.configure(level="WARNING")
    commands = [new_command(kind, target, _person(), {}) for target in targets]
    with progress("waiting for the supervisor"):
        answers = give_all(root, commands)
    for command, answer in zip(commands, answers, strict=True):
        if answer is None:
            note(f"E_NO_ANSWER: the supervisor did not answer for {command.target}; the command was withdrawn.")
        else:
            (say if answer.done else note)(answer.message)
    return 0 if all(answer is not None and answer.done for answer in answers) else 1


def _person() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "operator"
