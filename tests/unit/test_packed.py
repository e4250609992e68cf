"""What is packed in a file is found wherever it is cut, and a bomb costs little."""

import gzip
import io
import itertools
import os
import tarfile
import time
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.outgoing import Outgoing
from supervisor.packed import Packed

VALUE = "hunter2-of-the-registry"
CONTENT = b"//registry.example/:_authToken=" + VALUE.encode() + b"\n"


def zipped(method: int = zipfile.ZIP_DEFLATED) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", method) as archive:
        archive.writestr("package/index.js", os.urandom(3000))
        archive.writestr("package/.npmrc", CONTENT)
    return made.getvalue()


def tarred() -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as archive:
        member = tarfile.TarInfo("package/.npmrc")
        member.size = len(CONTENT)
        archive.addfile(member, io.BytesIO(CONTENT))
    return made.getvalue()


ARCHIVES = {
    "gzip": gzip.compress(CONTENT),
    "two": gzip.compress(b"first") + gzip.compress(CONTENT),
    "tgz": tarred(),
    "zip": zipped(),
    "zip, stored": zipped(zipfile.ZIP_STORED),
}


def unpacked(chunks: list[bytes]) -> bytes:
    packed = Packed()
    return b"".join(piece for chunk in chunks for piece in packed.feed(chunk))


@pytest.mark.parametrize("kind", ARCHIVES)
@given(st.lists(st.integers(0, 4000), max_size=6))
def test_a_value_in_an_archive_is_held_wherever_that_is_cut(kind: str, cuts: list[int]) -> None:
    data = ARCHIVES[kind]
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    chunks = [data[start:end] for start, end in itertools.pairwise(places)]
    found = Outgoing(lambda: {"key": VALUE}).scan(iter(chunks))
    assert found is not None and "key" in found.message
    assert Outgoing(lambda: {"key": "another-value"}).scan(iter(chunks)) is None


@given(st.sampled_from([b"\x1f\x8b", b"PK\x03\x04", b""]), st.binary(max_size=300), st.integers(1, 40))
def test_anything_else_is_no_archive_and_harms_nothing(head: bytes, data: bytes, size: int) -> None:
    whole = head + data
    unpacked([whole[at : at + size] for at in range(0, len(whole), size)])


def test_a_file_that_only_holds_the_signs_is_not_taken_for_one() -> None:
    assert unpacked([b"text ", b"PK\x03\x04", gzip.compress(CONTENT)]) == b""


@pytest.mark.parametrize(
    "part", [b"\x1f\x8b", b"PK\x03\x04" + bytes(26), b"PK\x03\x04" + bytes(4) + b"\x08" + bytes(21)]
)
def test_one_that_is_made_to_cost_time_costs_little(part: bytes) -> None:
    began, packed = time.monotonic(), Packed()
    for _ in range(50):
        assert sum(map(len, packed.feed(part * (1_000_000 // len(part))))) < 10_000_000
    assert time.monotonic() - began < 20


def test_a_bomb_is_looked_at_in_part() -> None:
    bomb, began = gzip.compress(bytes(200_000_000)), time.monotonic()
    told = sum(len(piece) for piece in Packed().feed(bomb))
    assert 1_000_000 < told < 1_100_000 + 10 * len(bomb) and time.monotonic() - began < 5
