"""From an issue on a forge to a task: who may ask, which text counts, what a change of it means."""

import re
from datetime import datetime

from agent_daemon.protocol.model import Priority, WaitReason
from supervisor.core.decision import Decision, Event
from supervisor.core.delivery import go_on
from supervisor.core.forge import NOBODY_KNOWN, IssueSeen, Person, Trigger, text_digest
from supervisor.core.intake import Draft, cancel, clean_line, clean_text, digests_of, ingest, rerun, text_of
from supervisor.core.record import Approval, Offered, Source, TaskRecord, Wait
from supervisor.core.render import one_line_code
from supervisor.core.settings import Config, ProjectSettings, TriggerSettings
from supervisor.core.slash import without_fences
from supervisor.core.states import State
from supervisor.core.task_file import MAX_REPEATED_BYTES, TaskFile
from supervisor.core.telling import answer

_MAX_DESCRIPTION_BYTES = 190 * 1024
_MAX_CRITERIA = 50
# HTML comments, whole or from the beginning of a line on; lines that Markdown hides; characters without a width,
# among them the variants that no emoji needs: any text can be written in these.
_HIDDEN = re.compile(
    r"<!--.*?-->|^ {0,3}<!--.*\Z|^ {0,3}\[[^\]\n]+\]:[ \t]*(?:#|<>)[^\n]*", re.DOTALL | re.MULTILINE
)
_INVISIBLE = re.compile("[\u200b\u2060-\u2064\ufeff\ufe00-\ufe0d\U000e0000-\U000e01ef]")
_CRITERIA = re.compile(r"^#{1,6}\s*(?:acceptance\s+criteria|done\s+when)\s*:?\s*#*\s*$", re.IGNORECASE)
_HEADING = re.compile(r"^#{1,6}\s")
# A line in bold letters alone, which many write for a heading.
_BOLD = re.compile(r"^(?:\*\*|__)\s*([^*_]+?)\s*(?:\*\*|__)\s*:?\s*$")
_ITEM = re.compile(r"^\s{0,3}(?:[-*+]|\d{1,9}[.)])\s+(?:\[[ xX]\]\s+)?(?!\s*\[[ xX]?\]\s*$)(.+)$")
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


def draft_of(issue: IssueSeen, project: str, settings: ProjectSettings, asked: Trigger) -> Draft:
    """What an issue asks for. Whoever wrote it, the text is cleaned of what a reader would not see."""
    shown = _INVISIBLE.sub("", _HIDDEN.sub("", clean_text(issue.body))).strip()
    asking = {label.casefold() for label in settings.trigger.labels}
    labels = tuple(clean_line(label)[:100] for label in issue.labels if label.casefold() not in asking)[:50]
    is_review = issue.kind == "request"
    if is_review:
        shown = f"Review the changes of this request into `{issue.base}`. What its author says:\n\n{shown}"
        labels = (*labels, "reviewer")
    text = TaskFile(
        title=clean_line(_INVISIBLE.sub("", issue.title)),
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
        requested_by=asked.by.login,
        text_hash=text_digest(issue.title, issue.body),
        trigger=asked.id,
        trigger_at=asked.at,
        approved_at=asked.at,
    )
    return Draft(id=task_id_of(project, issue), project=project, source=source, text=text, trigger=asked.kind)


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
    for line in without_fences(text.splitlines()):
        heading = _BOLD.sub(r"# \1", line)
        if _HEADING.match(heading):
            inside = _CRITERIA.match(heading) is not None
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
    if trigger is None or not issue.open or (known is not None and not _is_newer(trigger, known.source)):
        return None
    ignoring = {label.casefold() for label in settings.trigger.ignore_labels}
    ignored = next((label for label in issue.labels if label.casefold() in ignoring), None)
    if ignored is not None:
        return _not_taken(issue, trigger.by, f"the label '{ignored}' keeps it from being taken up")
    if not is_allowed(trigger.by, settings.trigger):
        return _not_taken(issue, trigger.by, f"{trigger.by.login} may not start tasks here")
    if issue.kind == "request" and not issue.branch:
        return _not_taken(issue, trigger.by, "requests from other repositories are not reviewed")
    begun = _begin(issue, known, project, config, now, trigger)
    stranger = _stranger(issue, settings.trigger)
    if stranger is None:
        return begun
    text_hash = begun.task.source.text_hash
    offered = Offered(
        title=begun.task.title,
        description=begun.task.description,
        text_hash=text_hash,
        at=issue.updated_at,
    )
    return begun.then(_hold(begun.task, offered, stranger, now))


