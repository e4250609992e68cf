"""Clones of a task's own: borrowed or full, brought up to date, removed with nothing lost."""

from dataclasses import replace
from pathlib import Path

import pytest

from agent_daemon.checkout import WorktreeRequest, ensure_worktree, remove_own_folder
from agent_daemon.clone import ensure_clone
from agent_daemon.git import GitError
from agent_daemon.handover import make_bundle, make_salvage
from agent_daemon.ownership import Owner, remove_owned, take_possession
from agent_daemon.protocol.errors import ProtocolError
from tests.fakes.repositories import Clone, git, make_upstream

BRANCH = "cloud-code/1-fix"
OWNER = Owner(task="acme.1", attempt=1, branch=BRANCH)


class Place:
    """A mirror, and the folder that a task has for itself."""

    def __init__(self, folder: Path) -> None:
        self.upstream, self.person = make_upstream(folder)
        self.mirror = folder / 'mirrors: "the" \\ others' / "acme.git"
        git(folder, "clone", "--quiet", "--bare", str(self.upstream), str(self.mirror))
        self.own = folder / "workspaces" / "isolated" / "acme.1"
        self.clone, self.worktree = self.own / "repository", self.own / "worktree"
        self.base = git(self.mirror, "rev-parse", "main")
        self.request = WorktreeRequest(
            clone=self.clone, worktree=self.worktree, branch=BRANCH, base_commit=self.base
        )

    def make(self, *, borrow: bool = False) -> Clone:
        ensure_clone(self.clone, self.mirror, borrow=borrow, commits=(self.base,))
        take_possession(self.request, OWNER, begun=False)
        ensure_worktree(self.request)
        return Clone(self.worktree, "Agent", "agent@example.org")

    def push_upstream(self, text: str) -> str:
        sha = self.person.commit("More", {"more.txt": text})
        self.person.git("push", "--quiet", "origin", "HEAD:main")
        git(self.mirror, "fetch", "--quiet", str(self.upstream), "+refs/heads/*:refs/heads/*")
        return sha


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def packs(clone: Path) -> int:
    return len(list((clone / ".git/objects/pack").glob("*.pack")))


def test_a_full_clone_needs_no_mirror_any_more(place: Place) -> None:
    agent = place.make()
    place.mirror.rename(place.mirror.with_name("away.git"))
    assert not (place.clone / ".git/objects/info/alternates").exists()
    agent.git("fsck", "--strict", "--no-dangling")
    assert agent.git("log", "--format=%s", "origin/main") == "Add a workflow\nBegin"
    agent.commit("Work", {"new.txt": "new\n"})
    assert make_bundle(place.worktree, place.base, BRANCH, place.own.parent / "result.bundle") is not None


def test_a_full_clone_gets_what_is_new_and_nothing_twice(place: Place) -> None:
    agent = place.make()
    ensure_clone(place.clone, place.mirror, borrow=False, commits=(place.base,))
    assert packs(place.clone) == 1
    tip = place.push_upstream("more\n")
    ensure_clone(place.clone, place.mirror, borrow=False, commits=(place.base,))
    assert packs(place.clone) == 2
    place.mirror.rename(place.mirror.with_name("away.git"))
    assert agent.git("rev-parse", "origin/main") == tip
    agent.git("fsck", "--strict", "--no-dangling")


def test_a_base_that_no_branch_reaches_any_more_is_copied_too(place: Place) -> None:
    git(place.mirror, "update-ref", "refs/pins/acme.1", place.base)
    git(place.mirror, "update-ref", "refs/heads/main", f"{place.base}~1")
    git(place.mirror, "update-ref", "-d", "refs/heads/people")
    agent = place.make()
    assert agent.head() == place.base
    agent.git("fsck", "--strict", "--no-dangling")


def test_a_base_that_the_mirror_lacks_is_told(place: Place) -> None:
    place.base = "1" * 40
    place.request = replace(place.request, base_commit=place.base)
    with pytest.raises(ProtocolError, match="E_START_COMMIT"):
        place.make()


def test_a_mirror_that_cannot_be_read_leaves_nothing_half_made(place: Place) -> None:
    away = place.mirror.with_name("away.git")
    place.mirror.rename(away)
    with pytest.raises(GitError):
        place.make()
    away.rename(place.mirror)
    assert place.make().head() == place.base


def test_a_clone_that_was_killed_while_it_was_copied_is_completed(place: Place) -> None:
    ensure_clone(place.clone, place.mirror, borrow=True)  # as far as the folder, before any object is there
    (place.clone / ".git/objects/info/alternates").unlink()
    git(place.clone, "update-ref", "-d", "refs/remotes/origin/main")
    for half in ("tmp_pack_123456", "tmp_idx_123456"):
        (place.clone / ".git/objects/pack" / half).write_bytes(b"half")
    place.make().git("fsck", "--strict", "--no-dangling")


@pytest.mark.parametrize("borrow", [True, False])
def test_release_removes_all_of_it(place: Place, borrow: bool) -> None:
    agent = place.make(borrow=borrow)
    agent.commit("Work", {"new.txt": "new\n"})
    (place.own / "home" / "codex").mkdir(parents=True)
    locked = place.worktree / "locked"
    locked.mkdir(mode=0o500)
    remove_owned(place.clone, place.worktree, OWNER, in_use=False)
    remove_own_folder(place.own)
    assert list(place.own.parent.iterdir()) == []
    remove_own_folder(place.own)


def test_a_later_attempt_keeps_its_place_when_an_earlier_one_is_released(place: Place) -> None:
    place.make()
    later = OWNER.model_copy(update={"attempt": 2})
    take_possession(place.request, later, begun=False)
    remove_owned(place.clone, place.worktree, OWNER, in_use=True)
    remove_own_folder(place.own)
    assert (place.worktree / "README.md").exists()


def test_unsaved_work_that_was_set_aside_keeps_the_clone(place: Place) -> None:
    agent = place.make()
    agent.commit("Precious", {"precious.txt": "work\n"})
    second = OWNER.model_copy(update={"attempt": 2, "branch": f"{BRANCH}-r2"})
    place.request = replace(place.request, branch=second.branch)
    aside = take_possession(place.request, second, begun=False)
    assert aside is not None
    ensure_worktree(place.request)
    remove_owned(place.clone, place.worktree, second, in_use=False)
    remove_own_folder(place.own)
    assert (aside / "precious.txt").exists()
    assert git(aside, "log", "-1", "--format=%s") == "Precious"
    remove_owned(place.clone, place.worktree, OWNER, in_use=False)
    remove_own_folder(place.own)
    assert not place.own.exists()


def test_salvage_of_one_mode_is_the_start_of_another(place: Place) -> None:
    agent = place.make()
    agent.commit("Work", {"new.txt": "new\n"})
    agent.write({"loose.txt": "loose\n"})
    made = make_salvage(place.worktree, place.base, place.own.parent / "salvage.bundle")
    assert made is not None
    clone = place.own.parent / "shared"
    ensure_clone(clone, place.mirror)
    request = WorktreeRequest(
        clone=clone,
        worktree=place.own.parent / "shared.worktrees" / "acme.1",
        branch=BRANCH,
        base_commit=place.base,
        start_commit=made.head,
        start_bundle=made.path,
    )
    ensure_worktree(request)
    assert git(request.worktree, "log", "-1", "--format=%s") == "Work"
    assert git(request.worktree, "status", "--porcelain") == "?? loose.txt"
