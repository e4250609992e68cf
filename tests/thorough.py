"""What is tried where there is time: more examples of the slowest properties, more cases of what starts slowly.

`make chaos` takes more examples; `CLOUD_CODE_TEST_THOROUGH=2 make test` takes everything.
"""

import os
from typing import TypeVar

T = TypeVar("T")

VARIABLE = "CLOUD_CODE_TEST_THOROUGH"


def examples(count: int) -> int:
    """`count`, or as many times that as the variable says."""
    return count * int(os.environ.get(VARIABLE, "1"))


def where_there_is_time(*cases: T) -> tuple[T, ...]:
    """These further cases, or none."""
    return cases if examples(1) > 1 else ()