def _is_newer(trigger: Trigger, known: Source) -> bool:
    """Whether this asks for another run: nothing does that was there when the last one was asked for."""
    return trigger.id != known.trigger and (known.trigger_at is None or trigger.at > known.trigger_at)


def _stranger(issue: IssueSeen, trigger: TriggerSettings) -> Person | None:
    """Somebody who may not steer among those who changed the text."""
    return next((editor for editor in issue.editors if not is_allowed(editor, trigger)), None)


def _begin(
    issue: IssueSeen, known: TaskRecord | None, project: str, config: Config, now: datetime, asked: Trigger
) -> Decision:
    """A new task of this issue, or another run of one that has ended."""
    draft = draft_of(issue, project, config.projects[project], asked)
    if known is None:
        created = ingest(draft, None, config, now)
        if created is None:
            raise ValueError("a new draft is always a task")
        role = "reviewer" if issue.kind == "request" else "specialist"
        begun = Decision(task=created.task.evolve(role=role), events=created.events)
    else:
        fresh = known.evolve(**text_of(draft, config), source=draft.source)
        begun = rerun(fresh, reason=f"asked for by {asked.by.login}", actor=asked.by.login, now=now)
    task = _asked_in(begun.task, asked, config) if asked.kind == "comment" else begun.task
    return Decision(task=task, events=begun.events)


def _asked_in(task: TaskRecord, asked: Trigger, config: Config) -> TaskRecord:
    """A task that a comment began: that counts once, and the CLI that it names is taken if there is such a one."""
    task = task.evolve(applied_commands=(*task.applied_commands, asked.id))
    clis = config.clis_for(task.project, task.specialist)
    if not asked.cli or asked.cli in clis:
        return task.evolve(cli=asked.cli or None)
    there = ", ".join(clis)
    text = one_line_code(f"there is no coding CLI {asked.cli[:40]} for it: there are {there}")
    return answer(task, None, f"It is begun, but {text}", "")


def _not_taken(issue: IssueSeen, by: Person, why: str) -> Event:
    return Event(
        name="trigger.refused", details={"ref": issue.ref, "url": issue.url, "message": why}, actor=by.login
    )


def _take_live(
    issue: IssueSeen, task: TaskRecord, project: str, config: Config, now: datetime
) -> Decision | Event | None:
    if not issue.open and issue.kind == "issue":
        return cancel(task, reason="its issue was closed", actor="forge", now=now)
    trigger, known = issue.trigger, task
    if trigger is not None and _is_newer(
        trigger, task.source
    ):  # it is under way: what is asked for is done already
        task = task.evolve(source=task.source.evolve(trigger_at=trigger.at))
    changed = _take_text(issue, task, project, config, now) if issue.kind == "issue" else None
    return changed or (Decision(task=task) if task is not known else None)


