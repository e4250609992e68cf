"""A real container whose daemon speaks an older protocol, found at work by a supervisor that was upgraded."""

import os
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import docker_engine
from tests.end_to_end.test_docker import FIX, PATIENCE_SECONDS, UNTIL_TOLD, DockerSite, go_on
from tests.site import wait_for

# The image may have to be built first, or is just being built for another test.
pytestmark = pytest.mark.timeout(600)

# What a supervisor of that time took for its own version.
FORMER = "import supervisor.core.speech as speech\nspeech.PROTOCOL_VERSION = 0\n"
MODEL = "/opt/cloud-code/daemon/lib/python3*/site-packages/agent_daemon/protocol/model.py"
OLDER = f"""\
FROM {{image}}
USER 0
RUN sed -i '/^class ProtocolRange/,/^$/ s/Count = 1/Count = 0/' {MODEL}
USER {{uid}}
"""


@pytest.fixture
def site(tmp_path: Path) -> Iterator[DockerSite]:
    made = DockerSite(tmp_path)
    made.engine = docker_engine.engine()
    yield made
    made.close()


def tag(site: DockerSite, image: str, name: str) -> None:
    repository, _, version = name.partition(":")
    site.engine.post(f"/images/{image}/tag", repo=repository, tag=version)


def test_it_ends_its_attempt_gets_no_other_and_is_made_anew(site: DockerSite, tmp_path: Path) -> None:
    mine = uuid.uuid4().hex
    used, older = (f"cloud-code-test/{name}:{mine}" for name in ("daemon", "older-daemon"))
    recipe = OLDER.format(image=docker_engine.image(), uid=subprocess.check_output(["id", "-u"], text=True))
    docker = ["docker", "--host", f"unix://{site.engine.path}", "build", "--quiet", "--tag", older, "-"]
    environment = {**os.environ, "DOCKER_BUILDKIT": "0"}
    subprocess.run(docker, input=recipe, text=True, check=True, env=environment)
    tag(site, older, used)
    site.use_docker(image=used)
    site.use_script(FIX, UNTIL_TOLD)
    site.write_config()
    (tmp_path / "former").mkdir()
    (tmp_path / "former/sitecustomize.py").write_text(FORMER)

    site.start(PYTHONPATH=str(tmp_path / "former"))
    site.write_task("one")
    site.wait_state("demo.one", "in_progress", timeout_seconds=PATIENCE_SECONDS)
    before = site.living()[0]
    assert not site.events("workstation.outdated")
    site.stop_supervisors()

    site.start()
    site.write_task("two")
    wait_for(lambda: site.events("workstation.draining"), PATIENCE_SECONDS, "it is drained")
    assert "speaks protocol 0" in site.events("workstation.outdated")[0]["details"]["message"]
    assert site.living() == [before], "its attempt goes on"
    go_on(site)
    site.wait_state("demo.one", "review", timeout_seconds=PATIENCE_SECONDS)
    told = wait_for(lambda: site.events("workstation.outdated")[1:], PATIENCE_SECONDS, "its image is as old")
    assert "workstation build backend" in told[0]["details"]["mend"]
    assert [e["details"]["why"] for e in site.events("workstation.recreated")] == ["protocol"]
    assert site.record("demo.two").state.value == "pending"

    tag(site, docker_engine.image(), used)
    site.wait_state("demo.two", "in_progress", timeout_seconds=PATIENCE_SECONDS)
    go_on(site)
    done = site.wait_state("demo.two", "review", timeout_seconds=PATIENCE_SECONDS)
    assert [e["details"]["why"] for e in site.events("workstation.recreated")] == ["protocol", "image"]
    assert done.attempt == 1 and not site.events("workstation.died", "workstation.lost")
    assert len(site.events("workstation.outdated")) == 2
    site.close()
    for name in (used, older):
        site.engine.delete(f"/images/{name}", force=1)
