"""When what lasts is told."""

from supervisor.lasting import TELL_AGAIN_SECONDS, Lasting


def test_what_lasts_is_told_at_its_beginning_at_times_and_at_its_end() -> None:
    sealed = Lasting()
    assert not sealed.is_told(None, 0)
    told = [now for now in range(1, 2000) if sealed.is_told("sealed", now)]
    assert told == [1, 1 + TELL_AGAIN_SECONDS, 1 + 2 * TELL_AGAIN_SECONDS]
    assert sealed.is_told("away", 2000) and sealed.is_told(None, 2001) and not sealed.is_told(None, 9999)
