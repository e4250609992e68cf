"""The GitHub adapter against a server that speaks as GitHub does, over a real socket."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from supervisor.core.forge import Cursor, ForgeNews, RequestText, Watched, text_digest
from supervisor.core.settings import TriggerSettings
from supervisor.forges.errors import ForgeError
from supervisor.forges.github.client import GitHubClient
from supervisor.forges.github.reading import Poll
from supervisor.forges.github.writing import Writer
from supervisor.forges.pace import Pace
from supervisor.forges.tokens import TokenFrom
from supervisor.ports import Place
from tests.fakes.forge.github import GitHub
from tests.fakes.forge.running import push_branch, running_github
from tests.fakes.forge.secondary import SecondaryLimit
from tests.site import make_remote

REPO, BOT = "acme/app", "cloud-code-bot"
MARKER = "<!-- cloud-code:root:acme.1:story -->"


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[GitHub]:
    with running_github({REPO: make_remote(tmp_path / "app.git", {"a.py": "x\n"})}) as made:
        made.add_person(BOT, "bot-token", {REPO: "write"})
        made.add_person("ada", permissions={REPO: "write"})
        made.add_person("eve", permissions={REPO: "read"})
        yield made


@pytest.fixture
def client(hub: GitHub) -> GitHubClient:
    return GitHubClient(hub.url, TokenFrom(lambda: "bot-token"), Pace(gap_seconds=0))


@pytest.fixture
def writer(client: GitHubClient) -> Writer:
    return Writer(client, REPO)


def poll(client: GitHubClient, cursor: Cursor, watched: Watched | None = None) -> ForgeNews:
    return Poll(client, REPO, TriggerSettings(), cursor).read(watched or Watched())


def request_text(branch: str, *, draft: bool = True) -> RequestText:
    return RequestText(branch=branch, base="main", title="Fix it", body="Closes #1", draft=draft)


def test_a_label_is_seen_with_who_set_it_and_what_they_may(hub: GitHub, client: GitHubClient) -> None:
    number = hub.open_issue(REPO, "eve", "Fix it", "…")
    hub.add_label(REPO, number, "ada", "cloud-code")
    (seen,) = poll(client, Cursor()).issues
    assert (seen.ref, seen.author.login, seen.author.can_write) == (str(number), "eve", False)
    assert seen.trigger is not None
    assert (seen.trigger.kind, seen.trigger.by.login, seen.trigger.by.can_write) == ("label", "ada", True)


def test_quiet_polls_are_one_request_and_cost_nothing(hub: GitHub, client: GitHubClient) -> None:
    for _ in range(3):
        hub.add_label(REPO, hub.open_issue(REPO, "ada", "Fix it"), "ada", "cloud-code")
    hub.ahead_seconds = 10  # (some time after the last change)
    cursor = poll(client, Cursor()).cursor
    spent, calls = hub.points(), len(hub.journal)
    for _ in range(5):
        news = poll(client, cursor)
        assert not news.issues
        cursor = news.cursor
    assert (hub.points() - spent, len(hub.journal) - calls) == (0, 5)


def test_a_comment_that_was_edited_last_costs_nothing_afterwards(
    hub: GitHub, client: GitHubClient, writer: Writer
) -> None:
    """As the story is: its edit makes the comment newer than the issue it stands on."""
    number = hub.open_issue(REPO, "ada", "Fix it", labels=["cloud-code"])
    said = writer.post_comment(Place(kind="issue", number=str(number)), "Begun")
    edited = datetime.now(UTC) + timedelta(seconds=2)
    hub.repos[REPO]["comments"][int(said)]["updated_at"] = edited.strftime("%Y-%m-%dT%H:%M:%SZ")
    hub.ahead_seconds = 10
    cursor = poll(client, Cursor()).cursor
    spent = hub.points()
    for _ in range(3):
        cursor = poll(client, cursor).cursor
    assert hub.points() == spent


def test_what_is_not_ours_is_left_alone(hub: GitHub, client: GitHubClient) -> None:
    hub.open_issue(REPO, "ada", "Not for us", labels=["bug"])
    assert not poll(client, Cursor()).issues


def test_an_old_label_is_found_although_newer_events_hide_it(hub: GitHub, client: GitHubClient) -> None:
    number = hub.open_issue(REPO, "ada", "Fix it", labels=["cloud-code"])
    other = hub.open_issue(REPO, "ada", "Other")
    for count in range(130):
        hub.add_label(REPO, other, "ada", f"l{count}")
    cursor = Cursor(since={"issues": datetime(2020, 1, 1, tzinfo=UTC)})
    seen = {issue.ref: issue for issue in poll(client, cursor).issues}
    assert seen[str(number)].trigger is not None


def test_a_label_set_again_is_another_trigger(hub: GitHub, client: GitHubClient) -> None:
    number = hub.open_issue(REPO, "ada", "Fix it", labels=["cloud-code"])
    first = poll(client, Cursor())
    hub.remove_label(REPO, number, "ada", "cloud-code")
    hub.add_label(REPO, number, "ada", "cloud-code")
    second = poll(client, first.cursor)
    ids = [news.issues[0].trigger.id for news in (first, second) if news.issues[0].trigger]
    assert len(set(ids)) == 2


def test_who_asked_for_a_task_is_looked_up_once(hub: GitHub, client: GitHubClient) -> None:
    number = hub.open_issue(REPO, "ada", "Fix it", labels=["cloud-code"])
    first = poll(client, Cursor())
    trigger = first.issues[0].trigger
    assert trigger is not None
    ref, looked = str(number), len(hub.calls(template="permission"))
    watched = Watched(issues={ref: text_digest("Fix it", "")}, triggers={ref: trigger.id})
    hub.add_label(REPO, number, BOT, "cloud-code:working")
    again = poll(client, first.cursor, watched)
    assert [seen.trigger for seen in again.issues] == [None]
    assert len(hub.calls(template="permission")) == looked
    hub.remove_label(REPO, number, "ada", "cloud-code")
    hub.add_label(REPO, number, "ada", "cloud-code")
    another = poll(client, again.cursor, watched).issues[0].trigger
    assert another is not None and another.id != trigger.id


def test_after_a_secondary_limit_nothing_is_written_for_a_while(hub: GitHub, writer: Writer) -> None:
    number = hub.open_issue(REPO, "ada", "Fix it")
    place = Place(kind="issue", number=str(number))
    hub.secondary = SecondaryLimit(contents_a_minute=2)
    codes = []
    for _ in range(5):
        try:
            writer.post_comment(place, "said")
        except ForgeError as error:
            codes.append(error.code)
    assert codes == ["E_FORGE_LIMIT"] * 3 and hub.secondary.refused == 1


def test_an_edit_tells_who_made_it(hub: GitHub, client: GitHubClient) -> None:
    number = hub.open_issue(REPO, "ada", "Fix it", "one", labels=["cloud-code"])
    news = poll(client, Cursor())
    hub.edit_issue(REPO, number, "eve", body="two")
    watched = Watched(issues={str(number): text_digest("Fix it", "one")})
    (seen,) = poll(client, news.cursor, watched).issues
    assert [(editor.login, editor.can_write) for editor in seen.editors] == [("eve", False)]


def test_comments_come_with_their_authors_right_and_ours_do_not(
    hub: GitHub, client: GitHubClient, writer: Writer
) -> None:
    number = hub.open_issue(REPO, "ada", "Fix it")
    cursor = poll(client, Cursor()).cursor
    hub.comment(REPO, number, "ada", "/cloud-code run")
    hub.comment(REPO, number, "eve", "/cloud-code cancel")
    writer.post_comment(Place(kind="issue", number=str(number)), "hello")
    found = poll(client, cursor).comments
    assert {(c.author.login, c.author.can_write, c.body) for c in found} == {
        ("ada", True, "/cloud-code run"),
        ("eve", False, "/cloud-code cancel"),
    }


def test_a_command_counts_however_late_it_is_read_and_an_edited_comment_never(
    hub: GitHub, client: GitHubClient
) -> None:
    number = hub.open_issue(REPO, "ada", "Fix it")
    cursor = poll(client, Cursor()).cursor
    hub.comment(REPO, number, "ada", "/cloud-code run")
    edited = hub.comment(REPO, number, "ada", "harmless")
    hub.repos[REPO]["comments"][edited] |= {"body": "/cloud-code cancel", "updated_at": "2099-01-01T00:00:00Z"}
    client.now = lambda: datetime.now(UTC) + timedelta(hours=1)  # (or a clock that is ahead)
    assert [comment.body for comment in poll(client, cursor).comments] == ["/cloud-code run"]


def test_everybody_who_changed_title_or_text_is_named_and_a_refusal_names_nobody_known(
    hub: GitHub, client: GitHubClient
) -> None:
    number = hub.open_issue(REPO, "ada", "Fix it", "one", labels=["cloud-code"])
    news = poll(client, Cursor())
    since = datetime.now(UTC) - timedelta(seconds=30)
    watched = Watched(issues={str(number): text_digest("Fix it", "one")}, since={str(number): since})
    hub.edit_issue(REPO, number, "ada", body="two")
    hub.edit_issue(REPO, number, "eve", title="Print it")
    (seen,) = poll(client, news.cursor, watched).issues
    assert [editor.login for editor in seen.editors] == ["ada", "eve"]
    hub.fail(method="POST", path="graphql", status=200, body={"errors": [{"message": "no"}]})
    (seen,) = poll(client, news.cursor, watched).issues
    assert [editor.login for editor in seen.editors] == ["ghost"]


def test_only_our_own_comment_is_found_by_its_marker(hub: GitHub, writer: Writer) -> None:
    number = hub.open_issue(REPO, "ada", "Fix it")
    place = Place(kind="issue", number=str(number))
    hub.comment(REPO, number, "eve", f"{MARKER}\nplanted")
    assert writer.find_comment(place, MARKER) is None
    made = writer.post_comment(place, f"{MARKER}\nstory")
    assert writer.find_comment(place, MARKER) == made
    writer.edit_comment(Place(kind="issue", number=str(number), comment=made), f"{MARKER}\nmore")
    writer.react(Place(kind="issue", number=str(number)), "eyes")
    writer.react(Place(kind="issue", number=str(number)), "eyes")
    assert len(hub.repos[REPO]["reactions"]) == 1


def test_labels_are_made_once_and_changed(hub: GitHub, writer: Writer) -> None:
    number = hub.open_issue(REPO, "ada", "Fix it")
    place = Place(kind="issue", number=str(number))
    for _ in range(2):
        writer.ensure_labels({"cloud-code:working": "ff0000"})
    writer.change_labels(place, ("cloud-code:working",), ("cloud-code:queued",))
    assert hub.repos[REPO]["issues"][number]["labels"] == ["cloud-code:working"]


def test_a_request_is_opened_once_made_ready_and_reviewed(
    hub: GitHub, client: GitHubClient, writer: Writer, tmp_path: Path
) -> None:
    head = push_branch(hub.repositories[REPO], "cloud-code/1-fix", tmp_path)
    opened = writer.open_request(request_text("cloud-code/1-fix"))
    assert (opened.draft, opened.head, opened.state) == (True, head, "open")
    again = writer.open_request(request_text("cloud-code/1-fix", draft=False))
    for _ in range(2):
        writer.mark_ready(opened.number)
    assert again.number == opened.number
    assert len(hub.repos[REPO]["pulls"]) == 1
    watched = Watched(requests={opened.number: head})
    first = poll(client, Cursor(), watched)
    assert (first.requests[0].draft, first.requests[0].mergeable) == (False, True)
    writer.request_review(opened.number, ("nobody", "ada"))
    hub.add_check(REPO, head, "ci", "failure", "2 tests failed")
    hub.submit_review(
        REPO, opened.number, "ada", "CHANGES_REQUESTED", "No", [("b.py", 1, "why?"), ("b.py", 1, "x")]
    )
    second = poll(client, first.cursor, watched)
    (review,) = second.reviews
    assert (review.verdict, review.author.can_write, len(review.comments)) == ("changes_requested", True, 2)
    assert second.requests[0].checks[0].conclusion == "failure"
    thread = review.comments[0].thread or ""
    reply = writer.reply(opened.number, thread, f"{MARKER}\ndone")
    assert writer.find_reply(opened.number, thread, MARKER) == reply
    hub.merge(REPO, opened.number, "ada")
    assert poll(client, second.cursor, watched).requests[0].state == "merged"
    writer.delete_branch("cloud-code/1-fix")
    writer.delete_branch("cloud-code/1-fix")


@pytest.mark.parametrize(
    ("fault", "code", "retryable"),
    [
        ({"status": 502}, "E_FORGE_DOWN", True),
        ({"drop": True}, "E_FORGE_DOWN", True),
        ({"status": 401, "body": {"message": "Bad credentials"}}, "E_FORGE_DENIED", False),
        ({"status": 403, "headers": {"Retry-After": "30"}}, "E_FORGE_LIMIT", True),
        ({"status": 429}, "E_FORGE_LIMIT", True),
        ({"status": 404}, "E_FORGE_GONE", False),
    ],
)
def test_a_failing_forge_is_told_by_code_and_asked_once(
    hub: GitHub, writer: Writer, fault: dict[str, object], code: str, retryable: bool
) -> None:
    number = hub.open_issue(REPO, "ada", "Fix it")
    met = hub.fail(method="POST", times=10, **fault)
    with pytest.raises(ForgeError) as caught:
        writer.post_comment(Place(kind="issue", number=str(number)), "x")
    assert (caught.value.code, caught.value.retryable, met.met) == (code, retryable, 1)
    assert (caught.value.retry_at is not None) == retryable
    assert "bot-token" not in str(caught.value)


def test_a_comment_whose_answer_is_lost_is_not_posted_twice(hub: GitHub, writer: Writer) -> None:
    number = hub.open_issue(REPO, "ada", "Fix it")
    place = Place(kind="issue", number=str(number))
    hub.fail(method="POST", status=502, after_work=True)
    with pytest.raises(ForgeError):
        writer.post_comment(place, f"{MARKER}\nx")
    assert writer.find_comment(place, MARKER) is not None
    assert len(hub.repos[REPO]["comments"]) == 1


def test_a_renamed_repository_is_told_and_nothing_is_posted(hub: GitHub, writer: Writer) -> None:
    number = hub.open_issue(REPO, "ada", "Fix it")
    hub.rename(REPO, "acme/renamed")
    with pytest.raises(ForgeError) as caught:
        writer.post_comment(Place(kind="issue", number=str(number)), "x")
    assert caught.value.code == "E_FORGE_MOVED"
    assert "acme/renamed" in caught.value.moved_to
