"""Fixtures shared by all tests."""

import gc
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.janitor import watch_over
from tests.site import Site

MEMORY = Path("/dev/shm")
# A run leaves some hundred megabytes at most: what has passed is removed.
MEMORY_BYTES = 4 * 1024**3


def use_memory() -> None:
    """Tests write many small files, and each that is to last is awaited: a disk takes a third of their time.

    Not where a folder for them is named already, or memory is scarce, as in containers.
    """
    if "TMPDIR" in os.environ or "PYTEST_DEBUG_TEMPROOT" in os.environ or not os.access(MEMORY, os.W_OK):
        return
    found = os.statvfs(MEMORY)
    if found.f_bavail * found.f_frsize >= MEMORY_BYTES:
        tempfile.tempdir = os.environ["PYTEST_DEBUG_TEMPROOT"] = str(MEMORY)


def pytest_configure() -> None:
    """What CLOUD_CODE_TEST_REQUIRE names must be there: its tests are not to be skipped."""
    gc.set_threshold(50_000)  # next to nothing of what the collection of some thousand tests makes is garbage
    use_memory()
    required = filter(None, os.environ.get("CLOUD_CODE_TEST_REQUIRE", "").split(","))
    missing = [name for name in required if shutil.which(name) is None]
    if missing:
        raise pytest.UsageError(f"CLOUD_CODE_TEST_REQUIRE names what is not on PATH: {', '.join(missing)}")
    # Time says little on a machine that is busy with other tests.
    settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("patient")
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a shell's background job, whose programs inherit that
        signal.signal(signal.SIGINT, signal.default_int_handler)


# What takes longest, in this order: begun first, so that nothing long is left for the end, when most workers rest.
LONGEST = (
    "test_a_daemon_that_beats_and_gets_nowhere",
    "test_a_hung_cli_is_reminded",
    "test_a_forge_that_fails_doubles_nothing",
    "test_a_supervisor_that_was_stopped_holds_nothing",
    "test_hung_programs_are_reminded",
    "test_a_stopped_daemon_is_noticed",
    "test_every_task_ends_right_exactly_once",
    "tests/end_to_end/test_liveness.py",
    "tests/end_to_end/test_detection.py",
    "tests/end_to_end/test_lost_work.py",
    "tests/end_to_end/test_images.py",
    "tests/end_to_end/test_docker_free.py",
    "tests/hostile/",
    "test_a_daemon_that_falls_silent_again_and_again",
    "test_a_running_supervisor_carries_commands_out",
    "test_it_fits_the_screen",
    "test_while_it_waits_for_a_model_that_never_answers",
    "test_the_work_arrives_whole",
    "test_the_tasks_changes_are_all_there",
    "test_what_ended_tasks_left_behind",
    "tests/end_to_end/test_cleanup.py",
    "tests/end_to_end/",
    "tests/chaos/",
    "tests/integration/test_cli_run.py",
    "tests/integration/test_worktree.py",
    "_real.py",
    "tests/integration/",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Several workers take the tests in this order, the next one whenever one has room (`--dist load`)."""
    ranks = {item.nodeid: _rank(item.nodeid) for item in items}
    items.sort(key=lambda item: ranks[item.nodeid])


def pytest_collection_finish() -> None:
    """What has been made by now stays to the end, and need not be looked through again and again."""
    gc.freeze()


def _rank(name: str) -> int:
    return next((rank for rank, part in enumerate(LONGEST) if part in name), len(LONGEST))


@pytest.fixture(autouse=True, scope="session")
def janitor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nothing goes on running when this process is killed."""
    with watch_over(tmp_path_factory.getbasetemp()):
        yield


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A root with a remote, and every process of it ended afterwards."""
    made = Site(tmp_path)
    yield made
    made.close()
