"""What may go wrong between us and GitLab, or be brought about by a stranger: nothing follows from it twice."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from agent_daemon.protocol.paths import Root
from supervisor.core.forge import Cursor, ForgeNews, RequestText, Watched
from supervisor.core.record import Shown, Source
from supervisor.core.settings import ProjectSettings, TriggerSettings
from supervisor.forges.errors import ForgeError
from supervisor.forges.gitlab.client import GitLabClient
from supervisor.forges.gitlab.forge import GitLabForge
from supervisor.forges.gitlab.reading import Poll
from supervisor.forges.gitlab.writing import Writer
from supervisor.forges.local import LocalHost
from supervisor.forges.pace import Pace
from supervisor.forges.tokens import TokenFrom
from supervisor.git.mirror import Mirror
from supervisor.jobs.project import Project
from supervisor.jobs.telling import show_label
from supervisor.ports import Place
from tests.fakes.forge.gitlab import DEVELOPER, MAINTAINER, REPORTER, GitLab
from tests.fakes.forge.running import push_branch, running_gitlab
from tests.site import make_remote
from tests.unit.conftest import make_task

PROJECT, BOT = "grp/sub/app.x", "cloud-code-bot"


@contextmanager
def instance(folder: Path) -> Iterator[GitLab]:
    with running_gitlab({PROJECT: make_remote(folder / "app.git", {"a.py": "x\n"})}) as made:
        made.add_person(BOT, "bot-token", {PROJECT: MAINTAINER})
        made.add_person("ada", levels={PROJECT: DEVELOPER})
        made.add_person("eve", levels={PROJECT: REPORTER})
        yield made


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[GitLab]:
    with instance(tmp_path) as made:
        yield made


@pytest.fixture
def client(lab: GitLab) -> GitLabClient:
    return GitLabClient(lab.origin, TokenFrom(lambda: "bot-token"), Pace(gap_seconds=0))


@pytest.fixture
def writer(client: GitLabClient) -> Writer:
    return Writer(client, PROJECT)


def poll(client: GitLabClient, cursor: Cursor, watched: Watched | None = None) -> ForgeNews:
    return Poll(client, PROJECT, TriggerSettings(assignee=BOT), cursor).read(watched or Watched())


def make_old(lab: GitLab) -> None:
    """All that has happened so far happened an hour ago."""
    then = (datetime.now(UTC) - timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    project = lab.projects[PROJECT]
    for entry in (*project["issues"].values(), *project["requests"].values(), *project["notes"].values()):
        entry |= {"created_at": then, "updated_at": then}


def request_text(branch: str) -> RequestText:
    return RequestText(branch=branch, base="main", title="Fix it", body="Closes #1", draft=True)


def test_a_project_below_groups_on_an_instance_below_a_path_is_read_and_written(tmp_path: Path) -> None:
    class Below(GitLab):
        prefix = "/gitlab/api/v4"
        git_prefix = "/gitlab"

    with Below() as lab:
        lab.add_project(PROJECT, make_remote(tmp_path / "app.git", {"a.py": "x\n"}))
        lab.add_person(BOT, "bot-token", {PROJECT: MAINTAINER})
        lab.add_person("ada", levels={PROJECT: DEVELOPER})
        client = GitLabClient(f"{lab.origin}/gitlab/", TokenFrom(lambda: "bot-token"), Pace(gap_seconds=0))
        number = lab.open_issue(PROJECT, "ada", "Fix it", labels=["cloud-code"])
        (seen,) = poll(client, Cursor()).issues
        assert seen.trigger is not None and seen.trigger.by.can_write
        Writer(client, PROJECT).post_comment(Place(kind="issue", number=str(number)), "hello")
        assert [note["body"] for note in lab.projects[PROJECT]["notes"].values()] == ["hello"]


def test_a_command_from_before_the_first_poll_counts_never(lab: GitLab, client: GitLabClient) -> None:
    number = lab.open_issue(PROJECT, "ada", "Fix it")
    lab.note(PROJECT, number, "ada", "/cloud-code run")
    make_old(lab)
    calls = len(lab.calls("GET", "/notes$"))
    first = poll(client, Cursor())
    assert len(lab.calls("GET", "/notes$")) == calls, "nor is it read"
    lab.note(PROJECT, number, "eve", "What now?")
    second = poll(client, first.cursor)
    assert not first.comments and not second.comments
    lab.note(PROJECT, number, "ada", "/cloud-code run")
    assert len(poll(client, second.cursor).comments) == 1


def with_request(lab: GitLab, client: GitLabClient, writer: Writer, folder: Path) -> tuple[int, Watched, Cursor]:
    """A request of ours that is watched, as of its first poll."""
    head = push_branch(lab.repositories[PROJECT], "cloud-code/1-fix", folder)
    number = writer.open_request(request_text("cloud-code/1-fix")).number
    watched = Watched(requests={number: head})
    return number, watched, poll(client, Cursor(), watched).cursor


def test_a_request_of_a_fork_is_not_ours(lab: GitLab, writer: Writer, tmp_path: Path) -> None:
    """A stranger may open one from a branch of any name; ours would be taken for it, and theirs edited."""
    head = push_branch(lab.repositories[PROJECT], "cloud-code/1-fix", tmp_path)
    theirs = writer.open_request(request_text("cloud-code/1-fix"))
    lab.projects[PROJECT]["requests"][theirs.number] |= {"fork": 4711, "target": "other"}
    assert writer.find_request("cloud-code/1-fix") is None
    ours = writer.open_request(request_text("cloud-code/1-fix"))
    assert ours.number != theirs.number and ours.head == head


def test_a_request_that_was_deleted_counts_as_closed_and_holds_up_nothing(
    lab: GitLab, client: GitLabClient, writer: Writer, tmp_path: Path
) -> None:
    number, watched, cursor = with_request(lab, client, writer, tmp_path)
    del lab.projects[PROJECT]["requests"][number]
    lab.open_issue(PROJECT, "ada", "Fix it", labels=["cloud-code"])
    first = poll(client, cursor, watched)
    assert len(first.issues) == 1 and not first.requests
    client.now = lambda: datetime.now(UTC) + timedelta(minutes=6)
    lab.ahead_seconds = 360
    later = poll(client, first.cursor, watched)
    assert [(seen.number, seen.state) for seen in later.requests] == [(number, "closed")]


def test_the_case_of_our_name_makes_no_difference(lab: GitLab, tmp_path: Path) -> None:
    """One that is written otherwise in config.yaml would take its own notes for a stranger's, and double them."""
    named = GitLabClient(lab.origin, TokenFrom(lambda: "bot-token"), Pace(gap_seconds=0), BOT.title())
    writer, number = Writer(named, PROJECT), lab.open_issue(PROJECT, "ada", "Fix it")
    place = Place(kind="issue", number=str(number))
    cursor = poll(named, Cursor()).cursor
    made = writer.post_comment(place, "marker\n/cloud-code help")
    assert writer.find_comment(place, "marker") == made and not poll(named, cursor).comments
    lab.assign(PROJECT, number, "ada", BOT)
    trigger = TriggerSettings(assignee=BOT.upper())
    (seen,) = Poll(named, PROJECT, trigger, cursor).read(Watched()).issues
    assert seen.trigger is not None and seen.trigger.by.login == "ada"


