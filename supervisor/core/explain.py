"""Why a task is where it is, what happens next and what a person can do, in sentences made from its record."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from agent_daemon.protocol.money import amount
from supervisor.core.answers import WAITED_FOR, Action, answers, remote_answers, retry_action, verification_logs
from supervisor.core.budgets import spent_usd
from supervisor.core.credentials import said_why
from supervisor.core.explain_left import left_behind, left_behind_actions, left_on_the_remote
from supervisor.core.explain_work import doing, external, in_progress, rebased, signs
from supervisor.core.intake import when_told
from supervisor.core.life import StationState
from supervisor.core.moved_base import in_words
from supervisor.core.planning import is_plan_stale
from supervisor.core.record import TaskRecord
from supervisor.core.retry import parked_until
from supervisor.core.secret_wait import GOES_ON, secret_wait
from supervisor.core.states import State
from supervisor.core.surroundings import Surroundings, Told, after_colon, feedback, last_step, phrase, stop_actions
from supervisor.core.times import duration, when
from supervisor.core.words import count


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


def explain(task: TaskRecord, around: Surroundings) -> Explanation:
    """Everything there is to say about a task now."""
    tell = _resting if around.resting and not task.ended else _EXPLAIN[task.state]
    why, following, can = tell(task, around)
    if secret_wait(task) is not None and not around.resting:
        following = [GOES_ON, *following]
    if around.report_problem and not task.ended:
        _tell_unreadable(task, around, why, following)
    if task.is_text_newer and task.state in (State.REVIEW, State.BLOCKED):
        why.append(f"Its text was changed after attempt {task.attempts[-1].number}: {when_told(task)}.")
        if task.state is State.BLOCKED and not is_plan_stale(task):
            can.append(retry_action(task, "Make another attempt with the changed text"))
    if around.cost_limit_usd is not None and not task.ended:
        under_way = around.report.usage.cost_usd if around.report is not None and task.live is not None else 0
        spent = spent_usd(task) + (under_way or 0)
        why.append(f"It may cost {amount(around.cost_limit_usd)} USD in all, and has cost {amount(spent)}.")
    if not task.ended:
        why += left_behind(task)
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


def _tell_unreadable(task: TaskRecord, around: Surroundings, why: list[str], following: list[str]) -> None:
    """That the newest attempt's report cannot be taken, and what follows for one that goes on, or has ended."""
    newest = task.attempts[-1] if task.attempts else None
    if newest is None or newest.settled:
        return
    counts = "what it reported before counts" if task.live is not None else "so nobody knows what it left behind"
    why.append(f"The report of attempt {newest.number} could not be taken, {counts}: {around.report_problem}")
    if task.live is not None:
        grace = duration(around.timing.problem_grace_seconds)
        following.append(f"If that lasts {grace}, the attempt is ended and the task waits for a person.")
    elif newest.to_be_bundled:
        wait = duration(around.timing.salvage_timeout_seconds)
        following.append(f"If that lasts {wait}, the next attempt begins without its work; its worktree stays.")


def since(task: TaskRecord) -> datetime:
    """When the task came into its present state."""
    return task.history[-1].at if task.history else task.created_at


def headline(task: TaskRecord, around: Surroundings) -> str:
    """One line for lists: what is being done, or what is waited for."""
    if around.resting and not task.ended:
        return f"resting: the project {task.project} is not configured"
    awaited = secret_wait(task)
    if awaited is not None:
        return awaited.words
    match task.state:
        case State.PENDING:
            return _pending_waits(task, around)[0]
        case State.ASSIGNED:
            return f"given to {task.workstation}, no report yet"
        case State.IN_PROGRESS:
            asked = next((grant for grant in task.grants if grant.status == "asked"), None)
            wants = f"asks for {asked.type} ({asked.access}): {said_why(asked)}; " if asked is not None else ""
            return wants + doing(task, around)
        case State.REVIEW:
            conflict = f"; conflicts with {task.base_branch}" if task.base_conflict else ""
            return f"waits for a merge into {task.base_branch}{conflict}"
        case State.BLOCKED:
            lifted = parked_until(task)
            if lifted is not None:
                return f"waits for the provider's quota, next attempt {when(lifted, around.now)}"
            waits = "; ".join(wait.message or wait.reason.value for wait in task.waits_for) or "waits for a person"
            return waits + "; its text was changed after that" * is_plan_stale(task)
        case State.FAILED:
            return f"next attempt {when(task.not_before, around.now)}"
        case State.PAUSED:
            return "; ".join(wait.message for wait in task.waits_for) or "paused by a person"
        case _:
            return task.history[-1].reason if task.history else ""


