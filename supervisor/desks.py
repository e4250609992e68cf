"""What is known of each project's forge: how far it was read, and when it is asked next."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from agent_daemon.protocol.paths import Root
from supervisor.core.decision import Failed
from supervisor.core.forge import CALLS_AT_ONCE, Budget, calls_left, rest_after
from supervisor.core.settings import ProjectSettings
from supervisor.forge_state import ForgeState, read_forge_state, write_forge_state
from supervisor.jobs.project import Project

# A project without live tasks, where nothing was new for so long, is asked at every so many-th poll only.
_QUIET_AFTER = timedelta(minutes=10)
_QUIET_POLLS = 4
# A forge that does not answer, or refuses the token, is asked again after these seconds.
_PAUSES_SECONDS = (5, 15, 60, 300)
_STATE_EVERY = timedelta(minutes=1)


@dataclass
class Allowance:
    """How many calls one account may still make at once: all projects that sign in with it share them."""

    left: float = CALLS_AT_ONCE
    at: datetime | None = None

    def spend(self, calls: int, now: datetime) -> timedelta:
        """So many were made; for how long to let the forge rest."""
        passed = now - self.at if self.at is not None else timedelta(0)
        self.left, self.at = calls_left(self.left, calls, passed), now
        return rest_after(self.left)


@dataclass
class Desk:
    """One project's forge. `again`: something may be new that the read under way, or a rest, has kept from us."""

    root: Root
    name: str
    settings: ProjectSettings
    project: Project
    state: ForgeState
    allowance: Allowance = field(default_factory=Allowance)
    written_at: datetime | None = None
    again: bool = False
    polls: int = 0
    news_at: datetime | None = None
    failures: int = 0
    rests_until: datetime | None = None
    not_before: datetime | None = None

    def is_due(self, now: datetime, *, by_timer: bool, busy: bool) -> bool:
        """Whether it is asked now; while nothing happens the timer is heeded more rarely."""
        self.polls += by_timer
        if self.not_before is not None and now < self.not_before:
            return False  # (whoever asks: deliveries of webhooks may come while a rate limit is reached)
        if self.rests_until is not None and now < self.rests_until:
            self.again = self.again or not by_timer  # (the timer's next turn comes anyway)
            return False
        if not by_timer:
            return True
        wanted, last = self.state.budget.poll_seconds, self.state.read_at
        if wanted is not None and last is not None and now - last < timedelta(seconds=wanted):
            return False
        quiet = not busy and self.news_at is not None and now - self.news_at > _QUIET_AFTER
        return not quiet or self.polls % _QUIET_POLLS == 0

    def note_read(self, budget: Budget, now: datetime) -> None:
        """It was read. However many deliveries come, what they cost stays below what a forge refuses."""
        self.failures, self.not_before, before = 0, None, self.state
        self.rests_until = now + self.allowance.spend(budget.calls - before.budget.calls, now)
        self.state = before.evolve(budget=budget, problem="", problem_since=None, read_at=now)

    def note_failure(self, failed: Failed, now: datetime) -> bool:
        """It was not read; whether that, and why, is new."""
        pause = _PAUSES_SECONDS[min(self.failures, len(_PAUSES_SECONDS) - 1)]
        self.failures += 1
        self.not_before = max(now + timedelta(seconds=pause), failed.retry_at or now)
        self.again = False
        if self.state.problem == str(failed):
            return False
        since = self.state.problem_since or now
        self.state = self.state.evolve(problem=str(failed), problem_since=since)
        self.write()
        return True

    def keep(self, before: ForgeState, now: datetime) -> None:
        """Write what is known now; the budget alone is not worth a write at every poll."""
        kept = before.evolve(budget=self.state.budget, read_at=self.state.read_at)
        same = self.state == kept and not before.problem
        if same and self.written_at is not None and now - self.written_at < _STATE_EVERY:
            return
        self.write()
        self.written_at = now

    def write(self) -> None:
        write_forge_state(self.root, self.name, self.state)


def open_desks(root: Root, projects: Mapping[str, Project]) -> dict[str, Desk]:
    """One for each project that is on a forge, as it was left."""
    desks, shared = {}, defaultdict[str, Allowance](Allowance)
    for name, project in projects.items():
        if project.forge is not None:
            settings, state = project.settings, read_forge_state(root, name)
            desks[name] = Desk(root, name, settings, project, state, shared[settings.account])
    return desks
