"""Pushing one commit to one branch of a remote, with real git on local paths and through an ssh stand-in."""

from pathlib import Path

import pytest

from supervisor.git.command import GitError
from supervisor.git.mirror import Mirror, fetch_mirror, is_ancestor, make_repository
from supervisor.git.remote import push
from tests.fakes.repositories import Clone, git, make_upstream

BRANCH = "cloud-code/7-work"


class World:
    def __init__(self, folder: Path) -> None:
        self.upstream, self.person = make_upstream(folder)
        self.mirror = Mirror(folder / "mirror.git")
        fetch_mirror(self.mirror, str(self.upstream))
        self.quarantine = folder / "quarantine"
        make_repository(self.quarantine, self.mirror)
        self.agent = Clone(self.person.path, "Bot", "bot@example.org")
        self.first = self.commit("First", "HEAD")
        self.second = self.commit("Second", self.first)

    def commit(self, message: str, parent: str) -> str:
        """A commit that only the quarantine has."""
        sha = self.agent.git("commit-tree", "-m", message, "-p", parent, f"{parent}^{{tree}}")
        content = git(self.person.path, "cat-file", "commit", sha) + "\n"
        written = git(
            self.quarantine, "hash-object", "-t", "commit", "-w", "--literally", "--stdin", stdin=content.encode()
        )
        assert written == sha
        return sha

    def push(self, sha: str, expected: str | None, url: str | None = None) -> None:
        push(self.quarantine, url or str(self.upstream), sha, BRANCH, expected)

    def tip(self) -> str:
        return git(self.upstream, "rev-parse", f"refs/heads/{BRANCH}")

    def hook(self, name: str, script: str) -> None:
        path = self.upstream / "hooks" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def error_of(world: World, sha: str, expected: str | None, url: str | None = None) -> GitError:
    with pytest.raises(GitError) as caught:
        world.push(sha, expected, url)
    return caught.value


def test_a_new_branch_then_more_and_each_push_twice(world: World) -> None:
    world.push(world.first, None)
    world.push(world.first, None)  # the answer to the first was lost
    assert world.tip() == world.first
    world.push(world.second, world.first, f"file://{world.upstream}")
    world.push(world.second, world.first)
    assert world.tip() == world.second
    refs = git(world.upstream, "for-each-ref", "--format=%(refname)").split()
    assert refs == [f"refs/heads/{BRANCH}", "refs/heads/main", "refs/heads/people"]


def test_a_push_whose_answer_was_lost_is_known_again_under_a_persons_commits(world: World) -> None:
    world.push(world.first, None)
    theirs = world.commit("By a person", world.first)
    git(world.quarantine, "push", "--quiet", str(world.upstream), f"{theirs}:refs/heads/{BRANCH}")
    world.push(world.first, None)
    assert world.tip() == theirs
    assert error_of(world, world.second, None).code == "E_BRANCH_MOVED"
    assert world.tip() == theirs


def test_a_persons_push_meanwhile_is_not_overwritten(world: World) -> None:
    world.push(world.first, None)
    world.person.git("push", "--quiet", "--force", "origin", f"people:{BRANCH}")
    theirs = world.tip()
    assert error_of(world, world.second, world.first).code == "E_BRANCH_MOVED"
    assert error_of(world, world.second, None).code == "E_BRANCH_MOVED"
    assert world.tip() == theirs


def test_a_branch_that_was_deleted_meanwhile(world: World) -> None:
    world.push(world.first, None)
    world.person.git("push", "--quiet", "origin", f":{BRANCH}")
    assert error_of(world, world.second, world.first).code == "E_BRANCH_MOVED"


def test_own_commits_are_replaced_when_expected(world: World) -> None:
    world.push(world.second, None)
    other = world.commit("Other", "main")
    world.push(other, world.second)
    assert world.tip() == other


def test_the_remotes_own_hooks_decide_and_are_quoted(world: World) -> None:
    world.hook("pre-receive", "echo; printf 'No pushes\\033[31m on Fridays\\n'; echo 'second line'; exit 1")
    refused = error_of(world, world.first, None)
    assert (refused.code, refused.retryable) == ("E_PUSH_REFUSED", False)
    assert refused.message == "The remote refused the push: No pushes [31m on Fridays"


