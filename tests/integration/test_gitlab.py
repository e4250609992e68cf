"""The GitLab adapter against a server that speaks as GitLab does, over a real socket."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from supervisor.core.forge import Cursor, ForgeNews, RequestText, Watched, text_digest
from supervisor.core.settings import TriggerSettings
from supervisor.forges.errors import ForgeError
from supervisor.forges.gitlab.client import GitLabClient
from supervisor.forges.gitlab.push_token import PushToken
from supervisor.forges.gitlab.reading import Poll
from supervisor.forges.gitlab.writing import Writer
from supervisor.forges.pace import Pace
from supervisor.forges.tokens import TokenFrom
from supervisor.ports import Place
from tests.fakes.forge.gitlab import DEVELOPER, MAINTAINER, REPORTER, GitLab
from tests.fakes.forge.running import push_branch, running_gitlab
from tests.site import make_remote

PROJECT, BOT = "grp/sub/app", "cloud-code-bot"
MARKER = "<!-- cloud-code:root:app.1:story -->"


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[GitLab]:
    with running_gitlab({PROJECT: make_remote(tmp_path / "app.git", {"a.py": "x\n"})}) as made:
        made.add_person(BOT, "bot-token", {PROJECT: MAINTAINER})
        made.add_person("ada", levels={PROJECT: DEVELOPER})
        made.add_person("eve", levels={PROJECT: REPORTER})
        yield made


@pytest.fixture
def client(lab: GitLab) -> GitLabClient:
    lab.ahead_seconds = 30  # (some time after the last change)
    return GitLabClient(lab.origin, TokenFrom(lambda: "bot-token"), Pace(gap_seconds=0))


@pytest.fixture
def writer(client: GitLabClient) -> Writer:
    return Writer(client, PROJECT)


def poll(client: GitLabClient, cursor: Cursor, watched: Watched | None = None) -> ForgeNews:
    return Poll(client, PROJECT, TriggerSettings(assignee=BOT), cursor).read(watched or Watched())


def request_text(branch: str, *, draft: bool = True) -> RequestText:
    text = {"title": "Fix it", "body": "Closes #1", "reviewers": ("ada",)}
    return RequestText(branch=branch, base="main", draft=draft, **text)


def test_a_label_is_seen_with_who_set_it_and_what_they_may(lab: GitLab, client: GitLabClient) -> None:
    number = lab.open_issue(PROJECT, "eve", "Fix it", "…")
    lab.add_label(PROJECT, number, "ada", "cloud-code")
    (seen,) = poll(client, Cursor()).issues
    assert (seen.ref, seen.author.login, seen.author.can_write) == (str(number), "eve", False)
    assert seen.trigger is not None
    assert (seen.trigger.kind, seen.trigger.by.login, seen.trigger.by.can_write) == ("label", "ada", True)


def test_an_assignment_is_seen_with_who_made_it(lab: GitLab, client: GitLabClient) -> None:
    number = lab.open_issue(PROJECT, "ada", "Fix it", "…")
    lab.assign(PROJECT, number, "eve", BOT)
    (seen,) = poll(client, Cursor()).issues
    assert seen.trigger is not None
    assert (seen.trigger.kind, seen.trigger.by.login, seen.trigger.by.can_write) == ("assignment", "eve", False)


def test_quiet_polls_are_two_requests_that_change_nothing(lab: GitLab, client: GitLabClient) -> None:
    lab.open_issue(PROJECT, "ada", "Fix it", labels=["cloud-code"])
    cursor = poll(client, Cursor()).cursor
    spent, calls = lab.points(), len(lab.journal)
    for _ in range(5):
        news = poll(client, cursor)
        assert not news.issues
        cursor = news.cursor
    assert (lab.points() - spent, len(lab.journal) - calls) == (0, 10)


def test_who_asked_for_a_task_is_looked_up_once(lab: GitLab, client: GitLabClient) -> None:
    number = lab.open_issue(PROJECT, "ada", "Fix it", labels=["cloud-code"])
    first = poll(client, Cursor())
    trigger = first.issues[0].trigger
    assert trigger is not None
    ref, looked = str(number), len(lab.calls(template="members"))
    watched = Watched(issues={ref: text_digest("Fix it", "")}, triggers={ref: trigger.id})
    lab.add_label(PROJECT, number, BOT, "cloud-code::working")
    again = poll(client, first.cursor, watched)
    assert [seen.trigger for seen in again.issues] == [None]
    assert len(lab.calls(template="members")) == looked
    lab.remove_label(PROJECT, number, "ada", "cloud-code")
    lab.add_label(PROJECT, number, "ada", "cloud-code")
    another = poll(client, again.cursor, watched).issues[0].trigger
    assert another is not None and another.id != trigger.id


def test_an_edit_tells_who_made_it(lab: GitLab, client: GitLabClient) -> None:
    number = lab.open_issue(PROJECT, "ada", "Fix it", "one", labels=["cloud-code"])
    cursor = poll(client, Cursor()).cursor
    lab.edit_issue(PROJECT, number, "eve", body="two")
    watched = Watched(issues={str(number): text_digest("Fix it", "one")})
    (seen,) = poll(client, cursor, watched).issues
    assert [(editor.login, editor.can_write) for editor in seen.editors] == [("eve", False)]


def test_comments_come_once_and_ours_do_not(lab: GitLab, client: GitLabClient, writer: Writer) -> None:
    number = lab.open_issue(PROJECT, "ada", "Fix it")
    cursor = poll(client, Cursor()).cursor
    lab.note(PROJECT, number, "ada", "/cloud-code run")
    lab.note(PROJECT, number, "eve", "/cloud-code cancel")
    writer.post_comment(Place(kind="issue", number=str(number)), "hello")
    news = poll(client, cursor)
    assert [(c.author.login, c.author.can_write, c.body) for c in news.comments] == [
        ("ada", True, "/cloud-code run"),
        ("eve", False, "/cloud-code cancel"),
    ]
    lab.note(PROJECT, number, "ada", "one more")
    lab.note(PROJECT, number, "ada", "/cloud-code status")
    assert [comment.body for comment in poll(client, news.cursor).comments] == ["/cloud-code status"]


def test_only_our_own_note_is_found_by_its_marker(lab: GitLab, writer: Writer) -> None:
    number = lab.open_issue(PROJECT, "ada", "Fix it")
    place = Place(kind="issue", number=str(number))
    lab.note(PROJECT, number, "eve", f"{MARKER}\nplanted")
    assert writer.find_comment(place, MARKER) is None
    made = writer.post_comment(place, f"{MARKER}\nstory")
    assert writer.find_comment(place, MARKER) == made
    writer.edit_comment(Place(kind="issue", number=str(number), comment=made), f"{MARKER}\nmore")
    writer.react(place, "eyes")
    writer.react(place, "eyes")
    assert len(lab.projects[PROJECT]["emoji"]) == 1


def test_pushing_has_a_token_of_its_own_where_one_can_be_made(lab: GitLab, client: GitLabClient) -> None:
    lab.add_person(BOT, levels={PROJECT: DEVELOPER})
    tokens = PushToken(client, PROJECT, TokenFrom(lambda: "bot-token"))
    assert tokens.current()[0] == "bot-token", "a Developer cannot make one"
    lab.add_person(BOT, levels={PROJECT: MAINTAINER})
    client.now = lambda: datetime.now(UTC) + timedelta(hours=2)
    first = tokens.current()[0]
    assert first.startswith("glpat-") and tokens.current()[0] == first
    ends = datetime.fromisoformat(lab.minted[0]["expires_at"]).replace(tzinfo=UTC)
    assert ends - client.now() > timedelta(hours=20), "it lives until the next one is made"
    client.now = lambda: datetime.now(UTC) + timedelta(hours=23)
    second = tokens.current()[0]
    assert second != first and list(lab.projects[PROJECT]["tokens"].values()) == [second]
    assert first not in repr(tokens)


def test_labels_are_made_once_and_changed_at_once(lab: GitLab, writer: Writer) -> None:
    number = lab.open_issue(PROJECT, "ada", "Fix it")
    for _ in range(2):
        writer.ensure_labels({"cloud-code::working": "ff0000", "cloud-code::queued": "00ff00"})
    place = Place(kind="issue", number=str(number))
    writer.change_labels(place, ("cloud-code::queued",), ())
    before = len(lab.calls("PUT"))
    writer.change_labels(place, ("cloud-code::working",), ("cloud-code::queued",))
    assert lab.projects[PROJECT]["issues"][number]["labels"] == ["cloud-code::working"]
    assert len(lab.calls("PUT")) - before == 1


def test_a_request_is_opened_once_made_ready_and_reviewed(
    lab: GitLab, client: GitLabClient, writer: Writer, tmp_path: Path
) -> None:
    head = push_branch(lab.repositories[PROJECT], "cloud-code/1-fix", tmp_path)
    opened = writer.open_request(request_text("cloud-code/1-fix"))
    assert (opened.draft, opened.head, opened.state) == (True, head, "open")
    again = writer.open_request(request_text("cloud-code/1-fix", draft=False))
    for _ in range(2):
        writer.mark_ready(opened.number)
    assert again.number == opened.number
    assert len(lab.projects[PROJECT]["requests"]) == 1
    assert lab.projects[PROJECT]["requests"][opened.number]["reviewers"] == ["ada"]
    watched = Watched(requests={opened.number: head})
    first = poll(client, Cursor(), watched)
    assert (first.requests[0].draft, first.requests[0].mergeable) == (False, True)
    lab.add_pipeline(PROJECT, head, "failed", failed=("an earlier one",))
    lab.add_pipeline(PROJECT, head, "failed", failed=("unit tests", "may fail: audit"))
    thread = lab.discuss(PROJECT, opened.number, "ada", "b.py", 1, "why?")
    lab.discuss(PROJECT, opened.number, "ada", "b.py", 1, "x")
    second = poll(client, first.cursor, watched)
    (review,) = second.reviews
    assert (review.author.can_write, [(c.path, c.line, c.body) for c in review.comments]) == (
        True,
        [("b.py", 1, "why?"), ("b.py", 1, "x")],
    )
    assert [(check.name, check.conclusion) for check in second.requests[0].checks] == [("unit tests", "failure")]
    reply = writer.reply(opened.number, thread, f"{MARKER}\ndone")
    assert writer.find_reply(opened.number, thread, MARKER) == reply
    assert not poll(client, second.cursor, watched).reviews
    lab.merge(PROJECT, opened.number, "ada")
    assert poll(client, second.cursor, watched).requests[0].state == "merged"
    writer.delete_branch("cloud-code/1-fix")
    writer.delete_branch("cloud-code/1-fix")


@pytest.mark.parametrize("ended", [False, True], ids=["of somebody else", "of an ended task"])
def test_a_command_on_a_request_that_nobody_works_on_is_seen_once(
    lab: GitLab, client: GitLabClient, writer: Writer, tmp_path: Path, ended: bool
) -> None:
    push_branch(lab.repositories[PROJECT], "theirs", tmp_path)
    number = writer.open_request(request_text("theirs")).number
    cursor = poll(client, Cursor()).cursor
    lab.note(PROJECT, number, "ada", "/cloud-code status", "requests")
    news = poll(client, cursor, Watched(ended=frozenset({number} if ended else ())))
    assert [(c.kind, c.issue, c.body) for c in news.comments] == [("request", str(number), "/cloud-code status")]
    lab.note(PROJECT, number, "ada", "thanks", "requests")
    assert not poll(client, news.cursor).comments


def test_a_review_is_taken_once_its_author_pauses(
    lab: GitLab, client: GitLabClient, writer: Writer, tmp_path: Path
) -> None:
    head = push_branch(lab.repositories[PROJECT], "cloud-code/1-fix", tmp_path)
    opened = writer.open_request(request_text("cloud-code/1-fix"))
    watched = Watched(requests={opened.number: head})
    lab.ahead_seconds = 0
    cursor = poll(client, Cursor(), watched).cursor
    lab.discuss(PROJECT, opened.number, "ada", "b.py", 1, "one")
    news = poll(client, cursor, watched)
    assert not news.reviews
    lab.ahead_seconds = 30
    assert len(poll(client, news.cursor, watched).reviews) == 1


@pytest.mark.parametrize(
    ("fault", "code", "retryable"),
    [
        ({"status": 502}, "E_FORGE_DOWN", True),
        ({"drop": True}, "E_FORGE_DOWN", True),
        ({"status": 401, "body": {"message": "401 Unauthorized"}}, "E_FORGE_DENIED", False),
        ({"status": 429, "headers": {"Retry-After": "30"}}, "E_FORGE_LIMIT", True),
        ({"status": 302, "headers": {"Location": "http://127.0.0.1:9/elsewhere"}}, "E_FORGE_MOVED", False),
        ({"status": 404}, "E_FORGE_GONE", False),
    ],
)
def test_a_failing_forge_is_told_by_code_and_asked_once(
    lab: GitLab, writer: Writer, fault: dict[str, object], code: str, retryable: bool
) -> None:
    number = lab.open_issue(PROJECT, "ada", "Fix it")
    met = lab.fail(method="POST", times=10, **fault)
    with pytest.raises(ForgeError) as caught:
        writer.post_comment(Place(kind="issue", number=str(number)), "x")
    assert (caught.value.code, caught.value.retryable, met.met) == (code, retryable, 1)
    assert "bot-token" not in str(caught.value)


def test_a_note_whose_answer_is_lost_is_not_posted_twice(lab: GitLab, writer: Writer) -> None:
    number = lab.open_issue(PROJECT, "ada", "Fix it")
    place = Place(kind="issue", number=str(number))
    lab.fail(method="POST", status=502, after_work=True)
    with pytest.raises(ForgeError):
        writer.post_comment(place, f"{MARKER}\nx")
    assert writer.find_comment(place, MARKER) is not None
    assert len(lab.projects[PROJECT]["notes"]) == 1
