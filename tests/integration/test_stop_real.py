"""Every real coding CLI is stopped for sure: in the middle of a tool that double-forks with setsid.

A CLI is one more row in `tests.real_clis.REAL`.
"""

from pathlib import Path

import pytest

from tests.real_clis import REAL, stop_in_a_tool

# From the stop until nothing of the run is left (docs/performance.md).
LONGEST_SECONDS = 10


@pytest.mark.parametrize("name", REAL)
def test_a_stop_in_a_tool_that_double_forks_leaves_nothing(name: str, tmp_path: Path) -> None:
    stopped = stop_in_a_tool(name, tmp_path)
    print(f"{name}: nothing left {stopped.seconds:.2f} s after the stop, of {len(stopped.before)} processes")
    assert len(stopped.before) >= 3  # itself, and two that sleep
    assert stopped.after == ()
    assert stopped.seconds <= LONGEST_SECONDS
    assert stopped.verdict.outcome == "interrupted"
    assert stopped.verdict.session_id
