"""Trial merges in a throw-away repository beside the mirror."""

import subprocess
from pathlib import Path

import pytest

from supervisor.git.combining import Combined, combine, write_bundle
from supervisor.git.command import GitError, Limits
from supervisor.git.merging import is_contained, tree_of, try_merge
from supervisor.git.mirror import Mirror, fetch_mirror, make_repository
from tests.fakes.repositories import Clone, clone, git, make_upstream


class World:
    """A mirror, a person's clone, an agent's clone, and a quarantine that sees the mirror."""

    def __init__(self, folder: Path) -> None:
        self.bare, self.person = make_upstream(folder)
        self.agent = clone(self.bare, folder / "agent", "Agent", "agent@example.org")
        self.mirror = Mirror(folder / "mirrors" / "app.git")
        self.quarantine = folder / "quarantine.git"
        fetch_mirror(self.mirror, str(self.bare))
        make_repository(self.quarantine, self.mirror)

    def push_upstream(self, message: str, files: dict[str, str | bytes | None]) -> str:
        sha = self.person.commit(message, files)
        self.person.git("push", "--quiet", "origin", "HEAD:main")
        fetch_mirror(self.mirror, str(self.bare))
        return sha

    def take(self, who: Clone) -> str:
        """Bring a clone's commits into the quarantine."""
        who.git("push", "--quiet", str(self.quarantine), "HEAD:refs/heads/work")
        return who.head()


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_a_clean_merge_gives_the_tree_that_git_would(world: World) -> None:
    world.agent.commit("Work", {"src/new.py": "N = 1\n"})
    head = world.take(world.agent)
    tip = world.push_upstream("Else", {"src/else.py": "E = 1\n"})
    merge = try_merge(world.quarantine, tip, head)
    world.agent.git("fetch", "--quiet", "origin")
    world.agent.git("merge", "--quiet", "--no-edit", "origin/main")
    assert merge.clean and merge.conflicts == ()
    assert merge.tree == world.agent.git("rev-parse", "HEAD^{tree}")


def test_conflicts_are_named_and_made_printable(world: World) -> None:
    files: dict[str, str | bytes | None] = {"src/app.py": "print('agent')\n", "läse\x1bmich.md": "agent\n"}
    world.agent.commit("Work", files)
    head = world.take(world.agent)
    tip = world.push_upstream("Same", {"src/app.py": "print('person')\n", "läse\x1bmich.md": "person\n"})
    merge = try_merge(world.quarantine, tip, head)
    assert not merge.clean
    assert set(merge.conflicts) == {"src/app.py", "läse\\x1bmich.md"}


def test_nothing_is_written_to_the_mirror(world: World) -> None:
    world.agent.commit("Work", {"src/new.py": "N = 1\n"})
    head = world.take(world.agent)
    tip = world.push_upstream("Else", {"src/else.py": "E = 1\n"})
    before = sorted(str(path) for path in world.mirror.path.rglob("*"))
    merge = try_merge(world.quarantine, tip, head)
    assert sorted(str(path) for path in world.mirror.path.rglob("*")) == before
    looked = subprocess.run(
        ["git", "--git-dir", str(world.mirror.path), "cat-file", "-e", merge.tree],
        capture_output=True,
        check=False,
    )
    assert looked.returncode != 0


def test_histories_without_a_common_ancestor_are_an_error(world: World) -> None:
    world.agent.git("checkout", "--quiet", "--orphan", "alone")
    world.agent.commit("Alone", {"README.md": "other\n"})
    head = world.take(world.agent)
    with pytest.raises(GitError):
        try_merge(world.quarantine, world.person.head(), head)


def test_a_squash_is_contained_until_the_same_lines_are_changed_again(world: World) -> None:
    world.agent.commit("One", {"src/new.py": "N = 1\n"})
    world.agent.commit("Two", {"src/new.py": "N = 1\nM = 2\n"})
    head = world.take(world.agent)
    tip = world.push_upstream("Else", {"src/else.py": "E = 1\n"})
    assert not is_contained(world.quarantine, head, tip)
    squashed = world.push_upstream("Squash", {"src/new.py": "N = 1\nM = 2\n"})
    assert is_contained(world.quarantine, head, squashed)
    assert tree_of(world.quarantine, squashed) == try_merge(world.quarantine, squashed, head).tree
    later = world.push_upstream("Elsewhere", {"src/else.py": "E = 2\n"})
    assert is_contained(world.quarantine, head, later)
    again = world.push_upstream("Again", {"src/new.py": "N = 3\nM = 2\n"})
    assert not is_contained(world.quarantine, head, again)


