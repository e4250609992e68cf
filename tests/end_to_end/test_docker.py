"""Workstations in containers of a real engine, under the real supervisor, with a scripted coding CLI."""

import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from supervisor.root_identity import next_epoch, root_id_of
from supervisor.workstations.containers import Container, list_containers
from supervisor.workstations.engine import Engine
from supervisor.workstations.ground import Ground
from supervisor.workstations.keys import keys_folder
from supervisor.workstations.leavings import remove_all
from tests import docker_engine
from tests.site import Site, git, wait_for

# The image may have to be built first, or is just being built for another test.
pytestmark = pytest.mark.timeout(600)

FIX = "sed -i 's/a - b/a + b/' calc.py"
CHECK = {"name": "sum", "command": "python3 -c 'import calc; assert calc.add(1, 2) == 3'"}
# Containers start slowly where six tests share two processors.
PATIENCE_SECONDS = 120
# What comes first on the PATH inside, and would be told keys by whoever asks for CLIs by a name.
IN_ITS_PLACE = (
    "mkdir -p /tools/bin && cd /tools/bin && printf '#!/bin/sh\ncat > /tools/bin/told' > agent-daemon"
    " && chmod +x agent-daemon"
)
OLD_TOKEN = "rt_0123456789abcdefghijklmnop"


class DockerSite(Site):
    """A root whose workstations are containers, without a network; its agents are lines of shell."""

    engine: Engine

    def use_docker(self, **settings: Any) -> None:
        self.environment["DOCKER_HOST"] = f"unix://{self.engine.path}"
        image = settings.get("image") or docker_engine.image()
        station = {"driver": "docker", "image": image, "network": "none", "clis": ["scripted"]}
        self.config["workstations"]["backend"] = station | {"memory": "256m", "pids": 128} | settings
        self.config["timing"] |= {"suspect_after_seconds": 20}

    def use_script(self, *steps: str) -> None:
        self.config["clis"]["scripted"]["argv"] = ["bash", "-c", "\n".join(("set -e", *steps))]

    def containers(self) -> list[Container]:
        if not self.root.root_id.exists():
            return []
        return list(list_containers(self.engine, root_id_of(self.root), str(self.root.path)).values())

    def living(self) -> list[Container]:
        return [container for container in self.containers() if container.living]

    def inside(self, *command: str) -> str:
        return self.cli("workstation", "shell", "backend-1", *command).stdout

    def close(self) -> None:
        super().close()
        if self.root.root_id.exists():
            remove_all(self.engine, self.root)


def docker_site(folder: Path) -> DockerSite:
    """One whose workstations are containers of the tests' engine."""
    made = DockerSite(folder)
    made.engine = docker_engine.engine()
    made.use_docker()
    return made


@pytest.fixture
def site(tmp_path: Path) -> Iterator[DockerSite]:
    made = docker_site(tmp_path)
    yield made
    made.close()


def test_a_task_file_becomes_a_pushed_branch_and_keys_are_nowhere_to_be_seen(site: DockerSite) -> None:
    site.config["clis"]["scripted"]["pass_environment"] = ["MODEL_KEY"]
    site.use_script(
        'test "$MODEL_KEY" = key-of-the-model', FIX, "setsid sleep 1000 & disown", "echo fixed the sign"
    )
    site.write_config()
    site.start(MODEL_KEY="key-of-the-model")
    site.write_task("fix-add", verification=[CHECK])
    task = site.wait_state("demo.fix-add", "review", timeout_seconds=PATIENCE_SECONDS)
    assert "a + b" in git("show", f"{task.branch}:calc.py", cwd=site.remote)

    container, *others = site.living()
    assert not others
    shown = site.engine.get(f"/containers/{container.id}/json")
    assert "key-of-the-model" not in json.dumps(shown)
    assert "sleep 1000" not in site.inside("ps", "-eo", "args")
    assert "key-of-the-model" not in site.inside(
        "bash", "-c", "cat /run/cloud-code/* /proc/[0-9]*/environ || true"
    )
    site.cli("workstation", "stop", "backend-1")
    wait_for(lambda: not site.containers(), PATIENCE_SECONDS, "the container is gone")
    assert "daemon of backend-1 ended" in site.cli("workstation", "logs", "backend-1").stdout


UNTIL_TOLD = 'while [ ! -e "$HOME/go" ]; do sleep 0.1; done'


def go_on(site: DockerSite) -> None:
    """Let the agents of `UNTIL_TOLD` go on."""
    for home in site.root.workspace("backend-1").glob(".homes/*"):
        (home / "go").touch()


