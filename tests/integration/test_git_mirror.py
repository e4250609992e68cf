"""The mirror of an upstream repository, with real git on local paths."""

import threading
from pathlib import Path

import pytest
from filelock import FileLock

from supervisor.git.command import GitError, run_git
from supervisor.git.mirror import (
    Mirror,
    branch_tip,
    default_branch,
    fetch_mirror,
    is_ancestor,
    maintain,
    make_start_bundle,
    pin,
    remote_tip,
    remove_stale_locks,
    resolve,
    unpin,
)
from tests.fakes.repositories import Clone, clone, git, make_upstream

BRANCH = "cloud-code/7-work"


@pytest.fixture
def world(tmp_path: Path) -> tuple[Mirror, Path, Clone]:
    upstream, person = make_upstream(tmp_path)
    mirror = Mirror(tmp_path / "mirrors" / "default" / "app.git")
    fetch_mirror(mirror, str(upstream))
    return mirror, upstream, person


def refs(mirror: Mirror) -> set[str]:
    return set(git(mirror.path, "for-each-ref", "--format=%(refname)").split())


def error_of(call: object, *arguments: object) -> GitError:
    with pytest.raises(GitError) as caught:
        call(*arguments)  # type: ignore[operator]
    return caught.value


def test_a_mirror_follows_the_branches_of_people(world: tuple[Mirror, Path, Clone]) -> None:
    mirror, upstream, person = world
    assert refs(mirror) == {"refs/heads/main", "refs/heads/people"}
    person.git("tag", "v1")
    newer = person.commit("More", {"more.txt": "more\n"})
    person.git("push", "--quiet", "origin", "main", "v1", "main:cloud-code/9-other", ":people", "main:foo")
    fetch_mirror(mirror, str(upstream))
    assert refs(mirror) == {"refs/heads/main", "refs/heads/foo"}
    assert resolve(mirror, "main") == branch_tip(mirror, "main") == newer
    person.git("push", "--quiet", "origin", ":foo", "main:foo/bar")
    fetch_mirror(mirror, f"file://{upstream}")
    assert refs(mirror) == {"refs/heads/main", "refs/heads/foo/bar"}


def test_a_mirror_remembers_no_address(world: tuple[Mirror, Path, Clone]) -> None:
    mirror, upstream, _ = world
    assert str(upstream) not in (mirror.path / "config").read_text()
    assert not (mirror.path / "FETCH_HEAD").exists()
    assert not (mirror.path / "hooks").exists()
    assert not mirror.path.with_name("app.git.new").exists()


def test_an_empty_repository(tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet", "--bare", "empty.git")
    mirror = Mirror(tmp_path / "app.git")
    assert error_of(fetch_mirror, mirror, str(tmp_path / "empty.git")).code == "E_EMPTY_REPOSITORY"
    assert error_of(default_branch, str(tmp_path / "empty.git")).code == "E_EMPTY_REPOSITORY"
    assert not mirror.path.exists()


def test_a_missing_repository_and_an_unreachable_one(tmp_path: Path) -> None:
    mirror = Mirror(tmp_path / "app.git")
    assert error_of(fetch_mirror, mirror, str(tmp_path / "none.git")).code == "E_NO_REPOSITORY"
    assert error_of(remote_tip, str(tmp_path / "none.git"), "main").code == "E_NO_REPOSITORY"
    unreachable = error_of(fetch_mirror, mirror, "https://127.0.0.1:1/app.git")
    assert (unreachable.code, unreachable.retryable) == ("E_UNREACHABLE", True)
    assert list(tmp_path.glob("app.git*")) in ([], [tmp_path / "app.git.lock"])


def test_a_fetch_that_fails_keeps_the_mirror(world: tuple[Mirror, Path, Clone], tmp_path: Path) -> None:
    mirror, _, _ = world
    before = refs(mirror)
    assert error_of(fetch_mirror, mirror, str(tmp_path / "none.git")).code == "E_NO_REPOSITORY"
    assert refs(mirror) == before


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("https://user:hunter2@git.example.org/app.git", "E_CREDENTIAL_IN_URL"),
        ("https://ghp_hunter2@git.example.org/app.git", "E_CREDENTIAL_IN_URL"),
        ("ssh://git:hunter2@git.example.org/app.git", "E_CREDENTIAL_IN_URL"),
        ("ext::sh -c 'touch hunter2'", "E_URL"),
        ("--upload-pack=hunter2", "E_URL"),
        ("http://git.example.org/hunter2.git", "E_URL"),
        ("ssh://-oProxyCommand=hunter2/app", "E_URL"),
        ("relative/hunter2.git", "E_URL"),
        ("git.example.org:-hunter2", "E_URL"),
        ("/srv/hunter2\n/app.git", "E_URL"),
        ("https://[hunter2/app", "E_URL"),
    ],
)
def test_addresses_that_are_refused(tmp_path: Path, url: str, code: str) -> None:
    refused = error_of(fetch_mirror, Mirror(tmp_path / "app.git"), url)
    assert refused.code == code
    assert "hunter2" not in str(refused)


