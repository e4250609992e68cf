"""What is done in the place of a daemon, in real containers: bounded, and cleared after a kill."""

import hashlib
import os
import signal
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from agent_daemon.failpoints import RESTORE_FAILPOINTS, VARIABLE
from agent_daemon.protocol.codec import encode
from agent_daemon.protocol.files import make_folder, write_file
from agent_daemon.protocol.paths import Root
from supervisor.core.chores import Chore
from supervisor.core.settings import Config, MaintenanceSettings
from supervisor.errors import CloudCodeError
from supervisor.root_identity import next_epoch
from supervisor.workstations import snapshots, stand_ins
from supervisor.workstations.container_options import Station
from supervisor.workstations.containers import PATH_LABEL, ROOT_LABEL
from supervisor.workstations.docker import DockerWorkstations
from supervisor.workstations.engine import Engine
from supervisor.workstations.ground import Ground
from supervisor.workstations.keys import FILE, keys_folder, lay_keys
from supervisor.workstations.leavings import remove_all
from tests import docker_engine
from tests.docker_engine import docker
from tests.site import PATIENCE_SECONDS, wait_for

# The image may have to be built first, or is just being built for another test.
pytestmark = pytest.mark.timeout(600)

TEND = MaintenanceSettings(update_tools=True)
NAME = "backend-1"
MIB = 1024 * 1024


def ground_of(folder: Path) -> Ground:
    """A root without a supervisor, on the engine of the tests."""
    station = {"driver": "docker", "image": docker_engine.image(), "network": "none", "clis": ["scripted"]}
    config = Config.model_validate(
        {
            "projects": {"demo": {"repository": "/srv/demo.git"}},
            "workstations": {"backend": station | {"memory": "256m", "pids": 128}},
            "clis": {"scripted": {"adapter": "command", "argv": ["true"]}},
        }
    )
    root = Root(folder)
    if not root.root_id.exists():
        make_folder(root.state)
        next_epoch(root)
    ground = Ground(root, config, Engine(docker_engine.engine().path))
    for path, _ in ground.station(NAME, "backend").folders():
        make_folder(path)
    return ground


def tend_for_ever(folder: Path) -> None:
    """What a supervisor is at when it is killed; another process runs this."""
    ground = ground_of(folder)
    stand_ins.tend(ground, ground.station(NAME, "backend"), TEND)


def calling(function: str, folder: Path) -> list[str]:
    """What calls one of these functions in a process of its own."""
    script = "import sys, pathlib; from tests.end_to_end import test_stand_ins as t; "
    return [sys.executable, "-c", f"{script}t.{function}(pathlib.Path(sys.argv[1]))", str(folder)]


@pytest.fixture
def ground(tmp_path: Path) -> Iterator[Ground]:
    made = ground_of(tmp_path)
    yield made
    remove_all(made.engine, made.root)


@pytest.fixture
def station(ground: Ground) -> Station:
    return ground.station(NAME, "backend")


def lay_tool(station: Station, script: str) -> None:
    """Something in `/tools`, as an agent may put it there, that is run when tools are brought up to date."""
    laying = 'mkdir -p /tools/bin /tools/uv/mine && printf "#!/bin/sh\\n%s\\n" "$0" > /tools/bin/uv'
    in_tools(station, f"{laying} && chmod 755 /tools/bin/uv", script)


def in_tools(station: Station, *script: str) -> str:
    """What a line of shell says in a container that has the tools of a workstation."""
    volume = f"type=volume,source={station.volume},target=/tools"
    entry = ["run", "--rm", "--network", "none", "--mount", volume, "--entrypoint", "sh", station.image]
    return docker(*entry, "-c", *script)


def of_root(ground: Ground) -> list[str]:
    return docker("ps", "-aq", "--filter", f"label={ROOT_LABEL}={ground.id}").split()


def test_a_flood_of_words_fills_neither_memory_nor_the_answer(ground: Ground, station: Station) -> None:
    lay_tool(station, "head -c 67108864 /dev/zero | tr '\\\\0' x > /proc/1/fd/1; echo > /proc/1/fd/1")
    tracemalloc.start()
    try:
        done = stand_ins.tend(ground, station, TEND)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert done["updated"] == ["uv"] and done["not_updated"] == [], "what counts is found at its end"
    assert peak < 8 * MIB, f"{peak / MIB:.1f} MiB of 64 were held at once"
    assert not of_root(ground)


