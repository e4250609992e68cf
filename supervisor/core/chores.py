"""What is done to workstations while they are idle, and to which it can be done. Pure."""

from dataclasses import dataclass
from typing import Literal

from supervisor.core.record import Stored

WEEK_SECONDS = 7 * 24 * 3600.0

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
    why: Literal["asked", "schedule", "disk", "image", "task", "age", "protocol"] = "asked"
    id: str = ""
    fresh_tools: bool = False
    snapshot: str | None = None

    @property
    def words(self) -> str:
        return _WORDS[self.kind]


def refusal(chore: Chore, driver: str) -> str:
    """Why a workstation of this driver cannot have this done to it; empty where it can."""
    if driver != "local" or chore.kind == "maintain":
        return ""
    if chore.kind in ("snapshot", "restore"):
        return "the driver local uses the tools of this machine: there is nothing of its own to save"
    if chore.fresh_tools:
        return "the driver local uses the tools of this machine, which are not removed"
    return "the driver local has no container; `restart` starts it anew"


@dataclass(frozen=True, kw_only=True)
class Condition:
    """What a container is made of, as it matters to whether it should be made anew."""

    image_changed: bool = False
    age_seconds: float = 0.0


def recreation_due(policy: str | None, condition: Condition | None, *, worked: bool) -> Chore | None:
    """Whether a workstation is to be made anew once it is idle; `worked`: an attempt was there since its start."""
    if condition is None:
        return None
    if condition.image_changed:
        return Chore(kind="recreate", why="image")
    if policy == "per_task" and worked:
        return Chore(kind="recreate", why="task")
    if policy == "weekly" and condition.age_seconds >= WEEK_SECONDS:
        return Chore(kind="recreate", why="age")
    return None
