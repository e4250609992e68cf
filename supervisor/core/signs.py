"""What is said of the signs of life of an attempt under way: what is seen, what follows and when."""

from datetime import UTC, datetime

from agent_daemon.protocol.model import Activity
from supervisor.core.ladder import MAX_RESUMES
from supervisor.core.record import Attempt, Concern, Suspicion, TaskRecord
from supervisor.core.settings import TimingSettings
from supervisor.core.times import duration, when

_CONCERNS: dict[Concern, str] = {
    "input": "waits for somebody to type something",
    "quiet": "neither writes nor works",
}


def seen_of(live: Attempt, activity: Activity | None, now: datetime) -> list[str]:
    """What is seen of an attempt's CLI: its last sign of life, a suspicion, an interruption.

    `activity` is what its workstation tells of this very attempt.
    """
    said, doubt, asked = [], live.suspicion, live.interruption
    if doubt is not None:
        since = f"{doubt.since.astimezone(UTC):%H:%M:%S} UTC"
        said.append(f"{doubt_of(live, doubt, now)}, since {since} (rule {doubt.rule}).")
    elif activity is not None:
        said.append(_activity(live.cli, activity))
    if asked is not None:
        ago = duration((now - asked.at).total_seconds())
        done = "what it had made was bundled" if asked.heeded else "its workstation has not done it yet"
        said.append(f"It was interrupted {ago} ago, for it {_past(asked.rule)} (rule {asked.rule}): {done}.")
    return said


def doubt_of(live: Attempt, doubt: Suspicion, now: datetime) -> str:
    """A suspicion in a few words."""
    return f"{live.cli} {_CONCERNS[doubt.rule]} for {duration((now - doubt.since).total_seconds())}"


def _past(rule: Concern) -> str:
    return {"input": "waited for somebody to type something", "quiet": "neither wrote nor worked"}[rule]


def _activity(cli: str, activity: Activity) -> str:
    used = f"it has used {duration(activity.cpu_seconds)} of processor time"
    return f"{cli} wrote or did something {duration(activity.quiet_seconds)} ago; {used}."


def follows(task: TaskRecord, live: Attempt, now: datetime) -> list[str]:
    """What happens next to a CLI that is suspected or was interrupted, and what a failure would lead to."""
    said, number = [], live.interruption.number if live.interruption is not None else 0
    if live.interruption is not None and not live.interruption.heeded:
        said.append(_then(live.interruption.then == "resume"))
    elif live.suspicion is not None:
        at = when(live.suspicion.due, now)
        said.append(f"Without a sign of life it is interrupted {at}. {_then(number < MAX_RESUMES)}")
    if said or task.failures:
        said.append(after_failure(task, live))
    return said


def _then(resume: bool) -> str:
    if resume:
        return "What it has made is bundled then, and it goes on in the same session."
    return "What it has made is bundled then, and this attempt ends as failed."


def after_failure(task: TaskRecord, live: Attempt) -> str:
    """What comes after this attempt, should it show no sign of life again."""
    if live.next_cli is not None:
        return f"Should the attempt end so, the next one is made with {live.next_cli}."
    left = task.max_failures - task.failures - 1
    if left > 0 and live.role != "unstuck":
        return f"Should the attempt fail, another one follows after a pause; {left} more may fail with {live.cli}."
    return "Should the attempt fail, a person is asked."


def silence(workstation: str, seconds: float, timing: TimingSettings) -> tuple[str, str]:
    """Of a workstation whose daemon gives no sign of life: what is seen, and what follows."""
    left = timing.restart_after_seconds - seconds
    at = f"in {duration(left)}" if left > 1 else "now"
    return (
        f"{workstation} has given no sign of life for {duration(seconds)} (rule silent).",
        f"If that stays so its daemon is restarted {at} and goes on with the attempt; if it falls silent again "
        "the attempt is given up, and the next one goes elsewhere if it can.",
    )