def test_what_cannot_be_done_is_told_by_the_last_line(ground: Ground, station: Station) -> None:
    with pytest.raises(stand_ins.NotDoneError) as refused:
        stand_ins.salvage(ground, station, "demo.1", 1)
    assert refused.value.code == "E_NOT_BUNDLED" and "\n" not in refused.value.message
    assert not of_root(ground)


def test_what_a_killed_supervisor_had_begun_is_ended_before_a_daemon_is_there(
    ground: Ground, station: Station
) -> None:
    lay_tool(station, "sleep 10000")

    def killed() -> None:
        with subprocess.Popen(calling("tend_for_ever", ground.root.path)) as process:
            wait_for(lambda: docker("ps", "-q", "--filter", f"name={station.container}-tend"), 120, "it tends")
            process.send_signal(signal.SIGKILL)
        second = int(time.time())  # (the engine tells when a container was made in whole ones)
        wait_for(lambda: time.time() >= second + 1)

    killed()
    assert of_root(ground), "it goes on without anybody"
    driver = DockerWorkstations(ground.root, engine=ground.engine)
    assert driver.find(NAME) is None
    driver.look()
    wait_for(lambda: not of_root(ground), what="it is removed, beside the loop")
    assert driver.place() == Path(ground.engine.get("/info")["DockerRootDir"])

    killed()
    stand_ins.remove_left(ground, "backend-2")
    assert of_root(ground), "that of another workstation stays"
    lay_tool(station, "true")
    chore = Chore(kind="maintain", why="asked")
    assert stand_ins.keep_up(ground, station, chore, TEND, lambda _: None)["updated"] == ["uv"]


def test_an_end_waits_for_nothing_that_stands_in(ground: Ground, station: Station) -> None:
    lay_tool(station, "sleep 10000")
    driver = DockerWorkstations(ground.root, engine=ground.engine)
    assert driver.find(NAME) is None
    with ThreadPoolExecutor() as pool:
        under_way = pool.submit(stand_ins.tend, ground, station, TEND)
        wait_for(lambda: docker("ps", "-q", "--filter", f"name={station.container}-tend"), 120, "it tends")
        driver.interrupt()
        with pytest.raises(CloudCodeError):
            under_way.result(PATIENCE_SECONDS)
    assert not of_root(ground)
    with pytest.raises(CloudCodeError) as refused:
        stand_ins.tend(ground, station, TEND)
    assert refused.value.code == "E_INTERRUPTED" and not of_root(ground)


def test_a_start_that_comes_too_late_takes_no_keys_from_the_one_that_runs(
    ground: Ground, station: Station
) -> None:
    keys = keys_folder(station.root_id, NAME)
    lay_keys(keys, {"KEY": "not read yet"}, ground.root.mail_out(NAME) / "workstation.yaml")
    marks = [word for name, value in station.labels("first").items() for word in ("--label", f"{name}={value}")]
    docker("run", "--detach", "--network", "none", *marks, "--entrypoint", "sleep", station.image, "10000")
    driver = DockerWorkstations(ground.root, engine=ground.engine)
    driver._start(station, "second", keys, {"KEY": "another"})  # (as if nobody had been told of the first one yet)
    with pytest.raises(CloudCodeError) as refused:
        driver.start(NAME, "backend", {})
    assert refused.value.code == "E_CONTAINER"
    assert "not read yet" in (keys / FILE).read_text()


def test_what_a_daemon_laid_down_is_not_read_by_what_stands_in_for_it(ground: Ground, station: Station) -> None:
    keys = keys_folder(station.root_id, NAME)
    lay_keys(keys, {"KEY": "of a start that a kill cut short"}, ground.root.mail_out(NAME) / "workstation.yaml")
    lay_tool(station, "cp /run/cloud-code/* /tools/taken")
    assert stand_ins.tend(ground, station, TEND)["not_updated"]
    assert "taken" not in in_tools(station, "ls /tools")


def test_a_container_without_a_log_to_read_is_removed_all_the_same(ground: Ground, station: Station) -> None:
    marks = [word for name, value in station.labels("first").items() for word in ("--label", f"{name}={value}")]
    docker("run", "--log-driver", "none", "--network", "none", *marks, "--entrypoint", "true", station.image)
    for left in ground.seen_of(NAME):
        ground.remove(left)
    assert not of_root(ground)