def test_a_silent_refusal_gives_the_reason(world: World) -> None:
    world.push(world.second, None)
    git(world.upstream, "config", "receive.denyNonFastForwards", "true")
    refused = error_of(world, world.commit("Other", "main"), world.second)
    assert refused.code == "E_PUSH_REFUSED"
    assert "non-fast-forward" in refused.message or "denying non-fast-forward" in refused.message


def test_a_push_between_our_look_and_our_write(world: World) -> None:
    """The remote's branch moves after git has compared it: the remote itself must refuse, and nothing is lost."""
    world.push(world.first, None)
    theirs = git(world.upstream, "rev-parse", "people")
    world.hook("pre-receive", f"env -u GIT_QUARANTINE_PATH git update-ref refs/heads/{BRANCH} {theirs}")
    assert error_of(world, world.second, world.first).code == "E_BRANCH_MOVED"
    assert world.tip() == theirs


def test_the_same_push_from_elsewhere_wins_the_race(world: World) -> None:
    world.push(world.first, None)
    git(world.upstream, "fetch", "--quiet", str(world.quarantine), world.second)
    world.hook("pre-receive", f"env -u GIT_QUARANTINE_PATH git update-ref refs/heads/{BRANCH} {world.second}")
    world.push(world.second, world.first)
    assert world.tip() == world.second


def test_a_folder_in_the_branchs_place_is_a_refusal(world: World) -> None:
    git(world.upstream, "update-ref", f"refs/heads/{BRANCH}/more", "main")
    assert error_of(world, world.first, None).code == "E_PUSH_REFUSED"


def test_missing_and_unreachable_remotes(world: World, tmp_path: Path) -> None:
    assert error_of(world, world.first, None, str(tmp_path / "none.git")).code == "E_NO_REPOSITORY"
    unreachable = error_of(world, world.first, None, "https://127.0.0.1:1/app.git")
    assert (unreachable.code, unreachable.retryable) == ("E_UNREACHABLE", True)


def _ssh_stand_in(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    program = folder / "bin" / "ssh"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho "$@" >> {folder}/ssh.log\n{script}\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=":")


def test_ssh(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _ssh_stand_in(tmp_path, monkeypatch, 'for last; do :; done; exec sh -c "$last"')
    world.push(world.first, None, f"ssh://git@git.example.org{world.upstream}")
    assert world.tip() == world.first
    assert "-oBatchMode=yes" in (tmp_path / "ssh.log").read_text()


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ("git@git.example.org: Permission denied (publickey).", "E_AUTHENTICATION"),
        ("Host key verification failed.", "E_AUTHENTICATION"),
        ("ERROR: Repository not found.", "E_NO_REPOSITORY"),
        ("ssh: Could not resolve hostname git.example.org", "E_UNREACHABLE"),
        ("Connection closed by 192.0.2.1 port 22", "E_UNREACHABLE"),
    ],
)
def test_what_ssh_says(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, code: str
) -> None:
    _ssh_stand_in(tmp_path, monkeypatch, f"echo '{said}' >&2; exit 255")
    assert error_of(world, world.first, None, "git@git.example.org:acme/app.git").code == code


@pytest.mark.parametrize(
    "branch", ["main:x", "+main", "a..b", "A", "-x", "a b", "x.lock", "a//b", "", "a/.b", "x/"]
)
def test_branch_names_that_are_never_pushed(tmp_path: Path, branch: str) -> None:
    with pytest.raises(GitError) as caught:
        push(tmp_path / "quarantine", "/srv/app.git", "1" * 40, branch, None)
    assert caught.value.code == "E_BRANCH_NAME"


def test_what_is_not_a_hash_is_not_pushed(world: World) -> None:
    assert error_of(world, "HEAD", None).code == "E_SHA"
    assert error_of(world, "", None).code == "E_SHA"
    assert error_of(world, world.first, "main").code == "E_SHA"


def test_merged_is_seen_in_the_mirror(world: World) -> None:
    world.push(world.first, None)
    assert not is_ancestor(world.mirror, world.first, "main")
    world.person.git("fetch", "--quiet", "origin")
    world.person.git("merge", "--quiet", "--no-ff", "--message", "Merge the work", f"origin/{BRANCH}")
    world.person.git("push", "--quiet", "origin", "main")
    assert not is_ancestor(world.mirror, world.first, "main")
    fetch_mirror(world.mirror, str(world.upstream))
    assert is_ancestor(world.mirror, world.first, "main")
    assert not is_ancestor(world.mirror, world.second, "main")
