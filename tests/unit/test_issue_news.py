"""What a poll of a forge has found is taken in once, on real records."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from agent_daemon.protocol.model import SupervisorIdentity
from agent_daemon.protocol.paths import Root
from supervisor.app import open_root
from supervisor.core.forge import Budget, CommentSeen, Cursor, ForgeNews, IssueSeen, Person, ReviewSeen, Trigger
from supervisor.core.record import Request, Source
from supervisor.core.settings import Config
from supervisor.core.states import State
from supervisor.desks import open_desks
from supervisor.events import EventLog
from supervisor.forge_state import ForgeState, read_forge_state
from supervisor.issues import Issues
from supervisor.ledger import Ledger
from supervisor.mail import Mail
from supervisor.records import RecordStore
from tests.unit.conftest import SHA_B, make_task

NOW = datetime(2026, 1, 7, 10, 30, tzinfo=UTC)
ADA = Person(login="ada", can_write=True)
CONFIG = Config.model_validate(
    {
        "projects": {"acme": {"forge": "github", "repository": "acme/app", "base_branch": "main"}},
        "workstations": {"backend": {"clis": ["codex"]}, "reviewer": {"clis": ["codex"]}},
    }
)
SOURCE = Source(tracker="github", kind="issue", ref="7", key="k", requested_by="ada", text_hash="h")


class Found:
    """Issues over a real ledger, and what the next poll of `acme` finds."""

    def __init__(self, folder: Path) -> None:
        self.root = Root(folder)
        open_root(self.root)
        self.store = RecordStore(self.root)
        clock: Any = SimpleNamespace(now=lambda: NOW)
        identity = SupervisorIdentity(id="s", epoch=1)
        self.log = EventLog(self.root.events)
        self.ledger = Ledger(self.root, CONFIG, self.store, Mail(self.root), self.log, clock, identity)
        project: Any = SimpleNamespace(settings=CONFIG.projects["acme"], forge=object())
        pool: Any = SimpleNamespace(submit=lambda key, work: True)
        self.issues = Issues(clock, self.ledger, pool, open_desks(self.root, {"acme": project}))

    def take(self, **news: Any) -> None:
        self.issues.settle_read("acme", ForgeNews(**({"cursor": Cursor(), "budget": Budget()} | news)))


@pytest.fixture
def found(tmp_path: Path) -> Iterator[Found]:
    made = Found(tmp_path)
    yield made
    made.log.close()


@pytest.mark.parametrize("place", ["quarantine", "archive"])
@pytest.mark.parametrize("asked", ["label", "comment"])
def test_a_task_whose_record_is_damaged_is_not_begun_a_second_time(found: Found, place: str, asked: str) -> None:
    kept = found.root.quarantine / "record-acme.7.yaml" if place == "quarantine" else found.root.archived("acme.7")
    kept.write_text("state: [")
    trigger = Trigger(id="1", kind="label", by=ADA, at=NOW) if asked == "label" else None
    issue = IssueSeen(
        ref="7", url="u", title="Fix it", body="one", labels=(), author=ADA, updated_at=NOW, trigger=trigger
    )
    said = CommentSeen(id="5", issue="7", author=ADA, at=NOW, body="/cloud-code run")
    found.take(issues=(issue,), comments=(said,) if asked == "comment" else ())
    assert found.ledger.tasks == {} and kept.read_text() == "state: ["
    assert "E_RECORD_DAMAGED" in found.root.events.read_text()
    kept.unlink()
    found.take(issues=(issue.evolve(trigger=Trigger(id="2", kind="label", by=ADA, at=NOW)),))
    assert list(found.ledger.tasks) == ["acme.7"]


@pytest.mark.parametrize("killed", [False, True])
def test_a_command_in_a_review_is_carried_out_although_the_supervisor_ended_before_it(
    found: Found, killed: bool
) -> None:
    heard = ("review-9",) if killed else ()
    task = make_task(
        id="acme.7",
        project="acme",
        source=SOURCE,
        state=State.REVIEW,
        request=Request(number=3, head=SHA_B),
        applied_commands=heard,
    )
    found.ledger.load({task.id: found.store.save(task)})
    review = ReviewSeen(id="9", request=3, author=ADA, at=NOW, verdict="commented", body="/cloud-code pause")
    for minute in range(2):
        found.take(reviews=(review.evolve(at=NOW + timedelta(minutes=minute)),))
        assert found.ledger.tasks[task.id].state is State.PAUSED
    applied = found.ledger.tasks[task.id].applied_commands
    assert sorted(applied) == ["comment-review-9", "review-9"]


def test_a_run_that_was_asked_for_in_a_comment_is_answered_once_although_it_is_read_again(found: Found) -> None:
    issue = IssueSeen(ref="7", url="u", title="Fix it", body="one", labels=(), author=ADA, updated_at=NOW)
    said = CommentSeen(id="5", issue="7", author=ADA, at=NOW, body="/cloud-code run")
    found.take(issues=(issue,), comments=(said,))
    begun = found.ledger.tasks["acme.7"]
    found.issues.desks["acme"].state = ForgeState()  # (killed before it was written)
    found.take(issues=(issue,), comments=(said,))
    assert found.ledger.tasks["acme.7"] == begun


@pytest.mark.parametrize(("cli", "taken"), [("codex", "codex"), ("nope`", None)])
def test_a_run_may_name_its_coding_cli_also_where_there_was_no_task(
    found: Found, cli: str, taken: str | None
) -> None:
    issue = IssueSeen(ref="7", url="u", title="Fix it", body="one", labels=(), author=ADA, updated_at=NOW)
    said = CommentSeen(id="5", issue="7", author=ADA, at=NOW, body=f"/cloud-code run {cli}")
    found.take(issues=(issue,), comments=(said,))
    task = found.ledger.tasks["acme.7"]
    assert task.cli == taken
    told = [post.text for post in task.posts if post.kind == "comment"]
    why = "``there is no coding CLI nope` for it: there are codex``"
    assert told == ([] if taken else [f"It is begun, but {why}"])


def _told(found: Found) -> list[tuple[str, str]]:
    return [(post.kind, post.text) for post in found.issues.desks["acme"].state.replies]


@pytest.mark.parametrize(
    ("said", "emoji", "answered"),
    [
        ("help", "+1", "/cloud-code retry"),
        ("status", "+1", "The label `cloud-code`, or `/cloud-code run`, begins one."),
        ("pause", "confused", "nothing to `pause`"),
        ("handoff", "confused", "Write what belongs to it"),
        ("frobnicate", "confused", "There is no such command here"),
    ],
)
def test_a_command_where_no_task_is_gets_an_answer_once(
    found: Found, said: str, emoji: str, answered: str
) -> None:
    comment = CommentSeen(id="5", issue="7", author=ADA, at=NOW, body=f"/cloud-code {said}")
    for _ in range(2):
        found.take(comments=(comment,))
        (reaction, text) = _told(found)
        assert reaction == ("reaction", emoji) and text[0] == "comment" and answered in text[1]
    assert found.ledger.tasks == {}


def test_an_unknown_command_is_helped_once_on_each_issue_and_a_stranger_never(found: Found) -> None:
    eve = Person(login="eve")
    by = [(ADA, "7"), (ADA, "7"), (eve, "8"), (ADA, "8")]
    comments = [
        CommentSeen(id=str(n), issue=ref, author=who, at=NOW, body="/cloud-code what")
        for n, (who, ref) in enumerate(by)
    ]
    found.take(comments=comments)
    assert [kind for kind, _ in _told(found)] == ["reaction", "comment", "reaction", "reaction", "comment"]


def test_a_command_that_lacks_something_uses_up_no_help(found: Found) -> None:
    words = ("approve", "what", "what else")
    on = [("7", word) for word in words] + [("8", word) for word in words]
    found.ledger.tasks["acme.8"] = make_task(id="acme.8", source=SOURCE.evolve(ref="8"))
    found.take(
        comments=[
            CommentSeen(id=str(n), issue=ref, author=ADA, at=NOW, body=f"/cloud-code {word}")
            for n, (ref, word) in enumerate(on)
        ]
    )
    posts = found.ledger.tasks["acme.8"].posts
    for said in (_told(found), [(post.kind, post.text) for post in posts]):
        texts = [text for kind, text in said if kind == "comment"]
        assert len(texts) == 2 and texts[0].startswith("Write what belongs to it")
        assert texts[1].startswith("There is no such command")


def test_odd_characters_and_what_cannot_be_taken_in_keep_nothing_else_from_it(
    found: Found, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cursor stands still until all was taken in: one comment kept a whole project from being read."""
    found.ledger.tasks["acme.8"] = make_task(id="acme.8", source=SOURCE.evolve(ref="8"))
    odd = CommentSeen(id="1", issue="8", author=ADA, at=NOW, body="/cloud-code retry \ud800\x00 so")
    found.take(comments=(odd,))
    (told,) = found.ledger.tasks["acme.8"].feedback
    assert told.message == "\ufffd\ufffd so"

    def fail(*_: Any) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr("supervisor.issues.take_issue", fail)
    issue = IssueSeen(ref="7", url="u", title="Fix it", author=ADA, updated_at=NOW)
    asked = CommentSeen(id="2", issue="8", author=ADA, at=NOW, body="/cloud-code priority high")
    found.take(issues=(issue,), comments=(asked,), cursor=Cursor(marks={"issues/7": 1}))
    assert found.ledger.tasks["acme.8"].priority.value == "high"
    assert found.issues.desks["acme"].state.cursor.marks == {"issues/7": 1}


