"""Maps of users with a hole: the one number stays, all others are what they were."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.core.remap import Range, free_start, mapping_from, outside, punched, ranges_of, with_lines

SUBUID = "ada:100000:65536\n# dockremap:1:1\ndockremap:500000:997\nbob:165536:65536\ndockremap:997:1\n"


def test_a_map_of_ones_own_leaves_one_number_be_and_root_is_nobody() -> None:
    made = punched((), 997)
    assert made == (Range(500_000, 997), Range(997, 1), Range(500_998, 64538))
    assert [outside(made, number) for number in (0, 996, 997, 998, 65535, 65536)] == [
        *(500_000, 500_996, 997, 500_998, 565_535),
        None,
    ]
    assert punched(made, 997) == made, "once more changes nothing"
    assert outside(punched((), 70_000), 70_000) == 70_000


@given(
    st.lists(st.tuples(st.integers(200_000, 10**6), st.integers(1, 70_000)), min_size=1, max_size=4),
    st.integers(1, 150_000),
)
def test_a_hole_changes_no_other_number(pairs: list[tuple[int, int]], number: int) -> None:
    ranges = tuple(Range(*pair) for pair in pairs)
    total = sum(size for _, size in pairs)
    if number >= total:
        with pytest.raises(ValueError, match="the map ends"):
            punched(ranges, number)
        return
    made = punched(ranges, number)
    assert outside(made, number) == number and sum(one.size for one in made) == total
    for other in {0, number - 1, number + 1, total - 1} - {number}:
        assert outside(made, other) == outside(ranges, other)
    assert sum(one.start <= number < one.start + one.size for one in made) == 1


def test_what_would_make_an_agent_somebody_else_is_refused() -> None:
    with pytest.raises(ValueError, match="another number inside"):
        punched((Range(900, 65536),), 1000)
    with pytest.raises(ValueError, match="root of this host"):
        punched((), 0)


def test_lines_are_found_kept_and_replaced() -> None:
    assert ranges_of(SUBUID, "dockremap") == (Range(500_000, 997), Range(997, 1))
    assert mapping_from(SUBUID, 500_000) == ranges_of(SUBUID, "dockremap")
    assert mapping_from(SUBUID, 165_536) == (Range(165_536, 65536),)
    assert mapping_from(SUBUID, 5) == () and ranges_of("dockremap:x:1\n", "dockremap") == ()
    written = with_lines(SUBUID, "dockremap", (Range(1, 2),))
    assert written == "ada:100000:65536\n# dockremap:1:1\nbob:165536:65536\ndockremap:1:2\n"
    assert with_lines("", "dockremap", ()) == ""


def test_a_new_map_lies_where_nobody_is() -> None:
    assert free_start([SUBUID], [1000], 65536) == 500_997
    assert free_start(["ada:100000:65536\n"], [], 65536) == 500_000
    assert free_start([], [500_123, 540_000], 65536) == 540_001
