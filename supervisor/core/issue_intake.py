"""From an issue on a forge to a task: who may ask, which text counts, what a change of it means."""

import re
from datetime import datetime

from agent_daemon.protocol.model import Priority, WaitReason
from supervisor.core.decision import Decision, Event
from supervisor.core.forge import IssueSeen, Person, text_digest
from supervisor.core.intake import Draft, cancel, clean_line, clean_text, ingest, rerun, text_of
from supervisor.core.record import Approval, Offered, Source, TaskRecord, Wait
from supervisor.core.settings import Config, ProjectSettings, TriggerSettings
from supervisor.core.states import State
from supervisor.core.task_file import MAX_REPEATED_BYTES, TaskFile

_MAX_DESCRIPTION_BYTES = 190 * 1024
_MAX_CRITERIA = 50
_HIDDEN = re.compile(r"<!--.*?(?:-->|\Z)", re.DOTALL)
_CRITERIA = re.compile(r"^#{1,6}\s*(?:acceptance\s+criteria|done\s+when)\s*:?\s*#*\s*$", re.IGNORECASE)
_HEADING = re.compile(r"^#{1,6}\s")
_ITEM = re.compile(r"^\s{0,3}[-*+]\s+(?:\[[ xX]\]\s+)?(.+)$")
_PRIORITY = re.compile(r"^(?:priority|prio)\s*[:/ -]{1,3}\s*(critical|high|medium|low|background)$", re.IGNORECASE)
# States in which the text of a task still matters to somebody who works on it, or will.
_TEXT_MATTERS = frozenset({State.PENDING, State.ASSIGNED, State.IN_PROGRESS, State.FAILED, State.PAUSED})


def is_allowed(person: Person, trigger: TriggerSettings) -> bool:
    """Whether somebody may start and steer: by their right at this time; a bot only by its exact name."""
    if person.is_self:
        return False
    if person.is_bot:
        return person.login in trigger.bots
    return person.can_write


def task_id_of(project: str, issue: IssueSeen) -> str:
    return f"{project}.{'pr' if issue.kind == 'request' else ''}{issue.ref}"


def draft_of(issue: IssueSeen, project: str, settings: ProjectSettings, *, trigger: str, by: str) -> Draft:
    """What an issue asks for. Whoever wrote it, the text is cleaned of what a reader would not see."""
    shown = _HIDDEN.sub("", clean_text(issue.body)).strip()
    labels = tuple(clean_line(label)[:100] for label in issue.labels if label not in settings.trigger.labels)[:50]
    is_review = issue.kind == "request"
    if is_review:
        shown = f"Review the changes of this request into `{issue.base}`. What its author says:\n\n{shown}"
        labels = (*labels, "reviewer")
    text = TaskFile(
        title=clean_line(issue.title),
        description=_clipped(shown),
        labels=labels,
        priority=_priority(labels),
        acceptance_criteria=_criteria(shown),
        type="review" if is_review else "feature",
        expects="document" if is_review else "commits",
        base_branch=issue.branch[:200] if is_review and issue.branch else None,
    )
    source = Source(
        tracker=settings.forge,
        kind=issue.kind,
        ref=issue.ref,
        key=f"{settings.forge}:{issue.kind}:{project}:{issue.ref}",
        url=issue.url,
        requested_by=by,
        text_hash=text_digest(issue.title, issue.body),
        trigger=trigger,
    )
    return Draft(id=task_id_of(project, issue), project=project, source=source, text=text, trigger=trigger)


def _clipped(text: str) -> str:
    data = text.encode(errors="replace")
    return text if len(data) <= _MAX_DESCRIPTION_BYTES else data[:_MAX_DESCRIPTION_BYTES].decode(errors="ignore")


def _priority(labels: tuple[str, ...]) -> Priority:
    found = next((match[1].lower() for label in labels if (match := _PRIORITY.match(label))), None)
    return Priority(found) if found else Priority.MEDIUM


def _criteria(text: str) -> tuple[str, ...]:
    """The items of the list under a heading such as "Acceptance criteria"."""
    found: list[str] = []
    inside, size = False, 0
    for line in text.splitlines():
        if _HEADING.match(line):
            inside = _CRITERIA.match(line) is not None
        elif inside and (item := _ITEM.match(line)) and len(found) < _MAX_CRITERIA:
            criterion = item[1].strip()[:1000]
            size += len(criterion.encode(errors="replace"))
            if size > MAX_REPEATED_BYTES // 2:
                break
            found.append(criterion)
    return tuple(found)


def take_issue(
    issue: IssueSeen, known: TaskRecord | None, project: str, config: Config, now: datetime
) -> Decision | Event | None:
    """What an issue means now: a decision about its task, something to be told, or nothing."""
    if known is not None and not known.ended:
        return _take_live(issue, known, project, config, now)
    return _take_trigger(issue, known, project, config, now)


def _take_trigger(
    issue: IssueSeen, known: TaskRecord | None, project: str, config: Config, now: datetime
) -> Decision | Event | None:
    settings, trigger = config.projects[project], issue.trigger
    if trigger is None or not issue.open or (known is not None and known.source.trigger == trigger.id):
        return None
    ignored = next((label for label in issue.labels if label in settings.trigger.ignore_labels), None)
    if ignored is not None:
        return _not_taken(issue, trigger.by, f"the label '{ignored}' keeps it from being taken up")
    if not is_allowed(trigger.by, settings.trigger):
        return _not_taken(issue, trigger.by, f"{trigger.by.login} may not start tasks here")
    if issue.kind == "request" and not issue.branch:
        return _not_taken(issue, trigger.by, "requests from other repositories are not reviewed")
    begun = begin(issue, known, project, config, now, trigger=trigger.id, by=trigger.by.login)
    editor = issue.edited_by
    if editor is not None and not is_allowed(editor, settings.trigger):
        offered = Offered(
            title=begun.task.title, description=begun.task.description, text_hash=begun.task.source.text_hash
        )
        return begun.then(_hold(begun.task, offered, editor, now))
    return begun


