"""What is told of a task that is worked on: what its agent does, then how its work is delivered."""

from agent_daemon.protocol.model import ReportStatus, TaskReport, WorkspaceMode
from supervisor.core.answers import Action, answers
from supervisor.core.delivery import push_key, request_key
from supervisor.core.life import StationState
from supervisor.core.record import Attempt, TaskRecord
from supervisor.core.secret_wait import secret_wait
from supervisor.core.signs import doubt_of, follows, seen_of, silence
from supervisor.core.surroundings import Surroundings, Told, phrase, stop_actions
from supervisor.core.times import duration, when
from supervisor.core.words import count


def in_progress(task: TaskRecord, around: Surroundings) -> Told:
    why, live = [f"Now: {doing(task, around)}."], task.live
    can = [*answers(task), *stop_actions(task)]
    if live is None or secret_wait(task) is not None:
        return why, _delivery_next(task, around), can
    why.append(
        f"{live.workstation} works on it with {live.cli}, attempt {live.number}, "
        f"for {duration((around.now - live.started_at).total_seconds())}."
    )
    why += _workspace(live.workspace_mode, around)
    seen, coming = signs(task, live, around)
    why += seen
    report = around.report
    if report is not None and report.summary:
        why.append(f"The agent says: {' '.join(report.summary.split())[:500]}")
    why += external(report)
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


def signs(task: TaskRecord, live: Attempt, around: Surroundings) -> tuple[list[str], list[str]]:
    """What is seen of the life of an attempt under way, and what follows from it."""
    station = next((s for s in around.stations if s.name == live.workstation), None)
    found = station.activity if station is not None else None
    own = found if found is not None and (found.task, found.attempt) == (task.id, live.number) else None
    seen, coming = seen_of(live, own, around.now), follows(task, live, around.now)
    if station is not None and station.state is StationState.UNHEALTHY and around.running:
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


def rebased(report: TaskReport | None, task: TaskRecord) -> list[str]:
    """That the work was put on top of a base branch that had moved, or why it was not; by the report."""
    rebase = report.rebase if report is not None else None
    if rebase is None or rebase.outcome == "conflict":
        return []
    if rebase.outcome == "rebased":
        return [f"{task.base_branch} had moved meanwhile: the work was put on top of {rebase.onto[:12]}."]
    return [f"{task.base_branch} had moved meanwhile; the work stays on its base: {phrase(rebase.reason)}."]


def external(report: TaskReport | None) -> list[str]:
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


def doing(task: TaskRecord, around: Surroundings) -> str:
    awaited = secret_wait(task)
    if awaited is not None:
        return awaited.words
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
        failed = f"; try {inspecting.tries} failed: {phrase(inspecting.error)}" if inspecting.error else ""
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
            failed = f"; try {effect.tries} failed: {phrase(effect.error)}" if effect and effect.error else ""
            return doing + failed
    return "the request is open"


def _delivery_next(task: TaskRecord, around: Surroundings) -> list[str]:
    times = [effect.not_before for effect in task.effects if effect.status != "done" and effect.not_before]
    again = [f"It is tried again {when(min(times), around.now)}."] if times else []
    return [*again, f"Then {task.branch} is on the remote and waits for a merge into {task.base_branch}."]
