"""What is laid ready for an attempt: whole or not there, and through no link that somebody planted."""

import contextlib
import threading
from pathlib import Path

import pytest

from supervisor.jobs.starting import copy_whole


def test_a_copy_follows_no_planted_link(tmp_path: Path) -> None:
    victim, source = tmp_path / "victim", tmp_path / "work.bundle"
    victim.write_text("as it was")
    source.write_bytes(b"bundle" * 10_000)
    target = tmp_path / "in" / "start.bundle"
    target.parent.mkdir()
    for name in ("start.bundle", ".start.bundle.new", "start.bundle.new", ".start.bundle.tmp"):
        (target.parent / name).symlink_to(victim)
    copy_whole(source, target)
    assert victim.read_text() == "as it was"
    assert not target.is_symlink() and target.read_bytes() == source.read_bytes()
    assert source.exists()


def test_a_copy_follows_no_link_that_is_planted_meanwhile(tmp_path: Path) -> None:
    victim, source, target = tmp_path / "victim", tmp_path / "work.bundle", tmp_path / "in" / "start.bundle"
    victim.write_text("as it was")
    source.write_bytes(b"bundle")
    target.parent.mkdir()
    over = threading.Event()

    def plant() -> None:
        while not over.is_set():
            with contextlib.suppress(FileExistsError):
                (target.parent / ".start.bundle.new").symlink_to(victim)

    planting = threading.Thread(target=plant)
    planting.start()
    try:
        for _ in range(300):
            copy_whole(source, target)
    finally:
        over.set()
        planting.join()
    assert victim.read_text() == "as it was"


def test_a_copy_that_fails_leaves_nothing(tmp_path: Path) -> None:
    target = tmp_path / "in" / "start.bundle"
    with pytest.raises(FileNotFoundError):
        copy_whole(tmp_path / "missing", target)
    assert list(target.parent.iterdir()) == []