def test_a_copy_of_a_root_touches_nothing_while_the_other_one_has_containers(
    ground: Ground, station: Station, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    make_folder(other / "state")
    (other / "state" / "root-id").write_bytes(ground.root.root_id.read_bytes())
    marks = ["--label", f"{ROOT_LABEL}={ground.id}", "--label", f"{PATH_LABEL}={other}"]
    docker("create", "--name", f"{station.container}-tend", *marks, station.image)
    driver = DockerWorkstations(ground.root, engine=ground.engine)
    keys = keys_folder(station.root_id, NAME)
    driver._start(station, "first", keys, {})
    with pytest.raises(CloudCodeError, match="E_ROOT_COPIED"):
        driver.start(NAME, "backend", {})
    with pytest.raises(CloudCodeError, match="E_ROOT_COPIED"):
        stand_ins.keep_up(ground, station, Chore(kind="maintain"), TEND, lambda _: None)
    with pytest.raises(CloudCodeError, match="E_ROOT_COPIED"):
        stand_ins.salvage(ground, station, "demo.one", 1)
    assert len(of_root(ground)) == 1 and not (keys / FILE).exists()
    (other / "state" / "root-id").unlink()


def volumes(ground: Ground) -> list[str]:
    return docker("volume", "ls", "-q", "--filter", f"name=cc-{ground.id}-").split()


def restore(folder: Path) -> None:
    """What a supervisor is at when it is killed; another process runs this."""
    ground = ground_of(folder)
    snapshots.restore(ground.engine, ground.station(NAME, "backend"), None, ground.refuse_interrupted)


@pytest.mark.parametrize("place", RESTORE_FAILPOINTS)
def test_a_restore_that_is_killed_leaves_all_of_the_old_tools_or_of_the_new_ones(
    ground: Ground, station: Station, place: str
) -> None:
    in_tools(station, "echo saved > /tools/mine; seq 99999 > /tools/much")
    snapshots.take(ground.engine, station, 1, ground.disk, ground.refuse_interrupted)
    in_tools(station, "echo later > /tools/mine; rm /tools/much")
    command = calling("restore", ground.root.path)
    killed = subprocess.run(command, env=os.environ | {VARIABLE: place}, timeout=120, check=False)
    assert killed.returncode == -signal.SIGKILL
    look = "cat /tools/mine; wc -l < /tools/much || true"
    assert in_tools(station, look).split() == (["later"] if place == "restore.filled" else ["saved", "99999"])
    station.tools.clear_left(ground.engine)
    assert volumes(ground) == [station.volume]
    restore(ground.root.path)
    assert in_tools(station, look).split() == ["saved", "99999"]
    assert volumes(ground) == [station.volume]


def test_a_restore_that_the_engine_refuses_half_way_leaves_the_tools_as_they_were(
    ground: Ground, station: Station
) -> None:
    in_tools(station, "echo saved > /tools/mine; head -c 3000000 /dev/urandom > /tools/much")
    snapshots.take(ground.engine, station, 1, ground.disk, ground.refuse_interrupted)
    in_tools(station, "echo later > /tools/mine")
    folder = snapshots.folder_of(ground.root, NAME)
    (snapshot,) = snapshots.snapshots_of(ground.root, NAME)
    archive = folder / f"{snapshot.name}.tar.gz"
    half = archive.read_bytes()[:1_500_000]
    archive.write_bytes(half)  # and by its description so it is
    changed = snapshot.evolve(sha256=hashlib.sha256(half).hexdigest())
    write_file(folder / f"{snapshot.name}.yaml", encode(changed))
    with pytest.raises(CloudCodeError) as refused:
        restore(ground.root.path)
    assert refused.value.code == "E_ENGINE"
    assert in_tools(station, "cat /tools/mine").split() == ["later"] and volumes(ground) == [station.volume]
    assert not of_root(ground)


def test_a_damaged_name_of_the_tools_is_no_empty_tools(ground: Ground, station: Station) -> None:
    path = ground.root.state / "tools" / f"{NAME}.yaml"
    make_folder(path.parent)
    path.write_text("volume: [")
    with pytest.raises(CloudCodeError) as refused:
        ground.options(station, ground.root.path, None, free=False)
    assert refused.value.code == "E_TOOLS_FILE" and station.tools.usual in refused.value.mend
