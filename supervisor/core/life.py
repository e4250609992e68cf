"""The life of a workstation: the one table of its states, and what each look at it decides. Pure.

Level-triggered: `look` says what state follows from what is remembered and seen, and what is to be done about it.
Times are seconds of watching (`core.liveness`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Literal

from supervisor.core.chores import Chore
from supervisor.core.liveness import Pulse
from supervisor.core.settings import TimingSettings

# So long without trouble, and what a workstation suffered before counts no more.
CALM_SECONDS = 300.0

Wanted = Literal["running", "stopped", "removed"]


class StationState(StrEnum):
    """`down` is what readers see of one that should run while no supervisor does; it is not in the table."""

    PROVISIONING = "provisioning"  # it is being started, and has shown no sign of life yet
    IDLE = "idle"
    WORKING = "working"
    UNHEALTHY = "unhealthy"  # its daemon lives and is silent
    DRAINING = "draining"  # something is to be done to it: it ends its attempt, and gets no other
    STOPPING = "stopping"
    MAINTENANCE = "maintenance"  # no daemon: it is being trimmed, saved or restored
    RECREATING = "recreating"  # no daemon: it is being made anew
    RESTARTING = "restarting"  # its daemon ended by itself, and is started again after a while
    STOPPED = "stopped"  # by a person
    REMOVED = "removed"  # not needed in its pool, or configured no longer; what it holds stays
    DOWN = "down"


_S = StationState
_LIVING = frozenset({_S.IDLE, _S.WORKING, _S.UNHEALTHY, _S.DRAINING})
_ENDED = frozenset({_S.STOPPING, _S.RESTARTING, _S.STOPPED, _S.REMOVED})
# Without a daemon anything may follow that needs none.
_AT_REST = frozenset({_S.PROVISIONING, _S.MAINTENANCE, _S.RECREATING, _S.RESTARTING, _S.STOPPED, _S.REMOVED})

TRANSITIONS: dict[StationState, frozenset[StationState]] = {
    # → idle: its first sign of life; one that never shows any is unhealthy
    _S.PROVISIONING: _LIVING | _AT_REST | {_S.STOPPING},
    # → stopped, removed: it ended by itself, and nobody wants it any more
    _S.IDLE: _LIVING | _ENDED,
    _S.WORKING: _LIVING | _ENDED,
    _S.UNHEALTHY: _LIVING | _ENDED,
    # → idle, working: what was to be done is wanted no longer
    _S.DRAINING: _LIVING | _ENDED,
    # → a living state: it did not end, and is stopped again
    _S.STOPPING: _LIVING | _AT_REST,
    _S.MAINTENANCE: _AT_REST,
    _S.RECREATING: _AT_REST,
    _S.RESTARTING: _AT_REST,
    _S.STOPPED: _AT_REST,
    _S.REMOVED: _AT_REST,
}
# Of these the files of a workstation tell nothing by themselves.
NOTED = frozenset({_S.PROVISIONING, _S.DRAINING, _S.STOPPING, _S.MAINTENANCE, _S.RECREATING, _S.RESTARTING})


@dataclass(frozen=True, kw_only=True)
class Life:
    """What is remembered of a workstation between two looks.

    `stopping`: a job ends its daemon. `held`: a job acts in its place, and nothing is decided until that is back.
    `giving_up`: its attempt is lost as soon as its daemon is dead. `failures` counts the rungs of the ladder.
    """

    state: StationState = StationState.PROVISIONING
    chores: tuple[Chore, ...] = ()
    stopping: bool = False
    held: bool = False
    giving_up: bool = False
    failures: int = 0
    not_before: float = 0.0
    started: float = 0.0

    def moved(self, state: StationState) -> "Life":
        """Raises ValueError for a transition that the table lacks, which is always a bug."""
        if state is not self.state and state not in TRANSITIONS[self.state]:
            raise ValueError(f"a workstation that is {self.state} cannot become {state}")
        return self if state is self.state else replace(self, state=state)

    def asked(self, chore: Chore) -> "Life":
        """With this to be done; the same kind for a second time takes the place of the first."""
        begun = self.chores[:1] if self.state in (_S.MAINTENANCE, _S.RECREATING) and self.held else ()
        rest = tuple(other for other in self.chores[len(begun) :] if other.kind != chore.kind)
        return replace(self, chores=(*begun, *rest, chore))


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What one look sees. `known`: a daemon was started and has not been seen to end; `alive`: it lives.

    `beaten`: it has shown a sign of life. `busy`: an attempt is under way there, or is being made ready for it.
    `moves`: another driver is configured than that which started it.
    """

    now: float
    wanted: Wanted = "running"
    known: bool = False
    alive: bool = False
    beaten: bool = False
    pulse: Pulse = "alive"
    silent_seconds: float = 0.0
    busy: bool = False
    moves: bool = False


