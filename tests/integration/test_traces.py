"""What an attempt was given in secret is gone from its CLIs' homes and from the clone that others use after it."""

import sqlite3
import subprocess
import time
from contextlib import closing
from pathlib import Path

import pytest

from agent_daemon.clone import ensure_clone
from agent_daemon.credentials import Given
from agent_daemon.places import AttemptPlaces
from agent_daemon.processes import working_in
from agent_daemon.protocol.model import SealedCredential
from agent_daemon.traces import remove_traces, renew_marked
from tests.site import git, make_remote, wait_for

VALUE, BRANCH = "hunter2-of-the-registry", "cloud-code/a"


@pytest.fixture
def places(tmp_path: Path) -> AttemptPlaces:
    """A clone with the worktree of an attempt, and a home."""
    remote = make_remote(tmp_path / "remote.git", {"a.txt": "a"})
    clone = tmp_path / "demo"
    ensure_clone(clone, remote)
    git("worktree", "add", "-q", "-b", BRANCH, str(tmp_path / "tree"), "origin/main", cwd=clone)
    (tmp_path / "homes").mkdir()
    return AttemptPlaces(
        inbox=tmp_path, outbox=tmp_path / "out", clone=clone, worktree=tmp_path / "tree", homes=tmp_path / "homes"
    )


@pytest.fixture
def given() -> Given:
    given = Given(None)
    given.take(SealedCredential(task="demo.a", attempt=1, id="cred-001", env="NPM_TOKEN", value=VALUE))
    return given


def release(places: AttemptPlaces) -> None:
    git("worktree", "remove", "--force", str(places.worktree), cwd=places.clone)
    git("branch", "-D", BRANCH, cwd=places.clone)
    renew_marked(places.clone, BRANCH)


def test_homes_are_blanked_in_place(places: AttemptPlaces, given: Given) -> None:
    (places.homes / "session.jsonl").write_text('{"out": "it is hunter2-of-the-registry"}\n')
    precious = places.homes.parent / "precious"
    precious.write_text(VALUE)
    (places.homes / "link").symlink_to(precious)
    with closing(sqlite3.connect(places.homes / "sessions.db")) as database:
        database.execute("create table said (text)")
        database.executemany("insert into said values (?)", [(f"{n} {VALUE}",) for n in range(500)])
        database.commit()
    also = places.homes.parent / "tmp"
    also.mkdir()
    (also / "left").write_text(VALUE)
    remove_traces(given, places, [also])
    assert VALUE not in (also / "left").read_text()
    assert (places.homes / "session.jsonl").read_text() == '{"out": "it is ***********************"}\n'
    assert precious.read_text() == VALUE
    with closing(sqlite3.connect(places.homes / "sessions.db")) as database:
        assert database.execute("pragma integrity_check").fetchall() == [("ok",)]
        assert database.execute("select count(*) from said where text like '%***'").fetchone() == (500,)


def test_what_git_ignores_in_the_worktree_is_blanked_and_work_is_not(places: AttemptPlaces, given: Given) -> None:
    tree = places.worktree
    (tree / "cache").mkdir()
    (tree / "cache" / ".gitignore").write_text("*\n")
    for name in ("a.txt", "new.txt", "cache/npmrc"):
        (tree / name).write_text(f"token={VALUE}")
    git("init", "-q", "theirs", cwd=tree)
    git("remote", "add", "origin", f"https://x:{VALUE}@git.example.org/b.git", cwd=tree / "theirs")
    (tree / "cache" / "away").symlink_to(tree / "a.txt")
    remove_traces(given, places)
    assert (tree / "cache" / "npmrc").read_text() == f"token={'*' * len(VALUE)}"
    assert VALUE not in (tree / "theirs" / ".git" / "config").read_text()
    assert all(VALUE in (tree / name).read_text() for name in ("a.txt", "new.txt"))


def test_names_links_notes_and_logs_are_blanked_and_what_is_handed_in_is_not(
    places: AttemptPlaces, given: Given, tmp_path: Path
) -> None:
    for folder in (places.homes / f"of-{VALUE}" / VALUE, places.notes, places.logs):
        folder.mkdir(parents=True)
    for path in (places.homes / f"of-{VALUE}" / "kept", places.notes / f"{VALUE}.yaml", places.logs / "x.log"):
        path.write_text(f"is {VALUE}")
    (places.homes / f"{VALUE}-1").write_text("first")
    (places.homes / f"{'*' * len(VALUE)}-1").write_text("second")
    (places.homes / "link").symlink_to(f"/nowhere/{VALUE}")
    (places.worktree / ".gitignore").write_text("cache*\n")
    (places.worktree / f"cache-{VALUE}").write_text("x")
    (places.outbox / "odd.txt").write_text(VALUE)
    for name in ("result.bundle", "reporting.yaml", "stage.yaml"):
        (places.outbox / name).write_text(VALUE)
    remove_traces(given, places)
    stars, there = "*" * len(VALUE), {path.relative_to(tmp_path) for path in tmp_path.rglob("*")}
    assert not [path for path in there if VALUE in str(path)]
    assert not (places.homes / "link").is_symlink()
    assert (places.homes / f"of-{stars}" / "kept").read_text() == f"is {stars}"
    assert (places.homes / f"{stars}-1").read_text() == "second"
    assert (places.worktree / f"cache-{stars}").read_text() == "x"
    assert (places.outbox / "odd.txt").read_text() == stars
    assert (places.notes / f"{stars}.yaml").read_text() == (places.logs / "x.log").read_text() == f"is {stars}"
    assert all(
        (places.outbox / name).read_text() == VALUE for name in ("result.bundle", "reporting.yaml", "stage.yaml")
    )


