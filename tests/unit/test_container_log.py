"""The end of what a container has said, in which an agent may have a hand."""

import io

from hypothesis import given
from hypothesis import strategies as st

from supervisor.workstations.ground import last_of

PIECES = st.lists(st.tuples(st.sampled_from([1, 2]), st.binary(max_size=40)), max_size=12)


@given(PIECES, st.integers(1, 100), st.integers(0, 20))
def test_it_is_the_end_without_the_heads_of_its_pieces(
    pieces: list[tuple[int, bytes]], most_bytes: int, cut: int
) -> None:
    log = b"".join(bytes([stream, 0, 0, 0]) + len(said).to_bytes(4, "big") + said for stream, said in pieces)
    whole = b"".join(said for _, said in pieces)
    assert last_of(io.BytesIO(log), most_bytes) == whole[-most_bytes:]
    assert last_of(io.BytesIO(log[: len(log) - cut]), len(log) + 1) in (
        whole[:end] for end in range(len(whole) + 1)
    )


def test_a_piece_of_gigabytes_is_never_held() -> None:
    log = io.BytesIO(b"\x01\0\0\0\xff\xff\xff\xff" + bytes(1_000_000) + b"the end")
    assert last_of(log, 7) == b"the end"
