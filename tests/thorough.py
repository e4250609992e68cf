"""How many examples the slowest properties are tried on: a few in each run of the suite, more in `make chaos`."""

import os

VARIABLE = "CLOUD_CODE_TEST_THOROUGH"


def examples(count: int) -> int:
    """`count`, or as many times that as the variable says."""
    return count * int(os.environ.get(VARIABLE, "1"))
