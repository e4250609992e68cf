"""What somebody is answered who speaks to us where no task is: pure decisions."""

from supervisor.core.forge import CommentSeen
from supervisor.core.record import Post
from supervisor.core.render import one_line_code
from supervisor.core.settings import TriggerSettings
from supervisor.core.slash import PREFIX, VERBS, Slash, render_help, render_lack, with_warning

DAMAGED = "What became of its task cannot be told: its record is damaged. `cloud-code doctor` says how to mend it."
CLOSED = f"This issue is closed: open it again, then `{PREFIX} run`."
_ON_REQUESTS = "Only issues become tasks by it; to have this reviewed, ask our account for a review."


def reply_to(slash: Slash, comment: CommentSeen, trigger: TriggerSettings, *, helped: bool) -> tuple[str, str]:
    """The answer to a command where no task is, and the emoji; no text where it was `helped` before."""
    text, emoji = _answer_to(slash, comment, trigger, helped=helped)
    return with_warning(text, slash), emoji


def _answer_to(slash: Slash, comment: CommentSeen, trigger: TriggerSettings, *, helped: bool) -> tuple[str, str]:
    begins = _begins(comment, trigger)
    if slash.verb == "help":
        return f"{render_help()}\n\nThere is no task here yet. {begins}", "+1"
    if slash.verb == "status":
        return f"There is no task here yet. {begins}", "+1"
    if slash.verb:
        return f"There is no task here yet, so nothing to {one_line_code(slash.verb)}. {begins}", "confused"
    if slash.word in VERBS:
        return render_lack(slash.word), "confused"
    return "" if helped else f"There is no such command here.\n\n{render_help()}\n\n{begins}", "confused"


def _begins(comment: CommentSeen, trigger: TriggerSettings) -> str:
    """How a task is begun there."""
    if comment.kind == "request":
        return _ON_REQUESTS
    labels = " or ".join(map(one_line_code, trigger.labels))
    return f"The label {labels}, or `{PREFIX} run`, begins one." if labels else f"`{PREFIX} run` begins one."


def posts_of(comment: CommentSeen, text: str, emoji: str) -> tuple[Post, ...]:
    """What is to be done once for this comment: a reaction on it, and an answer in words where there is one."""
    on = "request" if comment.kind == "request" else "source"
    at = {"on": on, "number": int(comment.issue)}
    reaction = Post(key=f"reaction-{comment.id}", kind="reaction", target=comment.id, text=emoji, **at)
    return (reaction, Post(key=f"comment-{comment.id}", kind="comment", text=text, **at)) if text else (reaction,)
