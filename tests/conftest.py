"""Fixtures shared by all tests."""

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.site import Site


def pytest_configure() -> None:
    """What CLOUD_CODE_TEST_REQUIRE names must be there: its tests are not to be skipped."""
    required = filter(None, os.environ.get("CLOUD_CODE_TEST_REQUIRE", "").split(","))
    missing = [name for name in required if shutil.which(name) is None]
    if missing:
        raise pytest.UsageError(f"CLOUD_CODE_TEST_REQUIRE names what is not on PATH: {', '.join(missing)}")
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a shell's background job, whose programs inherit that
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A root with a remote, and every process of it ended afterwards."""
    made = Site(tmp_path)
    yield made
    made.close()