def test_pins_keep_a_base(world: tuple[Mirror, Path, Clone]) -> None:
    mirror, upstream, person = world
    base = branch_tip(mirror, "main")
    pin(mirror, "acme-app.42", base)
    pin(mirror, "acme-app.42", base)
    person.git("checkout", "--quiet", "-B", "main", "HEAD~1")
    person.commit("Rewritten", {"z.txt": "z\n"})
    person.git("push", "--quiet", "--force", "origin", "main")
    fetch_mirror(mirror, str(upstream))
    assert resolve(mirror, base) == base
    assert resolve(mirror, "refs/pins/acme-app.42") == base
    assert not is_ancestor(mirror, base, "main")
    assert is_ancestor(mirror, branch_tip(mirror, "main"), "main")
    unpin(mirror, "acme-app.42")
    unpin(mirror, "acme-app.42")
    assert resolve(mirror, "refs/pins/acme-app.42") is None
    assert error_of(pin, mirror, "acme-app.42", "1" * 40).code == "E_NO_COMMIT"
    for task_id in ("../heads/main", "a..b", "a.lock", "-x", "a b", ""):
        assert error_of(pin, mirror, task_id, base).code == "E_TASK_ID"


def test_what_the_mirror_lacks(world: tuple[Mirror, Path, Clone]) -> None:
    mirror, _, _ = world
    assert resolve(mirror, "none") is None
    assert resolve(mirror, "1" * 40) is None
    assert not is_ancestor(mirror, "1" * 40, "main")
    assert not is_ancestor(mirror, branch_tip(mirror, "main"), "none")
    assert error_of(branch_tip, mirror, "none").code == "E_NO_BRANCH"
    assert error_of(branch_tip, mirror, "--all").code == "E_BRANCH_NAME"


def test_looking_at_the_remote(world: tuple[Mirror, Path, Clone]) -> None:
    _, upstream, person = world
    assert default_branch(str(upstream)) == "main"
    person.git("push", "--quiet", "origin", "people:refs/heads/x/refs/heads/main")
    assert remote_tip(str(upstream), "main") == person.head()
    assert remote_tip(str(upstream), "none") is None
    git(upstream, "update-ref", "--no-deref", "HEAD", person.head())
    assert error_of(default_branch, str(upstream)).code == "E_NO_BRANCH"


def test_a_start_bundle_brings_peoples_commits(world: tuple[Mirror, Path, Clone], tmp_path: Path) -> None:
    mirror, upstream, person = world
    base = branch_tip(mirror, "main")
    person.git("checkout", "--quiet", "-b", "helping")
    tip = person.commit("A person's fix", {"fix.txt": "fix\n"})
    person.git("push", "--quiet", "origin", f"HEAD:{BRANCH}")
    target, scratch = tmp_path / "start.bundle", tmp_path / "scratch"
    made = make_start_bundle(mirror, str(upstream), BRANCH, base, scratch=scratch, target=target)
    assert made is not None
    assert (made.tip, made.size) == (tip, target.stat().st_size)
    assert not scratch.exists()
    assert run_git(["cat-file", "-e", base], git_dir=mirror.path) == b""
    assert error_of(run_git, ["rev-parse", "--verify", f"{tip}^{{commit}}"]).code != ""
    assert resolve(mirror, tip) is None
    workstation = clone(mirror.path, tmp_path / "clone", "Agent", "a@b.c")
    workstation.git("fetch", "--quiet", str(target), f"refs/heads/{BRANCH}:refs/heads/start")
    assert workstation.git("rev-parse", "start") == tip


