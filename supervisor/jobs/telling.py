"""Saying something on a forge, each thing once: what was being sent is looked for before it is sent again."""

from pathlib import Path
from typing import Literal

from supervisor.core.record import Post, TaskRecord
from supervisor.core.render import clipped, fence
from supervisor.core.story import marker, text_hash
from supervisor.core.telling import StoryShown, state_labels
from supervisor.errors import CloudCodeError
from supervisor.jobs.project import Project, check_text, hidden_text
from supervisor.ports import Forge, Place

# GitHub takes 65,536 characters of a comment.
_MAX_DOCUMENT_CHARACTERS, _MAX_COMMENT_CHARACTERS = 60_000, 65_000


def place_of(task: TaskRecord, post: Post) -> Place:
    """Where a post belongs: to what the task came from, or to its request. CloudCodeError when there is none."""
    target = post.target if post.kind == "reaction" else None
    if post.on == "source":
        return _source(task, target)
    number = post.number or (task.request.number if task.request is not None else None)
    if number is None:
        raise CloudCodeError("E_FORGE_GONE", f"{task.id} has no request on the forge.")
    return Place(kind="request", number=str(number), comment=target)


def _source(task: TaskRecord, comment: str | None = None) -> Place:
    """What the task came from."""
    kind: Literal["issue", "request"] = "request" if task.source.kind == "request" else "issue"
    return Place(kind=kind, number=task.source.ref, comment=comment)


def say(project: Project, task: TaskRecord, post: Post, root_id: str, document: Path) -> str:
    """Do this once; returns the forge's id of it, if it has one. CloudCodeError, Rejected."""
    forge = _forge(project)
    place = place_of(task, post)
    match post.kind:
        case "reaction":
            forge.react(place, post.text)
            return ""
        case "delete_branch":
            pushed = task.delivery.pushed_head if task.delivery is not None else None
            if project.host.remote_tip(post.text) == pushed:  # (what people have added since is theirs)
                forge.delete_branch(post.text)
            return ""
    text = _document(document) if post.kind == "document" else post.text
    return _write(project, place, post, text, marker(root_id, task.id, post.key))


def say_reply(project: Project, name: str, post: Post, root_id: str) -> str:
    """As `say`, to somebody who spoke to us where no task of the project `name` is. CloudCodeError, Rejected."""
    place = Place(
        kind="request" if post.on == "request" else "issue", number=str(post.number), comment=post.target
    )
    if post.kind == "reaction":
        _forge(project).react(place, post.text)
        return ""
    return _write(project, place, post, post.text, marker(root_id, name, post.key))


def _write(project: Project, place: Place, post: Post, text: str, first: str) -> str:
    """Write a comment, or the answer in a thread; what was being sent before is looked for by its first line."""
    forge = _forge(project)
    body = _body(project, first, text, "a comment")
    if post.kind == "reply":
        number, thread = int(place.number), post.target or ""
        found = forge.find_reply(number, thread, first) if post.sending else None
        return found or forge.reply(number, thread, body)
    found = forge.find_comment(place, first) if post.sending else None
    return found or forge.post_comment(place, body)


def _body(project: Project, first: str, text: str, place: str) -> str:
    """A whole comment. Its first line, by which it is found again, leaves as it is or not at all: Rejected."""
    check_text(project, first.encode(), place)
    return clipped(f"{first}\n{hidden_text(project, text, place)}", _MAX_COMMENT_CHARACTERS)


def _document(path: Path) -> str:
    """What the agent handed in, so that nothing in it takes effect."""
    text = path.read_text(errors="replace")
    cut = text if len(text) <= _MAX_DOCUMENT_CHARACTERS else f"{text[:_MAX_DOCUMENT_CHARACTERS]}\n[…]"
    return f"✅ What the agent hands in:\n\n{fence(cut)}"


def show_story(project: Project, task: TaskRecord, text: str, root_id: str) -> StoryShown:
    """Bring the one comment with the story to this text; it is made where there is none yet. CloudCodeError."""
    forge, story = _forge(project), task.story
    first = marker(root_id, task.id, "story")
    body = _body(project, first, text, f"the story of {task.id}")
    known = story.remote_id or (forge.find_comment(_source(task), first) if story.sending else None)
    if known is None:
        known = forge.post_comment(_source(task), body)
    else:
        forge.edit_comment(_source(task, known), body)
    return StoryShown(remote_id=known, applied=text_hash(text), life=task.life_now)


def show_label(project: Project, task: TaskRecord, wanted: str, *, unsure: bool) -> str:
    """Set the label of the task's state, and take the one before away; `unsure`: every other. CloudCodeError."""
    before = state_labels(project.settings.forge) if unsure else (task.label.applied,)
    remove = tuple(name for name in before if name and name != wanted)
    _forge(project).change_labels(_source(task), (wanted,), remove)
    return wanted


def _forge(project: Project) -> Forge:
    if project.forge is None:
        raise CloudCodeError("E_FORGE_GONE", "the project has no forge")
    return project.forge
