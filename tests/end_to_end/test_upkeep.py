"""What is done to idle workstations, in real containers of a real engine."""

import json
import os
import shutil
import subprocess
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor.workstations.snapshots import snapshots_of
from tests import docker_engine
from tests.end_to_end.test_docker import PATIENCE_SECONDS, DockerSite, begin, docker_site, go_on
from tests.site import wait_for

# The image may have to be built first, or is just being built for another test.
pytestmark = pytest.mark.timeout(600)

GIT = shutil.which("git")


@pytest.fixture
def site(tmp_path: Path) -> Iterator[DockerSite]:
    made = docker_site(tmp_path)
    yield made
    for tag in [one.image for one in snapshots_of(made.root, "backend-1")]:
        made.engine.delete(f"/images/{tag}")
    made.close()


def build(site: DockerSite, tag: str, number: int) -> None:
    """Another image of this name."""
    command = ["docker", "--host", f"unix://{site.engine.path}", "build", "--quiet", "--tag", tag, "-"]
    recipe = f"FROM {docker_engine.image()}\nLABEL changed={tag}-{number}\n"
    environment = {**os.environ, "DOCKER_BUILDKIT": "0"}
    subprocess.run(command, input=recipe, text=True, check=True, env=environment)


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


def test_caches_are_trimmed_tools_are_saved_and_come_back_from_a_snapshot(site: DockerSite) -> None:
    site.config["maintenance"] = {"cache_bytes": 1000, "snapshot": True, "keep_snapshots": 1}
    site.write_config()
    site.start()
    wait_for(lambda: site.living() and "idle" in site.cli("workstation", "list").stdout, PATIENCE_SECONDS)
    site.inside("bash", "-c", "mkdir -p ~/.cache/pip /tools/bin; head -c 9000 /dev/zero > ~/.cache/pip/wheel")
    site.inside("bash", "-c", "echo one > /tools/bin/mine; chmod 755 /tools/bin/mine; ln -s mine /tools/bin/link")
    (found,) = json.loads(site.cli("workstation", "status", "--json").stdout)
    assert found["use"]["memory_bytes"] > 1_000_000 and found["limits"]["memory"] == "256m"
    assert found["use"]["processes"] >= 2 and found["processors"] is not None
    said = site.cli("workstation", "maintain", "backend-1").stdout
    assert "its caches took 8.8 KiB, now 0 B; snapshot 20" in said, said
    (snapshot,) = json.loads(site.cli("workstation", "snapshot", "backend-1", "--list", "--json").stdout)
    assert site.engine.image(snapshot["image"])
    archive = site.root.state / "snapshots/backend-1" / f"{snapshot['name']}.tar.gz"
    assert archive.stat().st_mode & 0o077 == 0, "logins may be in it"
    wait_for(lambda: "idle" in site.cli("workstation", "list").stdout, PATIENCE_SECONDS)

    site.inside("bash", "-c", "echo two > /tools/bin/mine; touch /tools/bin/other; rm /tools/bin/link")
    assert f"those of snapshot {snapshot['name']}" in site.cli("workstation", "restore", "backend-1").stdout
    wait_for(site.living, PATIENCE_SECONDS, "another container")
    assert "one" in site.inside("cat", "/tools/bin/link")
    assert "other" not in site.inside("ls", "/tools/bin") and "wheel" not in site.inside("ls", "-R", "/tools/home")
    site.inside("bash", "-c", "touch /tools/bin/of-mine && mkdir -p /tools/new")

    said = site.cli("workstation", "snapshot", "backend-1").stdout
    assert f"removed: {snapshot['name']}" in said and site.engine.image(snapshot["image"]) is None
    refused = site.cli("workstation", "restore", "backend-1", "--snapshot", snapshot["name"], check=False)
    assert refused.returncode == 1 and "E_NO_SNAPSHOT" in refused.stderr


def test_a_container_is_made_anew_after_each_task_and_when_its_image_changes(site: DockerSite) -> None:
    tag = f"cloud-code-test/changing:{uuid.uuid4().hex}"
    repository, _, version = tag.partition(":")
    site.engine.post(f"/images/{docker_engine.image()}/tag", repo=repository, tag=version)
    site.config["workstations"]["backend"] |= {"image": tag, "recreate": "per_task"}
    slow = site.folder / "slow"  # (a remote far away: what is made ready takes longer than from look to look)
    slow.mkdir()
    (slow / "git").write_text(f'#!/bin/sh\ncase "$*" in *fetch*) sleep 1.5 ;; esac\nexec {GIT} "$@"\n')
    (slow / "git").chmod(0o755)
    site.environment["PATH"] = f"{slow}:{os.environ['PATH']}"
    site.use_script("sed -i 's/a - b/a + b/' calc.py")
    site.write_config()
    site.start()
    site.write_task("one")
    site.write_task("two")
    for stem in ("one", "two"):
        site.wait_state(f"demo.{stem}", "review", timeout_seconds=PATIENCE_SECONDS)
    wait_for(lambda: len(site.events("workstation.recreated")) == 2, PATIENCE_SECONDS)
    assert [e["details"]["why"] for e in site.events("workstation.recreated")] == ["task", "task"]
    assigned = [e["seq"] for e in site.events("task.assigned")]
    made_anew = site.events("workstation.recreated")[0]["seq"]
    assert assigned[0] < made_anew < assigned[1], "not two in one container"

    wait_for(lambda: "idle" in site.cli("workstation", "list").stdout, PATIENCE_SECONDS)
    build(site, tag, 1)
    wait_for(lambda: len(site.events("workstation.recreated")) == 3, PATIENCE_SECONDS, "it is made anew")
    assert site.events("workstation.recreated")[-1]["details"]["why"] == "image"
    assert site.engine.image(docker_engine.image()), "it has another name"

    replaced = wait_for(site.living, PATIENCE_SECONDS)[0].image
    build(site, tag, 2)
    wait_for(lambda: site.engine.image(replaced) is None, PATIENCE_SECONDS, "nothing has it any more")
    assert len(site.events("workstation.recreated")) >= 3
    site.stop_supervisors()
    site.engine.delete(f"/images/{tag}", force=1)
