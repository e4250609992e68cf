"""What is done to idle workstations, in real containers of a real engine."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import docker_engine
from tests.end_to_end.test_docker import PATIENCE_SECONDS, DockerSite, begin, go_on
from tests.site import wait_for


@pytest.fixture
def site(tmp_path: Path) -> Iterator[DockerSite]:
    made = DockerSite(tmp_path)
    made.engine = docker_engine.engine()
    made.use_docker()
    yield made
    made.close()


def test_it_is_drained_first_made_anew_then_and_keeps_its_tools_unless_they_are_to_go(site: DockerSite) -> None:
    before = begin(site)
    site.inside("bash", "-c", "mkdir -p /tools/bin && echo true > /tools/bin/mine")
    asked = threading.Thread(target=site.cli, args=("workstation", "recreate", "backend-1"))
    asked.start()
    wait_for(lambda: site.events("workstation.draining"), PATIENCE_SECONDS)
    assert "draining" in site.cli("workstation", "list").stdout
    assert site.living() == [before], "its attempt goes on"
    go_on(site)
    site.wait_state("demo.fix-add", "review", timeout_seconds=PATIENCE_SECONDS)
    asked.join(PATIENCE_SECONDS)
    after = wait_for(site.living, PATIENCE_SECONDS, "another container")[0]
    assert after.run != before.run and not site.events("workstation.died")
    wait_for(lambda: "idle" in site.cli("workstation", "list").stdout, PATIENCE_SECONDS)
    assert "true" in site.inside("cat", "/tools/bin/mine")

    said = site.cli("workstation", "recreate", "backend-1", "--fresh-tools").stdout
    assert "made anew, its tools too" in said
    wait_for(site.living, PATIENCE_SECONDS, "another container")
    assert "mine" not in site.inside("ls", "/tools/bin")