def _take_text(issue: IssueSeen, task: TaskRecord, project: str, config: Config, now: datetime) -> Decision | None:
    """What follows from the text as it is now: who wrote it decides."""
    digest, settings = text_digest(issue.title, issue.body), config.projects[project]
    offered = task.offered.text_hash if task.offered is not None else None
    if digest == task.source.text_hash:
        back = offered is not None and offered != digest
        return drop_offer(task, "the text is again what was approved", "forge", now) if back else None
    if digest in (task.source.refused_hash, offered):
        return None
    source = task.source
    asked = Trigger(
        id=source.trigger or "",
        kind="label",
        by=Person(login=source.requested_by),
        at=source.trigger_at or issue.updated_at,
    )
    draft = draft_of(issue, project, settings, asked)
    stranger = _stranger(issue, settings.trigger) if issue.editors else Person(login=NOBODY_KNOWN)
    if stranger is None:
        by = issue.editors[0].login
        free = drop_offer(task, "the text was changed", by, now) if offered else Decision(task=task)
        accepted = draft.source.evolve(approved_at=issue.updated_at, requested_by=source.requested_by)
        taken = ingest(draft.evolve(source=accepted), free.task, config, now)
        return free.then(taken) if taken is not None else free
    if task.state not in _TEXT_MATTERS:
        kept = task.evolve(source=source.evolve(refused_hash=digest))
        details = {"ref": issue.ref, "message": "what was approved stays in force"}
        return Decision(task=kept, events=(Event(name="source.refused", details=details, actor=stranger.login),))
    text = draft.text
    offer = Offered(title=text.title, description=text.description, text_hash=digest, at=issue.updated_at)
    return _hold(task, offer, stranger, now)


def _hold(task: TaskRecord, offered: Offered, editor: Person, now: datetime) -> Decision:
    """Nobody works on until a person has taken the other text or left it: an agent must not be steered by it."""
    number = task.next_approval
    message = f"E_SOURCE_CHANGED: {editor.login}, who may not steer, changed the issue after it was approved"
    approval = Approval(id=number, gate="source_changed", subject_hash=offered.text_hash, message=message)
    others = tuple(a for a in task.approvals if a.gate != "source_changed" or a.status != "pending")
    over_pause = task.offered.over_pause if task.offered is not None else task.state is State.PAUSED
    held = task
    if task.state is not State.PAUSED:
        held = task.moved(State.PAUSED, reason=message, actor="supervisor", at=now, paused_from=task.state)
    wait = Wait(reason=WaitReason.APPROVAL, message=message, ref=number)
    before = task.offered.waits_for if task.offered is not None else task.waits_for
    offered = offered.evolve(over_pause=over_pause, waits_for=before)
    held = held.evolve(offered=offered, approvals=(*others, approval), waits_for=(wait,))
    event = Event(name="source.changed", details={"message": message, "approval": number}, actor=editor.login)
    return Decision(task=held, events=(event,))


def drop_offer(task: TaskRecord, reason: str, actor: str, now: datetime) -> Decision:
    """The task goes on with the text that was approved; where there never was another one, it is cancelled."""
    offered = task.offered
    if offered is None:
        return Decision(task=task)
    approvals = tuple(
        a.evolve(status="denied", by=actor, at=now) if a.gate == "source_changed" and a.status == "pending" else a
        for a in task.approvals
    )
    source = task.source.evolve(refused_hash=offered.text_hash)
    free = task.evolve(offered=None, approvals=approvals, waits_for=offered.waits_for, source=source)
    if offered.text_hash == source.text_hash:
        why = "no other text was approved than the one that was denied; mend the issue, and ask again"
        return cancel(free, reason=why, actor=actor, now=now)
    return Decision(task=free) if offered.over_pause else go_on(free, reason, actor, now)


def take_offer(task: TaskRecord, actor: str, now: datetime) -> Decision:
    """A person takes the other text: it is the approved one from now on."""
    offered = task.offered
    if offered is None:
        return Decision(task=task)
    text = {
        "title": clean_line(offered.title),
        "description": offered.description,
        "acceptance_criteria": _criteria(offered.description),
    }
    fields = {**task.source.fields, **digests_of(text)}  # (so that a later change back to what it was is one)
    source = task.source.evolve(
        text_hash=offered.text_hash, refused_hash="", approved_at=offered.at, fields=fields
    )
    taken = task.evolve(
        **text,
        source=source,
        offered=None,
        waits_for=offered.waits_for,
        edited_at=now,
    )
    return (
        Decision(task=taken) if offered.over_pause else go_on(taken, "the changed text was approved", actor, now)
    )
