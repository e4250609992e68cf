"""What may go wrong between us and GitHub, or be brought about by a stranger: nothing follows from it twice."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from supervisor.core.forge import Cursor, ForgeNews, RequestText, Watched, text_digest
from supervisor.core.settings import TriggerSettings
from supervisor.core.telling import LISTING_DELAY
from supervisor.forges import client as clients
from supervisor.forges.errors import ForgeError
from supervisor.forges.github import client as github_client
from supervisor.forges.github.client import GitHubClient
from supervisor.forges.github.reading import Poll
from supervisor.forges.github.writing import Writer
from supervisor.forges.pace import Pace
from supervisor.forges.tokens import TokenFrom
from supervisor.ports import Place
from tests.fakes.forge.github import GitHub
from tests.fakes.forge.running import push_branch, running_github
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


def poll(
    client: GitHubClient, cursor: Cursor, watched: Watched | None = None, trigger: TriggerSettings | None = None
) -> ForgeNews:
    return Poll(client, REPO, trigger or TriggerSettings(assignee=BOT), cursor).read(watched or Watched())


def make_old(hub: GitHub, seconds: float = 3600) -> None:
    """All that has happened so far happened long ago."""
    then = _ago(seconds=seconds)
    state = hub.repos[REPO]
    for entry in (*state["issues"].values(), *state["comments"].values(), *state["events"]):
        entry |= {key: then for key in ("created_at", "updated_at") if key in entry}


def _ago(**span: float) -> str:
    return (datetime.now(UTC) - timedelta(**span)).strftime("%Y-%m-%dT%H:%M:%SZ")


# --- what asks for a run ---------------------------------------------------------------------------------


def test_what_was_asked_for_and_taken_back_starts_nothing(hub: GitHub, client: GitHubClient) -> None:
    number = hub.open_issue(REPO, "ada", "Fix it", labels=["cloud-code"])
    hub.assign(REPO, number, "ada", BOT)
    hub.remove_label(REPO, number, "ada", "cloud-code")
    hub.repos[REPO]["issues"][number]["assignees"].clear()
    assert not poll(client, Cursor()).issues, "nor with the first poll, which reads all events there are"


def test_one_that_is_taken_back_hides_no_other(hub: GitHub, client: GitHubClient) -> None:
    number = hub.open_issue(REPO, "ada", "Fix it")
    hub.assign(REPO, number, "ada", BOT)
    hub.add_label(REPO, number, "eve", "cloud-code")
    hub.remove_label(REPO, number, "eve", "cloud-code")
    (seen,) = poll(client, Cursor()).issues
    assert seen.trigger is not None and (seen.trigger.kind, seen.trigger.by.login) == ("assignment", "ada")


def test_a_review_that_nobody_awaits_any_more_is_none(hub: GitHub, client: GitHubClient, tmp_path: Path) -> None:
    push_branch(hub.repositories[REPO], "theirs", tmp_path)
    number = hub.open_pull(REPO, "eve", "theirs", "main", "Theirs")
    hub.request_review(REPO, number, "ada", BOT)
    assert [seen.branch for seen in poll(client, Cursor()).issues] == ["theirs"]
    hub.repos[REPO]["pulls"][number]["reviewers"].clear()
    assert not poll(client, Cursor()).issues


def test_the_case_of_labels_and_names_makes_no_difference(hub: GitHub, client: GitHubClient) -> None:
    number = hub.open_issue(REPO, "ada", "Fix it", labels=["Cloud-Code"])
    shouting = GitHubClient(hub.url, TokenFrom(lambda: "bot-token"), Pace(gap_seconds=0), "Cloud-Code-BOT")
    comment = hub.comment(REPO, number, BOT, f"{MARKER}\n/cloud-code cancel")
    assert [seen.ref for seen in poll(shouting, Cursor()).issues] == [str(number)]
    assert not poll(shouting, Cursor()).comments, "our own are no commands"
    found = Writer(shouting, REPO).find_comment(Place(kind="issue", number=str(number)), MARKER)
    assert found == str(comment)


def test_a_label_is_looked_for_until_it_is_told_who_set_it(hub: GitHub, client: GitHubClient) -> None:
    """The forge shows the label before it tells of the event."""
    hub.open_issue(REPO, "ada", "Fix it", labels=["cloud-code"])
    events, hub.repos[REPO]["events"] = hub.repos[REPO]["events"], []
    hub.ahead_seconds = 30
    news = poll(client, Cursor())
    assert not news.issues
    hub.repos[REPO]["events"] = events
    assert len(poll(client, news.cursor).issues) == 1


# --- commands --------------------------------------------------------------------------------------------


def test_a_command_from_before_the_first_poll_counts_never(hub: GitHub, client: GitHubClient) -> None:
    number = hub.open_issue(REPO, "ada", "Fix it")
    hub.comment(REPO, number, "ada", "/cloud-code run")
    make_old(hub)
    first = poll(client, Cursor())
    other = hub.open_issue(REPO, "ada", "Another")
    second = poll(client, first.cursor)
    assert not first.comments and not second.comments
    hub.comment(REPO, other, "ada", "/cloud-code run")
    assert len(poll(client, second.cursor).comments) == 1


def test_a_command_between_two_reads_of_a_poll_is_heard_with_its_issue(hub: GitHub, client: GitHubClient) -> None:
    number = hub.open_issue(REPO, "ada", "Fix it")
    make_old(hub)
    newer = hub.open_issue(REPO, "ada", "Newer")
    hub.repos[REPO]["issues"][newer]["updated_at"] = _ago(minutes=10)
    first = poll(client, Cursor())
    other = hub.open_issue(REPO, "ada", "Another")
    hub.repos[REPO]["issues"][other]["updated_at"] = _ago(minutes=5)
    original = client.get_changed

    def speaking(path: str, *rest: object) -> object:
        if path.endswith("/issues/comments") and not hub.repos[REPO]["comments"]:
            hub.comment(REPO, number, "ada", "/cloud-code run")
        return original(path, *rest)  # type: ignore[arg-type]

    client.get_changed = speaking  # type: ignore[method-assign]
    second = poll(client, first.cursor)
    assert len(second.comments) == 1 and str(number) not in {seen.ref for seen in second.issues}
    third = poll(client, second.cursor)
    assert len(third.comments) == 1 and str(number) in {seen.ref for seen in third.issues}


@pytest.mark.parametrize("hours", [-1, 1])
def test_a_clock_of_ours_that_is_wrong_loses_nothing(hub: GitHub, client: GitHubClient, hours: int) -> None:
    client.now = lambda: datetime.now(UTC) + timedelta(hours=hours)
    first = poll(client, Cursor())
    number = hub.open_issue(REPO, "ada", "Fix it", labels=["cloud-code"])
    hub.comment(REPO, number, "ada", "/cloud-code status")
    second = poll(client, first.cursor)
    assert len(second.issues) == len(second.comments) == 1
    hub.comment(REPO, number, "ada", "/cloud-code pause")  # (in the same second, which a list may hide)
    assert len(poll(client, second.cursor).comments) == 2


def test_an_issue_from_the_future_hides_nothing(hub: GitHub, client: GitHubClient) -> None:
    ahead = hub.open_issue(REPO, "ada", "Imported")
    hub.repos[REPO]["issues"][ahead]["updated_at"] = "2099-01-01T00:00:00Z"
    first = poll(client, Cursor())
    hub.open_issue(REPO, "ada", "Fix it", labels=["cloud-code"])
    assert len(poll(client, first.cursor).issues) == 1


def test_an_event_later_than_its_issue_costs_nothing_for_long(hub: GitHub, client: GitHubClient) -> None:
    number = hub.open_issue(REPO, "ada", "Fix it", labels=["cloud-code"])
    make_old(hub)
    hub.repos[REPO]["issues"][number]["updated_at"] = _ago(seconds=3602)
    watched = Watched(issues={str(number): text_digest("Fix it", "")})
    cursor = poll(client, Cursor(), watched).cursor
    spent = hub.points()
    for _ in range(3):
        cursor = poll(client, cursor, watched).cursor
    assert hub.points() == spent


@pytest.mark.parametrize("last", ["ada", "cleaner[bot]"])
def test_an_edit_hides_none_that_was_made_before_it(hub: GitHub, client: GitHubClient, last: str) -> None:
    """Whoever ticks a box in a text that a stranger has just changed does not approve of that."""
    hub.add_person("cleaner[bot]")
    number = hub.open_issue(REPO, "ada", "Fix it", "- [ ] one", labels=["cloud-code"])
    make_old(hub)
    cursor = poll(client, Cursor()).cursor
    hub.edit_issue(REPO, number, "eve", body="- [ ] two")
    hub.edit_issue(REPO, number, last, body="- [x] two")
    watched = Watched(
        issues={str(number): text_digest("Fix it", "- [ ] one")},
        since={str(number): datetime.now(UTC) - timedelta(minutes=30)},
    )
    (seen,) = poll(client, cursor, watched).issues
    assert {(editor.login, editor.is_bot) for editor in seen.editors} == {("eve", False), (last, last != "ada")}


# --- requests --------------------------------------------------------------------------------------------


def test_a_request_that_is_gone_counts_as_closed_and_holds_up_nothing(
    hub: GitHub, client: GitHubClient, tmp_path: Path
) -> None:
    head = push_branch(hub.repositories[REPO], "cloud-code/1-fix", tmp_path)
    number = hub.open_pull(REPO, BOT, "cloud-code/1-fix", "main", "Fix it")
    watched = Watched(requests={number: head})
    del hub.repos[REPO]["pulls"][number]
    first = poll(client, Cursor(), watched)
    assert not first.requests, "one that was just opened may not be shown yet"
    client.now = lambda: datetime.now(UTC) + timedelta(minutes=6)
    hub.ahead_seconds = 360
    later = poll(client, first.cursor, watched)
    assert [(seen.number, seen.state) for seen in later.requests] == [(number, "closed")]
    assert poll(client, first.cursor).cursor.since.keys() == {"comments", "issues"}, (
        "it is forgotten with its task"
    )


def test_a_check_that_somebody_cancelled_has_not_failed(hub: GitHub, client: GitHubClient, tmp_path: Path) -> None:
    head = push_branch(hub.repositories[REPO], "cloud-code/1-fix", tmp_path)
    number = hub.open_pull(REPO, BOT, "cloud-code/1-fix", "main", "Fix it")
    hub.add_check(REPO, head, "ci", "cancelled")
    (seen,) = poll(client, Cursor(), Watched(requests={number: head})).requests
    assert [check.conclusion for check in seen.checks] == ["waiting"]


def test_checks_and_reviews_beyond_a_page_are_seen(hub: GitHub, client: GitHubClient, tmp_path: Path) -> None:
    head = push_branch(hub.repositories[REPO], "cloud-code/1-fix", tmp_path)
    number = hub.open_pull(REPO, BOT, "cloud-code/1-fix", "main", "Fix it")
    for count in range(100):
        hub.add_check(REPO, head, f"check {count}", "success")
        hub.submit_review(REPO, number, "eve", body=f"remark {count}")
    hub.ahead_seconds = 90
    watched = Watched(requests={number: head})
    first = poll(client, Cursor(), watched)
    hub.add_check(REPO, head, "the last", "failure")
    hub.submit_review(REPO, number, "ada", body="the last")
    second = poll(client, first.cursor, watched)
    assert [check.name for check in second.requests[0].checks if check.conclusion == "failure"] == ["the last"]
    assert "the last" in [review.body for review in second.reviews]


def test_a_review_from_before_its_request_was_ours_is_taken_in(
    hub: GitHub, client: GitHubClient, tmp_path: Path
) -> None:
    """Opened and reviewed, and only then noted: the supervisor was away for long."""
    head = push_branch(hub.repositories[REPO], "cloud-code/1-fix", tmp_path)
    number = hub.open_pull(REPO, BOT, "cloud-code/1-fix", "main", "Fix it")
    hub.submit_review(REPO, number, "ada", body="not so")
    for review in hub.repos[REPO]["reviews"].values():
        review["submitted_at"] = "2026-01-01T00:00:00Z"
    first = poll(client, Cursor())
    second = poll(client, first.cursor, Watched(requests={number: head}))
    assert [review.body for review in second.reviews] == ["not so"]
    third = poll(client, second.cursor, Watched(requests={number: head}))
    assert not third.reviews


def test_a_token_that_may_not_see_checks_sees_the_rest(hub: GitHub, client: GitHubClient, tmp_path: Path) -> None:
    head = push_branch(hub.repositories[REPO], "cloud-code/1-fix", tmp_path)
    number = hub.open_pull(REPO, BOT, "cloud-code/1-fix", "main", "Fix it")
    hub.fail(path="/status$", status=403, times=10, body={"message": "Resource not accessible"})
    hub.add_check(REPO, head, "ci", "failure")
    (seen,) = poll(client, Cursor(), Watched(requests={number: head})).requests
    assert [check.conclusion for check in seen.checks] == ["failure"]


def test_a_request_of_a_fork_is_not_ours(hub: GitHub, writer: Writer, tmp_path: Path) -> None:
    push_branch(hub.repositories[REPO], "cloud-code/1-fix", tmp_path)
    number = hub.open_pull(REPO, "eve", "cloud-code/1-fix", "main", "Mine")
    assert writer.find_request("cloud-code/1-fix") is not None
    hub.repos[REPO]["pulls"][number]["home"] = "acme/app-fork"
    assert writer.find_request("cloud-code/1-fix") is None


def test_where_there_is_nothing_to_merge_the_forge_is_believed(hub: GitHub, writer: Writer) -> None:
    hub.git(REPO, "update-ref", "refs/heads/cloud-code/1-fix", "refs/heads/main")
    text = RequestText(branch="cloud-code/1-fix", base="main", title="Fix it", body="x", draft=True)
    with pytest.raises(ForgeError, match="No commits between") as caught:
        writer.open_request(text)
    assert (caught.value.code, caught.value.retryable) == ("E_FORGE_REFUSED", False)


@pytest.mark.parametrize(
    ("errors", "code", "retryable"),
    [
        ([{"type": "RATE_LIMITED", "message": "API rate limit exceeded"}], "E_FORGE_LIMIT", True),
        ([{"message": "Something went wrong while executing your query. …"}], "E_FORGE_DOWN", True),
        ([{"type": "FORBIDDEN", "message": "Resource not accessible"}], "E_FORGE_DENIED", False),
        ([{"type": "NOT_FOUND", "message": "Could not resolve"}], "E_FORGE_GONE", False),
        ([{"message": "Field 'x' doesn't exist"}], "E_FORGE_REFUSED", False),
        ("odd", "E_FORGE_REFUSED", False),
    ],
)
def test_what_graphql_refuses_with_status_200_is_told_apart(
    hub: GitHub, client: GitHubClient, errors: object, code: str, retryable: bool
) -> None:
    hub.fail(method="POST", path="graphql", status=200, body={"errors": errors, "data": None})
    with pytest.raises(ForgeError) as caught:
        client.graphql("query { viewer { login } }", {})
    assert (caught.value.code, caught.value.retryable) == (code, retryable)
    assert client.get("/user")["login"] == BOT, "its limit is not that of the other requests"


# --- a forge that is away, moved, or wants to be left alone -----------------------------------------------


def test_a_create_without_an_answer_is_looked_for_when_the_forge_must_be_done(
    hub: GitHub, client: GitHubClient, writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = github_client.TIMEOUT_SECONDS
    monkeypatch.setattr(github_client, "TIMEOUT_SECONDS", 3)
    number = hub.open_issue(REPO, "ada", "Fix it")
    place = Place(kind="issue", number=str(number))
    hub.fail(method="POST", path="/comments$", delay_seconds=60)
    with pytest.raises(ForgeError) as caught:
        writer.post_comment(place, f"{MARKER}\nx")
    assert caught.value.code == "E_FORGE_DOWN"
    monkeypatch.setattr(github_client, "TIMEOUT_SECONDS", usual)
    patient = GitHubClient(hub.url, TokenFrom(lambda: "bot-token"), Pace(gap_seconds=0))
    assert Writer(patient, REPO).find_comment(place, MARKER) is None
    assert caught.value.retry_at is not None
    assert caught.value.retry_at - client.now() > clients.SILENCE / 2, "not before it is certain to be there"


@pytest.mark.parametrize("fault", [{"status": 502}, {"drop": True}], ids=["refused", "dropped"])
def test_a_create_whose_answer_is_lost_is_looked_for_when_lists_have_caught_up(
    hub: GitHub, client: GitHubClient, writer: Writer, fault: dict[str, object]
) -> None:
    number = hub.open_issue(REPO, "ada", "Fix it")
    hub.fail(method="POST", path="/comments$", after_work=True, **fault)
    with pytest.raises(ForgeError) as caught:
        writer.post_comment(Place(kind="issue", number=str(number)), f"{MARKER}\nx")
    assert caught.value.retry_at is not None and caught.value.retry_at - client.now() > LISTING_DELAY * 0.8


def test_a_renamed_repository_is_noticed_by_the_next_poll(hub: GitHub, client: GitHubClient) -> None:
    hub.open_issue(REPO, "ada", "Fix it", labels=["cloud-code"])
    cursor = poll(client, Cursor()).cursor
    hub.rename(REPO, "acme/new")
    with pytest.raises(ForgeError) as caught:
        poll(client, cursor)
    assert (caught.value.code, caught.value.moved_to) == ("E_FORGE_MOVED", "acme/new")


def test_no_token_follows_a_redirect_to_another_host(hub: GitHub, client: GitHubClient) -> None:
    with running_github({}) as other:
        address = f"{other.url.replace('127.0.0.1', 'localhost')}/user"
        hub.fail(path="/user$", status=301, headers={"Location": address})
        with pytest.raises(ForgeError) as caught:
            client.get("/user")
        assert caught.value.code == "E_FORGE_MOVED" and not other.journal


def test_an_issue_that_was_transferred_is_gone_and_the_repository_has_not_moved(
    hub: GitHub, writer: Writer
) -> None:
    number = hub.open_issue(REPO, "ada", "Fix it")
    place = Place(kind="issue", number=str(number))
    location = {"Location": f"{hub.url}/repositories/77/issues/3"}
    hub.fail(method="POST", path=rf"/issues/{number}/", status=307, headers=location, times=9)
    for said in (
        lambda: writer.post_comment(place, "x"),
        lambda: writer.react(place, "eyes"),
        lambda: writer.change_labels(place, ("cloud-code:done",), ()),
    ):
        with pytest.raises(ForgeError, match="transferred") as caught:
            said()
        assert caught.value.code == "E_FORGE_GONE"


@pytest.mark.parametrize(
    ("status", "headers", "least", "most"),
    [
        (403, {"Retry-After": "30"}, 20, 40),
        (429, {"Retry-After": "99999999999999999999"}, 3000, 3700),
        (429, {"Retry-After": "Fri, 01 Jan 2100 00:00:00 GMT"}, 3000, 3700),
        (403, {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "99999999999999"}, 50, 70),
        (429, {}, 50, 70),
    ],
)
def test_a_forge_that_wants_to_be_left_alone_is_neither_read_nor_written(
    hub: GitHub, client: GitHubClient, status: int, headers: dict[str, str], least: int, most: int
) -> None:
    body = {"message": "You have exceeded a secondary rate limit"}
    hub.fail(path="/user$", status=status, headers=headers, body=body)
    client.now = lambda: datetime.now(UTC) - timedelta(minutes=10)  # (by a clock of ours that is slow)
    with pytest.raises(ForgeError) as caught:
        client.get("/user")
    assert caught.value.code == "E_FORGE_LIMIT" and caught.value.retry_at is not None
    assert least < (caught.value.retry_at - client.now()).total_seconds() < most
    calls = len(hub.journal)
    for asked in (lambda: client.get("/user"), lambda: client.create("/repos/acme/app/labels", {})):
        with pytest.raises(ForgeError) as caught:
            asked()
        assert caught.value.code == "E_FORGE_LIMIT"
    assert len(hub.journal) == calls
