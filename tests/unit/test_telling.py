"""What is said of a task on its forge: each thing once, the rest kept current."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_daemon.protocol.model import WaitReason
from supervisor.core.decision import Failed
from supervisor.core.intake import rerun
from supervisor.core.record import Offered, Post, Request, Shown, Source, TaskRecord, Wait
from supervisor.core.settings import ProjectSettings
from supervisor.core.states import State
from supervisor.core.telling import (
    LISTING_DELAY,
    StoryShown,
    announce,
    answer,
    is_told,
    look_first,
    next_due,
    settle_label,
    settle_post,
    settle_story,
    state_label,
)
from tests.unit.conftest import make_task

NOW = datetime(2026, 1, 7, 10, 30, tzinfo=UTC)
HUB = ProjectSettings(forge="github", repository="acme/app")
SOURCE = Source(tracker="github", kind="issue", ref="7", key="k", requested_by="ada", trigger="comment-5")


def on_forge(**changes: Any) -> TaskRecord:
    return make_task(**({"source": SOURCE} | changes))


def say_all(task: TaskRecord) -> TaskRecord:
    """Tell everything that is due, as a forge that takes it all would have it."""
    for _ in range(50):
        due = next_due(task, "github", NOW)
        if due is None:
            break
        if due.post is not None:
            task = settle_post(task, due.post.key, "1", NOW).task
        elif due.kind == "label":
            task = settle_label(task, state_label(task, "github"), NOW).task
        elif task.story.life == task.life_now:
            break
        else:
            shown = StoryShown(remote_id="9", applied=task.life_now, life=task.life_now)
            task = settle_story(task, shown, NOW).task
    return task


def test_what_asked_for_the_run_gets_its_reaction_at_once() -> None:
    told = announce(None, on_forge(), HUB)
    assert [(post.kind, post.target, post.text) for post in told.posts] == [("reaction", "5", "eyes")]
    assert announce(told, told, HUB).posts == told.posts, "once"


def test_a_task_that_needs_a_person_says_so_once_for_each_reason() -> None:
    before = announce(None, on_forge(), HUB)
    wait = Wait(reason=WaitReason.QUESTION, message="Which `port`? @everyone closes #1")
    blocked = before.evolve(state=State.BLOCKED, waits_for=(wait,), posts=())
    told = announce(before, blocked, HUB)
    (post,) = told.posts
    assert post.kind == "comment" and "@ada" in post.text and "```text\nWhich" in post.text
    assert announce(told, told.evolve(revision=9), HUB).posts == told.posts
    other = told.evolve(waits_for=(Wait(reason=WaitReason.HUMAN, message="x"),), posts=())
    assert len({post.key for post in (*told.posts, *announce(told, other, HUB).posts)}) == 2


def test_who_changes_a_held_text_again_and_again_calls_nobody() -> None:
    wait = Wait(reason=WaitReason.APPROVAL, message="E_SOURCE_CHANGED", ref="a1")
    offered = Offered(title="t", description="d", text_hash="h", at=NOW)
    held = on_forge(state=State.PAUSED, waits_for=(wait,), offered=offered)
    (post,) = announce(on_forge(trigger="x"), held, HUB).posts
    assert post.kind == "comment" and "the text as it is now counts" in post.text
    other = held.evolve(waits_for=(wait.evolve(ref="a2"),), offered=offered.evolve(text_hash="i"))
    assert announce(held, other, HUB).posts == ()


def test_work_that_is_ready_notifies_by_its_request_and_later_work_is_told_there() -> None:
    working = on_forge(state=State.IN_PROGRESS, attempt=1)
    review = working.evolve(state=State.REVIEW, request=Request(number=3))
    assert announce(working, review, HUB).posts == ()
    again = review.evolve(state=State.IN_PROGRESS, attempt=2, threads=("t1", "t2"))
    told = announce(again, again.evolve(state=State.REVIEW), HUB)
    assert [(post.kind, post.on, post.target) for post in told.posts] == [
        ("reply", "request", "t1"),
        ("reply", "request", "t2"),
        ("comment", "request", None),
    ]
    assert told.threads == ()


def test_a_local_project_tells_nobody() -> None:
    local = ProjectSettings(repository="/srv/x.git")
    task = announce(None, on_forge(), local)
    assert not task.posts and is_told(task, "local")


@given(st.lists(st.sampled_from(list(State)), max_size=12))
def test_an_ended_task_is_put_away_only_when_all_is_told(states: list[State]) -> None:
    task, keys = announce(None, on_forge(), HUB), list[str]()
    for state in [*states, State.CANCELLED]:
        wait = (Wait(reason=WaitReason.HUMAN, message="x"),) if state is State.BLOCKED else ()
        task = announce(task, task.evolve(state=state, waits_for=wait), HUB)
        keys += [post.key for post in task.posts if post.key not in keys]
    assert not is_told(task, "github")
    told = say_all(task)
    assert is_told(told, "github") and len(set(keys)) == len(keys) == told.posts_made


def test_what_fails_waits_and_what_is_refused_for_good_is_given_up() -> None:
    task = on_forge(posts=(Post(key="comment-1", kind="comment", text="x", sending=True),))
    down = Failed(code="E_FORGE_DOWN", message="502", retryable=True)
    waiting = settle_post(task, "comment-1", down, NOW)
    assert waiting.task.posts[0].sending and waiting.task.posts[0].not_before is not None
    assert [event.name for event in waiting.events] == ["forge.waits"]
    assert not settle_post(waiting.task, "comment-1", down, NOW).events, "told of once"
    limit = Failed(code="E_FORGE_LIMIT", message="x", retryable=True, retry_at=NOW + timedelta(hours=1))
    assert settle_post(task, "comment-1", limit, NOW).task.posts[0].not_before == NOW + timedelta(hours=1)
    gone = Failed(code="E_FORGE_GONE", message="404")
    tried = settle_post(task, "comment-1", gone, NOW).task
    assert tried.posts, "a token may lose sight of a repository for a while"
    for _ in range(99):
        tried = settle_post(tried, "comment-1", gone, NOW).task
    assert tried.posts == ()


def test_a_story_that_a_person_deleted_is_made_anew_and_one_that_is_refused_is_not() -> None:
    gone = Failed(code="E_FORGE_GONE", message="404")
    known = on_forge(story=Shown(remote_id="9", applied="x", life="1.pending", at=NOW))
    anew = settle_story(known, gone, NOW).task
    assert anew.story == Shown(sending=True), "it is looked for first: it may only have been out of sight"
    for _ in range(100):
        anew = settle_story(anew, gone, NOW).task
    assert anew.story.given_up
    again = rerun(anew.evolve(state=State.CANCELLED), reason="x", actor="ada", now=NOW).task
    assert not again.story.given_up


def test_after_a_restart_what_was_being_sent_is_looked_for_first() -> None:
    posts = (Post(key="a", kind="comment", sending=True), Post(key="b", kind="comment"))
    task = look_first(on_forge(posts=posts), NOW)
    assert [post.not_before for post in task.posts] == [NOW + LISTING_DELAY, None]


def test_after_a_restart_what_was_refused_is_tried_at_once_and_a_limit_is_heeded() -> None:
    later = NOW + timedelta(minutes=5)
    moved = {"tries": 4, "error": "E_FORGE_MOVED: the repository has moved.", "not_before": later}
    limited = {"tries": 1, "error": "E_FORGE_LIMIT: wait", "not_before": later}
    posts = (Post(key="a", kind="comment", **moved), Post(key="b", kind="comment", **limited))
    task = look_first(on_forge(posts=posts, story=Shown(**moved), label=Shown(**moved)), NOW)
    assert [post.not_before for post in task.posts] == [None, later]
    assert task.story.not_before is None and task.label.not_before is None


@pytest.mark.parametrize(
    ("state", "label"), [(State.PENDING, "queued"), (State.REVIEW, "review"), (State.CANCELLED, "failed")]
)
def test_the_label_tells_the_state(state: State, label: str) -> None:
    assert state_label(on_forge(state=state), "github") == f"cloud-code:{label}"
    assert state_label(on_forge(state=state), "gitlab") == f"cloud-code::{label}"


def test_a_reaction_is_given_up_soon_and_a_comment_is_not() -> None:
    gone = Failed(code="E_FORGE_GONE", message="404")
    posts = (Post(key="r", kind="reaction", target="5", text="+1"), Post(key="c", kind="comment", text="x"))
    task = on_forge(posts=posts)
    for _ in range(3):
        for post in task.posts:
            task = settle_post(task, post.key, gone, NOW).task
    assert [post.key for post in task.posts] == ["c"], "what it was for was most likely deleted"
    away = Failed(code="E_FORGE_DOWN", message="502", retryable=True)
    task = on_forge(posts=posts)
    for _ in range(200):
        task = settle_post(task, "r", away, NOW).task
    assert len(task.posts) == 2


def test_an_answer_goes_where_it_was_asked_for() -> None:
    there = answer(on_forge(), "77", "text", "+1", request=3)
    assert [(post.on, post.number, post.target) for post in there.posts] == [
        ("request", 3, "77"),
        ("request", 3, None),
    ]
    here = answer(on_forge(), "77", "", "+1")
    assert [(post.on, post.number) for post in here.posts] == [("source", None)]
