"""The task's commits on top of a base that moved: what is put there, what conflicts, what stays as it was."""

import itertools
from pathlib import Path

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from agent_daemon import rebase
from agent_daemon.rebase import Followed, finish_switch, follow_base
from tests.fakes.repositories import Clone, git
from tests.thorough import examples

Files = dict[str, str | bytes | None]
BRANCH = "cloud-code/1-fix"
TEXT = "".join(f"line {number}\n" for number in range(10))


class Place:
    """A worktree on the task's branch; `upstream` commits to the base branch beside it."""

    def __init__(self, folder: Path) -> None:
        git(folder, "init", "--quiet", "--initial-branch=main", "clone")
        self.person = Clone(folder / "clone", "Paula Person", "paula@example.org")
        self.base = self.person.commit("Begin", {"a.txt": TEXT, "b.txt": TEXT, "dir/c.txt": "c\n"})
        self.person.git("worktree", "add", "--quiet", "-b", BRANCH, str(folder / "worktree"))
        self.worktree = folder / "worktree"
        self.agent = Clone(self.worktree, "Agent", "agent@example.org")

    def upstream(self, files: Files, message: str = "Upstream") -> str:
        return self.person.commit(message, files)

    def follow(self) -> Followed:
        return follow_base(self.worktree, base=self.base, onto=self.person.head())

    def state(self) -> tuple[str, ...]:
        return (
            self.agent.git("symbolic-ref", "HEAD"),
            self.agent.head(),
            self.agent.git("status", "--porcelain", "--untracked-files=all"),
            self.agent.git("for-each-ref", "--format=%(refname) %(objectname)"),
            self.agent.git("write-tree"),
        )


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_work_is_put_on_top_with_authors_dates_and_messages(place: Place) -> None:
    place.agent.commit("One\n\nIts body.", {"a.txt": TEXT + "work\n"})
    place.agent.commit("Two", {"new.txt": "new\n", "dir/c.txt": None})
    before = place.agent.git("log", "-2", "--format=%an %ae %at %cn %ce %ct %B")
    tip = place.upstream({"b.txt": "other\n", "fresh.txt": "fresh\n"})
    assert place.follow() == Followed(outcome="rebased")
    assert place.agent.git("log", "-2", "--format=%an %ae %at %cn %ce %ct %B") == before
    assert place.agent.git("rev-parse", "HEAD~2") == tip
    assert place.agent.git("symbolic-ref", "HEAD") == f"refs/heads/{BRANCH}"
    assert place.agent.git("status", "--porcelain", "--untracked-files=all") == ""
    assert (place.worktree / "fresh.txt").read_text() == "fresh\n"
    assert not (place.worktree / "dir/c.txt").exists()
    assert place.follow() == Followed(outcome="current")


def test_the_same_work_gives_the_same_commits(place: Place) -> None:
    old = place.agent.commit("One", {"new.txt": "new\n"})
    place.upstream({"b.txt": "other\n"})
    place.follow()
    first = place.agent.head()
    place.agent.git("reset", "--quiet", "--hard", old)
    place.follow()
    assert place.agent.head() == first


def test_a_base_that_has_not_moved_changes_nothing(place: Place) -> None:
    place.agent.commit("One", {"new.txt": "new\n"})
    before = place.state()
    assert place.follow() == Followed(outcome="current")
    assert place.state() == before


def test_a_conflict_is_told_and_changes_nothing(place: Place) -> None:
    place.agent.commit("One", {"a.txt": TEXT.replace("line 5", "agent"), "dir/c.txt": "agent\n", "n.txt": "n\n"})
    place.upstream({"a.txt": TEXT.replace("line 5", "person"), "dir/c.txt": None})
    before = place.state()
    followed = place.follow()
    assert followed.outcome == "conflict" and set(followed.files) == {"a.txt", "dir/c.txt"}
    assert place.state() == before


def test_a_rename_upstream_is_followed(place: Place) -> None:
    place.agent.commit("One", {"a.txt": TEXT + "work\n"})
    place.upstream({"a.txt": None, "moved.txt": TEXT})
    assert place.follow().outcome == "rebased"
    assert (place.worktree / "moved.txt").read_text() == TEXT + "work\n"


