"""What is told of what a task left: with its workstations, where it could not be saved, and on the remote."""

from pathlib import Path

from agent_daemon.protocol.model import WorkspaceMode
from agent_daemon.protocol.paths import Root
from supervisor.core.answers import Action
from supervisor.core.delivery import push_key
from supervisor.core.record import Attempt, TaskRecord
from supervisor.core.states import State
from supervisor.core.surroundings import phrase


def left_behind(task: TaskRecord) -> list[str]:
    """What could not be saved of its attempts, why, and where it lies."""
    return [
        f"What attempt {a.number} left could not be saved: {phrase(a.save_error or '')}. {_where_left(task, a)}"
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


def left_behind_actions(task: TaskRecord) -> list[Action]:
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


def left_on_the_remote(task: TaskRecord) -> list[str]:
    """Of a cancelled task: what had left the house by then."""
    push = task.effect(push_key(task)) if task.state is State.CANCELLED and task.delivery else None
    if push is None or push.status == "pending":
        return []
    if push.status == "sending":
        return [f"Whether its push of {task.branch} arrived is being looked up."]
    return [f"{task.branch} had been pushed and stays on the remote."]
