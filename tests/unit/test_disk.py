"""Room on the disk: two marks, and nothing in between changes anything."""

from hypothesis import given
from hypothesis import strategies as st

from supervisor.core.disk import DiskSpace, is_low, no_room, resume_mark, stop_mark
from supervisor.core.settings import DiskSettings

BYTES = st.integers(0, 2**45)
SHARES = st.floats(0, 0.99)
SETTINGS = st.builds(
    DiskSettings,
    stop_below_bytes=BYTES,
    stop_below_share=SHARES,
    resume_above_bytes=BYTES,
    resume_above_share=SHARES,
)


@given(SETTINGS, BYTES, st.lists(BYTES, max_size=20))
def test_it_stops_below_one_mark_and_begins_again_above_the_other(
    settings: DiskSettings, total: int, frees: list[int]
) -> None:
    low = False
    for free in frees:
        space = DiskSpace(total_bytes=total, free_bytes=min(free, total))
        before, low = low, is_low(space, settings, was_low=low)
        assert stop_mark(space, settings) <= resume_mark(space, settings)
        if space.free_bytes < stop_mark(space, settings):
            assert low
        elif space.free_bytes >= resume_mark(space, settings):
            assert not low
        else:
            assert low is before, "between the marks it stays as it was"


def test_it_is_told_with_figures() -> None:
    space = DiskSpace(total_bytes=100 * 1024**3, free_bytes=512 * 1024**2)
    assert no_room(space, DiskSettings(), "/srv") == (
        "room on the disk: 0.50 GiB are free on that of /srv, and attempts begin again when it is 2.00 GiB"
    )