def begin(
    issue: IssueSeen,
    known: TaskRecord | None,
    project: str,
    config: Config,
    now: datetime,
    *,
    trigger: str,
    by: str,
) -> Decision:
    """A new task of this issue, or another run of one that has ended."""
    draft = draft_of(issue, project, config.projects[project], trigger=trigger, by=by)
    if known is None:
        created = ingest(draft, None, config, now)
        if created is None:
            raise ValueError("a new draft is always a task")
        role = "reviewer" if issue.kind == "request" else "specialist"
        return Decision(task=created.task.evolve(role=role), events=created.events)
    fresh = known.evolve(**text_of(draft, config), source=draft.source)
    return rerun(fresh, reason=f"asked for by {by}", actor=by, now=now)


def _not_taken(issue: IssueSeen, by: Person, why: str) -> Event:
    return Event(
        name="trigger.refused", details={"ref": issue.ref, "url": issue.url, "message": why}, actor=by.login
    )


def _take_live(
    issue: IssueSeen, task: TaskRecord, project: str, config: Config, now: datetime
) -> Decision | Event | None:
    if not issue.open and issue.kind == "issue":
        return cancel(task, reason="its issue was closed", actor="forge", now=now)
    digest = text_digest(issue.title, issue.body)
    offered = task.offered.text_hash if task.offered is not None else None
    if digest == task.source.text_hash:
        return drop_offer(task, "the text is again what was approved", "forge", now) if offered else None
    if issue.kind == "request" or digest in (task.source.refused_hash, offered):
        return None
    editor = issue.edited_by or Person(login="somebody")
    settings = config.projects[project]
    draft = draft_of(issue, project, settings, trigger=task.source.trigger or "", by=task.source.requested_by)
    if is_allowed(editor, settings.trigger):
        free = drop_offer(task, "the text was changed", editor.login, now) if offered else Decision(task=task)
        taken = ingest(draft, free.task, config, now)
        return free.then(taken) if taken is not None else free
    if task.state not in _TEXT_MATTERS:
        kept = task.evolve(source=task.source.evolve(refused_hash=digest))
        details = {"ref": issue.ref, "message": "what was approved stays in force"}
        return Decision(task=kept, events=(Event(name="source.refused", details=details, actor=editor.login),))
    text = draft.text
    return _hold(task, Offered(title=text.title, description=text.description, text_hash=digest), editor, now)


def _hold(task: TaskRecord, offered: Offered, editor: Person, now: datetime) -> Decision:
    """Nobody works on until a person has taken the other text or left it: an agent must not be steered by it."""
    number = f"a{len(task.approvals) + 1}"
    message = f"E_SOURCE_CHANGED: {editor.login}, who may not steer, changed the issue after it was approved"
    approval = Approval(id=number, gate="source_changed", subject_hash=offered.text_hash, message=message)
    others = tuple(
        a.evolve(status="denied") if a.gate == "source_changed" and a.status == "pending" else a
        for a in task.approvals
    )
    held = task
    if task.state is not State.PAUSED:
        held = task.moved(State.PAUSED, reason=message, actor="supervisor", at=now, paused_from=task.state)
    wait = Wait(reason=WaitReason.APPROVAL, message=message, ref=number)
    held = held.evolve(offered=offered, approvals=(*others, approval), waits_for=(wait,))
    event = Event(name="source.changed", details={"message": message, "approval": number}, actor=editor.login)
    return Decision(task=held, events=(event,))


def drop_offer(task: TaskRecord, reason: str, actor: str, now: datetime) -> Decision:
    """The task goes on with the text that was approved."""
    refused = task.offered.text_hash if task.offered is not None else task.source.refused_hash
    approvals = tuple(
        a.evolve(status="denied", by=actor, at=now) if a.gate == "source_changed" and a.status == "pending" else a
        for a in task.approvals
    )
    free = task.evolve(
        offered=None, approvals=approvals, waits_for=(), source=task.source.evolve(refused_hash=refused)
    )
    return _go_on(free, reason, actor, now)


def take_offer(task: TaskRecord, actor: str, now: datetime) -> Decision:
    """A person takes the other text: it is the approved one from now on."""
    offered = task.offered
    if offered is None:
        return Decision(task=task)
    source = task.source.evolve(text_hash=offered.text_hash, refused_hash="")
    taken = task.evolve(
        title=clean_line(offered.title),
        description=offered.description,
        source=source,
        offered=None,
        waits_for=(),
        edited_at=now,
    )
    return _go_on(taken, "the changed text was approved", actor, now)


def _go_on(task: TaskRecord, reason: str, actor: str, now: datetime) -> Decision:
    if task.state is not State.PAUSED:
        return Decision(task=task)
    back = task.paused_from or State.PENDING
    return Decision(
        task=task.moved(back, reason=reason, actor=actor, at=now, paused_from=None),
        events=(Event(name="task.resumed", actor=actor),),
    )
