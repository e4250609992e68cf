"""What is seen around a task when people are told of it, and the phrases that all of its states use."""

from dataclasses import dataclass, field
from datetime import datetime

from agent_daemon.protocol.model import Activity, TaskReport
from supervisor.core.answers import Action
from supervisor.core.life import StationState
from supervisor.core.record import TaskRecord
from supervisor.core.settings import TimingSettings


@dataclass(frozen=True, kw_only=True)
class StationSeen:
    """A workstation as it matters to a task: its state, the task that occupies it, its last sign of life."""

    name: str
    state: StationState
    task: str | None = None
    note: str = ""
    silent_seconds: float | None = None
    activity: Activity | None = None


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What is seen around a task: `stations` are those of its type, `unmet` its open dependencies in words,
    `cancelled` those that will not come by themselves, `unknown` those that do not exist.

    `report` is that of its newest attempt, `report_problem` one sentence when that could not be taken.
    `resting`: no supervisor looks at it, for its project is not configured.
    `own_workstation`: the driver gives an isolated task a workstation of its own.
    `no_room`: why no attempt begins for want of disk, as what is waited for; `no_money`, why for want of a budget,
    `top_ups` the commands that add what is missing there.
    `drained`: somebody stopped the giving out of attempts.
    `cost_limit_usd`: what all attempts of this run may cost.
    """

    now: datetime
    running: bool
    report: TaskReport | None = None
    report_problem: str = ""
    unmet: tuple[str, ...] = ()
    cancelled: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    resting: bool = False
    stations: tuple[StationSeen, ...] = ()
    timing: TimingSettings = field(default_factory=TimingSettings)
    own_workstation: bool = False
    no_room: str = ""
    drained: bool = False
    no_money: tuple[str, ...] = ()
    top_ups: tuple[str, ...] = ()
    cost_limit_usd: float | None = None


# Why it is so, what happens next, what a person can do.
Told = tuple[list[str], list[str], list[Action]]


def last_step(task: TaskRecord) -> list[str]:
    if not task.history:
        return ["It was created and has not been started yet."]
    last = task.history[-1]
    return [f"It was {last.source.words} before; {last.actor} changed that: {phrase(last.reason)}."]


def phrase(text: str) -> str:
    """Someone's words as a part of a sentence."""
    return " ".join(text.split())[:1000].removesuffix(".")


def after_colon(text: str) -> str:
    """Someone's words as the end of a sentence."""
    said = phrase(text)
    return f": {said}{'' if said.endswith(('?', '!', '…')) else '.'}" if said else "."


def feedback(task: TaskRecord) -> list[str]:
    """What the next attempt will be told of the one before."""
    return [
        f"The next attempt is told: {item.message.splitlines()[0]}" for item in task.feedback[:3] if item.message
    ]


def stop_actions(task: TaskRecord) -> list[Action]:
    return [
        Action(text="Hold it", command=f"cloud-code task pause {task.id}"),
        Action(text="Give it up", command=f"cloud-code task cancel {task.id}"),
    ]
