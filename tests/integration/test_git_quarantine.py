"""Bundles, honest and hostile, through the import with real git."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from agent_daemon.protocol.errors import Problem
from supervisor.git.command import GitError
from supervisor.git.mirror import Mirror, fetch_mirror
from supervisor.git.quarantine import (
    SALVAGE_LIMITS,
    Identity,
    Imported,
    ImportLimits,
    ImportRequest,
    Rejected,
    diff_text,
    discard,
    import_bundle,
)
from supervisor.git.remote import push
from tests.fakes.bundles import CASES, Case, Pack, Scene, make_scene
from tests.fakes.repositories import Clone, clone, git, make_upstream

BRANCH = "cloud-code/7-work"
IDENTITY = Identity(bot_name="Cloud Code", bot_email="bot@example.org", coauthors=("Asker <asker@example.org>",))


@dataclass(frozen=True)
class World:
    """An upstream with its mirror, a person's clone, and an agent's clone whose base is main's tip."""

    folder: Path
    upstream: Path
    mirror: Mirror
    person: Clone
    agent: Clone
    base: str

    def request(self, bundle: Path, head: str, **changes: object) -> ImportRequest:
        request = ImportRequest(
            quarantine=self.folder / "quarantine" / "one",
            bundle=bundle,
            mirror=self.mirror.path,
            base_branch="main",
            base_commit=self.base,
            claimed_head=head,
            identity=IDENTITY,
        )
        return replace(request, **changes)  # type: ignore[arg-type]

    def take(self, base: str | None = None, **changes: object) -> Imported:
        """Bundle what the agent has, and import it."""
        bundle = self.agent.bundle(base or self.base, self.folder / "result.bundle")
        return import_bundle(self.request(bundle, self.agent.head(), **changes))

    def follow_up(self, **changes: object) -> Imported:
        """The same for an attempt whose branch is on the remote."""
        tip = git(self.upstream, "rev-parse", f"refs/heads/{BRANCH}")
        return self.take(remote_tip=tip, branch_url=str(self.upstream), branch=BRANCH, **changes)

    def push(self, imported: Imported, expected: str | None = None) -> None:
        push(imported.quarantine, str(self.upstream), imported.pushed_head, BRANCH, expected)


def make_world(folder: Path) -> World:
    upstream, person = make_upstream(folder)
    mirror = Mirror(folder / "mirrors" / "app.git")
    fetch_mirror(mirror, str(upstream))
    agent = clone(upstream, folder / "agent", "Agent", "agent@example.org")
    return World(folder, upstream, mirror, person, agent, agent.head())


@pytest.fixture
def world(tmp_path: Path) -> World:
    return make_world(tmp_path)


def refusal(world: World, **changes: object) -> tuple[str, ...]:
    with pytest.raises(Rejected) as caught:
        world.take(**changes)
    return tuple(problem.code for problem in caught.value.problems)


# -- hostile ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[World, Scene]]:
    world = make_world(tmp_path_factory.mktemp("hostile"))
    foreign = clone(world.upstream, world.folder / "foreign", "Other", "other@example.org")
    people = world.agent.git("rev-parse", "origin/people")
    yield world, make_scene(world.agent, world.base, world.folder, foreign, people)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_hostile_bundle(scene: tuple[World, Scene], case: Case) -> None:
    world, stage = scene
    made = case.make(stage)
    bundle = world.folder / "hostile.bundle"
    bundle.write_bytes(made.data)
    request = world.request(bundle, made.head, limits=ImportLimits(**made.limits), **made.request)
    if case.held is not None:
        assert case.held in import_bundle(request).held
        assert import_bundle(replace(request, approved=True)).held == ()
        return
    with pytest.raises(Rejected) as caught:
        import_bundle(request)
    assert {problem.code for problem in caught.value.problems} == {case.code}
    assert all(problem.file == "result.bundle" and problem.message for problem in caught.value.problems)
    assert not request.quarantine.exists()


def test_the_mirror_is_untouched_by_hostile_bundles(scene: tuple[World, Scene]) -> None:
    world, _ = scene
    refs = git(world.mirror.path, "for-each-ref", "--format=%(refname)").splitlines()
    assert refs == ["refs/heads/main", "refs/heads/people"]
    assert git(world.mirror.path, "fsck", "--unreachable", "--no-reflogs") == ""


# -- honest ----------------------------------------------------------------------------------------------


