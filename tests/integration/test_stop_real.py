"""Every real coding CLI is stopped for sure: in the middle of a tool that double-forks with setsid.

A CLI is one more row in `tests.real_clis.REAL`.
"""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from agent_daemon.processes import sweep
from tests.fakes.scripted_model import ScriptedModel
from tests.janitor import HERE
from tests.real_clis import REAL, Driver, double_fork, new_tag, settings_of, stop_in_a_tool, tagged
from tests.site import wait_for

# From the stop until nothing of the run is left (docs/performance.md).
LONGEST_SECONDS = 10
# Who runs a CLI and is killed: started, for what is forked in the midst of threads may wait for one that it lacks.
DAEMON = """
import sys
from pathlib import Path
from types import SimpleNamespace
from tests.real_clis import Driver, settings_of
name, base_url, folder, marker = sys.argv[1:]
driver = Driver(Path(folder), marker=marker)
driver.run(settings_of(name, driver.home, SimpleNamespace(base_url=base_url)))
"""


@pytest.mark.parametrize("name", REAL)
def test_a_stop_in_a_tool_that_double_forks_leaves_nothing(name: str, tmp_path: Path) -> None:
    stopped = stop_in_a_tool(name, tmp_path)
    print(f"{name}: nothing left {stopped.seconds:.2f} s after the stop, of {len(stopped.before)} processes")
    assert len(stopped.before) >= 3  # itself, and two that sleep
    assert stopped.after == ()
    assert stopped.seconds <= LONGEST_SECONDS
    assert stopped.verdict.outcome == "interrupted"
    assert stopped.verdict.session_id


@pytest.mark.parametrize("name", ["gemini", "opencode"])
def test_what_a_killed_daemon_leaves_is_found_and_ended(name: str, tmp_path: Path) -> None:
    """As `test_real_clis` has it for those that start sooner: the CLI and its bridge outlive who ran them."""
    driver, tag = Driver.in_repository(tmp_path), new_tag()
    with ScriptedModel(steps=[{"shell": double_fork(tag)}]) as model:
        settings_of(name, driver.home, model)  # (where there is none, it is skipped here)
        words = [name, model.base_url, str(tmp_path), driver.marker]
        with subprocess.Popen([sys.executable, "-c", DAEMON, *words], cwd=HERE) as daemon:
            try:
                wait_for(
                    lambda: len(tagged(tag)) >= 2 and len(driver.running()) >= 4, what="a tool that has forked"
                )
            finally:
                daemon.kill()
        left, began = len(driver.running()), time.monotonic()
        sweep(driver.running, grace_seconds=1.0)  # (as `workplace.end_processes` does)
        seconds = time.monotonic() - began
    print(f"{name}: nothing left {seconds:.2f} s after another daemon looked, of {left} processes")
    assert left >= 2
    assert [*tagged(tag), *driver.running()] == []
    assert seconds <= LONGEST_SECONDS
