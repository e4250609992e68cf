"""The one intake: drafts, wherever they come from, become records or change them."""

import hashlib
import re
from datetime import datetime
from typing import Any

from agent_daemon.protocol.errors import Problem
from agent_daemon.protocol.model import Limits, WorkspaceMode
from agent_daemon.protocol.paths import branch_name
from supervisor.core.decision import Decision, Event
from supervisor.core.giving import take_back
from supervisor.core.record import Dependency, Source, Stored, TaskRecord, Tries
from supervisor.core.routing import route
from supervisor.core.settings import Config, ProjectSettings, WorkstationSettings
from supervisor.core.states import State
from supervisor.core.task_file import TaskFile

MAX_TITLE_CHARACTERS = 300

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\u202a-\u202e\u2066-\u2069]+")
_CONTROL_IN_TEXT = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x84\x86-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069]")

# The fields of a record that a draft decides; the rest of a record is its life.
TEXT_FIELDS = (
    "title",
    "description",
    "type",
    "priority",
    "labels",
    "specialist",
    "acceptance_criteria",
    "verification",
    "related_files",
    "depends_on",
    "limits",
    "max_failures",
    "base_branch",
    "workspace_mode",
    "expects",
    "allow_empty",
    "plan_approval",
)


class Draft(Stored):
    """Something that asks for a task; `text` is what its author wrote, checked."""

    id: str
    project: str
    source: Source
    text: TaskFile
    trigger: str = "file"


def clean_line(text: str) -> str:
    """One line of visible characters, clipped: for titles and labels that anyone may have written."""
    line = " ".join(_CONTROL.sub(" ", text).split())
    return line[:MAX_TITLE_CHARACTERS] or "Untitled task"


def clean_text(text: str) -> str:
    """`text` with Unix line ends and without control or bidirectional characters."""
    return _CONTROL_IN_TEXT.sub("\ufffd", text.replace("\r\n", "\n").replace("\r", "\n"))


def text_of(draft: Draft, config: Config) -> dict[str, Any]:
    """The record's text fields as this draft and the project's settings give them."""
    written, project = draft.text, config.projects[draft.project]
    specialist = written.specialist or route(written.labels, config.routing, config.types_for(draft.project))
    return {
        "title": clean_line(written.title),
        "description": clean_text(written.description),
        "type": written.type,
        "priority": written.priority,
        "labels": tuple(clean_line(label) for label in written.labels),
        "specialist": specialist,
        "acceptance_criteria": tuple(clean_text(entry) for entry in written.acceptance_criteria),
        "verification": project.verification if written.verification is None else written.verification,
        "related_files": tuple(clean_line(path) for path in written.related_files),
        "depends_on": tuple(_full_id(entry, draft.project) for entry in written.depends_on),
        "limits": _limits(written, project),
        "max_failures": written.max_failures or project.limits.max_failures,
        "base_branch": written.base_branch or project.base_branch or "",
        "workspace_mode": _workspace_mode(written, project, config.workstations.get(specialist)),
        "expects": written.expects,
        "allow_empty": written.allow_empty,
        "plan_approval": _plan_approval(written, project),
    }


def _plan_approval(written: TaskFile, project: ProjectSettings) -> bool:
    """The task's own wish over the project's, which is meant for work: a review changes nothing."""
    by_project = project.plan_approval and written.expects == "commits"
    return by_project if written.plan_approval is None else written.plan_approval


def _full_id(dependency: Dependency, project: str) -> Dependency:
    """A plain name is of the same project; of another one there is no branch to start from in this repository."""
    if "." not in dependency.task:
        return dependency.model_copy(update={"task": f"{project}.{dependency.task}"})
    foreign = dependency.task.partition(".")[0] != project
    return dependency.model_copy(update={"use": "none"}) if foreign else dependency


def _workspace_mode(
    written: TaskFile, project: ProjectSettings, station: WorkstationSettings | None
) -> WorkspaceMode:
    """The task's own wish over the project's, and this over that of the workstation type."""
    default = station.workspace_mode if station is not None else None
    return written.workspace_mode or project.workspace_mode or default or WorkspaceMode.SHARED


def _limits(written: TaskFile, project: ProjectSettings) -> Limits:
    """The task's own limits over the project's."""
    own = written.limits.model_dump(exclude_unset=True) if written.limits else {}
    return Limits(**(project.limits.for_task().model_dump() | own))


def ingest(draft: Draft, known: TaskRecord | None, config: Config, now: datetime) -> Decision | None:
    """What this draft means: a new record, a changed one, a new run of an ended one, or nothing (None)."""
    text = text_of(draft, config)
    if known is None:
        return None if draft.text.cancel else _create(draft, text, now)
    if known.ended:
        return _revive(draft, known, text, now)
    if known.source.text_hash == draft.source.text_hash and known.source.present and not known.source.held:
        return None
    if not text["base_branch"]:
        text["base_branch"] = known.base_branch  # the remote's own choice, which has been asked for already
    fields = digests_of(text)
    written = [name for name in TEXT_FIELDS if fields[name] != known.source.fields.get(name)]
    changed = [name for name in written if getattr(known, name) != text[name]]
    source = draft.source.evolve(fields=fields)
    updated = known.evolve(**{name: text[name] for name in changed}, source=source)
    events: tuple[Event, ...] = ()
    if known.source.held:
        events = (Event(name="source.returned", details={"ref": source.ref}, actor=source.requested_by),)
    if not changed:
        return Decision(task=updated, events=events)
    edited = edit(updated, changed, actor=source.requested_by, now=now)
    return Decision(task=edited.task, events=events + edited.events)


