"""What an agent leaves for people is copied, counted and bounded; what it bends is left out."""

import hashlib
import os
from pathlib import Path

import pytest

from agent_daemon import artifacts
from agent_daemon.artifacts import PLACE, Collected, collect
from agent_daemon.hiding import Mask


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """The folder into which the agent puts its files."""
    made = tmp_path / "worktree" / PLACE
    made.mkdir(parents=True)
    (tmp_path / "out").mkdir()
    return made


def collected(place: Path) -> Collected:
    folder = place.parents[2]
    return collect(folder / "worktree", folder / "out")


def copy_of(place: Path, path: str) -> Path:
    return place.parents[2] / "out" / path


def test_files_are_copied_with_their_digests_and_kinds(place: Path) -> None:
    (place / "login.png").write_bytes(b"\x89PNG")
    (place / "reports").mkdir()
    (place / "reports" / "a b.html").write_text("<p>")
    found = collected(place)
    assert [(a.name, a.path, a.media_type, a.size) for a in found.artifacts] == [
        ("login.png", "artifacts/login.png", "image/png", 4),
        ("reports/a b.html", "artifacts/reports/a-b.html", "text/html", 3),
    ]
    for artifact in found.artifacts:
        assert hashlib.sha256(copy_of(place, artifact.path).read_bytes()).hexdigest() == artifact.sha256
    assert found.left_out == ()


def test_a_later_run_replaces_what_an_earlier_one_left(place: Path) -> None:
    (place / "old.txt").write_text("old")
    collected(place)
    (place / "old.txt").rename(place / "new.txt")
    assert [a.path for a in collected(place).artifacts] == ["artifacts/new.txt"]
    assert not copy_of(place, "artifacts/old.txt").exists()


def test_what_the_agent_was_given_in_secret_is_not_in_them(place: Path) -> None:
    (place / "run.log").write_text("signed in with hunter2-of-the-registry, done")
    (place / "hunter2-of-the-registry").write_text("x")
    folder = place.parents[2]
    found = collect(folder / "worktree", folder / "out", Mask(["hunter2-of-the-registry"]))
    (artifact,) = found.artifacts
    copied = copy_of(place, "artifacts/run.log").read_bytes()
    assert copied == b"signed in with ***********************, done"
    assert (artifact.size, artifact.sha256) == (len(copied), hashlib.sha256(copied).hexdigest())
    assert found.left_out == ("[hidden] (a secret in its name)",)


def test_nothing_there_is_nothing_reported(place: Path) -> None:
    place.rmdir()
    assert collected(place) == Collected()


def test_links_pipes_and_second_names_are_left_out(place: Path) -> None:
    secret = place.parents[2] / "secret"
    secret.write_text("key")
    (place / "link").symlink_to(secret)
    (place / "folder").symlink_to(place.parents[2])
    os.mkfifo(place / "pipe")
    os.link(secret, place / "second-name")
    (place / "good").write_text("good")
    found = collected(place)
    assert [a.name for a in found.artifacts] == ["good"]
    assert [why.rpartition("(")[2] for why in found.left_out] == [
        "E_SYMLINK)",
        "E_NOT_REGULAR)",
        "E_HARD_LINK)",
    ]


@pytest.mark.parametrize("bent", ["worktree/.cloud-code", f"worktree/{PLACE}"])
def test_a_folder_that_is_a_link_leads_nowhere(place: Path, bent: str) -> None:
    elsewhere = place.parents[2] / "elsewhere"
    (elsewhere / "artifacts").mkdir(parents=True)
    (elsewhere / "key").write_text("key")
    (elsewhere / "artifacts" / "key").write_text("key")
    target = place.parents[2] / bent
    target.rename(target.with_name("aside"))
    target.symlink_to(elsewhere)
    found = collected(place)
    assert found.artifacts == () and found.left_out


def test_a_link_in_the_place_of_the_copies_is_replaced(place: Path) -> None:
    precious = place.parents[2] / "precious"
    precious.mkdir()
    (precious / "kept").write_text("kept")
    (place.parents[2] / "out" / "artifacts").symlink_to(precious)
    (place / "good").write_text("good")
    assert len(collected(place).artifacts) == 1
    assert [path.name for path in precious.iterdir()] == ["kept"]


def test_count_and_sizes_are_bounded(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(artifacts, "MAX_FILES", 4)
    monkeypatch.setattr(artifacts, "MAX_FILE_BYTES", 100)
    monkeypatch.setattr(artifacts, "MAX_BYTES", 250)
    sizes = {"a": 101, "b": 100, "c": 100, "d": 60, "e": 50, "f": 0, "g": 0}
    for name, size in sizes.items():
        (place / name).write_bytes(b"x" * size)
    found = collected(place)
    assert [a.name for a in found.artifacts] == ["b", "c", "e", "f"]
    assert found.left_out == ("a (E_TOO_BIG)", "d (E_TOO_BIG)", "g (more than 4 files)")


def test_names_that_no_protocol_knows_are_made_plain(place: Path) -> None:
    names = ["ä.txt", "a:b", "a*b", os.fsdecode(b"bad\xff"), "x" * 200]
    for name in names:
        (place / name).write_text(name if name.isascii() else "x")
    found = collected(place)
    assert [a.path for a in found.artifacts] == ["artifacts/a-b", "artifacts/bad-", "artifacts/-.txt"]
    assert found.artifacts[1].name == "bad?"
    assert [why.rpartition("(")[2] for why in found.left_out] == [
        "another one of that name)",
        "its path is too long)",
    ]
