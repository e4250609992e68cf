"""Whose worktree it is, with real git: gone on with, set aside, removed, and never mixed up."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from agent_daemon.checkout import WorktreeRequest, ensure_worktree, head, registration_of
from agent_daemon.clone import ensure_clone
from agent_daemon.handover import make_salvage
from agent_daemon.ownership import Owner, belongs_to, read_owner, remove_owned, take_possession
from agent_daemon.protocol.errors import ProtocolError
from tests.integration.test_worktree import BRANCH, Place, git

FIRST = Owner(task="acme-app.1", attempt=1, branch=BRANCH)
SECOND = Owner(task="acme-app.1", attempt=2, branch=BRANCH)
RERUN = Owner(task="acme-app.1", attempt=2, branch=f"{BRANCH}-r2")


class Owned(Place):
    """A place whose worktree the first attempt has taken and worked in."""

    def take(self, owner: Owner, *, begun: bool = False, start: str | None = None) -> Path | None:
        request = replace(self.request, branch=owner.branch, start_commit=start)
        aside = take_possession(request, owner, begun=begun)
        ensure_worktree(request)
        return aside

    @property
    def note(self) -> Path:
        return self.worktree.with_name(f".{self.worktree.name}.owner")


@pytest.fixture
def place(tmp_path: Path) -> Owned:
    made = Owned(tmp_path)
    ensure_clone(made.clone, made.mirror)
    assert made.take(FIRST) is None
    made.write("precious.txt", "mine\n")
    return made


def leave_detached(place: Owned) -> None:
    git(place.worktree, "checkout", "-q", "--detach")


def leave_on_own_branch(place: Owned) -> None:
    git(place.worktree, "checkout", "-q", "-b", "my-idea")
    place.commit("committed.txt", "1\n")


def leave_on_orphan(place: Owned) -> None:
    git(place.worktree, "checkout", "-q", "--orphan", "fresh")
    git(place.worktree, "commit", "-q", "-m", "unrelated")


def leave_unborn(place: Owned) -> None:
    git(place.worktree, "checkout", "-q", "--orphan", "fresh")


def leave_on_branch(place: Owned) -> None:
    place.commit("committed.txt", "1\n")


STATES = [leave_detached, leave_on_own_branch, leave_on_orphan, leave_unborn, leave_on_branch]
NOTES = {
    "whole": lambda note: None,
    "missing": lambda note: note.unlink(),
    "damaged": lambda note: note.write_bytes(b"task: [\xff"),
    "folder": lambda note: (note.unlink(), (note / "sub").mkdir(parents=True)),
    "link": lambda note: (note.unlink(), note.symlink_to("/etc/passwd")),
}


@pytest.mark.parametrize("note", NOTES)
@pytest.mark.parametrize("leave", STATES)
def test_a_new_run_begins_anew_wherever_the_agent_left_head(place: Owned, leave: object, note: str) -> None:
    leave(place)  # type: ignore[operator]
    NOTES[note](place.note)
    tip = git(place.worktree, "rev-parse", "--verify", "-q", "HEAD", check=False)

    aside = place.take(RERUN)

    assert aside is not None and (aside / "precious.txt").read_text() == "mine\n"
    assert git(aside, "rev-parse", "--verify", "-q", "HEAD", check=False) == tip
    assert head(place.worktree) == place.base and not (place.worktree / "precious.txt").exists()
    assert git(place.worktree, "symbolic-ref", "--short", "HEAD") == RERUN.branch
    assert read_owner(place.worktree) == RERUN
    assert place.take(RERUN) is None, "it is not set aside a second time"


@pytest.mark.parametrize("leave", [leave_detached, leave_on_own_branch, leave_on_branch])
def test_the_next_attempt_of_the_same_run_goes_on_in_what_is_not_saved(place: Owned, leave: object) -> None:
    leave(place)  # type: ignore[operator]
    assert place.take(SECOND) is None
    assert (place.worktree / "precious.txt").exists()
    assert read_owner(place.worktree) == SECOND


@pytest.mark.parametrize("leave", [leave_on_orphan, leave_unborn])
def test_work_that_does_not_stand_on_the_start_is_not_gone_on_with(place: Owned, leave: object) -> None:
    leave(place)  # type: ignore[operator]
    aside = place.take(SECOND)
    assert aside is not None and (aside / "precious.txt").exists()
    assert head(place.worktree) == place.base
    assert git(place.worktree, "symbolic-ref", "--short", "HEAD") == BRANCH


def test_work_that_lacks_what_people_pushed_is_not_gone_on_with(place: Owned) -> None:
    theirs = place.write_upstream("calc.py", "theirs\n")
    place.fetch_mirror()
    aside = place.take(SECOND, start=theirs)
    assert aside is not None and (aside / "precious.txt").exists()
    assert head(place.worktree) == theirs


@pytest.mark.parametrize("note", NOTES)
def test_an_attempt_that_had_begun_finds_its_own_worktree(place: Owned, note: str) -> None:
    leave_on_own_branch(place)
    NOTES[note](place.note)
    assert belongs_to(place.worktree, FIRST, begun=True)
    assert place.take(FIRST, begun=True) is None
    assert (place.worktree / "precious.txt").exists()
    assert read_owner(place.worktree) == FIRST


def test_nothing_is_moved_for_an_attempt_that_cannot_start(place: Owned) -> None:
    with pytest.raises(ProtocolError, match="E_START_COMMIT"):
        place.take(RERUN, start="0" * 39 + "1")
    assert (place.worktree / "precious.txt").exists()
    assert read_owner(place.worktree) == FIRST


def test_what_a_power_cut_left_of_a_worktree_is_in_nobodys_way(place: Owned) -> None:
    admin = Path(git(place.worktree, "rev-parse", "--absolute-git-dir"))
    branch = git(place.worktree, "symbolic-ref", "HEAD")
    for file in (place.worktree / ".git", admin / "gitdir", admin / "index", place.worktree / "calc.py"):
        file.write_bytes(b"")
    (place.clone / ".git" / branch).write_text("1" * 40 + "\n")  # (its objects are lost, too)

    assert place.take(FIRST, begun=True) is None
    (left,) = place.worktree.parent.glob(f"{place.worktree.name}.cut-off-*")
    assert (left / "precious.txt").exists() and read_owner(place.worktree) == FIRST
    assert (place.worktree / "calc.py").read_text()


def test_a_foreign_folder_gets_no_owner(tmp_path: Path) -> None:
    place = Owned(tmp_path)
    ensure_clone(place.clone, place.mirror)
    place.write("precious.txt", "mine\n")
    with pytest.raises(ProtocolError, match="E_WORKTREE_OCCUPIED"):
        place.take(FIRST)
    assert read_owner(place.worktree) is None
    remove_owned(place.clone, place.worktree, FIRST, in_use=False)
    assert (place.worktree / "precious.txt").exists()


def test_a_release_removes_what_is_the_attempts_own_and_nothing_else(place: Owned) -> None:
    aside = place.take(RERUN)
    assert aside is not None
    place.write("new.txt", "2\n")

    remove_owned(place.clone, place.worktree, FIRST, in_use=False)
    assert not aside.exists(), "its work was saved after it was set aside"
    assert (place.worktree / "new.txt").exists() and head(place.worktree) == place.base

    remove_owned(place.clone, place.worktree, RERUN, in_use=False)
    assert list(place.worktree.parent.iterdir()) == []
    assert git(place.clone, "for-each-ref", "refs/heads") == ""
    assert git(place.clone, "worktree", "list").count("\n") == 0


@pytest.mark.parametrize(("note", "in_use", "removed"), [("missing", False, True), ("damaged", True, False)])
def test_without_a_note_a_release_spares_what_a_newer_attempt_may_use(
    place: Owned, note: str, in_use: bool, removed: bool
) -> None:
    NOTES[note](place.note)
    remove_owned(place.clone, place.worktree, FIRST, in_use=in_use)
    assert place.worktree.exists() is not removed


def test_what_is_set_aside_can_still_be_bundled(place: Owned) -> None:
    leave_on_own_branch(place)
    aside = place.take(RERUN)
    assert aside is not None
    made = make_salvage(aside, place.base, place.out / "salvage.bundle")
    assert made is not None
    quarantine, ref = place.imported(made)
    assert git(quarantine, "show", f"{ref}:precious.txt") == "mine"
    assert git(quarantine, "show", f"{ref}:committed.txt") == "1"


def test_a_request_without_a_worktree_only_notes_the_owner(tmp_path: Path) -> None:
    place = Owned(tmp_path)
    ensure_clone(place.clone, place.mirror)
    request: WorktreeRequest = place.request
    assert take_possession(request, FIRST, begun=False) is None
    assert read_owner(place.worktree) == FIRST and not place.worktree.exists()


@pytest.mark.parametrize("trap", ["pipe", "link to a device", "link for the folder"])
def test_what_an_agent_puts_among_the_registrations_holds_up_nobody(tmp_path: Path, trap: str) -> None:
    """Its worktree's clone is open to it, and git waits for the writer of a pipe that it reads."""
    clone, worktree = tmp_path / "clone", tmp_path / "work"
    git(tmp_path, "init", "-q", "-b", "main", str(clone))
    commit = ("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "--allow-empty", "-m", "one")
    git(clone, *commit)
    git(clone, "worktree", "add", "-q", str(worktree))
    trapped = clone / ".git/worktrees/a-trap"
    if trap == "link for the folder":
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir()
        os.mkfifo(elsewhere / "gitdir")
        trapped.symlink_to(elsewhere)
    else:
        trapped.mkdir()
        os.mkfifo(trapped / "gitdir") if trap == "pipe" else (trapped / "gitdir").symlink_to("/dev/zero")
    registration = registration_of(clone, worktree)
    assert registration == clone / ".git/worktrees/work" and not os.path.lexists(trapped / "gitdir")
    git(clone, "worktree", "prune")
    assert (worktree / ".git").is_file() and registration_of(clone, worktree) == registration
