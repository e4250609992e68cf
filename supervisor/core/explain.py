"""Why a task is where it is, what happens next and what a person can do, in sentences made from its record."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal

from agent_daemon.protocol.model import Activity, ReportStatus, TaskReport, WorkspaceMode
from agent_daemon.protocol.paths import Root
from supervisor.core.answers import WAITED_FOR, Action, answers, retry_action, verification_logs
from supervisor.core.delivery import push_key, request_key
from supervisor.core.intake import when_told
from supervisor.core.moved_base import in_words
from supervisor.core.record import Attempt, TaskRecord
from supervisor.core.settings import TimingSettings
from supervisor.core.signs import doubt_of, follows, seen_of, silence
from supervisor.core.states import State
from supervisor.core.times import duration, when
from supervisor.core.words import count

StationState = Literal["running", "silent", "starting", "stopping", "stopped", "down"]


@dataclass(frozen=True, kw_only=True)
class StationSeen:
    """A workstation as it matters to a task: its state, the task that occupies it, its last sign of life."""

    name: str
    state: StationState
    task: str | None = None
    note: str = ""
    silent_seconds: float | None = None
    activity: Activity | None = None


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What is seen around a task: `stations` are those of its type, `unmet` its open dependencies in words,
    `cancelled` those that will not come by themselves, `unknown` those that do not exist.

    `report` is that of its newest attempt, `report_problem` one sentence when that could not be taken.
    `resting`: no supervisor looks at it, for its project is not configured.
    `own_workstation`: the driver gives an isolated task a workstation of its own.
    `no_room`: why no attempt begins for want of disk, as what is waited for.
    """

    now: datetime
    running: bool
    report: TaskReport | None = None
    report_problem: str = ""
    unmet: tuple[str, ...] = ()
    cancelled: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    resting: bool = False
    stations: tuple[StationSeen, ...] = ()
    timing: TimingSettings = field(default_factory=TimingSettings)
    own_workstation: bool = False
    no_room: str = ""


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """The answer to `task explain`: sentences, each complete."""

    task: str
    title: str
    state: State
    since: datetime
    why: tuple[str, ...]
    next: tuple[str, ...]
    can: tuple[Action, ...]


_Told = tuple[list[str], list[str], list[Action]]


def explain(task: TaskRecord, around: Surroundings) -> Explanation:
    """Everything there is to say about a task now."""
    tell = _resting if around.resting and not task.ended else _EXPLAIN[task.state]
    why, following, can = tell(task, around)
    if around.report_problem and task.live is not None:
        why.append(f"Its report could not be taken, what it reported before counts: {around.report_problem}")
        grace = duration(around.timing.problem_grace_seconds)
        following.append(f"If that lasts {grace}, the attempt is ended and the task waits for a person.")
    if task.is_text_newer and task.state in (State.REVIEW, State.BLOCKED):
        why.append(f"Its text was changed after attempt {task.attempts[-1].number}: {when_told(task)}.")
        can.append(retry_action(task, "Make another attempt with the changed text"))
    if not task.ended:
        why += _left_behind(task)
    waits = around.resting or task.state in (State.BLOCKED, State.PAUSED)
    if not around.running and not task.ended and not waits:
        following.insert(0, "No supervisor is running: nothing is decided until one is started.")
        can.insert(0, Action(text="Start the supervisor", command="cloud-code run"))
    return Explanation(
        task=task.id,
        title=task.title,
        state=task.state,
        since=since(task),
        why=tuple(why),
        next=tuple(following),
        can=tuple(can),
    )


def since(task: TaskRecord) -> datetime:
    """When the task came into its present state."""
    return task.history[-1].at if task.history else task.created_at


def headline(task: TaskRecord, around: Surroundings) -> str:
    """One line for lists: what is being done, or what is waited for."""
    if around.resting and not task.ended:
        return f"resting: the project {task.project} is not configured"
    match task.state:
        case State.PENDING:
            return _pending_waits(task, around)[0]
        case State.ASSIGNED:
            return f"given to {task.workstation}, no report yet"
        case State.IN_PROGRESS:
            return _doing(task, around)
        case State.REVIEW:
            conflict = f"; conflicts with {task.base_branch}" if task.base_conflict else ""
            return f"waits for a merge into {task.base_branch}{conflict}"
        case State.BLOCKED:
            return "; ".join(wait.message or wait.reason.value for wait in task.waits_for) or "waits for a person"
        case State.FAILED:
            return f"next attempt {when(task.not_before, around.now)}"
        case State.PAUSED:
            return "paused by a person"
        case _:
            return task.history[-1].reason if task.history else ""