def test_one_label_tells_the_state_where_scopes_exclude_nothing(
    lab: GitLab, client: GitLabClient, tmp_path: Path
) -> None:
    """That labels of one scope exclude each other takes a paid plan."""
    lab.has_scoped_labels = False
    number = lab.open_issue(PROJECT, "ada", "Fix it", labels=["cloud-code", "bug"])
    settings = ProjectSettings(forge="gitlab", repository=PROJECT)
    forge = GitLabForge(client, PROJECT, settings.trigger)
    project = Project(
        settings=settings, host=LocalHost(Root(tmp_path), settings), mirror=Mirror(tmp_path), forge=forge
    )
    source = Source(tracker="gitlab", kind="issue", ref=str(number), key="k", requested_by="ada")
    task = make_task(source=source)
    for wanted, unsure in (("queued", False), ("working", False), ("review", True)):
        label = show_label(project, task, f"cloud-code::{wanted}", unsure=unsure)
        task = task.evolve(label=Shown(applied=label))
        assert lab.projects[PROJECT]["issues"][number]["labels"] == ["cloud-code", "bug", label]


def test_a_moved_project_is_told_by_reads_and_writes(lab: GitLab, client: GitLabClient, writer: Writer) -> None:
    number = lab.open_issue(PROJECT, "ada", "Fix it")
    cursor = poll(client, Cursor()).cursor
    lab.rename(PROJECT, "grp/new")
    for asked in (
        lambda: poll(client, cursor),
        lambda: writer.post_comment(Place(kind="issue", number=str(number)), "x"),
        lambda: writer.change_labels(Place(kind="issue", number=str(number)), ("a",), ()),
    ):
        with pytest.raises(ForgeError) as caught:
            asked()
        assert caught.value.code == "E_FORGE_MOVED"


