"""A small Debian that systemd has started, in a container: a host to install Cloud Code on for real."""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import uuid
from functools import cache
from importlib import metadata
from pathlib import Path

from filelock import FileLock

from supervisor.images import DISTRIBUTION
from tests.docker_engine import BASE, CERTIFICATES, DISK, docker, engine, has_image, need_base
from tests.site import wait_for

PROJECT = Path(__file__).parent.parent
# Without what needs devices or a seat. What the program needs lies where it goes, in the versions of the lock.
RECIPE = """\
ARG BASE_IMAGE
FROM ${BASE_IMAGE}
ENV DEBIAN_FRONTEND=noninteractive PIP_CERT=/etc/ssl/certs/ca-certificates.crt PIP_DISABLE_PIP_VERSION_CHECK=1
COPY certificates/ /usr/local/share/ca-certificates/
RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends \\
      ca-certificates dbus git python3 python3-venv sudo systemd systemd-sysv util-linux >/dev/null \\
    && rm -rf /var/lib/apt/lists/* && update-ca-certificates >/dev/null 2>&1 \\
    && systemctl mask -q systemd-udevd.service systemd-udev-trigger.service getty.target console-getty.service \\
      systemd-logind.service systemd-timesyncd.service
COPY requirements.txt requirements.lock /root/
RUN python3 -m venv /opt/cloud-code \\
    && /opt/cloud-code/bin/pip install -q --no-cache-dir -r /root/requirements.txt -c /root/requirements.lock
STOPSIGNAL SIGRTMIN+3
"""
# As wide as systemd wants it, and no wider than the engines of the tests may give.
RIGHTS = [
    "--cap-add=ALL",
    "--cap-drop=SYS_RESOURCE",
    "--security-opt=seccomp=unconfined",
    "--security-opt=apparmor=unconfined",
    "--security-opt=systempaths=unconfined",
    "--device-cgroup-rule=a *:* rwm",
    "--volume=/sys/fs/cgroup:/sys/fs/cgroup:rw",
    "--tmpfs=/run",
    "--tmpfs=/run/lock",
    "--tmpfs=/tmp:exec",
    "--env=container=docker",
]


@cache
def image() -> str:
    """The image, built once for each recipe and lock; the test is skipped where it cannot be."""
    lock = (PROJECT / "requirements.lock").read_bytes()
    tag = f"cloud-code-test/systemd:{hashlib.sha256(RECIPE.encode() + lock).hexdigest()[:16]}"
    engine()
    with FileLock(DISK / f"cloud-code-test-systemd-{os.getuid()}.lock"):
        if not has_image(tag):
            need_base()
            with tempfile.TemporaryDirectory() as name:
                folder = Path(name)
                (folder / "Dockerfile").write_text(RECIPE)
                (folder / "requirements.lock").write_bytes(lock)
                (folder / "requirements.txt").write_text("\n".join(requirements()))
                (folder / "certificates").mkdir()
                for certificate in CERTIFICATES.glob("*.crt") if CERTIFICATES.is_dir() else ():
                    shutil.copyfile(certificate, folder / "certificates" / certificate.name)
                docker("build", "--quiet", "--tag", tag, "--build-arg", f"BASE_IMAGE={BASE}", name, seconds=600)
    return tag


def requirements() -> list[str]:
    """What the supervisor's distribution requires."""
    lines = (line.partition(";") for line in metadata.requires(DISTRIBUTION) or ())
    return [name for name, _, marker in lines if "extra" not in marker or "supervisor" in marker]


class SystemdHost:
    """One such host, booted; with this source tree installed in `/opt/cloud-code`."""

    def __init__(self, *options: str) -> None:
        self.name = f"cloud-code-test-{uuid.uuid4().hex[:8]}"
        boot = "mount --make-rshared / && exec /sbin/init"  # (credentials are mounted for services to see)
        docker("run", "--detach", "--name", self.name, *RIGHTS, *options, image(), "sh", "-c", boot)
        wait_for(lambda: self.asked("systemctl", "is-system-running") == "running", what="it has started")

    def install_package(self) -> None:
        """As a person would: what is installed is a package, not a folder of sources."""
        with tempfile.TemporaryDirectory() as folder:
            building = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder]
            subprocess.run(building, cwd=PROJECT, check=True, capture_output=True)
            (wheel,) = Path(folder).iterdir()
            docker("cp", str(wheel), f"{self.name}:/root/")
        self.sh(f"/opt/cloud-code/bin/pip install -q --no-deps --no-index --no-compile /root/{wheel.name}")

    def sh(self, script: str, *, check: bool = True) -> str:
        """A script of root's; all that it says."""
        return docker("exec", self.name, "sh", "-c", f"({script}) 2>&1", seconds=200, check=check).strip()

    def asked(self, *words: str) -> str:
        return docker("exec", self.name, *words, check=False).strip()

    def close(self) -> None:
        docker("rm", "--force", "--volumes", self.name, check=False)


if __name__ == "__main__":
    print(image())
