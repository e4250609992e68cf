"""Trial merges in a throw-away repository beside the mirror."""

import subprocess
from pathlib import Path

import pytest

from supervisor.git.command import GitError
from supervisor.git.merging import is_contained, tree_of, try_merge
from supervisor.git.mirror import Mirror, fetch_mirror, make_repository
from tests.fakes.repositories import Clone, clone, make_upstream


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