def _last_step(task: TaskRecord) -> list[str]:
    if not task.history:
        return ["It was created and has not been started yet."]
    last = task.history[-1]
    return [f"It was {last.source.words} before; {last.actor} changed that: {_phrase(last.reason)}."]


def _phrase(text: str) -> str:
    """Someone's words as a part of a sentence."""
    return " ".join(text.split())[:1000].removesuffix(".")


def _after_colon(text: str) -> str:
    """Someone's words as the end of a sentence."""
    said = _phrase(text)
    return f": {said}{'' if said.endswith(('?', '!', '…')) else '.'}" if said else "."


def _feedback(task: TaskRecord) -> list[str]:
    """What the next attempt will be told of the one before."""
    return [
        f"The next attempt is told: {item.message.splitlines()[0]}" for item in task.feedback[:3] if item.message
    ]


def _stop_actions(task: TaskRecord) -> list[Action]:
    return [
        Action(text="Hold it", command=f"cloud-code task pause {task.id}"),
        Action(text="Give it up", command=f"cloud-code task cancel {task.id}"),
    ]


# --- one function for each state ----------------------------------------------------------------------


def _resting(task: TaskRecord, around: Surroundings) -> _Told:
    why = [f"It rests: its project, {task.project}, is not configured, and no supervisor looks at it."]
    live = task.live
    if live is not None:
        why.append(f"Attempt {live.number} on {live.workstation} was under way; what it does now is not taken in.")
    following = ["It goes on where it was once its project is configured again and the supervisor was restarted."]
    return why, following, list(answers(task, resting=True))


def _pending(task: TaskRecord, around: Surroundings) -> _Told:
    waits = _pending_waits(task, around)
    can = list(answers(task, around.cancelled, around.unknown))
    if around.no_room:
        text = "Make room on the disk; see what clean-up would remove"
        can.append(Action(text=text, command="cloud-code gc --dry-run"))
    can += [
        Action(text=f"Start {station.name}", command=f"cloud-code workstation start {station.name}")
        for station in around.stations
        if station.state == "stopped"
    ]
    times = (task.not_before, task.preparing.not_before)
    if any(time is not None and time > around.now for time in times):
        can.append(Action(text="Try again at once", command=f"cloud-code task retry {task.id}"))
    following = [f"It {wait}." for wait in waits]
    return _last_step(task), following + _feedback(task), can + _stop_actions(task)


def _pending_waits(task: TaskRecord, around: Surroundings) -> list[str]:
    """What a pending task waits for, as predicates (``waits for …``); never empty."""
    waits = [f"waits for {around.no_room}"] if around.no_room else []
    waits += [f"waits for {reason}" for reason in around.unmet]
    waits += [
        f"waits until attempt {attempt.number} has been stopped and saved on {attempt.workstation}"
        for attempt in task.attempts
        if attempt.ended_at is None or not attempt.settled
    ]
    if task.not_before is not None and task.not_before > around.now:
        waits.append(f"gets its next attempt {when(task.not_before, around.now)}")
    again = task.preparing.not_before
    if again is not None and again > around.now:
        why = f"; try {task.preparing.tries} failed: {task.preparing.error}"
        waits.append(f"is made ready again {when(again, around.now)}{why}")
    return waits or [_station_wait(task, around)]


def _station_wait(task: TaskRecord, around: Surroundings) -> str:
    usable = [station for station in around.stations if station.state == "running"]
    free = next((station for station in usable if station.task is None), None)
    if free is not None:
        return f"is being made ready for {free.name}"
    if usable:
        busy = ", ".join(f"{station.name} with {station.task}" for station in usable[:5])
        return f"waits for a free workstation of the type {task.specialist} (busy: {busy})"
    if not around.stations:
        return f"waits for a workstation of the type {task.specialist}, and none is configured"
    seen = ", ".join(f"{s.name} is {s.state}" + (f": {s.note}" if s.note else "") for s in around.stations[:5])
    return f"waits for a workstation of the type {task.specialist} ({seen})"


