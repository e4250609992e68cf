"""What workstations use: from files of control groups as kernels write them, and of real processes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from agent_daemon.room import measure, temporary_folders, tools_folder
from supervisor.core.disk import is_over
from supervisor.core.settings import WorkstationSettings
from supervisor.ports import Use
from supervisor.workstations.examination import memory_checks, program_checks, remap_checks
from supervisor.workstations.remap import missing_hole
from supervisor.workstations.usage import use_of_family, use_of_group
from tests.site import wait_for


def lay(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def test_a_group_of_version_2(tmp_path: Path) -> None:
    lay(tmp_path / "proc/7", {"cgroup": "0::/system.slice/docker-ab.scope\n"})
    group = {
        "cgroup.controllers": "cpu memory pids\n",
        "memory.current": "5000\n",
        "memory.stat": "anon 3000\nfile 2000\ninactive_file 1500\n",
        "cpu.stat": "usage_usec 2500000\nuser_usec 1\n",
        "pids.current": "12\n",
    }
    lay(tmp_path / "groups/system.slice/docker-ab.scope", group)
    found = use_of_group(7, tmp_path / "proc", tmp_path / "groups")
    assert found == Use(memory_bytes=3500, cpu_seconds=2.5, processes=12)


def test_a_group_of_version_1_beside_an_empty_one_of_version_2(tmp_path: Path) -> None:
    lines = "4:memory:/docker/ab\n3:cpu,cpuacct:/docker/ab\n2:pids:/docker/ab\n0::/\n"
    lay(tmp_path / "proc/7", {"cgroup": lines})
    files = {
        "memory/docker/ab/memory.usage_in_bytes": "5000\n",
        "memory/docker/ab/memory.stat": "cache 1\ntotal_inactive_file 1500\n",
        "cpu,cpuacct/docker/ab/cpuacct.usage": "2500000000\n",
        "pids/docker/ab/pids.current": "12\n",
    }
    lay(tmp_path / "groups", files)
    found = use_of_group(7, tmp_path / "proc", tmp_path / "groups")
    assert found == Use(memory_bytes=3500, cpu_seconds=2.5, processes=12)


def test_what_cannot_be_read_is_not_known(tmp_path: Path) -> None:
    assert use_of_group(7, tmp_path / "proc", tmp_path / "groups") == Use()
    lay(tmp_path / "proc/7", {"cgroup": "4:memory:/x\n0::/y\n"})
    assert use_of_group(7, tmp_path / "proc", tmp_path / "groups") == Use()


def test_a_family_is_counted_with_its_children() -> None:
    script = "import subprocess, sys; p = subprocess.Popen(['sleep', '60']); sys.stdin.read(); p.kill(); p.wait()"
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE) as parent:
        wait_for(lambda: use_of_family(parent.pid).processes == 2)
        found = use_of_family(parent.pid)
        assert found.memory_bytes is not None and found.memory_bytes > 1_000_000 and found.cpu_seconds is not None


def test_folders_are_measured_without_what_is_mounted_or_linked_into_them(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/file").write_bytes(os.urandom(200_000))
    (tmp_path / "b").mkdir()
    (tmp_path / "b/link").symlink_to(tmp_path / "a/file")
    sizes = measure([tmp_path / "a", tmp_path / "b"])
    assert sizes is not None and 190_000 < sizes[0] < 300_000 and sizes[1] < 50_000
    assert measure([tmp_path / "absent"]) is None


def test_tools_are_looked_for_only_where_they_are_known_to_be(tmp_path: Path) -> None:
    home = tmp_path / "backend-1/home"
    home.mkdir(parents=True)
    assert tools_folder(home, "backend-1") == tmp_path / "backend-1"
    assert tools_folder(home, "backend-2") is None
    assert tools_folder(Path("/root"), "backend-1") is None
    assert temporary_folders(tmp_path / "backend-1") == (), "/tmp of a host is everybody's"


@pytest.mark.parametrize(
    ("used", "limit", "was", "over"),
    [
        (101, 100, False, True),
        (100, 100, False, False),
        (91, 100, True, True),
        (90, 100, True, False),
        (None, 100, True, True),
        (None, 100, False, False),
        (10**9, None, True, False),
    ],
)
def test_when_a_workstation_takes_too_much(used: int | None, limit: int | None, was: bool, over: bool) -> None:
    assert is_over(used, limit, was_over=was) is over


def test_a_limit_is_written_as_docker_writes_sizes() -> None:
    assert WorkstationSettings(clis=("codex",), disk_limit="3g").disk_limit_bytes == 3 * 1024**3
    assert WorkstationSettings(clis=("codex",)).disk_limit_bytes is None


def test_an_engine_that_remaps_users_is_told_with_what_its_map_lacks(tmp_path: Path) -> None:
    about = {
        "SecurityOptions": ["name=seccomp,profile=default", "name=userns"],
        "DockerRootDir": "/d/500000.600000",
    }
    files = tmp_path / "subuid", tmp_path / "subgid"
    files[0].write_text("dockremap:500000:1000\ndockremap:1000:1\ndockremap:501001:64535\n")
    files[1].write_text("ada:500000:65536\ndockremap:600000:65536\n")
    assert missing_hole(about, 1000, 1000, files) == f"{files[1]} does not leave 1000 be"
    files[1].write_text("dockremap:600000:2000\ndockremap:2000:1\n")
    assert not missing_hole(about, 1000, 2000, files)
    assert "does not leave 1001 be and" in missing_hole(about, 1001, 2001, files)
    assert "does not leave" in missing_hole({"DockerRootDir": "/var/lib/docker"}, 1000, 2000, files)


def test_a_free_workstation_is_refused_where_root_inside_is_root_of_the_host() -> None:
    free = WorkstationSettings(driver="docker", clis=("codex",), preset="free")
    seccomp = "name=seccomp,profile=default"
    for options, why in (([seccomp], "remaps no users"), ([seccomp, "name=rootless"], "rootless")):
        (found,) = remap_checks("workstation backend", {"SecurityOptions": options}, free)
        assert found.status == "error" and "E_FREE_NEEDS_REMAP" in found.detail and why in found.detail
        assert "preset: hardened" in found.mend
    hardened = WorkstationSettings(driver="docker", clis=("codex",))
    assert not list(remap_checks("workstation backend", {"SecurityOptions": [seccomp]}, hardened))
    (found,) = remap_checks("workstation backend", {"SecurityOptions": ["name=userns"]}, hardened)
    assert found.status == "error" and "--userns-remap" in found.mend


MOUNTS = """\
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory
40 31 0:37 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
41 31 0:38 / /tmp rw - tmpfs pids rw,size=4096k
"""


def test_a_group_that_is_mounted_nowhere_hides_a_lack_of_memory_on_version_1_alone() -> None:
    own = "9:name=systemd:/a\n8:pids:/\n4:memory:/a:b\n1:cpuacct,cpu:/\n0::/\n"
    found = list(memory_checks("workstation backend", {"CgroupVersion": "1"}, own, MOUNTS))
    assert [check.mend.rpartition(" ")[2] for check in found] == ["/sys/fs/cgroup/systemd", "/sys/fs/cgroup/pids"]
    assert "mount -t cgroup -o name=systemd cgroup" in found[0].mend
    assert not list(memory_checks("workstation backend", {"CgroupVersion": "2"}, own, MOUNTS))
    assert not list(memory_checks("workstation backend", {}, "0::/\n", MOUNTS))
    assert not list(memory_checks("workstation backend", {}, "", ""))


def test_an_engine_without_its_program_starts_nothing() -> None:
    (found,) = program_checks("workstation backend", None)
    assert found.status == "error" and "docker-cli" in found.mend
    assert not list(program_checks("workstation backend", "/usr/bin/docker"))
