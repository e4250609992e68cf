"""Submodules and git-lfs in a worktree, with real repositories; git-lfs itself is not installed here."""

from pathlib import Path

import pytest

from agent_daemon.checkout import WorktreeRequest, ensure_worktree
from agent_daemon.clone import ensure_clone
from agent_daemon.external import look_for_external
from agent_daemon.git import Identity
from agent_daemon.handover import commit_leftovers, make_salvage
from agent_daemon.prompt import render_prompt
from agent_daemon.protocol.model import External
from tests.fakes.repositories import Clone, clone, git, make_upstream
from tests.unit.conftest import make_tasking

BOT = Identity(name="The Bot", email="bot@example.org")
POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'a' * 64}\nsize 12345\n"


class Place:
    """An upstream with a submodule and a file of git-lfs, and a worktree of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "library").mkdir()
        self.library, author = make_upstream(folder / "library")
        self.pinned = author.head()
        upstream, person = make_upstream(folder)
        person.git("submodule", "--quiet", "add", f"file://{self.library}", "lib")
        person.commit("Attributes", {".gitattributes": "*.bin filter=lfs -text\n", "logo.bin": POINTER})
        person.git("push", "--quiet", "origin", "main")
        self.mirror = folder / "mirror.git"
        git(folder, "clone", "--quiet", "--bare", str(upstream), str(self.mirror))
        self.base = person.head()
        self.request = WorktreeRequest(
            clone=folder / "ws" / "acme",
            worktree=folder / "ws" / "acme.worktrees" / "acme.1",
            branch="cloud-code/1-fix",
            base_commit=self.base,
        )
        ensure_clone(self.request.clone, self.mirror)
        ensure_worktree(self.request)
        self.worktree = self.request.worktree
        self.agent = Clone(self.worktree, "Agent", "agent@example.org")

    def fill(self) -> Clone:
        """What an agent with a network does."""
        self.agent.git("submodule", "--quiet", "update", "--init")
        return Clone(self.worktree / "lib", "Agent", "agent@example.org")


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_both_are_noticed_and_nothing_is_fetched(place: Place) -> None:
    assert list((place.worktree / "lib").iterdir()) == []
    assert (place.worktree / "logo.bin").read_text() == POINTER
    assert look_for_external(place.worktree) == External(
        submodules=("lib",), submodules_total=1, lfs_files=("logo.bin",), lfs_files_total=1
    )


def test_a_repository_without_either_says_nothing(place: Place) -> None:
    plain = clone(place.library, place.folder / "plain", "Agent", "agent@example.org")
    assert look_for_external(plain.path) is None


def test_the_prompt_tells_of_both(place: Place) -> None:
    external = look_for_external(place.worktree)
    prompt = render_prompt(make_tasking(), agent_type="backend", description="", external=external)
    assert "## Submodules are not there" in prompt and "<paths>\nlib\n</paths>" in prompt
    assert "## Files kept by git-lfs are pointers" in prompt and "logo.bin" in prompt
    assert "Submodules" not in render_prompt(make_tasking(), agent_type="backend", description="")


@pytest.mark.parametrize("filled", [False, True])
def test_a_submodule_is_left_as_it_is(place: Place, filled: bool) -> None:
    if filled:
        place.fill()
    assert commit_leftovers(place.worktree, "Leftovers", BOT) is None
    assert make_salvage(place.worktree, place.base, place.folder / "salvage.bundle") is None
    external = look_for_external(place.worktree)
    assert external is not None and external.submodules_changed == ()


def test_its_empty_folder_is_easily_lost_and_that_changes_nothing(place: Place) -> None:
    (place.worktree / "lib").rmdir()
    assert commit_leftovers(place.worktree, "Leftovers", BOT) is None


def test_removing_it_on_purpose_is_a_change(place: Place) -> None:
    place.agent.git("rm", "--quiet", "lib")
    commit_leftovers(place.worktree, "Leftovers", BOT)
    assert "160000" not in place.agent.git("ls-tree", "-r", "HEAD")


def test_work_inside_is_told_and_salvaged_but_not_committed(place: Place) -> None:
    inside = place.fill()
    committed = inside.commit("Inside", {"src/lib.py": "X = 2\n"})
    inside.write({"loose.py": "loose\n"})
    place.agent.write({"work.txt": "work\n"})
    external = look_for_external(place.worktree)
    assert external is not None and external.submodules_changed == ("lib",)

    made = make_salvage(place.worktree, place.base, place.folder / "salvage.bundle")
    assert made is not None
    kept = place.agent.git("diff-tree", "-r", "--name-only", place.base, made.head).splitlines()
    assert kept == ["lib", "lib/loose.py", "lib/src/lib.py", "work.txt"]

    commit_leftovers(place.worktree, "Leftovers", BOT)
    assert place.agent.git("diff", "--name-only", place.base, "HEAD") == "work.txt"
    assert place.agent.git("rev-parse", "HEAD:lib") == place.pinned != committed

    again = WorktreeRequest(
        clone=place.request.clone,
        worktree=place.worktree.with_name("acme.1.again"),
        branch="cloud-code/1-again",
        base_commit=place.base,
        start_commit=made.head,
        start_bundle=made.path,
    )
    ensure_worktree(again)
    assert (again.worktree / "lib/src/lib.py").read_text() == "X = 2\n", "the next attempt finds it"
    commit_leftovers(again.worktree, "Leftovers", BOT)
    assert git(again.worktree, "diff", "--name-only", place.base, "HEAD") == "work.txt"


def test_filters_of_git_lfs_in_the_repository_are_not_run(place: Place) -> None:
    ran = place.folder / "ran"
    for name in ("clean", "smudge"):
        place.agent.git("config", f"filter.lfs.{name}", f"touch {ran}; cat")
    place.agent.git("config", "filter.lfs.process", f"touch {ran}")
    place.agent.git("config", "filter.lfs.required", "true")
    place.agent.write({"logo.bin": "new content\n", "new.bin": "more\n"})
    commit_leftovers(place.worktree, "Leftovers", BOT)
    assert not ran.exists()
    assert place.agent.git("-c", "filter.lfs.smudge=", "show", "HEAD:logo.bin") == "new content"
