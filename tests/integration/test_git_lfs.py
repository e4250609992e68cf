"""Files that git-lfs keeps, in results; git-lfs itself is not installed here and need not be."""

from pathlib import Path

import pytest

from supervisor.git.mirror import fetch_mirror
from supervisor.git.quarantine import Imported, Rejected, import_bundle
from tests.fakes.repositories import Clone
from tests.integration.test_git_quarantine import World, make_world

Files = dict[str, str | bytes | None]


def pointer(content: str) -> str:
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{content * 64}\nsize 12345\n"


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = make_world(tmp_path)
    files: Files = {
        ".gitattributes": "*.bin filter=lfs diff=lfs merge=lfs -text\n",
        "art/.gitattributes": "[attr]kept filter=lfs\n*.png filter=lfs -text\nplain.png -filter\n",
        "logo.bin": pointer("a"),
        "art/face.png": pointer("b"),
        "never-converted.bin": "plain since ever\n",
    }
    made.person.commit("Keep large files with git-lfs", files)
    made.person.git("push", "--quiet", "origin", "main")
    made.agent.git("pull", "--quiet", "--ff-only")
    return made


def take(world: World, files: Files, *, agent: Clone | None = None) -> Imported:
    fetch_mirror(world.mirror, str(world.upstream))
    base = world.agent.git("rev-parse", "origin/main")
    world.agent.commit("Work", files)
    bundle = world.agent.bundle(base, world.folder / "result.bundle")
    return import_bundle(world.request(bundle, world.agent.head(), base_commit=base))


def refused(world: World, files: Files) -> list[str]:
    with pytest.raises(Rejected) as caught:
        take(world, files)
    assert {problem.code for problem in caught.value.problems} == {"E_LFS_FILE"}
    return sorted(problem.place for problem in caught.value.problems)


@pytest.mark.parametrize(
    "files",
    [
        {"logo.bin": b"\x00" * 100},
        {"logo.bin": pointer("c")},
        {"new.bin": pointer("c")},
        {"deep/er/new.bin": "plain\n"},
        {"art/face.png": "plain\n"},
        {"art/new.png": pointer("d")},
        {"never-converted.bin": pointer("e")},
        {"copy.bin": "print('hello')\n"},
    ],
    ids=lambda files: next(iter(files)) + (" pointer" if "version" in str(files) else ""),
)
def test_new_content_is_refused(world: World, files: Files) -> None:
    assert refused(world, files) == list(files)


@pytest.mark.parametrize(
    "files",
    [
        {"logo.bin": None},
        {"moved/elsewhere.bin": pointer("a"), "logo.bin": None},
        {"empty.bin": ""},
        {"never-converted.bin": "still plain\n"},
        {"art/plain.png": "attributes take it out\n"},
        {"docs/how-lfs-works.txt": pointer("f")},
        {"src/app.py": "print('nothing of git-lfs')\n"},
    ],
    ids=lambda files: next(iter(files)),
)
def test_what_needs_no_new_content_is_fine(world: World, files: Files) -> None:
    assert take(world, files).held == ()


def test_taking_files_from_git_lfs_waits_for_a_person(world: World) -> None:
    imported = take(world, {".gitattributes": "", "logo.bin": "plain now\n"})
    assert imported.held == (".gitattributes",)


def test_every_commit_counts_not_only_the_last(world: World) -> None:
    world.agent.commit("Wrong", {"logo.bin": "plain\n"})
    assert refused(world, {"logo.bin": pointer("a"), "src/app.py": "print('work')\n"}) == ["logo.bin"]


def test_several_are_told_at_once(world: World) -> None:
    assert refused(world, {"logo.bin": "x", "art/new.png": "y", "src/app.py": "z"}) == ["art/new.png", "logo.bin"]


def test_a_submodule_waits_for_a_person_moved_added_or_removed(world: World) -> None:
    sub = world.agent.head()
    world.person.git("update-index", "--add", "--cacheinfo", f"160000,{sub},lib")
    world.person.git("commit", "--quiet", "--message", "A submodule")
    world.person.git("push", "--quiet", "origin", "main")
    world.agent.git("pull", "--quiet", "--ff-only")
    assert take(world, {"src/app.py": "beside it\n"}).held == ()
    world.agent.git("update-index", "--cacheinfo", f"160000,{world.base},lib")
    world.agent.git("commit", "--quiet", "--message", "Moved")
    base = world.agent.git("rev-parse", "origin/main")
    bundle = world.agent.bundle(base, world.folder / "result.bundle")
    assert import_bundle(world.request(bundle, world.agent.head(), base_commit=base)).held == ("lib",)
