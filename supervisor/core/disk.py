"""Whether there is room for another attempt: two marks, so that work does not start and stop all the time."""

from dataclasses import dataclass

from supervisor.core.settings import DiskSettings


@dataclass(frozen=True, kw_only=True)
class DiskSpace:
    """A file system in bytes, as whoever runs the supervisor may use it."""

    total_bytes: int
    free_bytes: int


def stop_mark(space: DiskSpace, settings: DiskSettings) -> int:
    """Below so many free bytes no attempt is begun."""
    return max(settings.stop_below_bytes, int(settings.stop_below_share * space.total_bytes))


def resume_mark(space: DiskSpace, settings: DiskSettings) -> int:
    """From so many free bytes on attempts are begun again; never less than the mark at which they stop."""
    wanted = max(settings.resume_above_bytes, int(settings.resume_above_share * space.total_bytes))
    return max(wanted, stop_mark(space, settings))


def no_room(space: DiskSpace, settings: DiskSettings, path: str) -> str:
    """What is waited for while it is low, in words."""
    free, wanted = gibibytes(space.free_bytes), gibibytes(resume_mark(space, settings))
    return f"room on the disk: {free} are free on that of {path}, and attempts begin again when it is {wanted}"


def gibibytes(count: int) -> str:
    return f"{count / 1024**3:.2f} GiB"


def is_low(space: DiskSpace, settings: DiskSettings, *, was_low: bool) -> bool:
    """Whether no attempt may be begun now: between the marks it stays as it was."""
    mark = resume_mark(space, settings) if was_low else stop_mark(space, settings)
    return space.free_bytes < mark


# A workstation over its limit gets tasks again once it takes this share of it.
ROOM_AGAIN_SHARE = 0.9


def is_over(used_bytes: int | None, limit_bytes: int | None, *, was_over: bool) -> bool:
    """Whether a workstation takes more of the disk than it may; what is not known (yet) changes nothing."""
    if limit_bytes is None:
        return False
    if used_bytes is None:
        return was_over
    return used_bytes > (limit_bytes * ROOM_AGAIN_SHARE if was_over else limit_bytes)