def test_a_history_with_merges_stays(place: Place) -> None:
    place.agent.commit("One", {"new.txt": "new\n"})
    place.upstream({"b.txt": "other\n"})
    place.agent.git("merge", "--quiet", "--no-edit", "main")
    place.base = place.person.head()
    place.upstream({"b.txt": "again\n"})
    place.agent.git("checkout", "--quiet", "-b", "side", "HEAD~1")
    place.agent.commit("Side", {"side.txt": "side\n"})
    place.agent.git("checkout", "--quiet", BRANCH)
    place.agent.git("merge", "--quiet", "--no-edit", "side")
    before = place.state()
    assert place.follow() == Followed(outcome="kept", reason="its history has merges")
    assert place.state() == before


def test_a_rewritten_base_branch_is_left_alone(place: Place) -> None:
    place.agent.commit("One", {"new.txt": "new\n"})
    place.person.git("checkout", "--quiet", "--orphan", "fresh")
    place.upstream({"a.txt": "fresh\n"})
    followed = place.follow()
    assert followed.outcome == "kept" and "rewritten" in followed.reason


def test_steps_that_conflict_where_their_sum_does_not(place: Place) -> None:
    place.agent.commit("Away", {"a.txt": TEXT.replace("line 5", "agent")})
    place.agent.commit("And back", {"a.txt": TEXT, "new.txt": "new\n"})
    place.upstream({"a.txt": TEXT.replace("line 5", "person")})
    before = place.state()
    followed = place.follow()
    assert followed.outcome == "kept" and "all of it together does not" in followed.reason
    assert place.state() == before


def test_what_upstream_has_done_too_is_left_out(place: Place) -> None:
    place.agent.commit("Same", {"b.txt": "same\n"})
    place.agent.git("commit", "--quiet", "--allow-empty", "--message", "Nothing, on purpose")
    place.agent.commit("Own", {"new.txt": "new\n"})
    tip = place.upstream({"b.txt": "same\n"})
    assert place.follow().outcome == "rebased"
    assert place.agent.git("log", "--format=%s", f"{tip}..") == "Own\nNothing, on purpose"


def test_work_that_upstream_has_done_wholly_stays_where_it_is(place: Place) -> None:
    old = place.agent.commit("Same", {"b.txt": "same\n"})
    place.upstream({"b.txt": "same\n"})
    followed = place.follow()
    assert followed.outcome == "kept" and "has everything" in followed.reason
    assert place.agent.head() == old


def test_a_repository_inside_that_is_in_the_way_keeps_the_work_where_it_is(place: Place) -> None:
    place.agent.commit("One", {"new.txt": "new\n"})
    git(place.worktree, "init", "--quiet", "fresh")
    Clone(place.worktree / "fresh", "Agent", "agent@example.org").commit("Inside", {"x.txt": "precious\n"})
    place.upstream({"fresh": "a file of this name\n"})
    before = place.state()
    assert place.follow().outcome == "kept"
    assert place.state() == before
    assert (place.worktree / "fresh/x.txt").read_text() == "precious\n"


def test_an_index_that_the_agent_left_odd_is_no_hindrance(place: Place) -> None:
    place.agent.commit("One", {"a.txt": TEXT + "work\n"})
    place.agent.write({"a.txt": "staged\n"})
    place.agent.git("add", "a.txt")
    place.agent.write({"a.txt": TEXT + "work\n"})
    place.agent.git("update-index", "--assume-unchanged", "b.txt")
    place.upstream({"b.txt": "other\n"})
    assert place.follow().outcome == "rebased"
    assert (place.worktree / "a.txt").read_text() == TEXT + "work\n"
    assert (place.worktree / "b.txt").read_text() == "other\n"


def test_signatures_and_encodings(place: Place) -> None:
    raw = place.agent.git("cat-file", "commit", place.agent.commit("One", {"new.txt": "new\n"}))
    head = raw.partition("\n\n")[0]
    signature = "gpgsig -----BEGIN PGP SIGNATURE-----\n \n abc\n -----END PGP SIGNATURE-----"
    signed = f"{head}\n{signature}\nencoding latin1\n\n".encode() + b"M\xfcll\n"
    made = git(place.worktree, "hash-object", "-t", "commit", "-w", "--stdin", stdin=signed)
    place.agent.git("reset", "--quiet", "--hard", made)
    place.upstream({"b.txt": "other\n"})
    assert place.follow().outcome == "rebased"
    content = git(place.worktree, "log", "-1", "--format=%B", "--encoding=UTF-8")
    assert content.strip() == "Müll"
    assert git(place.worktree, "log", "-1", "--format=%G?") == "N", "signed no more"


