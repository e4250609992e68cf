"""A supervisor that is ended, or given another configuration, while it looks after a workstation for long."""

import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from supervisor.root_identity import root_id_of
from supervisor.stations import load_station
from tests.end_to_end.test_docker import PATIENCE_SECONDS, DockerSite, docker_site
from tests.site import Pace, Supervisor, wait_for

# The image may have to be built first, or is just being built for another test.
pytestmark = pytest.mark.timeout(600)

ENDLESS = (
    "mkdir -p /tools/uv/x /tools/bin; printf '#!/bin/sh\\nsleep 3000\\n' > /tools/bin/uv; chmod 755 /tools/bin/uv"
)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[DockerSite]:
    made = docker_site(tmp_path)
    yield made
    made.close()


def stand_ins(site: DockerSite) -> list[dict[str, Any]]:
    name = f"cc-{root_id_of(site.root)}-backend-1-tend"
    found: list[dict[str, Any]] = site.engine.get("/containers/json", all=1, filters={"name": [name]})
    return found


def maintained_for_ever(site: DockerSite) -> Supervisor:
    site.config["maintenance"] = {"update_tools": True}
    site.write_config()
    supervisor = site.start()
    wait_for(lambda: site.living() and "idle" in site.cli("workstation", "list").stdout, PATIENCE_SECONDS)
    site.inside("bash", "-c", ENDLESS)
    site.cli("workstation", "maintain", "backend-1", "--no-wait")
    wait_for(lambda: stand_ins(site), PATIENCE_SECONDS, "its tools are brought up to date")
    return supervisor


def test_it_ends_soon_and_the_next_one_begins_anew(site: DockerSite) -> None:
    supervisor = maintained_for_ever(site)
    asked, pace = time.monotonic(), Pace()
    supervisor.send_signal(signal.SIGTERM)
    assert supervisor.wait(timeout=PATIENCE_SECONDS) == 0
    seconds = time.monotonic() - asked
    pace.stop()
    assert seconds < 30 * pace.slowest, "nothing that is done anew anyway is waited for"
    assert not stand_ins(site)
    known = load_station(site.root, "backend-1")
    assert known is not None and [chore.kind for chore in known.chores] == ["maintain"]
    assert not site.events("workstation.upkeep_failed")

    supervisor = site.start()
    wait_for(lambda: stand_ins(site), PATIENCE_SECONDS, "it is begun anew")
    site.config["timing"]["suspect_after_seconds"] = 21
    site.write_config()
    supervisor.send_signal(signal.SIGHUP)
    wait_for(lambda: len(site.events("supervisor.started")) == 3, PATIENCE_SECONDS, "what is configured counts")
    assert supervisor.poll() is None
    wait_for(lambda: stand_ins(site), PATIENCE_SECONDS, "and it is begun anew")
