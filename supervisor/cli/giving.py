"""Giving a command and telling what became of it: what every writing verb has in common."""

import getpass
from typing import Any

from agent_daemon.protocol.paths import Root
from supervisor.cli.output import note, progress, say
from supervisor.control import give, new_command
from supervisor.core.commands import TaskCommandKind, WorkstationCommandKind
from supervisor.errors import CloudCodeError
from supervisor.reader import is_locked


def give_and_tell(
    root: Root, kind: TaskCommandKind | WorkstationCommandKind, target: str, args: dict[str, Any] | None = None
) -> None:
    """Have a command carried out; raises CloudCodeError when it was refused."""
    from supervisor import log

    log.configure(level="WARNING")  # what the supervisor's own code says while it stands in
    command = new_command(kind, target, _person(), args or {})
    with progress("waiting for the supervisor"):
        answer = give(root, command)
    if not answer.done:
        raise CloudCodeError("E_REFUSED", f"{answer.message}.")
    say(answer.message)
    if kind != "workstation-stop" and not is_locked(root):
        note("No supervisor is running: what follows from this happens when one does (`cloud-code run`).")


def _person() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "operator"