def test_a_start_bundle_that_would_bring_nothing(world: tuple[Mirror, Path, Clone], tmp_path: Path) -> None:
    mirror, upstream, person = world
    person.git("push", "--quiet", "origin", f"main:{BRANCH}")
    places = {"scratch": tmp_path / "scratch", "target": tmp_path / "start.bundle"}
    base = branch_tip(mirror, "main")
    assert make_start_bundle(mirror, str(upstream), BRANCH, base, **places) is None
    with pytest.raises(GitError) as caught:
        make_start_bundle(mirror, str(upstream), "cloud-code/none", base, **places)
    assert caught.value.code == "E_NO_BRANCH"
    assert list(tmp_path.glob("s*")) == []


def test_maintenance_keeps_what_clones_borrow(world: tuple[Mirror, Path, Clone], tmp_path: Path) -> None:
    mirror, upstream, person = world
    borrower = tmp_path / "borrower"
    git(tmp_path, "clone", "--quiet", "--shared", "--branch", "people", str(mirror.path), str(borrower))
    unreachable = git(borrower, "rev-parse", "HEAD")
    person.git("push", "--quiet", "origin", ":people")
    fetch_mirror(mirror, str(upstream))
    maintain(mirror)
    maintain(mirror)
    assert resolve(mirror, unreachable) == unreachable
    assert git(borrower, "fsck", "--full") == ""
    assert len(list((mirror.path / "objects/pack").glob("*.pack"))) == 1


def test_stale_locks_are_removed_on_request_only(world: tuple[Mirror, Path, Clone]) -> None:
    mirror, upstream, person = world
    person.git("push", "--quiet", "origin", "main:release.locked")
    fetch_mirror(mirror, str(upstream))
    left = [mirror.path / "refs/heads/main.lock", mirror.path / "packed-refs.lock"]
    left.append(mirror.path / "objects/pack/tmp_pack_x1Y2z3")
    for path in left:
        path.touch()
    person.commit("More", {"more.txt": "more\n"})
    person.git("push", "--quiet", "origin", "main")
    assert "main.lock" in error_of(fetch_mirror, mirror, str(upstream)).stderr_tail
    assert set(remove_stale_locks(mirror)) == set(left)
    fetch_mirror(mirror, str(upstream))
    assert resolve(mirror, "main") == person.head()
    assert resolve(mirror, "release.locked") is not None


def test_one_fetch_at_a_time(world: tuple[Mirror, Path, Clone]) -> None:
    mirror, upstream, person = world
    with FileLock(f"{mirror.path}.lock"):
        with pytest.raises(GitError) as caught:
            fetch_mirror(mirror, str(upstream), lock_seconds=0.05)
        assert (caught.value.code, caught.value.retryable) == ("E_MIRROR_BUSY", True)
        assert error_of(maintain, mirror).code == "E_MIRROR_BUSY"
        assert error_of(remove_stale_locks, mirror).code == "E_MIRROR_BUSY"
    person.commit("More", {"more.txt": "more\n"})
    person.git("push", "--quiet", "origin", "main")
    failures: list[GitError] = []

    def one() -> None:
        try:
            fetch_mirror(mirror, str(upstream))
        except GitError as error:
            failures.append(error)

    threads = [threading.Thread(target=one) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert resolve(mirror, "main") == person.head()


def test_a_half_made_clone_is_begun_again(tmp_path: Path) -> None:
    upstream, person = make_upstream(tmp_path)
    mirror = Mirror(tmp_path / "app.git")
    (tmp_path / "app.git.new" / "refs").mkdir(parents=True)
    fetch_mirror(mirror, str(upstream))
    assert resolve(mirror, "main") == person.head()
    assert not (tmp_path / "app.git.new").exists()
