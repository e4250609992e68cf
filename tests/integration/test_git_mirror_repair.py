"""A mirror that is damaged in many ways, and clones that borrow from it all the while."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from supervisor.git.command import GitError, run_git
from supervisor.git.mirror import Mirror, fetch_mirror, maintain, pin, resolve
from supervisor.git.mirror_repair import find_damage, renew_mirror
from tests.fakes.repositories import Clone, git, make_upstream


class World:
    """A mirror with packed and loose objects, and a clone that borrows a commit which upstream threw away."""

    def __init__(self, folder: Path) -> None:
        self.upstream, self.person = make_upstream(folder)
        self.mirror = Mirror(folder / "mirrors" / "default" / "app.git")
        self.blob = self.person.git("rev-parse", "main:src/lib.py")
        fetch_mirror(self.mirror, str(self.upstream))
        self.dropped = self.person.commit("Dropped later", {"dropped.txt": "only here\n"})
        self.person.git("push", "--quiet", "origin", "main")
        fetch_mirror(self.mirror, str(self.upstream))
        pin(self.mirror, "acme-app.1", self.dropped)
        maintain(self.mirror)
        self.person.git("reset", "--quiet", "--hard", "HEAD~1")
        self.person.commit("Instead", {"instead.txt": "instead\n"})
        self.person.git("push", "--quiet", "--force", "origin", "main")
        fetch_mirror(self.mirror, str(self.upstream))
        self.clone = self._borrow(folder / "hot")

    def _borrow(self, path: Path) -> Clone:
        git(path.parent, "init", "--quiet", str(path))
        alternates = path / ".git/objects/info/alternates"
        alternates.write_text(f"{self.mirror.path / 'objects'}\n")
        git(path, "checkout", "--quiet", "-b", "work", self.dropped)
        made = Clone(path, "Agent", "agent@example.org")
        made.commit("Work", {"work.txt": "work\n"})
        return made

    def packs(self, kind: str) -> Path:
        return next((self.mirror.path / "objects/pack").glob(f"*.{kind}"))

    def loose(self) -> Path:
        return next((self.mirror.path / "objects").glob("[0-9a-f][0-9a-f]/*"))

    def renew(self) -> str:
        renewed = renew_mirror(self.mirror, str(self.upstream))
        assert renewed is not None and renewed.aside.is_dir()
        return renewed.reason


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def overwrite(path: Path, data: bytes, at: int = 0) -> None:
    path.chmod(0o644)
    with path.open("r+b") as file:
        file.seek(at)
        file.write(data)


def cut(path: Path, size: int) -> None:
    path.chmod(0o644)
    os.truncate(path, size)


def in_the_blob(world: World) -> None:
    """Bytes of one packed blob are not what they were, as a disk does it: nothing but reading it finds that."""
    listing = git(world.mirror.path, "verify-pack", "-v", str(world.packs("idx").resolve()))
    offset = next(int(line.split()[4]) for line in listing.splitlines() if line.startswith(world.blob))
    overwrite(world.packs("pack"), b"\xff\xff\xff", offset + 8)


DAMAGES: dict[str, Callable[[World], object]] = {
    "a packed blob": in_the_blob,
    "a pack cut short": lambda world: cut(world.packs("pack"), world.packs("pack").stat().st_size - 30),
    "a pack that is gone": lambda world: world.packs("pack").unlink(),
    "an index of rubbish": lambda world: overwrite(world.packs("idx"), b"\x99" * 900),
    "a loose object of rubbish": lambda world: overwrite(world.loose(), b"rubbish"),
    "an empty loose object": lambda world: cut(world.loose(), 0),
    "no HEAD": lambda world: (world.mirror.path / "HEAD").unlink(),
    "a configuration of rubbish": lambda world: (world.mirror.path / "config").write_text("[[["),
    "packed refs of rubbish": lambda world: (world.mirror.path / "packed-refs").write_text("rubbish\n"),
    "a ref of rubbish": lambda world: (world.mirror.path / "refs/heads/main").write_text("rubbish\n"),
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_damaged_mirror_is_renewed_and_the_old_one_kept(world: World, kind: str) -> None:
    assert find_damage(world.mirror) is None
    before = world.mirror.path.stat().st_ino
    DAMAGES[kind](world)
    assert find_damage(world.mirror)
    assert world.renew()
    assert find_damage(world.mirror) is None
    assert resolve(world.mirror, "main") == git(world.upstream, "rev-parse", "main")
    (aside,) = world.mirror.path.parent.glob("*.damaged-*")
    assert aside.stat().st_ino == before and world.mirror.path.stat().st_ino != before
    fetch_mirror(world.mirror, str(world.upstream))
    maintain(world.mirror)


@pytest.mark.parametrize("kind", ["a packed blob", "a loose object of rubbish", "no HEAD"])
def test_clones_go_on_although_upstream_threw_away_what_they_borrow(world: World, kind: str) -> None:
    DAMAGES[kind](world)
    world.renew()
    assert git(world.clone.path, "fsck", "--connectivity-only", "--no-dangling") == ""
    assert git(world.clone.path, "show", "HEAD~1:dropped.txt") == "only here"
    world.clone.commit("More", {"more.txt": "more\n"})
    assert resolve(world.mirror, "refs/pins/acme-app.1") == world.dropped


def test_a_sound_mirror_is_left_alone(world: World) -> None:
    before = sorted(str(path) for path in world.mirror.path.rglob("*"))
    assert renew_mirror(world.mirror, str(world.upstream)) is None
    assert sorted(str(path) for path in world.mirror.path.rglob("*")) == before


def test_commits_that_git_would_not_write_today_are_no_damage(world: World) -> None:
    tree = world.person.git("rev-parse", "HEAD^{tree}")
    odd = f"tree {tree}\nauthor A <a@b> 0 +0000\ncommitter A <> nonsense\n\nOdd\n".encode()
    sha = git(world.upstream, "hash-object", "-t", "commit", "-w", "--literally", "--stdin", stdin=odd)
    git(world.upstream, "update-ref", "refs/heads/odd", sha)
    fetch_mirror(world.mirror, str(world.upstream))
    assert find_damage(world.mirror) is None


def test_without_upstream_everything_stays_as_it_is(world: World, tmp_path: Path) -> None:
    in_the_blob(world)
    before = world.mirror.path.stat().st_ino
    with pytest.raises(GitError) as refused:
        renew_mirror(world.mirror, str(tmp_path / "none.git"))
    assert refused.value.code == "E_NO_REPOSITORY"
    assert world.mirror.path.stat().st_ino == before
    assert [path.name for path in world.mirror.path.parent.iterdir()] in (
        ["app.git", "app.git.lock"],
        ["app.git.lock", "app.git"],
    )


def test_a_second_damage_is_set_aside_beside_the_first(world: World) -> None:
    for _ in range(2):
        (world.mirror.path / "HEAD").unlink()
        world.renew()
    names = sorted(path.name for path in world.mirror.path.parent.glob("*.damaged-*"))
    assert names == ["app.git.damaged-1", "app.git.damaged-2"]


@pytest.mark.parametrize("kind", ["no HEAD", "packed refs of rubbish", "a configuration of rubbish"])
def test_a_fetch_says_that_it_is_the_mirror(world: World, kind: str) -> None:
    DAMAGES[kind](world)
    with pytest.raises(GitError) as caught:
        fetch_mirror(world.mirror, str(world.upstream))
    assert (caught.value.code, caught.value.retryable) == ("E_OBJECTS_DAMAGED", True)


def test_reading_a_damaged_object_says_so(world: World) -> None:
    in_the_blob(world)
    with pytest.raises(GitError) as caught:
        run_git(["cat-file", "blob", world.blob], git_dir=world.mirror.path)
    assert caught.value.code == "E_OBJECTS_DAMAGED"
