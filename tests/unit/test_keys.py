"""When the file with a daemon's keys goes: once it has shown a sign of life, whatever the clock says."""

import json
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent_daemon.protocol.files import write_file
from supervisor.workstations.keys import FILE, keys_folder, lay_keys, remove_read_keys

NAME = "backend-1"
HOUR = 3600


@pytest.fixture
def keys() -> Iterator[Path]:
    folder = keys_folder(f"test-{uuid.uuid4().hex[:8]}", NAME)
    yield folder
    shutil.rmtree(folder.parent)


@pytest.mark.parametrize("ahead_seconds", [-HOUR, 0, HOUR], ids=["past", "now", "future"])
def test_no_clock_takes_keys_away_before_they_are_read_or_leaves_them_after(
    keys: Path, tmp_path: Path, ahead_seconds: int
) -> None:
    sign, root_id = tmp_path / "workstation.yaml", keys.parent.name
    write_file(sign, b"of the daemon before")
    at = time.time() + ahead_seconds
    os.utime(sign, (at, at))
    lay_keys(keys, {"KEY": "value"}, sign)
    remove_read_keys(root_id, NAME, sign)
    assert json.loads((keys / FILE).read_bytes()) == {"KEY": "value"}
    assert [entry.name for entry in keys.parent.iterdir()] == [NAME], "no second copy"
    write_file(sign, b"of this one")  # its clock may be an hour behind that of the one before
    remove_read_keys(root_id, NAME, sign)
    assert not (keys / FILE).exists()


def test_the_very_first_sign_counts_too(keys: Path, tmp_path: Path) -> None:
    sign = tmp_path / "workstation.yaml"
    lay_keys(keys, {}, sign)
    remove_read_keys(keys.parent.name, NAME, sign)
    assert (keys / FILE).exists()
    write_file(sign, b"of this one")
    remove_read_keys(keys.parent.name, NAME, sign)
    assert not (keys / FILE).exists()


def test_a_folder_that_cannot_be_looked_into_keeps_no_daemon_from_being_started(
    keys: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "out"
    folder.write_text("whatever an agent made of it")
    lay_keys(keys, {}, folder / "workstation.yaml")
    remove_read_keys(keys.parent.name, NAME, folder / "workstation.yaml")
    assert (keys / FILE).exists()
