"""What may be removed, and by which rule: pure, from the records and what was found on disk beside them.

Only what is recorded, ended and saved elsewhere is ever named. Ages are observed ones (`core.observed`). The
rules: `age`; `count` and `share` for what is kept too much of, the oldest first; `disk` while there is too
little room. None but `age` touches what is younger than the grace period.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from agent_daemon.protocol.model import WorkspaceMode
from supervisor.core.record import Attempt, TaskRecord
from supervisor.core.settings import CleanupSettings, Config
from supervisor.core.states import State
from supervisor.core.times import duration

Kind = Literal["worktree", "output", "salvage", "held", "record", "clone"]
Verdict = Literal["remove", "keep", "doubt"]
Rule = Literal["age", "count", "share", "disk", ""]
DAY_SECONDS = 86_400.0


@dataclass(frozen=True, kw_only=True)
class Found:
    """What is on disk of one recorded task: sizes in bytes by attempt, `age_seconds` since it ended.

    `salvage` holds the sizes of saved work; `start` those of the branches that attempts began from; `outputs`
    the attempts whose folder in `out/` is there, `worktrees` what their workstation says of the worktree's size.
    `wanted_by` are tasks that have not ended and depend on it.
    """

    task: TaskRecord
    archived: bool
    age_seconds: float
    record: int = 0
    salvage: Mapping[int, int] = field(default_factory=dict)
    start: Mapping[int, int] = field(default_factory=dict)
    held: Mapping[int, int] = field(default_factory=dict)
    outputs: Mapping[int, int | None] = field(default_factory=dict)
    worktrees: Mapping[int, int | None] = field(default_factory=dict)
    wanted_by: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class CloneFound:
    """A clone that a workstation says it has; `age_seconds` since the last attempt of its project there ended.

    `used_by` are attempts that may still have a worktree of it; None where no record speaks of it at all.
    `unreadable` are records that may speak of it and cannot be read.
    """

    workstation: str
    project: str
    age_seconds: float
    used_by: tuple[str, ...] | None
    unreadable: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Room:
    """How full the disk is: `low` as for the start of attempts (`core.disk`)."""

    total_bytes: int
    low: bool


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """Something that clean-up looked at, and what is to become of it; `reason` is a sentence without a full stop.

    `doubt` is kept, too, and a person should look at it. `waiting` is kept only because it is young.
    """

    kind: Kind
    project: str
    task: str | None = None
    attempt: int | None = None
    workstation: str | None = None
    size_bytes: int | None = None
    age_seconds: float
    verdict: Verdict
    rule: Rule = ""
    reason: str = ""
    waiting: bool = False
    workspace_mode: WorkspaceMode = WorkspaceMode.SHARED


def decide(
    found: Iterable[Found],
    clones: Iterable[CloneFound],
    room: Room,
    settings: CleanupSettings,
    unreadable: Iterable[str] = (),
) -> list[Candidate]:
    """What becomes of everything that was found, in the order in which it is to be done.

    Of the tasks whose record is `unreadable` nothing is named.
    """
    ended = [one for one in found if one.task.ended]
    worktrees = _by_count(list(_worktrees(ended, room, settings)), settings)
    outputs = list(_outputs(ended, room, settings))
    saved = _by_share(list(_saved(ended, settings)), ended, room, settings)
    # What a workstation is only asked to remove is still there, and may stay.
    left = {c.task for c in (*worktrees, *outputs)} | {c.task for c in saved if c.verdict != "remove"}
    records = list(_records(ended, left, settings))
    idle = [_clone(clone, room, settings) for clone in clones]
    return [*worktrees, *outputs, *saved, *records, *idle, *map(_unreadable, unreadable)]


def is_safe(found: Found, attempt: Attempt) -> bool:
    """Whether an attempt's work is where its record says: on the remote, in `state/salvage/`, or it left none."""
    if not attempt.saved or attempt.ended_at is None:
        return False
    return attempt.saved_in in ("remote", "nothing") or attempt.number in found.salvage


def let_go(task: TaskRecord, number: int) -> TaskRecord:
    """The record after the decision that this attempt's worktree may go; the same where it may not (any more)."""
    attempt = task.attempt_number(number)
    if attempt is None or not task.ended or attempt.ended_at is None or not attempt.saved or attempt.let_go:
        return task
    return task.with_attempt(number, let_go=True)


