"""People who speak to us where no task is are answered: once, from the forge's state, until it is said."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from typing import Any

from agent_daemon.failpoints import reach
from supervisor.clock import Clock
from supervisor.core.decision import Failed
from supervisor.core.telling import look_for, project_rest, settle_said
from supervisor.desks import Desk
from supervisor.jobs.telling import say_reply
from supervisor.ledger import Ledger
from supervisor.pool import JobPool, Lanes, attempt_work


@dataclass
class Replies:
    """Called from the loop's thread; what is said to a forge is a job of `pool`, one for a project at a time."""

    clock: Clock
    ledger: Ledger
    pool: JobPool | Lanes
    desks: Mapping[str, Desk]
    _not_before: dict[str, datetime] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        now = self.clock.now()
        for desk in self.desks.values():
            desk.state = desk.state.evolve(replies=tuple(look_for(post, now) for post in desk.state.replies))

    def look(self) -> None:
        """Start what is due; what was marked as being sent before this is looked for first."""
        now = self.clock.now()
        for name, desk in self.desks.items():
            post = next((post for post in desk.state.replies if post.due(now)), None)
            if post is None or self._not_before.get(name, now) > now or self.pool.under_way(f"Reply:{name}"):
                continue
            marked = [p.evolve(sending=True) if p is post else p for p in desk.state.replies]
            desk.state = desk.state.evolve(replies=tuple(marked))
            desk.write()
            reach("forge.post_marked_sending")
            work = partial(say_reply, desk.project, name, post, self.ledger.identity.id)
            self.pool.submit(f"Reply:{name}", partial(_said, post.key, work))

    def settle(self, name: str, outcome: Any) -> None:
        """What became of one: the outcome is its key, with the forge's id of it or a failure."""
        desk, (key, said) = self.desks[name], outcome
        post = next((post for post in desk.state.replies if post.key == key), None)
        if post is None:
            return
        reach("forge.told_before_record")
        now = self.clock.now()
        if (rest := project_rest(said, now)) is not None:
            self._not_before[name] = rest
        left, events = settle_said(post, said, now)
        others = [left if p is post else p for p in desk.state.replies]
        desk.state = desk.state.evolve(replies=tuple(p for p in others if p is not None))
        desk.write()
        for event in events:
            self.ledger.log(replace(event, details={"project": name, "ref": str(post.number)} | event.details))


def _said(key: str, work: Callable[[], str]) -> tuple[str, Failed | str]:
    return key, attempt_work("answering somebody", work)
