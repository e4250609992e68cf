"""Fixtures shared by all tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.site import Site


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A root with a remote, and every process of it ended afterwards."""
    made = Site(tmp_path)
    yield made
    made.close()
