"""What is said of a task where it came from, and when: pure decisions over its record.

Once: comments that notify, answers, reactions. Kept current: one comment with the story, one label of its state.
"""

import re
import sys
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal, TypeVar

from supervisor.core.decision import Decision, Event, Failed
from supervisor.core.planning import pending_plan
from supervisor.core.record import Grant, Post, Shown, TaskRecord, Tries
from supervisor.core.render import fence, one_line_code
from supervisor.core.retry import note_failure, parked_until
from supervisor.core.settings import ProjectSettings
from supervisor.core.states import State
from supervisor.core.story import steering, story_due

# How long after a restart a comment that was being sent is looked for before it is sent again: lists lag behind.
LISTING_DELAY = timedelta(seconds=5)
# What a forge refuses is given up after so many tries (five minutes apart: a token may lose sight of a repository
# for a night, and a refusal may mean that too much was written); everything else is tried until it passes.
_MOST_TRIES = {"E_FORGE_GONE": 100, "E_FORGE_REFUSED": 10}
# A reaction is no loss, and the comment that it is for was most likely deleted.
_MOST_TRIES_OF_A_REACTION = 3

_Work = TypeVar("_Work", bound=Tries)

_SUMMARY_CHARACTERS = 2000
_LOGIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,100}")
_STATE_LABELS = {
    State.PENDING: "queued",
    State.ASSIGNED: "working",
    State.IN_PROGRESS: "working",
    State.BLOCKED: "blocked",
    State.PAUSED: "blocked",
    State.FAILED: "queued",
    State.REVIEW: "review",
    State.COMPLETED: "done",
    State.CANCELLED: "failed",
}
_COLOURS = {
    "queued": "c5def5",
    "working": "1d76db",
    "blocked": "d93f0b",
    "review": "fbca04",
    "done": "0e8a16",
    "failed": "6e7781",
}


def label_prefix(forge: str) -> str:
    """GitLab shows these as one scope, whose labels exclude each other only where the instance has a paid plan."""
    return "cloud-code::" if forge == "gitlab" else "cloud-code:"


def state_label(task: TaskRecord, forge: str) -> str:
    return label_prefix(forge) + _STATE_LABELS[task.state]


def state_labels(forge: str) -> tuple[str, ...]:
    return tuple(label_prefix(forge) + name for name in _COLOURS)


def label_colours(settings: ProjectSettings) -> dict[str, str]:
    """Every label that the supervisor sets or listens to, with its colour."""
    prefix = label_prefix(settings.forge)
    own = {prefix + name: colour for name, colour in _COLOURS.items()}
    return own | dict.fromkeys(settings.trigger.labels, "5319e7")


# --- what is to be said once ----------------------------------------------------------------------------


def announce(before: TaskRecord | None, after: TaskRecord, settings: ProjectSettings) -> TaskRecord:
    """The record with what is to be said because of this change. The same change again says nothing more."""
    if settings.forge == "local":
        return after
    told = after
    asked = after.source.trigger != (before.source.trigger if before is not None else None)
    if after.source.is_on_forge and asked:
        told = told.with_post(Post(key="", kind="reaction", target=_trigger_comment(after), text="eyes"))
    if after.source.is_on_forge:
        told = _announce_requests(before, told)
    if before is None or before.state is not after.state or before.waits_for != after.waits_for:
        told = _announce_state(before, told, settings)
    return _numbered(told)


def _announce_requests(before: TaskRecord | None, task: TaskRecord) -> TaskRecord:
    """Each credential that a person is to decide on calls for one."""
    known = {grant.id for grant in before.grants} if before is not None else set()
    for grant in task.grants:
        if grant.status == "asked" and grant.id not in known:
            task = task.with_post(Post(key="", kind="comment", text=_asks_for(task, grant)))
    return task


def _minute(time: datetime) -> str:
    return f"{time:%Y-%m-%d %H:%M} UTC"


def _asks_for(task: TaskRecord, grant: Grant) -> str:
    wanted = f"{grant.id}: {grant.type}\naccess: {grant.access}\nscope:  {grant.scope or '(none named)'}"
    return "\n".join(
        [
            f"🔑 {_mention(task)}The agent asks for a credential:",
            "",
            fence(f"{wanted}\n\n{grant.reason}"),
            "",
            f"It would be given for {grant.ttl_minutes:g} minutes, to this task alone."
            + " Only an administrator of the project may approve it." * (grant.approve == "admin")
            + (f" It is denied unless somebody answers by {_minute(grant.answer_by)}." if grant.answer_by else ""),
            "",
            f"- `/cloud-code approve {grant.id}`",
            f"- `/cloud-code deny {grant.id} REASON`",
        ]
    )


def _mention(task: TaskRecord) -> str:
    """Calls the person who asked for the task, where that is somebody on the forge."""
    asker = task.source.requested_by
    return f"@{asker} " if _LOGIN.fullmatch(asker) else ""


