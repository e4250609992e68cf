"""`state/projects/<project>.yaml`: how far a forge has been read, and what it let us know of its limits."""

from collections.abc import Mapping
from typing import Literal

from loguru import logger
from pydantic import AwareDatetime, Field

from agent_daemon.protocol.codec import decode, encode
from agent_daemon.protocol.errors import ProtocolError
from agent_daemon.protocol.files import read_file, write_file
from agent_daemon.protocol.paths import Root
from agent_daemon.protocol.yaml_reader import Limits
from supervisor.core.forge import Budget, Cursor
from supervisor.core.record import Post, Stored

_LIMITS = Limits(max_bytes=2 * 1024 * 1024, max_events=100_000)
_MAX_HEARD = 2000
_MAX_REQUESTS = 1000
_MAX_REPLIES = 200


class ForgeState(Stored):
    """What is kept of one project's forge; safe to lose. `heard` are things that count once, by their ids.

    `requests` are ours, by their numbers, with the tasks that they are of: commands there count also later.
    `replies` are what is still to be said to people where no task is.
    `problem` is why it could not be read last, since when `problem_since`.
    """

    version: Literal[1] = 1
    cursor: Cursor = Cursor()
    heard: tuple[str, ...] = ()
    requests: dict[str, str] = Field(default_factory=dict)
    replies: tuple[Post, ...] = ()
    budget: Budget = Budget()
    problem: str = ""
    problem_since: AwareDatetime | None = None
    read_at: AwareDatetime | None = None

    def hear(self, key: str) -> "ForgeState":
        return self.evolve(heard=(*self.heard, key)[-_MAX_HEARD:])

    def reply(self, posts: tuple[Post, ...]) -> "ForgeState":
        """With this to be said; what comes while too much waits is left unsaid."""
        return self.evolve(replies=(*self.replies, *posts)[:_MAX_REPLIES])

    def know(self, requests: Mapping[int, str]) -> "ForgeState":
        """With these requests, which belong to tasks; the oldest are forgotten."""
        new = {str(number): task for number, task in requests.items()}
        if new.items() <= self.requests.items():
            return self
        return self.evolve(requests=dict(list((self.requests | new).items())[-_MAX_REQUESTS:]))


def read_forge_state(root: Root, project: str) -> ForgeState:
    """The state as it was left; a fresh one where there is none, or where it cannot be read."""
    try:
        data = read_file(root.projects, f"{project}.yaml", max_bytes=_LIMITS.max_bytes).data
        return decode(ForgeState, data, file=f"state/projects/{project}.yaml", limits=_LIMITS)
    except FileNotFoundError:
        return ForgeState()
    except ProtocolError as error:
        logger.warning("how far the forge of {} was read is not known, it is read anew: {}", project, error)
        return ForgeState()


def write_forge_state(root: Root, project: str, state: ForgeState) -> None:
    write_file(root.projects / f"{project}.yaml", encode(state), mode=0o640)