Order = Literal["start", "stop", "forget", "move", "chore"]


@dataclass(frozen=True, kw_only=True)
class Step:
    """What a look decided: `order` is to be carried out, `event` to be told. `lost`: give its attempt up."""

    life: Life
    order: Order | None = None
    event: str = ""
    details: dict[str, object] = field(default_factory=dict)
    lost: bool = False


def look(life: Life, seen: Seen, timing: TimingSettings) -> Step:
    """The next state, and what is to be done; while a job is at it, nothing."""
    if life.stopping or life.held:
        return Step(life=life)
    return _living(life, seen, timing) if seen.alive else _without_daemon(life, seen, timing.revive_after_seconds)


def _living(life: Life, seen: Seen, timing: TimingSettings) -> Step:
    if life.state is _S.STOPPING and seen.now < life.not_before:
        return Step(life=life)
    if seen.wanted != "running" or seen.moves:
        return _end(life, "stopping", {})
    if life.failures and seen.now - life.started > max(CALM_SECONDS, 2 * timing.restart_after_seconds):
        life = replace(life, failures=0)
    details: dict[str, object] = {"rule": "silent", "silent_seconds": round(seen.silent_seconds)}
    if seen.pulse == "silent":
        failures = life.failures + 1
        life = replace(life, failures=failures, giving_up=failures > 1 and seen.busy)
        return _end(life, "silent", details | {"failures": failures})
    if seen.pulse == "suspect":
        details["restart_in_seconds"] = round(timing.restart_after_seconds - seen.silent_seconds)
        told = life.state is not _S.UNHEALTHY
        return Step(life=life.moved(_S.UNHEALTHY), event="suspect" if told else "", details=details)
    if life.chores and not seen.busy:
        return _end(life, "stopping", {"for": life.chores[0].words, "why": life.chores[0].why})
    if life.chores:
        told = life.state is not _S.DRAINING
        named: dict[str, object] = {"for": life.chores[0].words, "why": life.chores[0].why}
        return Step(life=life.moved(_S.DRAINING), event="draining" if told else "", details=named)
    if life.state is _S.PROVISIONING and not seen.beaten:
        return Step(life=life)
    return Step(life=life.moved(_S.WORKING if seen.busy else _S.IDLE))


def _end(life: Life, event: str, details: dict[str, object]) -> Step:
    return Step(life=replace(life.moved(_S.STOPPING), stopping=True), order="stop", event=event, details=details)


def _without_daemon(life: Life, seen: Seen, waits: Sequence[float]) -> Step:
    if life.giving_up:  # time to bundle what it holds
        later = replace(life.moved(_S.RESTARTING), giving_up=False, not_before=seen.now + waits[-1])
        return Step(life=later, order="forget", event="lost", lost=seen.busy)
    if seen.moves:  # nothing of the former driver's runs: the next one goes on from the files
        return Step(life=life.moved(_S.RESTARTING), order="move")
    if seen.known and seen.wanted != "running":
        return Step(life=life.moved(_rest(seen)), order="forget", event="stopped")
    if seen.known:
        wait = waits[min(life.failures, len(waits) - 1)]
        failures = life.failures + 1
        died = replace(life.moved(_S.RESTARTING), failures=failures, not_before=seen.now + wait)
        details: dict[str, object] = {"failures": failures, "restart_in_seconds": wait}
        lost = failures >= len(waits) and seen.busy
        return Step(life=died, order="forget", event="died", details=details, lost=lost)
    if life.chores and (seen.wanted != "running" or not seen.busy):
        at_it = replace(
            life.moved(_S.RECREATING if life.chores[0].kind == "recreate" else _S.MAINTENANCE), held=True
        )
        return Step(life=at_it, order="chore")
    if seen.wanted != "running":
        return Step(life=life.moved(_rest(seen)))
    if seen.now < life.not_before:
        return Step(life=life.moved(_S.RESTARTING))
    return Step(life=life.moved(_S.PROVISIONING), order="start")


def _rest(seen: Seen) -> StationState:
    return _S.REMOVED if seen.wanted == "removed" else _S.STOPPED


def started(life: Life, now: float) -> Life:
    return replace(life.moved(_S.PROVISIONING), started=now)


def not_started(life: Life, now: float, timing: TimingSettings) -> Life:
    """It could not be started: again after the longest wait."""
    later = now + timing.revive_after_seconds[-1]
    return replace(life.moved(_S.RESTARTING), failures=life.failures + 1, not_before=later)


def not_stopped(life: Life, now: float, timing: TimingSettings) -> Life:
    """Its daemon was to be ended, and lives: again after the longest wait."""
    return replace(life, stopping=False, not_before=now + timing.revive_after_seconds[-1])


def done(life: Life) -> Life:
    """The job that did the first of its chores is back."""
    return replace(life, held=False, chores=life.chores[1:])