def test_an_honest_change_of_a_hundred_files(world: World) -> None:
    for step in range(5):
        files = {f"src/part{step}/module{number}.py": f"x = {number}\n" * 30 for number in range(20)}
        world.agent.commit(f"Add part {step}\n\nIn some detail.", files)
    started = sum(os.times()[:4])
    imported = world.take(claimed_base=world.base)
    assert sum(os.times()[:4]) - started < 2  # 0.15 s of work, that of git included
    assert (imported.base, imported.head, imported.held) == (world.base, world.agent.head(), ())
    assert imported.diff_stat == "100 files changed, +3000 −0"
    assert [commit.subject for commit in imported.commits] == [f"Add part {step}" for step in range(5)]
    assert {file.change_type for file in imported.files} == {"created"}
    tree = git(imported.quarantine, "rev-parse", f"{imported.pushed_head}^{{tree}}")
    assert tree == world.agent.git("rev-parse", "HEAD^{tree}")


def test_files_are_described(world: World) -> None:
    world.agent.commit("Change", {"README.md": "# Other\nmore\n", "src/Old.txt": None, "blob.bin": bytes(10)})
    (world.agent.path / "src/lib.py").unlink()
    (world.agent.path / "src/lib.py").symlink_to("app.py")
    world.agent.commit("Link", {})
    imported = world.take()
    described = {file.path: (file.change_type, file.lines_added, file.lines_removed) for file in imported.files}
    assert described == {
        "README.md": ("modified", 2, 1),
        "blob.bin": ("created", 0, 0),
        "src/Old.txt": ("deleted", 0, 1),
        "src/lib.py": ("type_changed", 1, 50),
    }
    diff = diff_text(imported.quarantine, imported.base, imported.pushed_head, 10_000)
    assert "+# Other" in diff and "-# App" in diff
    assert len(diff_text(imported.quarantine, imported.base, imported.pushed_head, 50)) == 50
    discard(imported.quarantine)
    assert not imported.quarantine.exists()


def test_a_left_over_quarantine_is_wiped(world: World) -> None:
    world.agent.commit("Work", {"a.txt": "a\n"})
    left_over = world.folder / "quarantine" / "one" / "objects" / "info"
    left_over.mkdir(parents=True)
    (left_over / "alternates").write_text(str(world.folder / "foreign" / ".git" / "objects") + "\n")
    imported = world.take()
    alternates = (imported.quarantine / "objects/info/alternates").read_text()
    assert alternates == f"{world.mirror.path / 'objects'}\n"


def test_commits_are_rewritten(world: World) -> None:
    world.agent.commit(
        "Fix the login \x1b[31m\u202e(fixes #12) [skip ci]\n\nCloses: acme/app#3\n\n"
        "Signed-off-by: A <a@b.c>\nCo-authored-by: Linus <linus@example.org>\nskip-checks: true",
        {"a.txt": "a\n"},
    )
    imported = world.take()
    raw = git(imported.quarantine, "cat-file", "commit", imported.pushed_head)
    header, _, message = raw.partition("\n\n")
    assert header.splitlines()[1:] == [
        f"parent {world.base}",
        "author Cloud Code <bot@example.org> 1767781800 +0000",
        "committer Cloud Code <bot@example.org> 1767774660 +0200",
    ]
    assert message == (
        "Fix the login [31m(fixes issue 12) (skip ci)\n\nCloses: issue 3 of acme/app\n\n"
        "Signed-off-by: A <a@b.c>\nskip-checks is true\n\nCo-authored-by: Asker <asker@example.org>"
    )


def test_signatures_and_odd_headers_are_dropped(scene: tuple[World, Scene]) -> None:
    world, stage = scene
    pack = Pack()
    headers = "encoding iso-8859-1\ngpgsig -----BEGIN\n secret\n -----END\nhidden words\n"
    tree = stage.tree_with(pack, ("100644", b"a", pack.blob(b"a")))
    body = f"tree {tree}\nparent {world.base}\nauthor X <x@y.z> 1 +0000\ncommitter X <x@y.z> 2 -0130\n{headers}\n"
    tip = pack.add("commit", body.encode() + b"caf\xe9\n")
    bundle = world.folder / "odd.bundle"
    bundle.write_bytes(pack.bundle(tip, [world.base]))
    imported = import_bundle(world.request(bundle, tip))
    raw = git(imported.quarantine, "cat-file", "commit", imported.pushed_head)
    assert "secret" not in raw and "hidden" not in raw and "encoding" not in raw
    assert imported.commits[0].subject == "café"
    assert "author Cloud Code <bot@example.org> 1 +0000" in raw