def begin(site: DockerSite) -> Container:
    """A task under work that waits to be told to go on; its container."""
    site.use_script(FIX, UNTIL_TOLD, "echo fixed the sign")
    site.write_config()
    site.start()
    site.write_task("fix-add")
    site.wait_state("demo.fix-add", "in_progress", timeout_seconds=PATIENCE_SECONDS)
    wait_for(lambda: "sleep" in site.inside("ps", "-eo", "comm"), PATIENCE_SECONDS, "the agent works")
    return site.living()[0]


def test_a_supervisor_that_was_killed_finds_the_container_and_the_task_goes_on_undisturbed(
    site: DockerSite,
) -> None:
    before = begin(site)
    site.stop_supervisors(signal.SIGKILL)
    site.start()
    wait_for(lambda: site.events("workstation.adopted"), what="it is found again")
    go_on(site)
    task = site.wait_state("demo.fix-add", "review", timeout_seconds=PATIENCE_SECONDS)
    assert site.living() == [before] and len(task.attempts) == 1
    assert not site.events("workstation.died")


def test_a_container_that_is_killed_is_replaced_and_its_attempt_goes_on(site: DockerSite) -> None:
    before = begin(site)
    site.engine.post(f"/containers/{before.id}/kill")
    wait_for(lambda: site.events("workstation.died"), PATIENCE_SECONDS)
    after = wait_for(site.living, PATIENCE_SECONDS, "another container")[0]
    assert (after.id, after.run) != (before.id, before.run) and after.name == before.name
    go_on(site)
    task = site.wait_state("demo.fix-add", "review", timeout_seconds=PATIENCE_SECONDS)
    assert len(task.attempts) == 1


LOOK_AROUND = """
import json, os, subprocess, sys
root = sys.argv[1]
found = {"status": dict(line.split(":\\t", 1) for line in open("/proc/self/status").read().splitlines())}
paths = [os.path.relpath(folder, root) for folder, _, _ in os.walk(root)]
found["folders"] = sorted(path for path in paths if path != "." and path.count("/") < 3 and "/." not in path)
found["interfaces"] = os.listdir("/sys/class/net")
found["socket"] = os.path.exists("/var/run/docker.sock")
found["keys"] = os.listdir("/run/cloud-code")
found["writable"] = []
places = ["/", "/tmp", "/usr/bin", "/tools/bin", "/run/cloud-code", "mail/backend-1/in"]
for place in places + ["mail/backend-1/out", "mirrors/default", "workspaces/backend-1"]:
    try:
        open(os.path.join(root, place, "x"), "w").close()
        found["writable"].append(place)
    except OSError:
        pass
found["mounted"] = subprocess.run(["mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True).returncode == 0
print(json.dumps(found))
"""


@pytest.fixture
def steady_control_groups() -> Iterator[None]:
    with docker_engine.control_groups(changed=False):
        yield


@pytest.mark.usefixtures("steady_control_groups")
def test_an_agent_has_no_rights_and_sees_nothing_but_what_is_its_own(site: DockerSite) -> None:
    site.config["projects"]["other"] = site.config["projects"]["demo"] | {"trust_domain": "elsewhere"}
    site.config["workstations"]["foreign"] = site.config["workstations"]["backend"] | {"trust_domain": "elsewhere"}
    (site.root.mirrors / "elsewhere").mkdir(parents=True)
    site.write_config()
    site.start()
    wait_for(lambda: len(site.living()) == 2, PATIENCE_SECONDS, "both workstations run")
    keys = keys_folder(root_id_of(site.root), "backend-1")
    wait_for(lambda: not list(keys.iterdir()), PATIENCE_SECONDS, "its keys are taken and gone")

    root = site.root.path
    seen = json.loads(site.inside("python3", "-c", LOOK_AROUND, str(root)))
    rights = {name: int(seen["status"][name], 16) for name in ("CapEff", "CapPrm", "CapBnd", "CapAmb")}
    assert set(rights.values()) == {0}
    assert (seen["status"]["NoNewPrivs"], seen["status"]["Seccomp"]) == ("1", "2")
    assert seen["folders"] == [
        *("mail", "mail/backend-1", "mail/backend-1/in", "mail/backend-1/out"),
        *("mirrors", "mirrors/default", "workspaces", "workspaces/backend-1"),
    ]
    assert seen["interfaces"] == ["lo"] and not seen["socket"] and not seen["keys"]
    assert seen["writable"] == ["/tmp", "/tools/bin", "mail/backend-1/out", "workspaces/backend-1"]
    assert seen["mounted"] is False

    # Beyond the limits: the kernel refuses, and ends what takes more memory, in this container alone.
    forks = """
import subprocess
made = []
try:
    while len(made) < 300: made.append(subprocess.Popen(["sleep", "30"]))
finally:
    for one in made: one.kill()
"""
    many = site.cli("workstation", "shell", "backend-1", "python3", "-c", forks, check=False)
    assert "BlockingIOError" in many.stderr
    much = site.cli("workstation", "shell", "backend-1", "python3", "-c", "b'x' * (600 << 20)", check=False)
    assert much.returncode == 137, much.stderr
    wait_for(lambda: site.events("workstation.out_of_memory"), PATIENCE_SECONDS, "it is told")


