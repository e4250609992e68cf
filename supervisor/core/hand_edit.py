"""A person's edit of `tasking.yaml`, read as a command."""

import difflib
from dataclasses import dataclass
from typing import Any

from agent_daemon.protocol.model import TaskingStatus, TaskingTask
from supervisor.core.commands import CommandRefusedError, TaskCommandKind

# Fields of the tasking that a person may change, by the record's field of the same name.
EDITABLE = (
    "title",
    "description",
    "type",
    "priority",
    "acceptance_criteria",
    "verification",
    "limits",
    "allow_empty",
)

# A description that is cut in the tasking: what is written there is not the whole of it.
_CLIPPED = frozenset({"description", "description_sha256"})

_STATUS_COMMANDS: dict[tuple[TaskingStatus, TaskingStatus], TaskCommandKind] = {
    (TaskingStatus.ASSIGNED, TaskingStatus.PAUSED): "pause",
    (TaskingStatus.PAUSED, TaskingStatus.ASSIGNED): "resume",
    (TaskingStatus.ASSIGNED, TaskingStatus.CANCELLED): "cancel",
    (TaskingStatus.PAUSED, TaskingStatus.CANCELLED): "cancel",
}


@dataclass(frozen=True, kw_only=True)
class Edit:
    """What an edit stands for: commands, text first, and sentences on the part that cannot be taken here."""

    commands: tuple[tuple[TaskCommandKind, dict[str, Any]], ...] = ()
    refused: tuple[str, ...] = ()


def read_edit(edited: TaskingTask, wanted: TaskingTask, keys: set[str]) -> Edit:
    """What a person asks for with an edit of the tasking that was `wanted`; raises CommandRefusedError.

    `keys` are the keys that the person's entry has, to tell a mistyped one.
    """
    unknown = sorted(keys - set(TaskingTask.model_fields))
    if unknown:
        near = difflib.get_close_matches(unknown[0], TaskingTask.model_fields, 1)
        hint = f"; did you mean '{near[0]}'?" if near else ""
        raise CommandRefusedError(f"'{unknown[0]}' is not a key of a task{hint}")
    changed = [name for name in TaskingTask.model_fields if getattr(edited, name) != getattr(wanted, name)]
    refused: tuple[str, ...] = ()
    if wanted.description_sha256 is not None and not _CLIPPED.isdisjoint(changed):
        changed = [name for name in changed if name not in _CLIPPED]
        refused = (
            "the description is longer than what stands here of it, and the rest would be lost; "
            f"`cloud-code task edit {wanted.id}` changes the whole",
        )
    fixed = [name for name in changed if name not in EDITABLE and name != "status"]
    if fixed:
        raise CommandRefusedError(
            f"'{fixed[0]}' cannot be changed here; a person may change {', '.join(EDITABLE)} and status"
        )
    commands: list[tuple[TaskCommandKind, dict[str, Any]]] = []
    fields = {name: getattr(edited, name) for name in changed if name in EDITABLE}
    if fields:
        commands.append(("edit", fields))
    if edited.status is not wanted.status:
        kind = _STATUS_COMMANDS.get((wanted.status, edited.status))
        if kind is None:
            raise CommandRefusedError(f"status cannot be changed from {wanted.status} to {edited.status}")
        commands.append((kind, {}))
    return Edit(commands=tuple(commands), refused=refused)