def test_whoever_gives_two_commands_in_one_comment_is_told_that_one_counts(found: Found) -> None:
    found.ledger.tasks["acme.8"] = make_task(id="acme.8", source=SOURCE.evolve(ref="8"))
    both = "/cloud-code priority high\n/cloud-code cancel"
    found.take(
        comments=[CommentSeen(id=f"{ref}0", issue=ref, author=ADA, at=NOW, body=both) for ref in ("7", "8")]
    )
    task = found.ledger.tasks["acme.8"]
    assert (task.priority.value, task.state) == ("high", State.PENDING)
    for texts in ([post.text for post in task.posts], [text for _, text in _told(found)]):
        assert "Only the first command of a comment counts" in texts[-1]


@pytest.mark.parametrize(
    ("change", "answered"),
    [({"labels": ("wontfix",)}, "the label 'wontfix' keeps it"), ({"open": False}, "This issue is closed")],
)
def test_who_asks_for_a_run_that_cannot_be_is_told_why(
    found: Found, change: dict[str, Any], answered: str
) -> None:
    issue = IssueSeen(ref="7", url="u", title="Fix it", body="one", author=ADA, updated_at=NOW, **change)
    said = CommentSeen(id="5", issue="7", author=ADA, at=NOW, body="/cloud-code run")
    for _ in range(2):
        found.take(issues=(issue,), comments=(said,))
        assert [kind for kind, _ in _told(found)] == ["reaction", "comment"]
        assert answered in _told(found)[1][1]
    assert found.ledger.tasks == {}


def test_what_is_to_be_answered_outlives_a_restart_and_has_an_end(found: Found) -> None:
    comments = [
        CommentSeen(id=str(n), issue=str(n), author=ADA, at=NOW, body="/cloud-code status") for n in range(150)
    ]
    found.take(comments=comments)
    kept = read_forge_state(found.root, "acme").replies
    assert kept == found.issues.desks["acme"].state.replies and len(kept) == 200
