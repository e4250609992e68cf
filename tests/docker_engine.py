"""The Docker engine of the tests (DOCKER_HOST, or the system's), and the one small image that they use."""

import os
import shutil
import tempfile
from functools import cache
from pathlib import Path

import pytest
from filelock import FileLock

from supervisor import images
from supervisor.errors import CloudCodeError
from supervisor.workstations.engine import Engine, EngineRefusalError, engine_socket

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
        _lacking(str(error))
    if shutil.which("docker") is None:
        _lacking("the program docker is not on PATH")
    return found


@cache
def image() -> str:
    """An image with the daemon of this source tree, built once for each content of it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        images.write_context(folder, CERTIFICATES if CERTIFICATES.is_dir() else None)
        tag = f"cloud-code-test/base:{images.content_digest(folder)}"
    with FileLock(Path(tempfile.gettempdir()) / f"cloud-code-test-image-{os.getuid()}.lock"):
        if not has_image(tag):
            if not has_image(BASE):
                _lacking(f"the engine has no image {BASE} (CLOUD_CODE_TEST_BASE_IMAGE names another one)")
            certificates = CERTIFICATES if CERTIFICATES.is_dir() else None
            uid, gid = images.own_user()
            wanted = images.Wanted(kind="base", tag=tag, base=BASE, certificates=certificates, uid=uid, gid=gid)
            images.build(str(engine().path), wanted)
    return tag


def has_image(tag: str) -> bool:
    try:
        engine().get(f"/images/{tag}/json")
    except EngineRefusalError:
        return False
    return True


def _lacking(what: str) -> None:
    if REQUIRED:
        pytest.fail(f"CLOUD_CODE_TEST_REQUIRE names docker: {what}")
    pytest.skip(what)