def _trigger_comment(task: TaskRecord) -> str | None:
    """The comment that asked for the run, if one did."""
    kind, _, number = (task.source.trigger or "").partition("-")
    return number if kind == "comment" else None


def _announce_state(before: TaskRecord | None, task: TaskRecord, settings: ProjectSettings) -> TaskRecord:
    entered = before is None or before.state is not task.state
    match task.state:
        case State.PAUSED if before is not None and before.offered is not None:
            return task  # (it was told that its text was changed; who changes it again calls nobody)
        case State.BLOCKED if parked_until(task) is not None:
            return task  # it goes on by itself
        case State.BLOCKED | State.PAUSED if task.waits_for and task.source.is_on_forge:
            return task.with_post(Post(key="", kind="comment", text=_needs_person(task)))
        case State.REVIEW if entered:
            return _answer_reviewers(before, task)
        case State.COMPLETED if entered and task.expects == "document" and task.source.is_on_forge:
            return task.with_post(Post(key="", kind="document"))
        case State.COMPLETED if entered and settings.request.delete_branch and task.request is not None:
            return task.with_post(Post(key="", kind="delete_branch", on="request", text=task.branch))
    return task


def _answer_reviewers(before: TaskRecord | None, task: TaskRecord) -> TaskRecord:
    """The first request notifies by itself; work that follows a review is told there, and in its threads."""
    head = task.delivery.pushed_head[:12] if task.delivery is not None else ""
    for thread in task.threads:
        text = f"There is new work on this: {head} was made with this remark in view."
        task = task.with_post(Post(key="", kind="reply", on="request", target=thread, text=text))
    if task.attempt > 1 and before is not None and before.request is not None and task.request is not None:
        text = f"There is new work on this branch: it is at {head} now."
        if task.delivery is not None and task.delivery.summary.strip():
            text += f" What the agent says of it:\n\n{fence(task.delivery.summary[:_SUMMARY_CHARACTERS])}"
        task = task.with_post(Post(key="", kind="comment", on="request", text=text))
    return task.evolve(threads=())


def _numbered(task: TaskRecord) -> TaskRecord:
    """Every post has a key of its own, for ever: the marker is made of it."""
    posts, made = [], task.posts_made
    for post in task.posts:
        if not post.key:
            made += 1
            post = post.evolve(key=f"{post.kind}-{made}")
        posts.append(post)
    return task.evolve(posts=tuple(posts), posts_made=made)


def _needs_person(task: TaskRecord) -> str:
    lines = [f"✋ {_mention(task)}This task needs a person:"]
    for wait in task.waits_for:
        lines += ["", fence(wait.message or wait.reason.value)]
    plan = pending_plan(task)
    if plan is not None:
        lines += ["", fence(plan.text)]
    failed = next((item.message for item in task.feedback if item.code == "E_VERIFICATION_FAILED"), "")
    if failed and task.state is State.BLOCKED:
        lines += ["", "What it was told last:", "", fence(failed[-_SUMMARY_CHARACTERS:])]
    if task.offered is not None:
        lines += [
            "",
            "Approved, the text as it is now counts; denied, it goes on with the one that was approved before.",
        ]
    offered = steering(task)
    lines += ["", "\n".join(f"- `/cloud-code {command}`" for command in offered)]
    return "\n".join(lines)


def answer(
    task: TaskRecord,
    comment: str | None,
    text: str,
    emoji: str,
    *,
    request: int | None = None,
) -> TaskRecord:
    """A command is answered: with a reaction on its comment, and in words where there is something to say.

    `request` is the number of that where it was given; none: it was where the task came from.
    """
    on: Literal["source", "request"] = "source" if request is None else "request"
    told = task
    if comment is not None:
        told = told.with_post(Post(key="", kind="reaction", on=on, target=comment, number=request, text=emoji))
    if text:
        told = told.with_post(Post(key="", kind="comment", on=on, number=request, text=text))
    return told


# --- what comes next ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Due:
    """The next thing to tell: a post by its key, the label, or the story."""

    kind: Literal["post", "label", "story"]
    post: Post | None = None


def next_due(task: TaskRecord, forge: str, now: datetime) -> Due | None:
    """What is to be told now. Of the story only that it may be: whether it reads differently is seen then."""
    for post in task.posts:
        if post.due(now):
            return Due("post", post)
    if not task.source.is_on_forge:
        return None
    story = task.story
    may_tell = not story.given_up and story.due(now) and story_due(task, story.at, now) <= now
    if may_tell and story.remote_id is None:
        return Due("story")
    if not is_label_right(task, forge) and task.label.due(now):
        return Due("label")
    return Due("story") if may_tell else None


def is_label_right(task: TaskRecord, forge: str) -> bool:
    return task.label.given_up or task.label.applied == state_label(task, forge)


def is_told(task: TaskRecord, forge: str) -> bool:
    """Whether nothing of this task is left to be told: only then may an ended one be put away."""
    if task.posts:
        return False
    if not task.source.is_on_forge or forge == "local":
        return True
    return is_label_right(task, forge) and (task.story.given_up or task.story.life == task.life_now)