def let_go_at_once(task: TaskRecord, config: Config) -> TaskRecord:
    """Worktrees that are not kept any longer than their task may go: isolated ones, or by configuration all."""
    if not task.ended:
        return task
    for attempt in task.attempts:
        if config.cleanup.worktree_days == 0 or attempt.workspace_mode is WorkspaceMode.ISOLATED:
            task = let_go(task, attempt.number)
    return task


# --- one kind after the other ---------------------------------------------------------------------------


def _worktrees(ended: Iterable[Found], room: Room, settings: CleanupSettings) -> Iterator[Candidate]:
    for one in ended:
        for attempt in one.task.attempts:
            if attempt.released:
                continue
            size = one.worktrees.get(attempt.number)
            candidate = _of(one, attempt, "worktree", size)
            doubt = _doubt(one, attempt)
            if doubt:
                yield replace(candidate, verdict="doubt", reason=doubt)
            elif attempt.let_go or attempt.dropped_by is not None or attempt.number < one.task.attempt:
                yield replace(candidate, reason=f"{attempt.workstation} has been told to remove it")
            else:
                yield _by_age(candidate, settings.worktree_days, room, settings)


def _doubt(one: Found, attempt: Attempt) -> str:
    """Why nothing of an ended task's attempt may be removed; empty when all of it may."""
    if attempt.ended_at is None:
        return f"{attempt.workstation} has not said yet that it has ended"
    if attempt.abandoned:
        return f"{attempt.workstation} is configured no longer, and nobody else may remove its worktree"
    if attempt.dropped_by is not None:
        return ""
    if not attempt.saved:
        why = attempt.save_error or "it is being saved"
        return f"its work is not saved: {why}"
    if not is_safe(one, attempt):
        return f"its work was saved, but state/salvage/{one.task.id}/{attempt.number}.bundle is not there"
    return ""


def _outputs(ended: Iterable[Found], room: Room, settings: CleanupSettings) -> Iterator[Candidate]:
    for one in ended:
        for number, size in one.outputs.items():
            attempt = one.task.attempt_number(number)
            if attempt is None:
                continue
            candidate = _of(one, attempt, "output", size)
            if not attempt.released:
                yield replace(candidate, reason="its worktree has not been removed yet")
            else:
                yield _by_age(candidate, settings.output_days, room, settings)


def _saved(ended: Iterable[Found], settings: CleanupSettings) -> Iterator[Candidate]:
    """Bundles of saved and held work; the branches that attempts began from go with the last of them."""
    for one in ended:
        kinds: tuple[tuple[Kind, Mapping[int, int]], ...] = (
            ("salvage", {**one.start, **_sum(one.salvage, one.start)}),
            ("held", one.held),
        )
        for kind, sizes in kinds:
            for number, size in sizes.items():
                attempt = one.task.attempt_number(number)
                if attempt is None:
                    continue
                candidate = _of(one, attempt, kind, size)
                if any(not other.released for other in one.task.attempts):
                    yield replace(candidate, reason="a worktree of its task has not been removed yet")
                elif attempt.holds_secret:
                    yield _removed(candidate, "age", "it holds a secret, and is not kept beyond its task")
                else:
                    yield _by_age(candidate, settings.salvage_days, None, settings)


def _sum(one: Mapping[int, int], other: Mapping[int, int]) -> dict[int, int]:
    return {number: size + other.get(number, 0) for number, size in one.items()}


def _records(ended: Iterable[Found], left: set[str | None], settings: CleanupSettings) -> Iterator[Candidate]:
    for one in ended:
        if not one.archived:
            continue
        task = one.task
        candidate = Candidate(
            kind="record",
            project=task.project,
            task=task.id,
            size_bytes=one.record,
            age_seconds=one.age_seconds,
            verdict="keep",
        )
        if task.source.present:
            yield replace(candidate, reason="its source is still there, and would be taken for a new task")
        elif one.wanted_by:
            yield replace(candidate, reason=f"{one.wanted_by[0]} depends on it")
        elif task.id in left or any(not attempt.released for attempt in task.attempts):
            yield replace(candidate, reason="something of it is still there")
        else:
            yield _by_age(candidate, settings.record_days, None, settings)


