"""The states of a task and the one table of transitions between them (docs/protocol.md, "Life of a task")."""

from enum import StrEnum


class State(StrEnum):
    PENDING = "pending"
    ASSIGNED = "assigned"
    IN_PROGRESS = "in_progress"
    REVIEW = "review"
    COMPLETED = "completed"
    BLOCKED = "blocked"
    FAILED = "failed"
    PAUSED = "paused"
    CANCELLED = "cancelled"

    @property
    def words(self) -> str:
        """As the end of a sentence: the task is …"""
        return {State.IN_PROGRESS: "in progress", State.REVIEW: "in review"}.get(self, self.value)


ENDED = frozenset({State.COMPLETED, State.CANCELLED})

# An attempt in one of these occupies its workstation until the daemon's report ends it.
ACTIVE = frozenset({State.ASSIGNED, State.IN_PROGRESS})

# → completed from anywhere: a person merged its request, whatever else was still going on
_ANY_TIME = frozenset({State.PAUSED, State.CANCELLED, State.BLOCKED, State.COMPLETED})

TRANSITIONS: dict[State, frozenset[State]] = {
    # pending → assigned: a free workstation of the routed type has been found
    State.PENDING: frozenset({State.ASSIGNED}) | _ANY_TIME,
    # assigned → pending: no report within the assign timeout; → failed: it failed before its first report
    State.ASSIGNED: frozenset({State.IN_PROGRESS, State.PENDING, State.FAILED}) | _ANY_TIME,
    # in_progress → pending: the workstation died for good, the next attempt goes elsewhere
    State.IN_PROGRESS: frozenset({State.REVIEW, State.FAILED, State.PENDING}) | _ANY_TIME,
    # review → pending: feedback from a person, the next attempt goes on
    State.REVIEW: frozenset({State.PENDING}) | _ANY_TIME,
    # failed waits out its backoff, then → pending
    State.FAILED: frozenset({State.PENDING}) | _ANY_TIME,
    # blocked → in_progress: a person approved what was held back, and the delivery goes on
    State.BLOCKED: frozenset({State.PENDING, State.IN_PROGRESS}) | _ANY_TIME - {State.BLOCKED},
    # paused → back to where it was; an attempt that ended meanwhile goes to pending
    State.PAUSED: frozenset(State) - {State.PAUSED},
    # ended tasks absorb everything but a new trigger
    State.COMPLETED: frozenset({State.PENDING}),
    State.CANCELLED: frozenset({State.PENDING}),
}


class TransitionError(Exception):
    """A transition that the table lacks: always a bug of the caller."""

    def __init__(self, task_id: str, source: State, target: State) -> None:
        super().__init__(f"task {task_id}: no transition from {source} to {target}")


def may_move(source: State, target: State) -> bool:
    return target in TRANSITIONS[source]
