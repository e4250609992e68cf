"""What a snapshot reads of a workstation's tools, which agents have filled: bounded, whatever is in there."""

import errno
import io
from datetime import UTC, datetime, timedelta

import pytest

from supervisor.errors import CloudCodeError
from supervisor.workstations.snapshots import SnapshotFile, copy_bounded, next_time

MIB = 1024 * 1024


def room() -> bool:
    return True


class Zeros:
    """What the engine makes of one file that is nothing but a hole: zeros, without an end."""

    given = 0

    def read(self, count: int, /) -> bytes:
        self.given += count
        return bytes(count)


class Full(io.BytesIO):
    def write(self, data: object, /) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


def test_holes_in_files_fill_no_disk_and_take_no_hours() -> None:
    zeros = Zeros()
    with pytest.raises(CloudCodeError) as refused:
        copy_bounded(zeros, io.BytesIO(), room, 3 * MIB)
    assert refused.value.code == "E_SNAPSHOT_NOT_TAKEN" and zeros.given == 4 * MIB
    taken = io.BytesIO()
    copy_bounded(io.BytesIO(bytes(3 * MIB)), taken, room, 3 * MIB)
    assert len(taken.getvalue()) == 3 * MIB


def test_a_full_disk_is_not_taken_for_an_engine_that_is_away() -> None:
    with pytest.raises(CloudCodeError, match="No space left") as refused:
        copy_bounded(io.BytesIO(b"tools"), Full(), room)
    assert refused.value.code == "E_SNAPSHOT_NOT_TAKEN"


def test_the_room_that_attempts_need_is_left_to_them() -> None:
    zeros, left = Zeros(), [True, True, False]
    with pytest.raises(CloudCodeError, match="no more room") as refused:
        copy_bounded(zeros, io.BytesIO(), lambda: left.pop(0))
    assert refused.value.code == "E_SNAPSHOT_NOT_TAKEN" and zeros.given == 65 * MIB


def test_the_newest_is_the_last_one_whatever_the_clock_says() -> None:
    taken = datetime(2026, 7, 1, 12, tzinfo=UTC)
    there = [
        SnapshotFile(
            name=f"{taken:%Y%m%d-%H%M%S}",
            workstation="backend-1",
            taken_at=taken,
            image="i",
            image_id="1",
            bytes=1,
            sha256="",
        )
    ]
    assert next_time(taken - timedelta(hours=2), there) == taken + timedelta(seconds=1)
    assert next_time(taken, there) == taken + timedelta(seconds=1)
    later = taken + timedelta(seconds=5, microseconds=7)
    assert next_time(later, there) == later.replace(microsecond=0) == next_time(later, [])