def _clone(clone: CloneFound, room: Room, settings: CleanupSettings) -> Candidate:
    candidate = Candidate(
        kind="clone",
        project=clone.project,
        workstation=clone.workstation,
        age_seconds=clone.age_seconds,
        verdict="keep",
    )
    if clone.used_by is None:
        return replace(candidate, verdict="doubt", reason="no record speaks of it")
    if clone.unreadable:
        return replace(candidate, verdict="doubt", reason=f"the record of {clone.unreadable[0]} cannot be read")
    if clone.used_by:
        return replace(candidate, reason=f"{clone.used_by[0]} may have a worktree of it")
    return _by_age(candidate, settings.clone_days, room, settings)


def _unreadable(task_id: str) -> Candidate:
    return Candidate(
        kind="record",
        project=task_id.partition(".")[0],
        task=task_id,
        age_seconds=0.0,
        verdict="doubt",
        reason="its record cannot be read: nothing of it is touched",
    )


# --- the rules --------------------------------------------------------------------------------------------


def _of(one: Found, attempt: Attempt, kind: Kind, size: int | None) -> Candidate:
    return Candidate(
        kind=kind,
        project=one.task.project,
        task=one.task.id,
        attempt=attempt.number,
        workstation=attempt.workstation,
        workspace_mode=attempt.workspace_mode,
        size_bytes=size,
        age_seconds=one.age_seconds,
        verdict="keep",
    )


def _by_age(candidate: Candidate, days: float, room: Room | None, settings: CleanupSettings) -> Candidate:
    """Old enough, or in the way while there is too little room (where `room` is given)."""
    age = duration(candidate.age_seconds)
    if candidate.age_seconds >= days * DAY_SECONDS:
        return _removed(candidate, "age", f"it ended {age} ago, and is kept for {days:g} d")
    if room is not None and room.low and _past_grace(candidate, settings):
        return _removed(candidate, "disk", "the disk has too little room")
    return replace(candidate, waiting=True, reason=f"it ended {age} ago, kept for {days:g} d")


def _removed(candidate: Candidate, rule: Rule, reason: str) -> Candidate:
    return replace(candidate, verdict="remove", waiting=False, rule=rule, reason=reason)


def _past_grace(candidate: Candidate, settings: CleanupSettings) -> bool:
    return candidate.age_seconds >= settings.grace_days * DAY_SECONDS


def _by_count(candidates: list[Candidate], settings: CleanupSettings) -> list[Candidate]:
    """Of the worktrees that are only waiting, each workstation keeps the youngest."""
    waiting: dict[str | None, list[Candidate]] = defaultdict(list)
    for candidate in candidates:
        if candidate.waiting:
            waiting[candidate.workstation].append(candidate)
    most = settings.worktree_count
    too_many = {
        id(candidate)
        for kept in waiting.values()
        for candidate in sorted(kept, key=lambda c: c.age_seconds)[most:]
        if _past_grace(candidate, settings)
    }
    reason = f"there are more than {most} of them"
    return [_removed(c, "count", reason) if id(c) in too_many else c for c in candidates]


def _by_share(
    candidates: list[Candidate], ended: list[Found], room: Room, settings: CleanupSettings
) -> list[Candidate]:
    """While saved work takes too large a share of the disk, that of completed tasks goes early, oldest first.

    That of cancelled tasks is nowhere else, and stays for its time.
    """
    completed = {one.task.id for one in ended if one.task.state is State.COMPLETED}
    total = sum(c.size_bytes or 0 for c in candidates if c.verdict != "remove")
    most = settings.salvage_share * room.total_bytes
    result = {id(candidate): candidate for candidate in candidates}
    for candidate in sorted(candidates, key=lambda c: -c.age_seconds):
        if total <= most:
            break
        if candidate.waiting and candidate.task in completed and _past_grace(candidate, settings):
            reason = f"saved work takes more than {settings.salvage_share:.0%} of the disk"
            result[id(candidate)] = _removed(candidate, "share", reason)
            total -= candidate.size_bytes or 0
    return list(result.values())