def test_a_switch_cut_short_is_completed(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.agent.commit("One", {"new.txt": "new\n"})
    place.upstream({"b.txt": "other\n", "dir/c.txt": None, "fresh.txt": "fresh\n"})
    with monkeypatch.context() as patched:
        patched.setattr(rebase, "finish_switch", lambda _worktree: None)  # killed here
        place.follow()
    (place.worktree / "fresh.txt").write_text("fre")
    (place.worktree / "b.txt").unlink()
    finish_switch(place.worktree)
    assert place.agent.git("log", "-2", "--format=%s") == "One\nUpstream"
    assert place.agent.git("status", "--porcelain", "--untracked-files=all") == ""
    after = place.state()
    finish_switch(place.worktree)
    assert place.state() == after


# -- whatever the histories ------------------------------------------------------------------------------

NAMES = ("a.txt", "b.txt", "dir/c.txt", "dir/d.txt", "e")
CHANGE = st.one_of(
    st.tuples(st.just("line"), st.sampled_from(NAMES), st.integers(0, 9), st.sampled_from("xyz")),
    st.tuples(st.just("whole"), st.sampled_from(NAMES), st.just(0), st.sampled_from("xyz")),
    st.tuples(st.just("remove"), st.sampled_from(NAMES), st.just(0), st.just("")),
    st.tuples(st.just("move"), st.sampled_from(NAMES), st.integers(0, 4), st.just("")),
)
HISTORY = st.lists(st.lists(CHANGE, min_size=1, max_size=3), min_size=1, max_size=4)
counter = itertools.count()


def play(who: Clone, history: list[list[tuple[str, str, int, str]]]) -> None:
    for number, changes in enumerate(history):
        for kind, name, position, text in changes:
            path = who.path / name
            if kind == "whole":
                path.parent.mkdir(exist_ok=True)
                path.write_text(f"{text}\n" * 3)
            elif not path.exists():
                continue
            elif kind == "remove":
                path.unlink()
            elif kind == "move":
                target = who.path / f"{NAMES[position]}.moved"
                target.parent.mkdir(exist_ok=True)
                path.rename(target)
            else:
                lines = path.read_text().splitlines(keepends=True)
                if position < len(lines):
                    lines[position] = f"{text}\n"
                    path.write_text("".join(lines))
        who.commit(f"Step {number}", {})


def tree(who: Clone, commit: str) -> dict[str, str]:
    listing = who.git("ls-tree", "-r", commit).splitlines()
    return {line.split("\t")[1]: line.split("\t")[0] for line in listing}


def touched(who: Clone, old: str, new: str) -> set[str]:
    before, after = tree(who, old), tree(who, new)
    return {name for name in before | after if before.get(name) != after.get(name)}


@given(task=HISTORY, upstream=HISTORY)
@settings(
    max_examples=examples(20), suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
def test_the_tasks_changes_are_all_there_or_a_conflict_is_told(tmp_path: Path, task: list, upstream: list) -> None:
    folder = tmp_path / str(next(counter))
    folder.mkdir()
    place = Place(folder)
    play(place.agent, task)
    play(place.person, upstream)
    old, onto, before = place.agent.head(), place.person.head(), place.state()
    theirs, ours = touched(place.agent, place.base, onto), touched(place.agent, place.base, old)

    followed = place.follow()
    event(followed.outcome)
    new = place.agent.head()
    if followed.outcome in ("rebased", "kept"):
        place.person.git("merge", "--quiet", "--no-edit", "--no-commit", old)
    if followed.outcome != "rebased":
        assert place.state() == before, "what is not rebased is as it was"
    if followed.outcome == "kept":
        assert place.person.git("ls-files", "--unmerged") == "", "and would merge"
    if followed.outcome == "rebased":
        assert place.agent.git("merge-base", onto, new) == onto
        assert tree(place.agent, new) == tree(place.person, place.person.git("write-tree")), "what a merge gives"
        assert place.agent.git("status", "--porcelain", "--untracked-files=all") == ""
        result, mine, others = (tree(place.agent, commit) for commit in (new, old, onto))
        renamed = {name for name in theirs | ours if name.endswith(".moved")}
        if not renamed:
            assert all(result.get(name) == mine.get(name) for name in ours - theirs), "every change of the task"
            assert all(result.get(name) == others.get(name) for name in theirs - ours), "and of everybody else"