# --- one function for each state ----------------------------------------------------------------------


def _resting(task: TaskRecord, around: Surroundings) -> Told:
    why = [f"It rests: its project, {task.project}, is not configured, and no supervisor looks at it."]
    live = task.live
    if live is not None:
        why.append(f"Attempt {live.number} on {live.workstation} was under way; what it does now is not taken in.")
    following = ["It goes on where it was once its project is configured again and the supervisor was restarted."]
    return why, following, list(answers(task, resting=True))


def _pending(task: TaskRecord, around: Surroundings) -> Told:
    waits = _pending_waits(task, around)
    can = list(answers(task, around.cancelled, around.unknown))
    if around.drained:
        can.append(Action(text="Have attempts given out again", command="cloud-code drain --undo"))
    if around.no_room:
        text = "Make room on the disk; see what clean-up would remove"
        can.append(Action(text=text, command="cloud-code gc --dry-run"))
    if around.no_money:
        can += [Action(text="Let there be as much as it needs", command=command) for command in around.top_ups]
        can.append(Action(text="See the budgets", command="cloud-code budget"))
    can += [
        Action(text=f"Start {station.name}", command=f"cloud-code workstation start {station.name}")
        for station in around.stations
        if station.state is StationState.STOPPED
    ]
    times = (task.not_before, task.preparing.not_before)
    can += remote_answers(task, task.preparing.error or "")
    if any(time is not None and time > around.now for time in times):
        can.append(Action(text="Try again at once", command=f"cloud-code task retry {task.id}"))
    following = [f"It {wait}." for wait in waits]
    return last_step(task), following + feedback(task), can + stop_actions(task)


def _pending_waits(task: TaskRecord, around: Surroundings) -> list[str]:
    """What a pending task waits for, as predicates (``waits for …``); never empty."""
    waits = ["waits until attempts are given out again (somebody drained the fleet)"] if around.drained else []
    waits += [f"waits for {around.no_room}"] if around.no_room else []
    waits += [f"waits for {reason}" for reason in (*around.unmet, *around.no_money)]
    waits += [
        f"waits until attempt {attempt.number} has been stopped and saved on {attempt.workstation}"
        for attempt in task.attempts
        if attempt.ended_at is None or not attempt.settled
    ]
    if task.not_before is not None and task.not_before > around.now:
        waits.append(f"gets its next attempt {when(task.not_before, around.now)}")
    again = task.preparing.not_before
    awaited = secret_wait(task)
    if awaited is not None:
        waits.append(f"is {awaited.words}")
    elif again is not None and again > around.now:
        why = f"; try {task.preparing.tries} failed: {phrase(task.preparing.error or '')}"
        waits.append(f"is made ready again {when(again, around.now)}{why}")
    return waits or [_station_wait(task, around)]


def _station_wait(task: TaskRecord, around: Surroundings) -> str:
    up = (StationState.IDLE, StationState.WORKING)
    usable = [s for s in around.stations if s.state in up and not s.note]
    free = next((station for station in usable if station.task is None), None)
    if free is not None:
        return f"is being made ready for {free.name}"
    if any(station.state is StationState.REMOVED for station in around.stations) and around.running:
        return f"waits for another workstation of the type {task.specialist}, which is started for it"
    if usable:
        busy = ", ".join(f"{station.name} with {station.task}" for station in usable[:5])
        return f"waits for a free workstation of the type {task.specialist} (busy: {busy})"
    if not around.stations:
        return f"waits for a workstation of the type {task.specialist}, and none is configured"
    seen = ", ".join(f"{s.name} is {s.state}" + (f": {s.note}" if s.note else "") for s in around.stations[:5])
    return f"waits for a workstation of the type {task.specialist} ({seen})"


def _assigned(task: TaskRecord, around: Surroundings) -> Told:
    following = [f"{task.workstation} takes it up and reports."]
    live, why = task.live, last_step(task)
    if live is not None:
        seen, coming = signs(task, live, around)
        why, following = [*why, *seen], [*coming, *following]
        limit = live.started_at + timedelta(seconds=around.timing.assign_timeout_seconds)
        following.append(
            f"Without a report it is given up {when(limit, around.now)}, and the next attempt may go elsewhere."
        )
    return why, following, stop_actions(task)