def test_an_agent_whose_memory_ran_out_is_told_of_as_that(site: DockerSite) -> None:
    site.use_script("python3 -c \"b'x' * (600 << 20)\"")
    site.config["projects"]["demo"]["limits"] = {"max_failures": 1}
    site.write_config()
    site.start()
    site.write_task("fix-add", verification=[CHECK])
    site.wait_state("demo.fix-add", "blocked", timeout_seconds=PATIENCE_SECONDS)
    said = site.cli("task", "show", "demo.fix-add").stdout
    assert "out of memory" in said and "256 MiB" in said and "exit code -9" in said, said


MEASURE = """
import os, pathlib
from agent_daemon.protocol.paths import Root
from agent_daemon.room import RoomMeter
for place, count in (("/tmp", 3), ("/var/tmp", 2), ("/tools", 5)):
    pathlib.Path(place, "much").write_bytes(os.urandom(count << 20))
root = Root(pathlib.Path("/dev/shm/root"))
root.workspace("backend-1").mkdir(parents=True)
meter = RoomMeter(root, "backend-1", lambda: False)
meter._measure()
print(meter.found.model_dump_json())
"""


def test_what_lies_in_tmp_counts_as_taken_of_the_disk(site: DockerSite) -> None:
    (site.root.state).mkdir(parents=True)
    next_epoch(site.root)
    ground = Ground(site.root, None, site.engine)
    made = ground.options(ground.station("backend-1", "backend"), site.root.path, None, free=False)["mounts"]
    mounts = [word for mount in made if mount[0] == "type=volume" for word in ("--mount", ",".join(mount))]
    python = "/opt/cloud-code/daemon/bin/python"
    image = docker_engine.image()
    said = docker_engine.docker("run", "--rm", *mounts, "--entrypoint", python, image, "-c", MEASURE)
    found = json.loads(said)
    assert 5 << 20 <= found["temporary_bytes"] < 6 << 20 <= found["tools_bytes"] + (1 << 20)


def test_two_roots_on_one_engine_do_not_touch_each_other(site: DockerSite, tmp_path: Path) -> None:
    other = DockerSite(tmp_path / "other")
    other.engine = site.engine
    other.use_docker()
    try:
        for one in (site, other):
            one.write_config()
            one.start()
        first = wait_for(site.living, PATIENCE_SECONDS)[0]
        second = wait_for(other.living, PATIENCE_SECONDS)[0]
        assert first.name != second.name and first.workstation == second.workstation
        site.cli("workstation", "stop", "--all")
        wait_for(lambda: not site.containers(), PATIENCE_SECONDS)
        assert other.living() == [second] and not other.events("workstation.died")
    finally:
        other.close()


CONNECT = "import socket, sys; print(socket.socket().connect_ex((sys.argv[1], 8000)))"
LISTEN = "import socket, time; s = socket.socket(); s.bind(('', 8000)); s.listen(); time.sleep(600)"


def test_on_an_open_network_workstations_do_not_reach_each_other(site: DockerSite) -> None:
    site.use_docker(network="open", count=2)
    site.write_config()
    site.start()
    wait_for(lambda: len(site.living()) == 2, PATIENCE_SECONDS, "both workstations run")
    one, two = sorted(site.living(), key=lambda container: container.workstation)
    told = site.engine.get(f"/containers/{two.id}/json")["NetworkSettings"]["Networks"]
    address = next(iter(told.values()))["IPAddress"]
    docker = ["docker", "--host", f"unix://{site.engine.path}", "exec"]
    subprocess.run([*docker, "--detach", two.id, "python3", "-c", LISTEN], check=True)

    def connect(container: Container) -> str:
        command = [*docker, container.id, "timeout", "3", "python3", "-c", CONNECT, address]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()

    wait_for(lambda: connect(two) == "0", PATIENCE_SECONDS, "it listens")
    assert connect(one) != "0"
    assert not site.events("workstation.not_started", "workstation.died")


