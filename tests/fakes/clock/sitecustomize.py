"""Put on PYTHONPATH, this shifts a program's wall clock by the seconds in the file that FAKE_CLOCK names.

The file is read each time, so that the clock jumps while the program runs. The monotonic clock goes on as it is.
"""

import datetime
import os
import time
from pathlib import Path
from typing import Any

_FILE = Path(os.environ.get("FAKE_CLOCK", "/nonexistent"))
_real_datetime, _real_time = datetime.datetime, time.time


def _shift_seconds() -> float:
    try:
        return float(_FILE.read_text() or 0)
    except (OSError, ValueError):
        return 0.0


class _Meta(type):
    def __instancecheck__(cls, instance: Any) -> bool:
        return isinstance(instance, _real_datetime)


class _Datetime(_real_datetime, metaclass=_Meta):
    @classmethod
    def now(cls, tz: datetime.tzinfo | None = None) -> Any:
        return _real_datetime.now(tz) + datetime.timedelta(seconds=_shift_seconds())


datetime.datetime = _Datetime  # type: ignore[misc]
time.time = lambda: _real_time() + _shift_seconds()
