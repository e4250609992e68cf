"""Installing in steps: each is looked at before it is done, told, and not done twice."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

Outcome = Literal["there", "done", "would", "kept", "failed"]


@dataclass(frozen=True, kw_only=True)
class Step:
    """One change of this host: `what` it makes so, and `command`, what a person would type for it.

    `is_done` says whether it is so already; `kept` why it must be left as it is, or nothing.
    """

    what: str
    command: str
    do: Callable[[], object]
    is_done: Callable[[], bool] = lambda: False
    kept: Callable[[], str] = lambda: ""


@dataclass(frozen=True, kw_only=True)
class Told:
    """What became of a step; `note` says more where there is more to say."""

    step: Step
    outcome: Outcome
    note: str = ""


def carry_out(steps: Iterable[Step], *, dry_run: bool) -> Iterator[Told]:
    """Do what is not done yet, one after the other; the first that fails ends it with a CloudCodeError."""
    for step in steps:
        if step.is_done():
            yield Told(step=step, outcome="there")
        elif dry_run:
            yield Told(step=step, outcome="would", note=step.kept() or step.command)
        else:
            kept = step.kept()
            step.do()
            yield Told(step=step, outcome="kept" if kept else "done", note=kept)
