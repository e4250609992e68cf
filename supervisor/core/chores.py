"""What is done to workstations while they are idle, and to which it can be done. Pure."""

from typing import Literal

from supervisor.core.record import Stored

ChoreKind = Literal["maintain", "snapshot", "restore", "recreate"]
_WORDS: dict[ChoreKind, str] = {
    "maintain": "maintenance",
    "snapshot": "a snapshot",
    "restore": "the restoration",
    "recreate": "recreation",
}


class Chore(Stored):
    """Something to be done to a workstation while it has no daemon, and only when it is idle.

    `why` is one of a few words, `id` that of the command which asked for it, `snapshot` the name of what is to be
    restored.
    """

    kind: ChoreKind
    why: Literal["asked", "schedule", "image", "task", "age", "protocol"] = "asked"
    id: str = ""
    fresh_tools: bool = False
    snapshot: str | None = None

    @property
    def words(self) -> str:
        return _WORDS[self.kind]


def refusal(chore: Chore, driver: str) -> str:
    """Why a workstation of this driver cannot have this done to it; empty where it can."""
    if driver != "local":
        return ""
    if chore.fresh_tools:
        return "with the driver local it uses the tools of this machine, which are not removed"
    return "the driver local has no container; `restart` starts it anew" if chore.kind == "recreate" else ""