def test_a_commit_that_changes_nothing_is_contained_once_it_is_there_itself(world: World) -> None:
    world.agent.git("commit", "--quiet", "--allow-empty", "--message=Nothing to do")
    head = world.take(world.agent)
    tip = world.push_upstream("Else", {"src/else.py": "E = 1\n"})
    assert not is_contained(world.quarantine, head, tip)
    assert is_contained(world.quarantine, head, head)


class Both(World):
    """An agent's saved work in the quarantine, and the branch as a person left it."""

    def __init__(self, folder: Path, theirs: dict[str, str | bytes | None]) -> None:
        super().__init__(folder)
        self.base = self.agent.head()
        self.began_at = self.agent.commit("Delivered", {"src/new.py": "N = 1\n"})
        self.take(self.agent)
        self.work = self.agent.commit("Work", {"src/new.py": "N = 2\n", "src/more.py": "M = 1\n"})
        self.take(self.agent)
        self.agent.git("checkout", "--quiet", "--detach", self.began_at)
        self.onto = self.agent.commit("By a person", theirs)
        self.agent.git("push", "--quiet", str(self.quarantine), "HEAD:refs/heads/theirs")

    def combine(self, *, onto: str | None = None, squash: bool = False) -> Combined:
        limits = Limits()
        return combine(self.quarantine, onto or self.onto, self.work, self.began_at, squash=squash, limits=limits)


def test_saved_work_is_put_on_top_of_what_a_person_pushed(tmp_path: Path) -> None:
    both = Both(tmp_path, {"src/theirs.py": "T = 1\n"})
    combined = both.combine()
    assert combined == both.combine(), "the same again is the same commit"
    assert combined.commit is not None and set(combined.files) == {"src/new.py", "src/more.py"}
    show = ("show", "--no-patch", "--format=%P%n%(trailers:key=Cloud-Code-Salvage,valueonly)", combined.commit)
    assert git(both.quarantine, *show).split() == [both.onto, "uncommitted"]
    names = git(both.quarantine, "ls-tree", "-r", "--name-only", combined.commit).split()
    assert {"src/new.py", "src/more.py", "src/theirs.py"} <= set(names)
    bundle = tmp_path / "both.bundle"
    write_bundle(both.quarantine, combined.commit, "cloud-code/work", both.base, bundle)
    git(both.person.path, "bundle", "unbundle", str(bundle))
    assert git(both.person.path, "show", f"{combined.commit}:src/new.py") == "N = 2"


def test_what_conflicts_is_named(tmp_path: Path) -> None:
    both = Both(tmp_path, {"src/new.py": "N = 3\n"})
    combined = both.combine()
    assert combined.commit is None and "conflicts" in combined.reason and "src/new.py" in combined.reason
    assert set(combined.files) == {"src/new.py", "src/more.py"}


def test_commits_that_somebody_took_off_the_branch_do_not_come_back(tmp_path: Path) -> None:
    both = Both(tmp_path, {"src/theirs.py": "T = 1\n"})
    both.agent.git("checkout", "--quiet", "--detach", both.base)
    other = both.agent.commit("Instead", {"src/else.py": "E = 1\n"})
    both.agent.git("push", "--quiet", str(both.quarantine), "HEAD:refs/heads/other")
    for onto in (both.base, other):
        combined = both.combine(onto=onto)
        assert combined.commit is None and "taken off" in combined.reason


def test_what_has_the_other_already_is_the_start(tmp_path: Path) -> None:
    both = Both(tmp_path, {"src/theirs.py": "T = 1\n"})
    assert both.combine(onto=both.began_at).commit == both.work
    squashed = both.combine(onto=both.began_at, squash=True).commit
    assert squashed is not None and git(both.quarantine, "rev-parse", f"{squashed}^") == both.began_at
    assert tree_of(both.quarantine, squashed) == tree_of(both.quarantine, both.work)
    both.agent.git("checkout", "--quiet", "--detach", both.work)
    later = both.agent.commit("Later", {"src/later.py": "L = 1\n"})
    both.agent.git("push", "--quiet", str(both.quarantine), "HEAD:refs/heads/later")
    assert both.combine(onto=later).commit == later