def _review(task: TaskRecord, around: Surroundings) -> Told:
    stat = f": {task.delivery.diff_stat}" if task.delivery and task.delivery.diff_stat else ""
    why = [f"Its work was checked and pushed to {task.branch}{stat}."]
    if task.request is not None and task.request.url:
        what = "What a pull request would say stands in" if task.request.number is None else "Its request is"
        why.append(f"{what} {task.request.url}.")
    if task.base_conflict is not None:
        why.append(f"It would not merge as it is: {in_words(task.base_branch, task.base_conflict)}.")
    why += [*rebased(around.report, task), *external(around.report)]
    following = [f"It is completed as soon as {task.branch} is merged into {task.base_branch} on the remote."]
    can = [
        *answers(task),
        Action(text="Ask for changes", command=f"cloud-code task retry {task.id} --note '…'"),
        Action(text="Give it up", command=f"cloud-code task cancel {task.id}"),
    ]
    return why, following, can


def _blocked(task: TaskRecord, around: Surroundings) -> Told:
    why = [f"It waits for {WAITED_FOR[wait.reason]}{after_colon(wait.message)}" for wait in task.waits_for]
    why = [*(why or last_step(task)), *external(around.report)]
    following, can = ["Nothing happens until a person answers."], list(answers(task))
    lifted = parked_until(task)
    if lifted is not None:
        following = [f"Another attempt is made {when(lifted, around.now)}; this one counts as no failure."]
        can = [retry_action(task, "Try again at once")]
    can.append(Action(text="Give it up", command=f"cloud-code task cancel {task.id}"))
    return why, following + feedback(task), can


def _failed(task: TaskRecord, around: Surroundings) -> Told:
    failed = f"{count(task.failures, 'attempt has', 'attempts have')} failed; {_after_too_many(task)}"
    if task.failures == 0 and task.cli is not None:
        failed = f"It could not be done with the CLI before: {task.cli} takes over."
    why, tool = [*last_step(task), failed], f", with {task.cli}" if task.cli is not None else ""
    following = [f"The next attempt starts {when(task.not_before, around.now)}{tool}."]
    can = [*verification_logs(task), retry_action(task, "Try again at once"), *stop_actions(task)]
    return why, following + feedback(task), can


def _after_too_many(task: TaskRecord) -> str:
    newest = task.attempts[-1] if task.attempts else None
    if newest is not None and newest.next_cli is not None:
        return f"after {task.max_failures}, {newest.next_cli} takes over."
    return f"after {task.max_failures} a person is asked."


def _paused(task: TaskRecord, around: Surroundings) -> Told:
    can = [*answers(task), Action(text="Give it up", command=f"cloud-code task cancel {task.id}")]
    if task.offered is not None:
        why = [f"It waits for {WAITED_FOR[wait.reason]}{after_colon(wait.message)}" for wait in task.waits_for]
        return why, ["Nothing happens until a person takes the changed text or leaves it."], can
    was = f" It was {task.paused_from.words}." if task.paused_from else ""
    return [f"A person paused it.{was}"], ["Nothing happens until a person lets it go on."], can


def _ended(task: TaskRecord, around: Surroundings) -> Told:
    following = ["Nothing: it has ended."]
    left = [a for a in task.attempts if not a.released and not a.left_behind]
    resting = [a for a in left if a.saved and not a.let_go and a.number == task.attempt]
    going = ", ".join(f"attempt {a.number} on {a.workstation}" for a in left if a not in resting)
    if going:
        following.append(f"What is left of it is being cleaned up: {going}.")
    for attempt in resting:
        where = f"of attempt {attempt.number} on {attempt.workstation}"
        following.append(f"The worktree {where} stays for a while (`cloud-code gc --dry-run --all`).")
    following += left_on_the_remote(task)
    again = retry_action(task, "Run it again from today's base, on a new branch")
    return [*last_step(task), *left_behind(task)], following, [*left_behind_actions(task), again]


_EXPLAIN: dict[State, Callable[[TaskRecord, Surroundings], Told]] = {
    State.PENDING: _pending,
    State.ASSIGNED: _assigned,
    State.IN_PROGRESS: in_progress,
    State.REVIEW: _review,
    State.BLOCKED: _blocked,
    State.FAILED: _failed,
    State.PAUSED: _paused,
    State.COMPLETED: _ended,
    State.CANCELLED: _ended,
}
