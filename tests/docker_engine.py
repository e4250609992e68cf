"""The Docker engine of the tests (DOCKER_HOST, or the system's), and the one small image that they use."""

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest
from filelock import FileLock

from supervisor import images
from supervisor.core import remap
from supervisor.errors import CloudCodeError
from supervisor.workstations.engine import Engine, EngineRefusalError, engine_socket
from tests.site import PATIENCE_SECONDS, wait_for

PROJECT = Path(__file__).parent.parent
DISK = Path("/tmp")  # engines and their images are too large for the memory that other tests work in
# What the image is made of: any Debian or official image that is there, by this name.
BASE = os.environ.get("CLOUD_CODE_TEST_BASE_IMAGE", "debian:bookworm-slim")
CERTIFICATES = Path("/usr/local/share/ca-certificates")
REQUIRED = "docker" in os.environ.get("CLOUD_CODE_TEST_REQUIRE", "").split(",")


@cache
def engine() -> Engine:
    """The engine; the test is skipped where there is none, or fails where one is required."""
    try:
        found = Engine(engine_socket())
        found.version()
    except CloudCodeError as error:
        lacking(str(error))
    if shutil.which("docker") is None:
        lacking("the program docker is not on PATH")
    return found


# Who the agents of a workstation are on an engine that remaps users: root cannot be left be by its map.
AGENT = (61_000, 61_001)


@cache
def image(user: tuple[int, int] = images.own_user()) -> str:
    """An image with the daemon of this source tree, built once for each content of it and each user."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        images.write_context(folder, CERTIFICATES if CERTIFICATES.is_dir() else None)
        tag = f"cloud-code-test/base:{images.content_digest(folder)}-{user[0]}"
    with FileLock(DISK / f"cloud-code-test-image-{os.getuid()}.lock"):
        if not has_image(tag):
            need_base()
            certificates = CERTIFICATES if CERTIFICATES.is_dir() else None
            wanted = images.Wanted(
                kind="base", tag=tag, base=BASE, certificates=certificates, uid=user[0], gid=user[1]
            )
            images.build(str(engine().path), wanted)
    return tag


class OwnEngine:
    """An engine that a test may stop and start: with `live-restore`, in a network of its own, without a bridge.

    Two engines in one network would remove each other's bridges.
    """

    def __init__(self) -> None:
        if os.getuid() != 0 or shutil.which("dockerd") is None:
            lacking("an engine of the test's own needs root and the program dockerd")
        self.folder = Path(tempfile.mkdtemp(prefix="ccd-", dir=DISK))  # (a short path: sockets lie in it)
        self.socket = self.folder / "s"
        self._process: subprocess.Popen[bytes] | None = None

    before: tuple[str, ...] = ("unshare", "--net")
    more: tuple[str, ...] = ()

    def start(self) -> None:
        options = [
            *self.more,
            "--bridge=none",
            "--iptables=false",
            "--ip-forward=false",
            "--ip-masq=false",
            "--live-restore",
        ]
        places = [
            f"--data-root={self.folder}/data",
            f"--exec-root={self.folder}/exec",
            f"--host=unix://{self.socket}",
        ]
        command = [*self.before, "dockerd", *options, *places, f"--pidfile={self.folder}/pid"]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        wait_for(self._answers, what="the engine answers")

    def _answers(self) -> bool:
        try:
            Engine(self.socket).version()
        except CloudCodeError:
            return False
        return True

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(timeout=PATIENCE_SECONDS)
            self._process = None

    def load(self, tag: str) -> None:
        """The image of the other engine."""
        save = ["docker", "--host", f"unix://{engine().path}", "save", tag]
        with subprocess.Popen(save, stdout=subprocess.PIPE) as saving:
            load = ["docker", "--host", f"unix://{self.socket}", "load", "--quiet"]
            subprocess.run(load, stdin=saving.stdout, check=True, capture_output=True)

    def close(self) -> None:
        """Its containers must have ended."""
        self.stop()
        for mount in Path("/proc/self/mountinfo").read_text().splitlines():
            place = mount.split()[4]
            if place.startswith(f"{self.folder}/"):
                subprocess.run(["umount", "--lazy", place], check=False)
        shutil.rmtree(self.folder, ignore_errors=True)


class RemappedEngine(OwnEngine):
    """One that remaps users and leaves `AGENT` be, by files of its own: `/etc` of this machine stays as it is.

    What is to see these files, too, runs `within`, as that user, who can reach the sources and Python there.
    """

    def __init__(self) -> None:
        super().__init__()
        self.folder.chmod(0o755)
        etc = self.folder / "etc"
        etc.mkdir()
        for name, line in (("passwd", "dockremap:x:61999:61999::/:/bin/false"), ("group", "dockremap:x:61999:")):
            (etc / name).write_text(f"{Path('/etc', name).read_text()}{line}\n")
        for name, number in zip(("subuid", "subgid"), AGENT, strict=True):
            Path("/etc", name).touch()
            (etc / name).write_text(remap.with_lines("", "dockremap", remap.punched((), number)))
        lines = [f"mount --bind {file} /etc/{file.name}" for file in sorted(etc.iterdir())]
        lines += self._shown((PROJECT, Path(sys.prefix), Path(sys.base_prefix)))
        script = "\n".join(("set -e", *lines, 'exec "$@"'))
        self.before = ("unshare", "--net", "--mount", "sh", "-c", script, "engine")
        self.more = ("--userns-remap=dockremap",)

    def _shown(self, places: tuple[Path, ...]) -> Iterator[str]:
        """What lets everybody enter these, although a folder above, such as root's home, is closed."""
        hidden: dict[Path, list[Path]] = {}
        for place in places:
            above = [one for one in reversed(place.parents) if not one.stat().st_mode & 0o001]
            if above:
                hidden.setdefault(above[0], []).append(place)
        for number, (closed, some) in enumerate(hidden.items()):
            (self.folder / f"closed-{number}").mkdir()
            yield f"mount --rbind {closed} {self.folder}/closed-{number}"
            yield f"mount -t tmpfs -o mode=755 none {closed}"
            for place in sorted(some):
                yield f"mkdir -p {place}"
                yield f"mount --bind {self.folder}/closed-{number}/{place.relative_to(closed)} {place}"

    def start(self) -> None:
        super().start()
        os.chown(self.socket, *AGENT)

    def within(self) -> list[str]:
        """What runs a program there."""
        assert self._process is not None
        space = ["nsenter", f"--mount=/proc/{self._process.pid}/ns/mnt"]
        return [*space, "setpriv", f"--reuid={AGENT[0]}", f"--regid={AGENT[1]}", "--clear-groups"]