def _assigned(task: TaskRecord, around: Surroundings) -> _Told:
    following = [f"{task.workstation} takes it up and reports."]
    live, why = task.live, _last_step(task)
    if live is not None:
        seen, coming = _signs(task, live, around)
        why, following = [*why, *seen], [*coming, *following]
        limit = live.started_at + timedelta(seconds=around.timing.assign_timeout_seconds)
        following.append(
            f"Without a report it is given up {when(limit, around.now)}, and the next attempt may go elsewhere."
        )
    return why, following, _stop_actions(task)


def _in_progress(task: TaskRecord, around: Surroundings) -> _Told:
    why, live = [f"Now: {_doing(task, around)}."], task.live
    can = _stop_actions(task)
    if live is None:
        return why, _delivery_next(task, around), can
    why.append(
        f"{live.workstation} works on it with {live.cli}, attempt {live.number}, "
        f"for {duration((around.now - live.started_at).total_seconds())}."
    )
    why += _workspace(live.workspace_mode, around)
    seen, coming = _signs(task, live, around)
    why += seen
    report = around.report
    if report is not None and report.summary:
        why.append(f"The agent says: {' '.join(report.summary.split())[:500]}")
    why += _external(report)
    commands = count(len(task.verification), "verification command is", "verification commands are")
    checked = f"{commands} run, " if task.verification else ""
    following = [
        f"When the agent is done, {checked}the work is checked and pushed to {task.branch}.",
        f"An attempt may take {duration(task.limits.timeout_minutes * 60)}.",
    ]
    watch = [Action(text="Watch it", command=f"cloud-code task logs {task.id} --follow")]
    if coming:
        restart = f"cloud-code workstation restart {live.workstation}"
        watch.append(Action(text="End its CLI now; the attempt goes on", command=restart))
    return why, [*coming, *following], [*watch, *can]


def _signs(task: TaskRecord, live: Attempt, around: Surroundings) -> tuple[list[str], list[str]]:
    """What is seen of the life of an attempt under way, and what follows from it."""
    station = next((s for s in around.stations if s.name == live.workstation), None)
    found = station.activity if station is not None else None
    own = found if found is not None and (found.task, found.attempt) == (task.id, live.number) else None
    seen, coming = seen_of(live, own, around.now), follows(task, live, around.now)
    if station is not None and station.state == "silent" and around.running:
        told, then = silence(station.name, station.silent_seconds or 0.0, around.timing)
        return [told, *seen], [then, *coming]
    return seen, coming


def _workspace(mode: WorkspaceMode, around: Surroundings) -> list[str]:
    """What the workspace mode of an attempt means, where it is not the usual one."""
    if mode is WorkspaceMode.COPY_ON_WRITE:
        return ["It has a clone of its own, which borrows the mirror's objects (copy_on_write)."]
    if mode is not WorkspaceMode.ISOLATED:
        return []
    if around.own_workstation:
        return ["It is isolated: a full clone, in a workstation of its own."]
    return [
        "It has a full clone of its own (isolated), but shares user, processes and network with its workstation: "
        "the driver cannot give it one of its own."
    ]


def _rebased(report: TaskReport | None, task: TaskRecord) -> list[str]:
    """That the work was put on top of a base branch that had moved, or why it was not; by the report."""
    rebase = report.rebase if report is not None else None
    if rebase is None or rebase.outcome == "conflict":
        return []
    if rebase.outcome == "rebased":
        return [f"{task.base_branch} had moved meanwhile: the work was put on top of {rebase.onto[:12]}."]
    return [f"{task.base_branch} had moved meanwhile; the work stays on its base: {_phrase(rebase.reason)}."]


def _external(report: TaskReport | None) -> list[str]:
    """What the agent did not have of the project, and what it did there all the same; by the report."""
    external = report.external if report is not None else None
    if external is None:
        return []
    said = []
    if external.submodules_total:
        said.append(f"Submodules are not checked out: {_some(external.submodules, external.submodules_total)}.")
    if external.submodules_changed:
        inside = ", ".join(external.submodules_changed)
        said.append(f"What was changed inside of submodules is not handed in: {inside}.")
    if external.lfs_files_total:
        files = _some(external.lfs_files, external.lfs_files_total)
        said.append(f"Files kept by git-lfs are pointers, and new content of theirs is refused: {files}.")
    return said