def test_the_same_input_gives_the_same_hashes(world: World) -> None:
    world.agent.commit("One", {"a.txt": "a\n"})
    world.agent.git("checkout", "--quiet", "-b", "side")
    world.agent.commit("Side", {"b.txt": "b\n"})
    world.agent.git("checkout", "--quiet", "-")
    world.agent.commit("Two (fixes #1)", {"c.txt": "c\n"})
    world.agent.git("merge", "--quiet", "--no-ff", "--message", "Merge side", "side")
    first = world.take()
    parents = git(first.quarantine, "rev-list", "--parents", "--max-count=1", first.pushed_head).split()
    assert len(parents) == 3
    second = world.take(quarantine=world.folder / "quarantine" / "two")
    assert (first.pushed_head, first.commits) == (second.pushed_head, second.commits)
    world.push(first)
    again = world.follow_up()  # a crash after the push and before its record
    assert again.pushed_head == first.pushed_head


def test_a_rewritten_history_is_rewritten_to_itself(world: World) -> None:
    world.agent.commit("One (fixes #1)", {"a.txt": "a\n"})
    world.agent.commit("Two\n\nRefs: #5", {"b.txt": "b\n"})
    first = world.take()
    world.push(first)
    world.agent.git("fetch", "--quiet", "origin")
    world.agent.git("reset", "--quiet", "--hard", first.pushed_head)
    second = world.take()
    assert second.pushed_head == first.pushed_head


# -- follow-up attempts ----------------------------------------------------------------------------------


def _first_attempt(world: World) -> str:
    world.agent.commit("First attempt", {"a.txt": "a\n"})
    imported = world.take()
    world.push(imported)
    return imported.pushed_head


def _persons_commit(world: World, files: dict[str, str | bytes | None]) -> str:
    world.person.git("fetch", "--quiet", "origin")
    world.person.git("checkout", "--quiet", "-B", "helping", f"origin/{BRANCH}")
    sha = world.person.commit("A person's fix, fixes #99", files)
    world.person.git("push", "--quiet", "origin", f"HEAD:refs/heads/{BRANCH}")
    return sha


def _continue_from_remote(world: World) -> None:
    world.agent.git("fetch", "--quiet", "origin")
    world.agent.git("checkout", "--quiet", "-B", "again", f"origin/{BRANCH}")


@pytest.mark.parametrize("from_base", [True, False])
def test_peoples_commits_stay_as_they_are(world: World, from_base: bool) -> None:
    _first_attempt(world)
    theirs = _persons_commit(world, {"b.txt": "b\n", ".github/workflows/ci.yml": "on: pull_request\n"})
    _continue_from_remote(world)
    world.agent.commit("Second attempt", {"c.txt": "c\n"})
    imported = world.follow_up(base=world.base if from_base else theirs)
    assert [commit.subject for commit in imported.commits] == ["Second attempt"]
    assert [commit.sha for commit in imported.earlier][-1] == theirs and len(imported.earlier) == 2
    assert git(imported.quarantine, "rev-parse", f"{imported.pushed_head}^") == theirs
    assert imported.held == ()  # the workflow is the person's change
    assert {file.path for file in imported.files} == {"a.txt", "b.txt", "c.txt", ".github/workflows/ci.yml"}
    world.push(imported, expected=theirs)
    assert git(world.upstream, "rev-parse", BRANCH) == imported.pushed_head


def test_the_mirror_never_sees_the_branch(world: World) -> None:
    _first_attempt(world)
    theirs = _persons_commit(world, {"b.txt": "b\n"})
    _continue_from_remote(world)
    world.agent.commit("Second attempt", {"c.txt": "c\n"})
    world.follow_up()
    fetch_mirror(world.mirror, str(world.upstream))
    assert "cloud-code" not in git(world.mirror.path, "for-each-ref")
    assert theirs not in git(world.mirror.path, "cat-file", "--batch-all-objects", "--batch-check")


def test_touching_a_persons_protected_change_is_held(world: World) -> None:
    _first_attempt(world)
    _persons_commit(world, {".github/workflows/ci.yml": "on: pull_request\n"})
    _continue_from_remote(world)
    world.agent.commit("Meddle", {".github/workflows/ci.yml": "on: push # mine\n"})
    assert world.follow_up().held == (".github/workflows/ci.yml",)


def test_peoples_commits_are_not_dropped(world: World) -> None:
    _first_attempt(world)
    _persons_commit(world, {"b.txt": "b\n"})
    world.agent.commit("Without the person's", {"c.txt": "c\n"})
    with pytest.raises(Rejected) as caught:
        world.follow_up()
    assert caught.value.problem.code == "E_PEOPLE_COMMITS"


