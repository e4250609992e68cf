"""Free workstations on a real engine that remaps users: root inside, its work taken in, its ways out tried.

The supervisor is a user of its own here, and so is the agent; root inside is a number that nobody has.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests import docker_engine
from tests.docker_engine import AGENT, RemappedEngine
from tests.end_to_end.test_docker import PATIENCE_SECONDS, DockerSite, docker_site
from tests.site import GIT_ENVIRONMENT, Supervisor, wait_for
from tests.site import PATIENCE_SECONDS as PATIENCE

# The images may have to be built first, and are carried from one engine to the other.
pytestmark = pytest.mark.timeout(900)


class FreeSite(DockerSite):
    """A root of `AGENT`'s, whose supervisor runs as that user where the engine's map is to be seen."""

    own: RemappedEngine

    def use_free(self, **settings: Any) -> None:
        self.use_docker(image=docker_engine.image(AGENT), preset="free", **settings)

    def write_config(self) -> None:
        super().write_config()
        for path in (self.folder, *self.folder.rglob("*")):
            os.lchown(path, *AGENT)

    def start(self, *, through: Sequence[str] = (), **environment: str) -> Supervisor:
        return super().start(through=[*through, *self.own.within()], **environment)

    def cli(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        words = [sys.executable, "-m", "supervisor", "--root", str(self.root.path), *arguments]
        return self.run(*self.own.within(), *words, environment=self._environment(), check=check)

    def git(self, *words: str) -> str:
        """In the remote, as its owner."""
        user = ["setpriv", f"--reuid={AGENT[0]}", f"--regid={AGENT[1]}", "--clear-groups"]
        return self.run(*user, "git", "-C", str(self.remote), *words, environment=GIT_ENVIRONMENT).stdout

    @staticmethod
    def run(*command: str, environment: dict[str, str], check: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False
        )
        assert not check or done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done


@pytest.fixture
def engine() -> Iterator[RemappedEngine]:
    tag = docker_engine.image(AGENT)
    made = RemappedEngine()
    try:
        made.start()
        made.load(tag)
        yield made
    finally:
        made.close()


@contextmanager
def free_site(engine: RemappedEngine) -> Iterator[FreeSite]:
    folder = Path(tempfile.mkdtemp(prefix="ccf-", dir=docker_engine.DISK))
    folder.chmod(0o755)
    made = FreeSite(folder)
    made.own, made.engine = engine, docker_engine.Engine(engine.socket)
    made.use_free()
    try:
        yield made
    finally:
        made.close()
        shutil.rmtree(folder)


def test_agents_may_be_root_inside_and_what_they_made_is_taken_in_and_taken_back(engine: RemappedEngine) -> None:
    """In one test, for the engine takes longer than each of them."""
    for scene in (
        an_agent_installs_with_apt_and_what_root_made_is_work_like_any_other,
        root_inside_gets_nowhere_and_is_nobody_outside,
        what_root_made_unreadable_is_told_and_taken_back_by_the_next_container,
    ):
        with free_site(engine) as site:
            scene(site)


PACKAGE = """
mkdir -p /tmp/p/DEBIAN /tmp/p/usr/bin
printf 'Package: hail\\nVersion: 1\\nArchitecture: all\\nMaintainer: A <a@example.org>\\nDescription: hail\\n' \
    >/tmp/p/DEBIAN/control
printf '#!/bin/sh\\necho hail\\n' >/tmp/p/usr/bin/hail
chmod 755 /tmp/p/usr/bin/hail
dpkg-deb --build --root-owner-group /tmp/p /tmp/hail.deb
sudo apt-get install -y /tmp/hail.deb 2>/tmp/said
if grep 'unable to resolve host' /tmp/said; then exit 1; fi
test "$(hail)" = hail
"""


def an_agent_installs_with_apt_and_what_root_made_is_work_like_any_other(site: FreeSite) -> None:
    site.use_free(network="allow", egress=[])
    site.use_script(
        PACKAGE,
        "sed -i 's/a - b/a + b/' calc.py",
        "sudo sh -c 'umask 077; mkdir made; echo by root >made/file; git add made 2>/dev/null; true'",
        "sudo chown -R root: .git /tools/home .",
        "sudo setsid sleep 1000 & disown",
        "sudo curl --silent --show-error https://evil.example.org/ || true",
        "echo fixed the sign",
    )
    site.write_config()
    site.start()
    site.write_task("fix-add")
    task = site.wait_state("demo.fix-add", "review", timeout_seconds=PATIENCE_SECONDS)
    assert "a + b" in site.git("show", f"{task.branch}:calc.py")
    assert site.git("show", f"{task.branch}:made/file") == "by root\n" and len(task.attempts) == 1
    assert "sleep 1000" not in site.inside("ps", "-eo", "args")
    assert "E_EGRESS_NOT_ALLOWED evil.example.org:443" in site.cli("workstation", "logs", "backend-1").stderr
    site.cli("task", "cancel", "demo.fix-add")
    worktrees = site.root.workspace("backend-1") / "demo.worktrees"
    wait_for(lambda: not (worktrees / "demo.fix-add").exists(), PATIENCE_SECONDS, "its worktree is gone")


BREAK_OUT = r"""
import errno, glob, json, os, socket, subprocess, sys
root, other = sys.argv[1:]
inside, workspace = f"{root}/mail/backend-1/in", f"{root}/workspaces/backend-1"