def _some(names: tuple[str, ...], total: int) -> str:
    shown = ", ".join(" ".join(name.split()) for name in names[:3])
    return f"{shown} and {total - min(total, 3)} more" if total > 3 else shown


def _doing(task: TaskRecord, around: Surroundings) -> str:
    if task.delivery is not None:
        return _delivering(task)
    if task.live is None:
        return "the work is being checked again before it is pushed"
    report = around.report
    if task.live.suspicion is not None:
        return doubt_of(task.live, task.live.suspicion, around.now)
    if report is None:
        return "its report cannot be taken" if around.report_problem else "no report yet"
    if report.status is ReportStatus.COMPLETED:
        inspecting = task.live.inspecting
        failed = f"; try {inspecting.tries} failed: {inspecting.error}" if inspecting.error else ""
        return f"the agent claims to be done; its work is being checked{failed}"
    step = " ".join(report.current_step.split())
    percent = f" ({report.percent} %)" if report.percent is not None else ""
    if step and report.status is ReportStatus.IN_PROGRESS:
        return f"{step}{percent}"  # the state says already that it is in progress
    return f"{report.status.value}: {step}{percent}" if step else f"{report.status.value}{percent}"


def _delivering(task: TaskRecord) -> str:
    for key, doing in ((push_key(task), f"pushing to {task.branch}"), (request_key(task), "opening the request")):
        effect = task.effect(key)
        if effect is None or effect.status != "done":
            failed = f"; try {effect.tries} failed: {effect.error}" if effect and effect.error else ""
            return doing + failed
    return "the request is open"


def _delivery_next(task: TaskRecord, around: Surroundings) -> list[str]:
    times = [effect.not_before for effect in task.effects if effect.status != "done" and effect.not_before]
    again = [f"It is tried again {when(min(times), around.now)}."] if times else []
    return [*again, f"Then {task.branch} is on the remote and waits for a merge into {task.base_branch}."]


def _review(task: TaskRecord, around: Surroundings) -> _Told:
    stat = f": {task.delivery.diff_stat}" if task.delivery and task.delivery.diff_stat else ""
    why = [f"Its work was checked and pushed to {task.branch}{stat}."]
    if task.request is not None and task.request.url:
        why.append(f"What a pull request would say stands in {task.request.url}.")
    if task.base_conflict is not None:
        why.append(f"It would not merge as it is: {in_words(task.base_branch, task.base_conflict)}.")
    why += [*_rebased(around.report, task), *_external(around.report)]
    following = [f"It is completed as soon as {task.branch} is merged into {task.base_branch} on the remote."]
    can = [
        *answers(task),
        Action(text="Ask for changes", command=f"cloud-code task retry {task.id} --note '…'"),
        Action(text="Give it up", command=f"cloud-code task cancel {task.id}"),
    ]
    return why, following, can


def _blocked(task: TaskRecord, around: Surroundings) -> _Told:
    why = [f"It waits for {WAITED_FOR[wait.reason]}{_after_colon(wait.message)}" for wait in task.waits_for]
    why = [*(why or _last_step(task)), *_external(around.report)]
    following = ["Nothing happens until a person answers."]
    can = [*answers(task), Action(text="Give it up", command=f"cloud-code task cancel {task.id}")]
    return why, following + _feedback(task), can


def _failed(task: TaskRecord, around: Surroundings) -> _Told:
    failed = f"{count(task.failures, 'attempt has', 'attempts have')} failed; {_after_too_many(task)}"
    if task.failures == 0 and task.cli is not None:
        failed = f"{task.max_failures} attempts in a row have failed with the CLI before: {task.cli} takes over."
    why, tool = [*_last_step(task), failed], f", with {task.cli}" if task.cli is not None else ""
    following = [f"The next attempt starts {when(task.not_before, around.now)}{tool}."]
    can = [*verification_logs(task), retry_action(task, "Try again at once"), *_stop_actions(task)]
    return why, following + _feedback(task), can


