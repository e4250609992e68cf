"""A rebase or a merge that the agent left half-done: noticed, and nothing of it lost."""

from pathlib import Path

import pytest

from agent_daemon.checkout import WorktreeRequest, ensure_worktree
from agent_daemon.clone import ensure_clone
from agent_daemon.handover import BundleMade, make_salvage
from agent_daemon.unfinished import rebase_began_at, what_is_unfinished
from tests.fakes.repositories import Clone, git, make_upstream


class Place:
    """A worktree with three commits of the agent, and an upstream that conflicts with the second of them."""

    def __init__(self, folder: Path) -> None:
        upstream, person = make_upstream(folder)
        self.mirror = folder / "mirror.git"
        self.base = person.head()
        self.request = WorktreeRequest(
            clone=folder / "ws" / "acme",
            worktree=folder / "ws" / "acme.worktrees" / "acme.1",
            branch="cloud-code/1-fix",
            base_commit=self.base,
        )
        person.commit("Theirs", {"src/app.py": "print('person')\n"})
        person.git("push", "--quiet", "origin", "main")
        git(folder, "clone", "--quiet", "--bare", str(upstream), str(self.mirror))
        ensure_clone(self.request.clone, self.mirror)
        ensure_worktree(self.request)
        self.worktree = self.request.worktree
        self.agent = Clone(self.worktree, "Agent", "agent@example.org")
        self.agent.commit("One", {"one.txt": "1\n"})
        self.agent.commit("Two", {"src/app.py": "print('agent')\n"})
        self.tip = self.agent.commit("Three", {"three.txt": "3\n"})
        self.target = folder / "salvage.bundle"

    def try_git(self, *arguments: str) -> None:
        with pytest.raises(AssertionError):
            self.agent.git(*arguments)

    def salvage(self) -> BundleMade:
        made = make_salvage(self.worktree, self.base, self.target)
        assert made is not None
        return made


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_finished_work_is_not_unfinished(place: Place) -> None:
    assert what_is_unfinished(place.worktree) is None
    assert place.salvage().head == place.tip


def test_a_rebase_in_the_middle_is_told_and_its_rest_is_saved(place: Place) -> None:
    place.try_git("rebase", "origin/main")
    said = what_is_unfinished(place.worktree)
    assert said is not None and f"the branch was at {place.tip}" in said
    made = place.salvage()
    again = WorktreeRequest(
        clone=place.request.clone.with_name("other"),
        worktree=place.worktree.with_name("acme.1.again"),
        branch="cloud-code/1-again",
        base_commit=place.base,
        start_commit=made.head,
        start_bundle=made.path,
    )
    ensure_clone(again.clone, place.mirror)
    ensure_worktree(again)
    assert git(again.worktree, "log", "--format=%s", f"HEAD..{place.tip}") == "Three\nTwo\nOne"
    assert git(again.worktree, "log", "-1", "--format=%s") == "One"
    assert "<<<<<<<" in (again.worktree / "src/app.py").read_text()


def test_a_rebase_that_was_given_up_is_none(place: Place) -> None:
    place.try_git("rebase", "origin/main")
    place.agent.git("checkout", "--quiet", "--force", "cloud-code/1-fix")
    assert rebase_began_at(place.worktree) is None and what_is_unfinished(place.worktree) is None


@pytest.mark.parametrize("settled", [False, True])
def test_conflicts_of_a_merge(place: Place, settled: bool) -> None:
    place.try_git("merge", "origin/main")
    if settled:
        place.agent.write({"src/app.py": "print('both')\n"})
    said = what_is_unfinished(place.worktree)
    assert (said is None) is settled
    assert settled or "src/app.py" in str(said)


@pytest.mark.parametrize("noted", ["", "not a hash", "1" * 40, "../../x"])
def test_nonsense_in_the_state_of_a_rebase_is_passed_over(place: Place, noted: str) -> None:
    place.agent.git("checkout", "--quiet", "--detach")
    folder = Path(place.agent.git("rev-parse", "--absolute-git-dir")) / "rebase-merge"
    folder.mkdir()
    (folder / "orig-head").write_text(noted)
    assert rebase_began_at(place.worktree) is None
