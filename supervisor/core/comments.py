"""Slash commands in comments: what they ask of a task, and how they are answered."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from agent_daemon.protocol.model import Priority
from supervisor.core.commands import Actor, Command, CommandKind, CommandRefusedError, refuse_unknown_cli
from supervisor.core.forge import CommentSeen
from supervisor.core.record import TaskRecord
from supervisor.core.slash import Slash

_PLAIN: dict[str, CommandKind] = {"pause": "pause", "resume": "resume"}


def comment_key(comment: CommentSeen) -> str:
    """The id of a comment's command, by which it counts once."""
    return f"comment-{comment.id}"


def command_of(
    slash: Slash, comment: CommentSeen, task: TaskRecord, clis: Sequence[str], now: datetime
) -> Command:
    """The command that a comment gives to a task; CommandRefusedError where it cannot be one.

    `clis` are those that the task's workstations have.
    """
    kind, args = _kind_and_args(slash, task)
    command = Command(
        id=comment_key(comment),
        at=now,
        actor=Actor(kind="forge", id=comment.author.login[:200], is_admin=comment.author.is_admin),
        channel="comment",
        kind=kind,
        target=task.id,
        args=args,
    )
    refuse_unknown_cli(task, command, clis)
    return command


def _kind_and_args(slash: Slash, task: TaskRecord) -> tuple[CommandKind, dict[str, Any]]:
    rest = slash.text.removeprefix(slash.word).strip()
    match slash.verb:
        case "pause" | "resume":
            return _PLAIN[slash.verb], {}
        case "retry":
            return "retry", {"note": slash.text}
        case "cancel":
            return "cancel", {"reason": slash.text}
        case "approve":
            return "approve", {"approval": slash.word, "note": rest}
        case "deny":
            return "deny", {"approval": slash.word, "reason": rest}
        case "handoff":
            return "handoff", {"cli": slash.word, "note": rest}
        case "run":
            return "run", {"cli": slash.word}
        case "priority":
            if slash.word not in {priority.value for priority in Priority}:
                known = ", ".join(priority.value for priority in Priority)
                raise CommandRefusedError(f"there is no priority {slash.word}: there are {known}")
            return "edit", {"priority": slash.word}
        case "answer":
            return "answer", {"note": slash.text}
    raise CommandRefusedError(f"{slash.verb} is no command for a task")