def _after_too_many(task: TaskRecord) -> str:
    newest = task.attempts[-1] if task.attempts else None
    if newest is not None and newest.next_cli is not None:
        return f"after {task.max_failures}, {newest.next_cli} takes over."
    return f"after {task.max_failures} a person is asked."


def _paused(task: TaskRecord, around: Surroundings) -> _Told:
    was = f" It was {task.paused_from.words}." if task.paused_from else ""
    can = [*answers(task), Action(text="Give it up", command=f"cloud-code task cancel {task.id}")]
    return [f"A person paused it.{was}"], ["Nothing happens until a person lets it go on."], can


def _ended(task: TaskRecord, around: Surroundings) -> _Told:
    following = ["Nothing: it has ended."]
    left = [a for a in task.attempts if not a.released and not a.left_behind]
    resting = [a for a in left if a.saved and not a.let_go and a.number == task.attempt]
    going = ", ".join(f"attempt {a.number} on {a.workstation}" for a in left if a not in resting)
    if going:
        following.append(f"What is left of it is being cleaned up: {going}.")
    for attempt in resting:
        where = f"of attempt {attempt.number} on {attempt.workstation}"
        following.append(f"The worktree {where} stays for a while (`cloud-code gc --dry-run --all`).")
    following += _left_on_the_remote(task)
    again = retry_action(task, "Run it again from today's base, on a new branch")
    return [*_last_step(task), *_left_behind(task)], following, [*_left_behind_actions(task), again]


def _left_behind(task: TaskRecord) -> list[str]:
    """What could not be saved of its attempts, why, and where it lies."""
    return [
        f"What attempt {a.number} left could not be saved: {_phrase(a.save_error or '')}. {_where_left(task, a)}"
        for a in task.attempts
        if a.left_behind
    ]


def _where_left(task: TaskRecord, attempt: Attempt) -> str:
    """Where an attempt's worktree is: its own place, unless a later attempt there needed that."""
    place = Root(Path()).task_workspace(attempt.workstation, task.id, attempt.workspace_mode).worktree
    there = [a for a in task.attempts if (a.workstation, a.workspace_mode) == _home(attempt)]
    later = next((a.number for a in there if a.number > attempt.number), None)
    if later is None:
        return f"It lies untouched on {attempt.workstation}, in {place}."
    moved = f"else it was moved to {place}.kept-before-{later}"
    return f"On {attempt.workstation}, attempt {later} went on in it if it could ({place}); {moved}."


def _home(attempt: Attempt) -> tuple[str, WorkspaceMode]:
    return attempt.workstation, attempt.workspace_mode


def _left_behind_actions(task: TaskRecord) -> list[Action]:
    left = [a for a in task.attempts if a.left_behind]
    if not left:
        return []
    drops = [
        Action(
            text=f"Or give up what attempt {a.number} left, for {a.workstation} to remove",
            command=f"cloud-code task salvage drop {task.id} --attempt {a.number}",
        )
        for a in left
        if not a.abandoned
    ]
    stations = {a.workstation for a in left if a.bundle is None and not a.abandoned}
    stops = [
        Action(text=f"Stop {name}, which has tried already", command=f"cloud-code workstation stop {name}")
        for name in sorted(stations)
    ]
    again = Action(text="Try again to save it", command=f"cloud-code task salvage again {task.id}")
    return [*stops, again, *drops]


def _left_on_the_remote(task: TaskRecord) -> list[str]:
    """Of a cancelled task: what had left the house by then."""
    push = task.effect(push_key(task)) if task.state is State.CANCELLED and task.delivery else None
    if push is None or push.status == "pending":
        return []
    if push.status == "sending":
        return [f"Whether its push of {task.branch} arrived is being looked up."]
    return [f"{task.branch} had been pushed and stays on the remote."]


_EXPLAIN: dict[State, Callable[[TaskRecord, Surroundings], _Told]] = {
    State.PENDING: _pending,
    State.ASSIGNED: _assigned,
    State.IN_PROGRESS: _in_progress,
    State.REVIEW: _review,
    State.BLOCKED: _blocked,
    State.FAILED: _failed,
    State.PAUSED: _paused,
    State.COMPLETED: _ended,
    State.CANCELLED: _ended,
}