def test_what_is_lacking_is_said_and_mends_itself(site: DockerSite) -> None:
    site.use_docker(image="cloud-code-test/never-built")
    site.write_config()
    site.start()
    refused = wait_for(lambda: site.events("workstation.not_started"), PATIENCE_SECONDS)[0]
    assert (
        "E_NO_IMAGE" in refused["details"]["message"] and "Build it, or pull it." in refused["details"]["message"]
    )
    examined = site.cli("doctor", check=False)
    assert examined.returncode == 1 and "E_NO_IMAGE" in examined.stdout and "Docker engine" in examined.stdout
    assert site.cli("workstation", "shell", "backend-1", check=False).stderr.count("E_NOT_RUNNING")


def test_a_login_that_was_copied_is_told_before_and_after_one_of_the_two_is_renewed(site: DockerSite) -> None:
    renews = f"sed -i s/{OLD_TOKEN}/rt_renewed_renewed_renewed/ $CODEX_HOME/auth.json"
    site.config["clis"]["codex"] = {"adapter": "codex", "argv": ["bash", "-c", renews]}
    site.use_docker(count=2, clis=["codex"])
    site.write_config()
    site.start()
    wait_for(lambda: len(site.living()) == 2, PATIENCE_SECONDS)
    for name in ("backend-1", "backend-2"):
        login = json.dumps({"tokens": {"refresh_token": OLD_TOKEN}})
        lay = f"mkdir -p .homes/codex/.codex && echo '{login}' > .homes/codex/.codex/auth.json"
        site.cli("workstation", "shell", name, "sh", "-c", f"{lay}; {IN_ITS_PLACE}")

    def told() -> str:
        checks = json.loads(site.cli("doctor", "--json", check=False).stdout)
        return "\n".join(check["detail"] for check in checks if check["name"] == "logins")

    assert "one login is that of codex of backend-1, backend-2 (.codex/auth.json);" in told()
    site.write_task("fix-add")
    files = [site.root.workspace(name) / ".homes/codex/.cloud-code-logins" for name in ("backend-1", "backend-2")]
    kept = wait_for(lambda: next((file for file in files if file.exists() and len(marks(file)) == 2), None))
    assert OLD_TOKEN not in kept.read_text()
    assert f"what codex of {kept.parts[-4]} (.codex/auth.json) had before" in told()
    site.cli("workstation", "clis")
    assert site.inside("ls", "/tools/bin").split() == ["agent-daemon"]  # nobody asked that one


def marks(file: Path) -> list[str]:
    return list(json.loads(file.read_text()))


def test_while_the_engine_is_away_agents_go_on_and_nobody_is_judged(tmp_path: Path) -> None:
    own = docker_engine.OwnEngine()
    site = DockerSite(tmp_path)
    site.engine = Engine(own.socket)
    try:
        own.start()
        own.load(docker_engine.image())
        site.use_docker()
        before = begin(site)
        own.stop()
        wait_for(lambda: site.events("engine.away"), what="it is noticed")
        assert "E_ENGINE_AWAY" in site.cli("status").stdout
        go_on(site)
        task = site.wait_state("demo.fix-add", "review", timeout_seconds=PATIENCE_SECONDS)
        own.start()
        wait_for(lambda: site.events("engine.back"), what="it is noticed, too")
        assert "E_ENGINE_AWAY" not in site.cli("status").stdout
        wait_for(lambda: site.living() == [before], what="it is the same container")
        assert len(task.attempts) == 1 and not site.events("workstation.died", "workstation.silent")
    finally:
        site.close()
        own.close()


def test_what_an_attempt_left_is_bundled_in_a_container_of_its_own(site: DockerSite) -> None:
    begin(site)
    site.cli("workstation", "stop", "backend-1")
    wait_for(lambda: not site.containers(), PATIENCE_SECONDS, "the container is gone")
    site.cli("task", "cancel", "demo.fix-add")
    bundle = site.root.salvaged("demo.fix-add", 1)
    wait_for(bundle.exists, PATIENCE_SECONDS, "its work is saved")
    heads = subprocess.run(["git", "bundle", "list-heads", bundle], capture_output=True, text=True, check=True)
    assert heads.stdout
    mine = {"label": [f"cloud-code.root={root_id_of(site.root)}"]}
    wait_for(lambda: not site.engine.get("/containers/json", all=1, filters=mine), PATIENCE_SECONDS, "it is gone")
