"""Which coding CLI makes a task's next attempt: the chain of its workstation, then one try of the strongest.

Walked when a CLI gets nowhere, when a person says so, and when an agent recommends another one.
"""

from collections.abc import Sequence
from itertools import groupby

from agent_daemon.protocol.model import Role
from supervisor.core.record import Attempt, TaskRecord

# Why an attempt ended whose session is better not gone on with: what filled it up, or led nowhere, is in it.
_STALE = frozenset({"E_CLI_CONTEXT_TOO_LONG", "E_CLI_REFUSED", "E_CLI_HUNG"})


def cli_for(task: TaskRecord, chain: Sequence[str], unstuck: str | None = None) -> str:
    """The CLI that the task's next attempt uses: the first of the chain, or the one that has taken over."""
    return task.cli if task.cli is not None and task.cli in (*chain, unstuck) else chain[0]


def cli_after(cli: str, chain: Sequence[str]) -> str | None:
    """The next CLI of the chain; None when there is none."""
    following = chain[chain.index(cli) + 1 :] if cli in chain else ()
    return following[0] if following else None


def who_follows(cli: str, role: Role, chain: Sequence[str], unstuck: str | None) -> tuple[str | None, Role]:
    """Who takes over from an attempt, and in which role: the next of the chain, the unstuck try, nobody."""
    if role == "unstuck":
        return None, "specialist"
    following = cli_after(cli, chain)
    if following is not None or unstuck is None:
        return following, "specialist"
    return unstuck, "unstuck"


def choices(attempt: Attempt) -> tuple[str, ...]:
    """The CLIs that an attempt's work can be handed over to."""
    named = dict.fromkeys((*attempt.clis, *([attempt.unstuck] if attempt.unstuck else [])))
    return tuple(name for name in named if name != attempt.cli)


def refused_recommendation(task: TaskRecord, attempt: Attempt, wanted: str) -> str | None:
    """Why an agent's recommendation is not followed; None when it is. No CLI is recommended twice in a run."""
    if wanted == attempt.cli:
        return f"{wanted} is the one that is at work"
    if wanted not in choices(attempt):
        known = ", ".join(choices(attempt)) or "none besides"
        return f"there is no coding CLI of that name here: there are {known}"
    if any(earlier.cli == wanted for earlier in run_so_far(task)):
        return f"{wanted} has had its attempt"
    return None


def run_so_far(task: TaskRecord) -> tuple[Attempt, ...]:
    """The attempts of the present run, oldest first."""
    return tuple(attempt for attempt in task.attempts if attempt.rerun == task.rerun)


def session_to_resume(task: TaskRecord, attempt: Attempt) -> str | None:
    """The session that an attempt goes on with: of the attempts right before it that the same CLI made there.

    None where another CLI has worked since, or where that session led nowhere.
    """
    if attempt.role == "unstuck":
        return None
    for earlier in reversed([a for a in task.attempts if a.number < attempt.number]):
        if (earlier.cli, earlier.rerun, earlier.role) != (attempt.cli, attempt.rerun, attempt.role):
            return None
        if earlier.workstation != attempt.workstation or earlier.code in _STALE:
            return None
        if earlier.session is not None:
            return earlier.session
    return None


def what_was_tried(task: TaskRecord) -> str:
    """The CLIs of this run with their attempts and how those ended, for the person who is asked."""
    parts = []
    for (cli, role), group in groupby(run_so_far(task), key=lambda a: (a.cli, a.role)):
        numbers = list(group)
        span = f"{numbers[0].number}" if len(numbers) == 1 else f"{numbers[0].number}–{numbers[-1].number}"
        how = ", ".join(dict.fromkeys(a.code or a.verdict or "under way" for a in numbers))
        parts.append(f"{cli}{' to get it unstuck' if role == 'unstuck' else ''} (attempt {span}: {how})")
    return ", ".join(parts)