def test_whoever_goes_on_talking_holds_up_no_review(
    lab: GitLab, client: GitLabClient, writer: Writer, tmp_path: Path
) -> None:
    number, watched, cursor = with_request(lab, client, writer, tmp_path)
    lab.discuss(PROJECT, number, "ada", "a.py", 1, "not so")
    then = (datetime.now(UTC) - timedelta(minutes=6)).strftime("%Y-%m-%dT%H:%M:%SZ")
    for note in lab.projects[PROJECT]["notes"].values():
        note["created_at"] = then
    lab.note(PROJECT, number, "eve", "bla", "requests")
    authors = {review.author.login for review in poll(client, cursor, watched).reviews}
    assert authors == {"ada", "eve"}


@pytest.mark.parametrize(
    ("login", "is_bot"),
    [("project_12_bot_0f3a", True), ("group_7_bot", True), ("project_1_bot2", True), ("project_bottle", False)],
)
def test_bots_are_known_by_the_names_that_gitlab_makes(
    lab: GitLab, client: GitLabClient, login: str, is_bot: bool
) -> None:
    lab.add_person(login, levels={PROJECT: DEVELOPER})
    lab.open_issue(PROJECT, login, "Fix it", labels=["cloud-code"])
    lab.add_label(PROJECT, 1, login, "cloud-code")
    (seen,) = poll(client, Cursor()).issues
    assert seen.trigger is not None and seen.trigger.by.is_bot == is_bot


def test_a_box_that_somebody_ticks_changes_the_text_by_their_name(lab: GitLab, client: GitLabClient) -> None:
    number = lab.open_issue(PROJECT, "ada", "Fix it", "- [ ] one", labels=["cloud-code"])
    cursor = poll(client, Cursor()).cursor
    lab.projects[PROJECT]["issues"][number]["body"] = "- [x] one"
    lab.note(PROJECT, number, "eve", "marked the checklist item **one** as completed", system=True)
    since = datetime.now(UTC) - timedelta(seconds=30)
    watched = Watched(issues={str(number): "another"}, since={str(number): since})
    (seen,) = poll(client, cursor, watched).issues
    assert [editor.login for editor in seen.editors] == ["eve"]


def test_what_is_remembered_of_notes_does_not_grow_for_ever(lab: GitLab, client: GitLabClient) -> None:
    marks = {f"issues/{number}": number for number in range(1, 5000)} | {"merge_requests/3": 9}
    old = Cursor(marks={"merge_requests/3": 9} | marks, since={"issues": datetime.now(UTC)})
    kept = poll(client, old, Watched()).cursor.marks
    assert len(kept) == 2000


def test_the_address_of_an_instance_may_have_a_path() -> None:
    settings = ProjectSettings(forge="gitlab", repository="a/b/c", url="https://git.example.org/gitlab/")
    assert settings.web_address == "https://git.example.org/gitlab"