def test_own_commits_may_be_replaced(world: World) -> None:
    first = _first_attempt(world)
    world.agent.git("reset", "--quiet", "--hard", world.base)
    world.agent.commit("A better way", {"better.txt": "b\n"})
    imported = world.follow_up()
    world.push(imported, expected=first)
    assert git(world.upstream, "log", "--format=%s", f"main..{BRANCH}") == "A better way"


def test_a_persons_collision_is_theirs(world: World) -> None:
    _first_attempt(world)
    _persons_commit(world, {"docs/A.txt": "1\n", "docs/a.txt": "2\n"})
    _continue_from_remote(world)
    world.agent.commit("Beside it", {"docs/b.txt": "b\n"})
    assert len(world.follow_up().files) == 4


def test_a_branch_that_moved_during_the_import(world: World) -> None:
    first = _first_attempt(world)
    _persons_commit(world, {"b.txt": "b\n"})
    with pytest.raises(GitError) as caught:
        world.take(remote_tip=first, branch_url=str(world.upstream), branch=BRANCH)
    assert (caught.value.code, caught.value.retryable) == ("E_BRANCH_MOVED", True)
    assert not (world.folder / "quarantine" / "one").exists()


# -- newer bases -----------------------------------------------------------------------------------------


def _upstream_moves_on(world: World, files: dict[str, str | bytes | None]) -> str:
    world.person.git("checkout", "--quiet", "main")
    newer = world.person.commit("Upstream moves on", files)
    world.person.git("push", "--quiet", "origin", "main")
    fetch_mirror(world.mirror, str(world.upstream))
    world.agent.git("fetch", "--quiet", "origin")
    return newer


def test_a_rebase_onto_a_newer_base(world: World) -> None:
    world.agent.commit("Work", {"a.txt": "a\n"})
    newer = _upstream_moves_on(world, {".github/workflows/ci.yml": "on: pull_request\n", "u.txt": "u\n"})
    world.agent.git("rebase", "--quiet", "origin/main")
    imported = world.take(base=newer, claimed_base=newer)
    assert (imported.base, imported.held) == (newer, ())
    assert [file.path for file in imported.files] == ["a.txt"]
    assert [commit.subject for commit in imported.commits] == ["Work"]


def test_a_merge_of_a_newer_base(world: World) -> None:
    world.agent.commit("Work", {"a.txt": "a\n"})
    newer = _upstream_moves_on(world, {".github/workflows/ci.yml": "on: pull_request\n", "u.txt": "u\n"})
    world.agent.git("merge", "--quiet", "--message", "Merge main", "origin/main")
    imported = world.take(claimed_base=newer)
    assert (imported.base, imported.held) == (newer, ())
    assert [file.path for file in imported.files] == ["a.txt"]
    assert [commit.subject for commit in imported.commits] == ["Work", "Merge main"]


def test_a_merge_that_undoes_upstreams_workflow_is_held(world: World) -> None:
    """No commit of the agent's differs from both of its parents, yet the result takes upstream's change back."""
    _first_attempt(world)
    _upstream_moves_on(world, {".github/workflows/ci.yml": "on: pull_request\n"})
    world.agent.git("checkout", "--quiet", "-B", "again", f"origin/{BRANCH}")
    world.agent.git("merge", "--quiet", "--strategy=ours", "--message", "Merge main", "origin/main")
    assert world.follow_up().held == (".github/workflows/ci.yml",)


def test_upstream_rewrote_its_branch(world: World) -> None:
    """The base is pinned, so work that was begun on it is still taken."""
    world.agent.commit("Work", {"a.txt": "a\n"})
    world.person.git("checkout", "--quiet", "-B", "main", "HEAD~1")
    world.person.commit("History was rewritten", {"z.txt": "z\n"})
    world.person.git("push", "--quiet", "--force", "origin", "main")
    fetch_mirror(world.mirror, str(world.upstream))
    imported = world.take()
    assert imported.base == world.base
    assert [file.path for file in imported.files] == ["a.txt"]


def test_an_old_collision_upstream_is_no_obstacle(world: World) -> None:
    _upstream_moves_on(world, {"docs/Guide.md": "1\n", "docs/guide.md": "2\n"})
    world.agent.git("checkout", "--quiet", "-B", "work2", "origin/main")
    base = world.agent.head()
    world.agent.commit("Add beside it", {"docs/more.md": "3\n", "docs/guide.md": "4\n"})
    assert world.take(base=base, base_commit=base).held == ()
    world.agent.commit("Make it worse", {"docs/GUIDE.md": "5\n"})
    assert refusal(world, base=base, base_commit=base) == ("E_PATH_COLLISION",)