def has_image(tag: str) -> bool:
    try:
        engine().get(f"/images/{tag}/json")
    except EngineRefusalError:
        return False
    return True


@contextmanager
def control_groups(*, changed: bool) -> Iterator[None]:
    """While somebody changes this machine's control groups, or while nobody does; tests of other workers, too.

    A systemd that boots in a container mounts hierarchies which this machine has nowhere. Of containers that are
    started meanwhile containerd 1.6 tells no lack of memory: "cannot find cgroup mount destination".
    """
    with (DISK / f"cloud-code-test-control-groups-{os.getuid()}.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH if changed else fcntl.LOCK_EX)
        yield


def need_base() -> None:
    """The test is skipped, or fails, where the engine lacks what images are made of."""
    if not has_image(BASE):
        lacking(f"the engine has no image {BASE} (CLOUD_CODE_TEST_BASE_IMAGE names another one)")


def docker(*words: str, seconds: float = PATIENCE_SECONDS, check: bool = True) -> str:
    """What the program says, asked of the engine."""
    command = ["docker", "--host", f"unix://{engine().path}", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
    assert not check or done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
    return done.stdout


def lacking(what: str) -> None:
    if REQUIRED:
        pytest.fail(f"CLOUD_CODE_TEST_REQUIRE names docker: {what}")
    pytest.skip(what)


if __name__ == "__main__":
    print(image())
    print(image(AGENT))
