"""What the loop needs of the outside world. An adapter is a module that offers one of these."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Literal, Protocol

from agent_daemon.protocol.errors import Problem
from supervisor.core.chores import Chore, Condition
from supervisor.core.decision import Event
from supervisor.core.forge import (
    Budget,
    Cursor,
    Finding,
    ForgeNews,
    ForgeRequest,
    RequestText,
    Watched,
)
from supervisor.core.intake import Draft
from supervisor.core.record import Request, Source, TaskRecord
from supervisor.core.settings import MaintenanceSettings
from supervisor.errors import CloudCodeError
from supervisor.git.mirror import Mirror, StartBundle
from supervisor.git.mirror_repair import Renewed


@dataclass(frozen=True, kw_only=True)
class TrackerNews:
    """What a tracker saw since it was last asked: drafts, sources that are gone, and what it could not read.

    `held` are sources that are away in a way that nobody can have meant: their tasks go on, and people are told.
    """

    drafts: tuple[Draft, ...] = ()
    gone: tuple[str, ...] = ()
    held: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()


class Scan(Protocol):
    """Looks for what must not leave, such as a secret, in something that is about to: a file, a message, a text.

    Called in the threads of jobs, once for each thing; `content` comes in chunks and need not be read to its end.
    The answer's code is of the scan's own choice (``E_SECRET_IN_OUTPUT``); it must not quote what was found.
    """

    def __call__(self, content: Iterator[bytes]) -> Problem | None: ...


@dataclass(frozen=True, kw_only=True)
class MintedToken:
    """A token that a forge made for an attempt. `id` is its number there, where it has one."""

    id: str
    token: str = field(repr=False)
    ends: datetime


class Minter(Protocol):
    """Has the forge of one project make tokens that read its repository. All of it raises CloudCodeError."""

    def mint(self, name: str) -> MintedToken:
        """Another one, under this name where the forge gives them names."""

    def revoke(self, name: str, number: str, token: str) -> None:
        """End it. Without its number and itself: whatever has this name, where that can be found."""

    def probe(self) -> None:
        """Whether one could be made now."""


class Tracker(Protocol):
    """Where tasks come from: issues of a forge, or a folder of files."""

    def poll(self) -> TrackerNews:
        """News since the last call; never raises for what a person wrote."""

    def wake(self) -> None:
        """Something may have changed: let the next poll look at everything."""

    def remember(self, sources: Iterable[Source]) -> None:
        """Sources of tasks known from before this start, so that their absence is noticed."""

    def look_again(self, sources: Iterable[Source]) -> None:
        """Tell everything once more, and of these sources if they are gone: it could not be kept."""


class CodeHost(Protocol):
    """Where code lives and requests are opened. Raises GitError, CloudCodeError."""

    def url(self) -> str:
        """The git URL of the repository, free of credentials."""

    def remote_tip(self, branch: str) -> str | None: ...

    def fetch_mirror(self, mirror: Mirror) -> None: ...

    def renew_mirror(self, mirror: Mirror) -> Renewed | None:
        """Put a sound mirror in the place of a damaged one; None when nothing is wrong with it."""

    def default_branch(self) -> str: ...

    def push(self, quarantine: Path, sha: str, branch: str, expected: str | None) -> None: ...

    def fetch(self, repository: Path, refspecs: tuple[str, ...]) -> None:
        """Fetch these refs of the remote into a repository of ours."""

    def make_start_bundle(
        self, mirror: Mirror, branch: str, base_commit: str, *, scratch: Path, target: Path
    ) -> StartBundle | None:
        """Write what the remote's branch has beyond `base_commit` to `target`; None when that is nothing."""

    def holds(self, quarantine: Path, branch: str, sha: str) -> bool:
        """Whether the remote's branch has this commit, as its tip or below; the branch passes through."""

    def open_request(self, task: TaskRecord) -> Request:
        """Open the request of a delivered task, or bring it up to date; the same call twice makes one request."""

    def find_request(self, task: TaskRecord) -> Request | None:
        """The open request of the task's pushed head, if there is one."""

    def branch_tips(self) -> Mapping[str, str]:
        """The branches of tasks that are on the remote now, and where each is."""

    def merged(self, mirror: Mirror, tasks: Iterable[TaskRecord]) -> Mapping[str, str]:
        """Of these tasks, those whose pushed head is in their base branch now, with that branch's name."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where on a forge something is said: an issue or a request by its number, or one comment there."""

    kind: Literal["issue", "request"]
    number: str
    comment: str | None = None