# -- options ---------------------------------------------------------------------------------------------


def test_protected_paths(world: World) -> None:
    world.agent.commit("Change", {"infra/prod/main.tf": "x\n", "src/new.py": "y\n"})
    assert world.take(protected_paths=("infra/**",)).held == ("infra/prod/main.tf",)
    assert world.take(protected_paths=("infra/**",), approved=True).held == ()


def test_allow_empty(world: World) -> None:
    world.agent.commit("Nothing", {})
    assert refusal(world) == ("E_EMPTY_RESULT",)
    assert world.take(allow_empty=True).files == ()


def test_several_problems_are_named_together(world: World) -> None:
    world.agent.commit("Bad", {".cloud-code/x": "x\n", "readme.md": "y\n", "a\tb": "z\n"})
    assert set(refusal(world)) == {"E_PATH_RESERVED", "E_PATH_COLLISION", "E_PATH_CONTROL"}


@pytest.mark.parametrize(
    ("message", "files", "place"),
    [
        ("Work", {"deep/key.txt": "x" * 70_000 + "hunter2"}, "deep/key.txt"),
        ("Work", {"hunter2.txt": "x"}, "the names of the files"),
        ("Work", {"hunter2.txt": "is hunter2"}, "the names of the files"),
        ("Work", {"a\thunter2": "x"}, "the names of the files"),
        ("Use hun\x01ter2", {"a.txt": "x"}, "a commit's message"),
    ],
)
def test_the_scan_sees_everything_that_leaves(
    world: World, message: str, files: dict[str, str | bytes | None], place: str
) -> None:
    def scan(chunks: Iterator[bytes]) -> Problem | None:
        found = b"hunter2" in b"".join(chunks)
        return Problem(code="E_SECRET_IN_OUTPUT", message="A secret would leave.") if found else None

    world.agent.commit(message, files)
    world.agent.commit("Take it away again", {**dict.fromkeys(files), "b.txt": "harmless\n"})
    with pytest.raises(Rejected) as caught:
        world.take(scan=scan)
    assert (caught.value.problem.code, caught.value.problem.place) == ("E_SECRET_IN_OUTPUT", place)
    discard(world.folder / "quarantine" / "one")
    world.agent.git("reset", "--quiet", "--hard", world.base)
    world.agent.commit("Clean", {"c.txt": "c\n", "d.txt": "d\n" * 100_000})
    assert len(world.take(scan=scan).files) == 2


def test_the_scan_sees_the_commit_that_a_submodule_names(world: World) -> None:
    def scan(chunks: Iterator[bytes]) -> Problem | None:
        found = b"hunter2".hex().encode() in b"".join(chunks)
        return Problem(code="E_SECRET_IN_OUTPUT", message="A secret would leave.") if found else None

    commit = b"hunter2".hex().ljust(40, "0")
    world.agent.git("update-index", "--add", "--cacheinfo", f"160000,{commit},lib")
    world.agent.git("commit", "--quiet", "--message", "Work")
    assert refusal(world, scan=scan) == ("E_SECRET_IN_OUTPUT",)


def test_a_scan_that_stops_early(world: World) -> None:
    world.agent.commit("Work", {f"file{number}.txt": f"{number}" * 200_000 for number in range(5)})
    seen: list[bytes] = []

    def scan(chunks: Iterator[bytes]) -> Problem | None:
        seen.append(next(chunks)[:1])
        return None

    world.take(scan=scan)
    assert sorted(seen[1:6]) == [b"0", b"1", b"2", b"3", b"4"]


def test_salvage_keeps_what_no_result_may_hold(world: World) -> None:
    world.agent.commit("Fixes #1", {".cloud-code/x": "x\n", ".gitattributes": "* -diff\n"})
    salvaged = world.take(purpose="salvage", limits=SALVAGE_LIMITS, claimed_head=None)
    assert salvaged.pushed_head == salvaged.head == world.agent.head()
    assert [commit.sha for commit in salvaged.commits] == [world.agent.head()]
    assert (salvaged.held, salvaged.files) == ((), ())


def test_salvage_refuses_foreign_objects(scene: tuple[World, Scene]) -> None:
    world, stage = scene
    made = next(case for case in CASES if case.name == "foreign blob").make(stage)
    bundle = world.folder / "salvage.bundle"
    bundle.write_bytes(made.data)
    with pytest.raises(Rejected, match="E_NOT_CLOSED"):
        import_bundle(world.request(bundle, made.head, purpose="salvage", limits=SALVAGE_LIMITS))