def works(do, *arguments):
    try:
        do(*arguments)
    except OSError:
        return False
    return True

def write(place):
    with open(place, "w") as file:
        file.write("1")

def run(*words):
    subprocess.run(words, capture_output=True, check=True)

def runs(*words):
    return subprocess.run(words, capture_output=True).returncode == 0

status = dict(line.split(":\t", 1) for line in open("/proc/self/status").read().splitlines())
found = {name: int(status[name], 16) for name in ("CapEff", "CapPrm", "CapBnd", "CapAmb")}
found["seccomp"] = status["Seccomp"]
places = [f"{inside}/x", f"{root}/mirrors/default/x", "/proc/sys/kernel/panic", "/proc/sysrq-trigger"]
places += ["/proc/sys/kernel/core_pattern", "/run/cloud-code/x", "/run/cloud-code-egress/x"]
for name in ("memory.max", "memory.limit_in_bytes", "pids.max", "cgroup.procs", "release_agent"):
    places += glob.glob(f"/sys/fs/cgroup/{name}") + glob.glob(f"/sys/fs/cgroup/*/{name}")
found["written"] = [place for place in places if works(write, place)]
found["moved"] = [
    works(os.rename, inside, f"{inside}-away"),
    works(os.chown, inside, 0, 0),
    works(os.unlink, "/run/cloud-code-egress/proxy"),
    works(os.chmod, "/run/cloud-code-egress", 0o777),
    works(os.mknod, "/tmp/disk", 0o060600, os.makedev(8, 0)),
    works(os.mknod, f"{workspace}/memory", 0o020600, os.makedev(1, 1)),
    works(socket.sethostname, "other"),
    works(os.nice, -5),
    works(socket.socket, socket.AF_INET, socket.SOCK_RAW, 1),
]
found["ran"] = [
    runs("mount", "-o", "remount,rw", inside),
    runs("umount", inside),
    runs("mount", "-t", "tmpfs", "x", "/mnt"),
    runs("mount", "--bind", "/tmp", inside),
    runs("mount", "-t", "proc", "x", "/mnt"),
    runs("unshare", "--user", "true"),
    runs("unshare", "--mount", "true"),
    runs("nsenter", "--target", "1", "--mount", "true"),
    runs("chroot", "/tools", "true"),
]
names = ["/var/run/docker.sock", "/dev/sda", "/dev/mem", "/dev/kmsg", "/dev/fuse", "/dev/kvm", other]
names += [f"{root}/state", f"{root}/config.yaml", f"{root}/mail/backend-2", f"{root}/workspaces/backend-2"]
found["seen"] = [name for name in names if os.path.lexists(name)]
found["listed"] = {name: sorted(os.listdir(f"{root}/{name}")) for name in ("mail", "workspaces", "mirrors")}
found["interfaces"] = os.listdir("/sys/class/net")
write(f"{workspace}/setuid")
os.chown(f"{workspace}/setuid", 0, 0)
os.chmod(f"{workspace}/setuid", 0o4755)
print(json.dumps(found))
"""
# CHOWN, DAC_OVERRIDE, FOWNER, SETGID, SETUID by their numbers (capability.h).
FIVE = 1 << 0 | 1 << 1 | 1 << 3 | 1 << 6 | 1 << 7


def root_inside_gets_nowhere_and_is_nobody_outside(site: FreeSite) -> None:
    site.use_free(network="allow", egress=[], count=2)
    site.write_config()
    secret = site.folder / "secret"
    secret.write_text("of the host")
    secret.chmod(0o600)
    site.start()
    wait_for(lambda: len(site.living()) == 2, PATIENCE_SECONDS, "both workstations run")
    wait_for(lambda: (site.root.mail_out("backend-1") / "workstation.yaml").exists(), what="its daemon runs")
    seen = json.loads(site.inside("sudo", "python3", "-c", BREAK_OUT, str(site.root.path), str(secret)))
    assert seen["CapEff"] == seen["CapPrm"] == seen["CapBnd"] == FIVE and seen["CapAmb"] == 0
    assert seen["seccomp"] == "2" and seen["written"] == [] and seen["seen"] == []
    assert not any(seen["moved"]) and not any(seen["ran"])
    assert seen["listed"] == {"mail": ["backend-1"], "workspaces": ["backend-1"], "mirrors": ["default"]}
    assert seen["interfaces"] == ["lo"]

    made = (site.root.workspace("backend-1") / "setuid").lstat()
    assert made.st_uid == made.st_gid == 500_000, "nobody's, and so worth nothing as setuid"
    user = site.inside("bash", "-c", "id -u; grep CapEff /proc/self/status; cat /proc/self/uid_map").split()
    assert user[0] == str(AGENT[0]) and int(user[2], 16) == 0
    assert user[3:] == [*("0", "500000", "61000"), *("61000", "61000", "1"), *("61001", "561001", "4535")]


def what_root_made_unreadable_is_told_and_taken_back_by_the_next_container(site: FreeSite) -> None:
    out = site.root.attempt_out("backend-1", "demo.lost", 1)
    site.use_script(
        "sed -i 's/a - b/a + b/' calc.py",
        "mkdir made; echo by root >made/file",
        "sudo chown -R root . .git",
        "sudo chmod 700 made",
        f"sudo chmod 0 {out}/reporting.yaml",
        f"sudo sh -c 'chown -R root {out} {site.root.mail_out('backend-1')}; chmod 700 {out}'",
        "sudo rm /etc/sudoers.d/agent",
        "sleep 600",
    )
    site.write_config()
    site.start()
    site.write_task("lost")
    told = wait_for(lambda: site.events("report.refused"), PATIENCE_SECONDS, "it is told")
    assert told[0]["details"]["code"] == "E_UNREADABLE"
    wait_for(lambda: out.lstat().st_uid == 500_000, PATIENCE_SECONDS, "its folder is root's as well")
    assert "E_UNREADABLE" in site.cli("status").stdout
    for log in ("", "egress"):
        shown = site.cli("task", "logs", "demo.lost", *(["--log", log] if log else []), check=False)
        assert shown.returncode in (0, 1) and "Traceback" not in shown.stderr

    site.cli("workstation", "stop", "backend-1")
    wait_for(lambda: not site.containers(), PATIENCE_SECONDS, "the container is gone")
    site.cli("task", "cancel", "demo.lost")
    wait_for(lambda: site.events("attempt.salvaged"), PATIENCE_SECONDS, "it is bundled although no daemon lives")
    bundle = site.root.salvage / "demo.lost" / "1.bundle"
    wait_for(bundle.exists, what="it is laid where saved work is")
    site.git("fetch", "--quiet", str(bundle), "+refs/*:refs/saved/*")
    saved = site.git("for-each-ref", "--format=%(objectname)", "refs/saved").strip()
    assert site.git("show", f"{saved}:made/file") == "by root\n"
    site.cli("workstation", "start", "backend-1")
    worktree = site.root.workspace("backend-1") / "demo.worktrees" / "demo.lost"
    wait_for(lambda: not worktree.exists(), PATIENCE_SECONDS, "its worktree is gone")
    assert not site.events("supervisor.bug")


def test_on_an_engine_that_remaps_nobody_it_is_refused_and_all_others_work(tmp_path: Path) -> None:
    site = docker_site(tmp_path)
    site.config["workstations"]["testing"] = site.config["workstations"]["backend"] | {"preset": "free"}
    site.use_script("sed -i 's/a - b/a + b/' calc.py", "echo fixed the sign")
    site.write_config()
    try:
        site.start()
        site.write_task("fix-add")
        site.wait_state("demo.fix-add", "review", timeout_seconds=PATIENCE_SECONDS)
        wait_for(lambda: "E_FREE_NEEDS_REMAP" in site.cli("workstation", "list").stdout, what="it is told")
        assert [container.workstation for container in site.living()] == ["backend-1"]
        refused = site.cli("check", check=False)
        assert refused.returncode == 1 and "E_FREE_NEEDS_REMAP: workstations.testing:" in refused.stdout
        assert "backend" not in refused.stdout
        looked = site.cli("doctor", "--json", check=False)
        found = [check for check in json.loads(looked.stdout) if "E_FREE_NEEDS_REMAP" in check["detail"]]
        assert [(check["name"], check["status"]) for check in found] == [("workstation testing", "error")]
        assert "preset: hardened" in found[0]["mend"]
    finally:
        site.close()