class Forge(Protocol):
    """The issues, comments and requests of one project on GitHub or GitLab; called from pool jobs only.

    Every method is one thing done or a ForgeError: E_FORGE_DOWN (no answer, or 5xx), E_FORGE_LIMIT (a rate
    limit; `retry_at`), E_FORGE_DENIED (401, 403: the token may not), E_FORGE_GONE (404, 410), E_FORGE_MOVED
    (the repository was renamed; where to), E_FORGE_ANSWER (an answer that makes no sense). Nothing that
    creates is repeated inside: the caller looks first, by marker or branch, and then repeats.
    """

    def read(self, cursor: Cursor, watched: Watched) -> ForgeNews:
        """What is new since the cursor, with the new cursor; conditional reads, so that quiet costs nothing."""

    def find_comment(self, place: Place, marker: str) -> str | None:
        """The id of our own comment whose first line is this marker; one by anybody else does not count."""

    def post_comment(self, place: Place, body: str) -> str: ...

    def edit_comment(self, place: Place, body: str) -> None:
        """Replace the text of our comment `place.comment`; E_FORGE_GONE where a person has deleted it."""

    def react(self, place: Place, emoji: str) -> None:
        """Our reaction (`eyes`, `+1`, `confused`) on an issue or comment; again changes nothing."""

    def reply(self, request: int, thread: str, body: str) -> str: ...

    def find_reply(self, request: int, thread: str, marker: str) -> str | None: ...

    def ensure_labels(self, colours: Mapping[str, str]) -> None:
        """Make the labels (name to six hex digits) that the project lacks."""

    def change_labels(self, place: Place, add: tuple[str, ...], remove: tuple[str, ...]) -> None: ...

    @property
    def login(self) -> str:
        """Our own account there."""

    def find_request(self, branch: str) -> ForgeRequest | None:
        """The newest request of ours from this branch, in any state."""

    def open_request(self, text: RequestText) -> ForgeRequest:
        """Open it; one that is open already from this branch is brought to this text instead."""

    def edit_request(self, number: int, text: RequestText) -> None:
        """Bring its text to this; labels and reviewers are only ever added."""

    def mark_ready(self, number: int) -> None:
        """No draft any more; again changes nothing."""

    def request_review(self, number: int, logins: tuple[str, ...]) -> None:
        """Ask these for a review; those who may not review are left out."""

    def delete_branch(self, branch: str) -> None: ...

    def budget(self) -> Budget: ...

    def check_access(self, hook: str | None = None) -> tuple[Finding, ...]:
        """Whether the token can do what a project needs, each lack with its mend; never raises ForgeError.

        With `hook`: whether a webhook points to this path of ours.
        """


@dataclass(frozen=True, kw_only=True)
class DaemonHandle:
    """A started daemon, as it is found again after a restart of the supervisor: a process, or one in a container.

    `run` names the start of a container; the rest is of a process of this host.
    """

    pid: int = 0
    start_ticks: int = 0
    boot_id: str = ""
    run: str | None = None

    def told(self) -> dict[str, object]:
        """As the details of an event."""
        return {"pid": self.pid} if self.run is None else {"run": self.run}


@dataclass(frozen=True, kw_only=True)
class Use:
    """Of all processes of a workstation together; what is not known is None. `cpu_seconds` only grows.

    `memory_bytes` is without what the kernel could drop.
    """

    memory_bytes: int | None = None
    cpu_seconds: float | None = None
    processes: int | None = None


@dataclass(frozen=True, kw_only=True)
class Entry:
    """How a person enters a workstation: the program to run, where, and with which environment (all of it)."""

    argv: tuple[str, ...]
    cwd: Path
    environment: Mapping[str, str] = field(repr=False)


class Workstations(Protocol):
    """Starts and stops the daemons of one kind of workstation."""

    def start(self, name: str, kind: str, environment: Mapping[str, str]) -> DaemonHandle: ...

    def find(self, name: str) -> DaemonHandle | None:
        """A living daemon of this workstation, whoever recorded it."""

    def alive(self, handle: DaemonHandle) -> bool: ...

    def stop(self, handle: DaemonHandle) -> None:
        """End the daemon and what it runs; returns when it is gone."""

    def away(self) -> CloudCodeError | None:
        """Why nothing can be seen or done of these workstations now: nobody is then started or given up."""

    def place(self) -> Path | None:
        """The folder of this host that they fill beside the root, as far as it is known; asks nobody."""

    def interrupt(self) -> None:
        """End what stands in for daemons, now and from now on; it is done anew after the next start."""

    def close(self) -> None:
        """Follow them no longer; they go on."""

    def look(self) -> Event | None:
        """What there is to tell of what they run on; called once a second."""

    def enter(self, name: str, command: tuple[str, ...], *, terminal: bool = True) -> Entry:
        """What runs a command, or without one a shell, in the place of this workstation's agent.

        `terminal`: a person sits there; else its input and output are pipes.
        """

    def log(self, name: str, follow: bool) -> Entry | None:
        """What prints the log of its daemon, where that is not in `state/workstations/`."""

    def upkeep(
        self, name: str, kind: str, chore: Chore, settings: MaintenanceSettings, say: Callable[[str], None]
    ) -> Mapping[str, object]:
        """Do this in the place of a daemon that has ended; what there is to tell of it. Called in a job.

        `say` is told of each step. CloudCodeError.
        """

    def use(self, name: str) -> Use | None:
        """What it uses now; None where no daemon runs. For people: it may take some milliseconds."""

    def condition(self, name: str, kind: str, handle: DaemonHandle) -> Condition | None:
        """What this daemon's container is made of; None where there is none, or it cannot be seen now."""

    def variables(self, name: str) -> Mapping[str, str] | None:
        """The environment of this workstation's daemon; None when none runs, or it cannot be known."""

    def salvage(self, name: str, task_id: str, attempt: int) -> str:
        """Run `agent-daemon salvage` for a dead daemon, with its mounts, without a network; what it said.

        CloudCodeError: E_DAEMON_RUNS (a daemon lives, which does this itself), E_NOT_BUNDLED.
        """