def test_a_name_that_is_taken_gets_a_number_and_nothing_goes(places: AttemptPlaces, given: Given) -> None:
    stars = "*" * len(VALUE)
    (places.homes / stars).mkdir()
    (places.homes / VALUE).mkdir()
    (places.homes / VALUE / "somebody's").write_text("kept")
    (places.homes / f"{stars}.txt").touch()
    (places.homes / f"{VALUE}.txt").write_text(f"is {VALUE}")
    remove_traces(given, places)
    assert (places.homes / f"{stars}.1" / "somebody's").read_text() == "kept"
    assert (places.homes / f"{stars}.txt.1").read_text() == f"is {stars}"
    assert not [path for path in places.homes.rglob("*") if VALUE in path.name]


def test_homes_are_blanked_where_the_worktree_is_none_any_more(places: AttemptPlaces, given: Given) -> None:
    (places.homes / "session.jsonl").write_text(VALUE)
    (places.worktree / ".git").write_text("gitdir: /nowhere")
    remove_traces(given, places)
    assert VALUE not in (places.homes / "session.jsonl").read_text()


def test_what_was_written_before_the_daemon_was_killed_is_blanked_too(places: AttemptPlaces, given: Given) -> None:
    (places.worktree.parent / ".tree.owner").touch()
    (places.homes / "session.jsonl").write_text(f"it is {VALUE}")
    given.since = time.time_ns() + 10**9  # (as if it had been given to this daemon since)
    remove_traces(given, places)
    assert VALUE not in (places.homes / "session.jsonl").read_text()


def test_what_was_there_before_is_not_looked_at(places: AttemptPlaces) -> None:
    (places.homes / "login").write_text(VALUE)
    given = Given(None)
    given.take(SealedCredential(task="demo.a", attempt=1, id="cred-001", env="NPM_TOKEN", value=VALUE))
    given.since = (places.homes / "login").stat().st_ctime_ns + 1
    remove_traces(given, places)
    assert (places.homes / "login").read_text() == VALUE


@pytest.mark.parametrize("place", ["commit", "message", "branch", "config", "stash", "pack"])
def test_a_clone_that_holds_it_is_made_anew_once_nobody_needs_it(
    places: AttemptPlaces, given: Given, place: str
) -> None:
    tree = places.worktree
    if place in ("commit", "stash", "pack"):
        (tree / "a.txt").write_text(f"export TOKEN={VALUE}")
    if place == "stash":
        git("stash", cwd=tree)
    if place in ("commit", "pack"):
        git("commit", "-qam", "x", cwd=tree)
    if place == "pack":
        git("repack", "-qadl", cwd=tree)
    if place == "message":
        git("commit", "-q", "--allow-empty", "-m", f"with {VALUE}", cwd=tree)
    if place == "branch":
        git("branch", f"try-{VALUE}", cwd=tree)
    if place == "config":
        git("config", "x.y", VALUE, cwd=tree)
    remove_traces(given, places)
    renew_marked(places.clone, BRANCH)
    assert places.clone.is_dir(), "its worktree is there yet"
    release(places)
    assert not places.clone.exists()
    assert sorted(path.name for path in places.clone.parent.glob(".demo*")) == [".demo.lock"]
    remote = places.clone.parent / "remote.git"
    ensure_clone(places.clone, remote)
    assert VALUE not in git("log", "--all", "-p", cwd=places.clone)


def test_one_that_somebody_works_in_stays_for_now(places: AttemptPlaces, given: Given) -> None:
    git("config", "x.y", VALUE, cwd=places.clone)
    remove_traces(given, places)
    with subprocess.Popen(["sleep", "100"], cwd=places.clone) as somebody:
        wait_for(lambda: working_in(places.clone))
        release(places)
        assert places.clone.is_dir()
        somebody.kill()
    renew_marked(places.clone, BRANCH)
    assert not places.clone.exists()


def test_another_clone_stays(places: AttemptPlaces, given: Given) -> None:
    (places.worktree / "a.txt").write_text("nothing of it")
    git("commit", "-qam", "x", cwd=places.worktree)
    remove_traces(given, places)
    release(places)
    assert (places.clone / ".git").is_dir()


def test_one_stays_as_long_as_it_has_the_branch_of_another_task(places: AttemptPlaces, given: Given) -> None:
    git("branch", "cloud-code/b", "origin/main", cwd=places.clone)
    git("config", "x.y", VALUE, cwd=places.clone)
    remove_traces(given, places)
    release(places)
    assert places.clone.is_dir()
    git("branch", "-D", "cloud-code/b", cwd=places.clone)
    renew_marked(places.clone, BRANCH)
    assert not places.clone.exists()
