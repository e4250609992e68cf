"""Whether a workstation and the agent in it live, by what is seen to change. Pure.

Everything is counted in seconds of watching: the time in which this supervisor looked, by its monotonic clock.
What it did not look at (it was stopped, or the machine was) counts against nobody, and no wall clock is asked.
"""

from dataclasses import dataclass, replace
from typing import Literal

from agent_daemon.protocol.model import Activity, WorkstationFile
from supervisor.core.record import Concern, TaskRecord
from supervisor.core.settings import TimingSettings

# Looks are one second apart, a daemon's beats at most five: what is longer was not watched.
LONGEST_LOOK_SECONDS = 2.0
LONGEST_BEAT_SECONDS = 15.0
# So long without a look, and everything that was awaited meanwhile is awaited anew.
ABSENCE_SECONDS = 10.0
# Of one processor. A CLI that only waits was measured to use 2 % (timers, of Node and Codex), and on a machine
# with four times as much to do as it can, to stand in line for another 9 %.
BUSY_SHARE = 0.05
WANTED_SHARE = 0.15


@dataclass(frozen=True, kw_only=True)
class Watching:
    """The clock of liveness. `missed` are the seconds before the last look in which nobody looked."""

    seconds: float = 0.0
    missed: float = 0.0
    looked_at: float | None = None

    def look(self, monotonic: float) -> "Watching":
        """One look more, at this time of the monotonic clock."""
        passed = 0.0 if self.looked_at is None else max(0.0, monotonic - self.looked_at)
        counted = min(passed, LONGEST_LOOK_SECONDS)
        return Watching(seconds=self.seconds + counted, missed=passed - counted, looked_at=monotonic)


@dataclass(frozen=True, kw_only=True)
class Vitals:
    """What was seen of one workstation; times are seconds of watching.

    `quiet_seconds` and `input_seconds` say for how long the CLI has been seen to do nothing, and to wait for
    input: while the daemon tells nothing they stand still, for its silence is not that of its CLI.
    """

    beat_at: float
    heartbeat: int | None = None
    activity: Activity | None = None
    quiet_seconds: float = 0.0
    input_seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A CLI that gives cause for concern: `rule` has held for `seconds`; it is ended when they reach `limit`."""

    rule: Concern
    seconds: float
    limit_seconds: float

    @property
    def is_over(self) -> bool:
        return self.seconds >= self.limit_seconds


def observe(vitals: Vitals, sign: WorkstationFile, now: float) -> Vitals:
    """The vitals after a workstation's file was read; one that has not beaten says nothing new."""
    if sign.heartbeat == vitals.heartbeat:
        return vitals
    passed = min(now - vitals.beat_at, LONGEST_BEAT_SECONDS)
    after = replace(vitals, beat_at=now, heartbeat=sign.heartbeat, activity=sign.activity)
    before, found = vitals.activity, sign.activity
    if (
        before is None
        or found is None
        or not _same_run(before, found)
        or acted(before, found, now - vitals.beat_at)
    ):
        return replace(after, quiet_seconds=0.0, input_seconds=0.0)
    waits = found.waits_for_input and before.waits_for_input
    return replace(
        after,
        quiet_seconds=vitals.quiet_seconds + passed,
        input_seconds=vitals.input_seconds + passed if waits else 0.0,
    )


def _same_run(before: Activity, found: Activity) -> bool:
    return (before.task, before.attempt, before.run) == (found.task, found.attempt, found.run)


def acted(before: Activity, found: Activity, seconds: float) -> bool:
    """Whether a CLI did something between two looks that are so many seconds apart.

    It wrote, took a step, waits for a disk, used a processor, or stood in line for one: a starved machine gives
    little time, so wanting it is enough.
    """
    said = found.output_bytes > before.output_bytes or found.steps > before.steps
    used = found.cpu_seconds - before.cpu_seconds
    wanted = used + found.queued_seconds - before.queued_seconds
    worked = used > 0 and (used >= BUSY_SHARE * seconds or wanted >= WANTED_SHARE * seconds)
    return said or worked or found.waits_for_disk


def find(vitals: Vitals, timing: TimingSettings) -> Finding | None:
    """The cause for concern that the CLI of this workstation gives, once it is to be shown; or None."""
    if vitals.input_seconds >= timing.suspect_after_seconds:
        return Finding(rule="input", seconds=vitals.input_seconds, limit_seconds=timing.restart_after_seconds)
    if vitals.quiet_seconds >= timing.hang_after_seconds / 2:
        return Finding(rule="quiet", seconds=vitals.quiet_seconds, limit_seconds=timing.hang_after_seconds)
    return None


Pulse = Literal["alive", "suspect", "silent"]


def pulse(vitals: Vitals, timing: TimingSettings, now: float) -> Pulse:
    """How the daemon itself does, by its heartbeat: one that is ``silent`` is restarted."""
    silent = now - vitals.beat_at
    if silent >= timing.restart_after_seconds:
        return "silent"
    return "suspect" if silent >= timing.suspect_after_seconds else "alive"


def longest_seconds(task: TaskRecord, timing: TimingSettings) -> float:
    """What an attempt may take by its own limits, and for git besides: beyond that its daemon holds it up."""
    checks = sum(command.timeout_seconds for command in task.verification)
    return task.limits.timeout_minutes * 60 + checks + timing.overdue_after_seconds


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """How long a workstation has been at one attempt, since it was last told something new or was started.

    `restarts` counts how often that was because the attempt was overdue.
    """

    revision: int
    started: float
    since: float
    restarts: int = 0

    def at(self, revision: int, started: float, now: float) -> "Stretch":
        """The stretch of this moment: the same one, or one that begins now."""
        if revision != self.revision:
            return Stretch(revision=revision, started=started, since=now)
        return self if started == self.started else replace(self, started=started, since=now)