def edit(task: TaskRecord, changed: list[str], *, actor: str, now: datetime) -> Decision:
    """A task whose text has been changed in these fields."""
    edited = task.evolve(edited_at=now)
    details: dict[str, Any] = {"fields": changed}
    if when := when_told(edited):
        details["note"] = when
    return Decision(task=edited, events=(Event(name="task.edited", details=details, actor=actor),))


def when_told(task: TaskRecord) -> str:
    """When an agent gets a text that was changed, where that is not at once: half a sentence, or nothing."""
    if not task.is_text_newer or task.ended:
        return ""
    if State.PENDING in (task.state, task.paused_from) or State.FAILED in (task.state, task.paused_from):
        return "taken for the next attempt"
    return f"taken for the next attempt; `cloud-code task retry {task.id}` starts one"


def other_project(draft: Draft, task: TaskRecord) -> Problem | None:
    """What is wrong when the source of this draft is a task of another project already.

    A source is one task for as long as it is there: with another project it would begin a second one beside the
    first, and all of them would when a project is only called differently.
    """
    if task.project == draft.project or task.source.key != draft.source.key or not task.source.present:
        return None
    return Problem(
        code="E_PROJECT_CHANGED",
        message=f"the file names the project {draft.project}, and it is the task {task.id}",
        file=f"tasks/{draft.source.ref}",
        place="project",
        expected=f"project: {task.project}",
        mend="write that again; for another project, write the task into a file of another name",
    )


def digests_of(text: dict[str, Any]) -> dict[str, str]:
    """A short digest of each text field, to tell later which of them a person has written anew."""
    shown = {name: repr(text[name]).encode(errors="replace") for name in TEXT_FIELDS if name in text}
    return {name: hashlib.sha256(data).hexdigest()[:16] for name, data in shown.items()}


def _create(draft: Draft, text: dict[str, Any], now: datetime) -> Decision:
    task = TaskRecord(
        id=draft.id,
        project=draft.project,
        source=draft.source.evolve(fields=digests_of(text)),
        trigger=draft.trigger,
        created_at=now,
        branch=branch_name(draft.id, text["title"]),
        **text,
    )
    details = {"title": task.title, "specialist": task.specialist, "priority": task.priority.value}
    return Decision(
        task=task, events=(Event(name="task.created", details=details, actor=draft.source.requested_by),)
    )


def _revive(draft: Draft, known: TaskRecord, text: dict[str, Any], now: datetime) -> Decision | None:
    """An ended task absorbs its source, unless the source had gone and is there again: a new trigger."""
    if known.source.present or draft.text.cancel:
        return None
    fresh = known.evolve(**text, source=draft.source.evolve(fields=digests_of(text)))
    return rerun(fresh, reason="the task file is there again", actor=draft.source.requested_by, now=now)


def rerun(task: TaskRecord, *, reason: str, actor: str, now: datetime) -> Decision:
    """An ended task from the start: next attempt, a branch of its own, today's base, and nothing granted."""
    number = task.rerun + 1
    over = take_back(task, now)
    task = over.task
    again = task.moved(
        State.PENDING,
        reason=reason,
        actor=actor,
        at=now,
        rerun=number,
        branch=branch_name(task.id, task.title, number),
        base_commit=None,
        start_squashed=False,
        start_from=None,
        plan=None,
        remote_head=None,
        delivery=None,
        request=None,
        base_conflict=None,
        story=task.story.evolve(given_up=False),
        label=task.label.evolve(given_up=False),
        remarks=(),
        threads=(),
        checked_head=None,
        fix_rounds=0,
        offered=None,
        effects=tuple(effect for effect in task.effects if effect.status == "sending"),
        approvals=tuple(approval.evolve(status="over") for approval in task.approvals),
        feedback=(),
        failures=0,
        topped_up_usd=0.0,
        cli=None,
        unstuck=False,
        not_before=None,
        preparing=Tries(),
        waits_for=(),
        workstation=None,
    )
    event = Event(name="task.rerun", details={"reason": reason}, actor=actor)
    return Decision(task=again, events=(*over.events, event))


def source_held(task: TaskRecord) -> Decision | None:
    """The source of a task is away with too many others: the task goes on, and its record says so."""
    if task.ended or task.source.held or not task.source.present:
        return None
    held = task.evolve(source=task.source.evolve(held=True))
    return Decision(task=held, events=(Event(name="source.held", details={"ref": task.source.ref}),))


def source_gone(task: TaskRecord, *, now: datetime, actor: str = "operator") -> Decision | None:
    """The source of a task is no longer there: a live task is cancelled, an ended one remembers it."""
    if not task.source.present:
        return None
    absent = task.evolve(source=task.source.evolve(present=False, held=False))
    if task.ended:
        return Decision(task=absent)
    return cancel(absent, reason="its task file was deleted", actor=actor, now=now)


def cancel(task: TaskRecord, *, reason: str, actor: str, now: datetime) -> Decision:
    cancelled = task.moved(
        State.CANCELLED, reason=reason, actor=actor, at=now, waits_for=(), not_before=None, paused_from=None
    )
    return Decision(
        task=cancelled, events=(Event(name="task.cancelled", details={"reason": reason}, actor=actor),)
    )