# --- outcomes -------------------------------------------------------------------------------------------


def settle_post(task: TaskRecord, key: str, outcome: Failed | str | None, now: datetime) -> Decision:
    """It was said (the forge's id for it, if it has one), will be tried again, or is refused for good."""
    post = next((post for post in task.posts if post.key == key), None)
    if post is None:
        return Decision(task=task)
    left, events = settle_said(post, outcome, now)
    others = [(left if p.key == key else p) for p in task.posts]
    return Decision(task=task.evolve(posts=tuple(p for p in others if p is not None)), events=events)


def settle_said(post: Post, outcome: Failed | str | None, now: datetime) -> tuple[Post | None, tuple[Event, ...]]:
    """What is left to be said of a post after this, and what is told of it."""
    details = {"kind": post.kind, "key": post.key}
    if not isinstance(outcome, Failed):
        return None, (Event(name="forge.told", details=details | {"id": outcome or ""}),)
    if _is_final(post, outcome):
        return None, (Event(name="forge.not_told", details=details | _why(outcome)),)
    return note_failure(post, outcome, now), _waits(post.tries, outcome)


def settle_label(task: TaskRecord, outcome: Failed | str, now: datetime) -> Decision:
    if isinstance(outcome, Failed):
        return _shown_failed(task, "label", outcome, now)
    return Decision(task=task.evolve(label=Shown(applied=outcome, life=task.life_now, at=now)))


@dataclass(frozen=True, kw_only=True)
class StoryShown:
    """The comment `remote_id` now has the text of this hash, which tells of that life of the task."""

    remote_id: str
    applied: str
    life: str


def settle_story(task: TaskRecord, outcome: Failed | StoryShown, now: datetime) -> Decision:
    """A comment that a person has deleted is made anew, once there is something new to tell.

    It is looked for first: a repository that could not be seen for a while is answered as a deleted one is.
    """
    if isinstance(outcome, Failed):
        if outcome.code == "E_FORGE_GONE" and task.story.remote_id is not None:
            return Decision(task=task.evolve(story=Shown(sending=True)))
        return _shown_failed(task, "story", outcome, now)
    known = task.story.remote_id is not None
    events = () if known else (Event(name="forge.told", details={"kind": "story", "id": outcome.remote_id}),)
    shown = Shown(remote_id=outcome.remote_id, applied=outcome.applied, life=outcome.life, at=now)
    return Decision(task=task.evolve(story=shown), events=events)


def _shown_failed(task: TaskRecord, which: Literal["label", "story"], outcome: Failed, now: datetime) -> Decision:
    shown: Shown = getattr(task, which)
    if _is_final(shown, outcome):
        event = Event(name="forge.not_told", details={"kind": which, "key": which} | _why(outcome))
        return Decision(task=task.evolve(**{which: shown.evolve(given_up=True)}), events=(event,))
    tried = task.evolve(**{which: note_failure(shown, outcome, now)})
    return Decision(task=tried, events=_waits(shown.tries, outcome))


def _is_final(work: Tries, outcome: Failed) -> bool:
    most = _MOST_TRIES.get(outcome.code, sys.maxsize)
    if isinstance(work, Post) and work.kind == "reaction":
        most = min(most, _MOST_TRIES_OF_A_REACTION) if outcome.code in _MOST_TRIES else most
    return work.tries + 1 >= most


def project_rest(outcome: object, now: datetime) -> datetime | None:
    """Until when nothing is said in the whole project after this; a shorter pause is that of one thing alone."""
    again = outcome.retry_at if isinstance(outcome, Failed) else None
    return again if again is not None and again > now + LISTING_DELAY else None


def _waits(tries_before: int, outcome: Failed) -> tuple[Event, ...]:
    """Told of once: what a forge does not take now waits in the record."""
    return () if tries_before else (Event(name="forge.waits", details=_why(outcome)),)


def _why(outcome: Failed) -> dict[str, str]:
    return {"code": outcome.code, "message": outcome.message}


def look_first(task: TaskRecord, now: datetime) -> TaskRecord:
    """After a restart: what was being sent is looked for once the forge's lists have caught up.

    What was refused is tried at once, for the restart may be what mends it; a limit is none of that.
    """
    posts = tuple(look_for(post, now) for post in task.posts)
    story = task.story.evolve(not_before=now + LISTING_DELAY) if task.story.sending else _at_once(task.story)
    return task.evolve(posts=posts, story=story, label=_at_once(task.label))


def look_for(post: Post, now: datetime) -> Post:
    """A post as it is gone on with after a restart."""
    return post.evolve(not_before=now + LISTING_DELAY) if post.sending else _at_once(post)


def _at_once(work: _Work) -> _Work:
    limited = work.error is not None and work.error.startswith("E_FORGE_LIMIT")
    return work if limited else work.evolve(not_before=None)


def summary(task: TaskRecord, headline: str) -> str:
    """The answer to `status`."""
    return f"{one_line_code(task.state.words)}: {one_line_code(headline)}"
