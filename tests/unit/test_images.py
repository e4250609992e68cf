"""The build context of images: whole, the same for the same source, and without what a daemon does not need."""

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from supervisor import images
from supervisor.core.settings import CONTAINER_LIMITS
from supervisor.packaged import packaged_folder


def test_every_type_with_limits_has_an_image_and_pins_what_it_names() -> None:
    assert set(images.known_types()) == {*CONTAINER_LIMITS, "base"}
    recipes = packaged_folder("dockerfiles")
    named = {
        name
        for path in (recipes / "install.sh", *(recipes / "types").glob("*.sh"))
        for name in re.findall(r"\$([A-Z_]+_VERSION)", path.read_text())
    }
    bases = {f"BASE_IMAGE_{kind.upper()}" for kind in images.known_types()}
    assert set(images.pinned()) == named | bases


@pytest.mark.parametrize("kind", images.known_types())
def test_the_scripts_are_shell(kind: str) -> None:
    recipes = packaged_folder("dockerfiles")
    for path in (recipes / "install.sh", recipes / "types" / f"{kind}.sh"):
        subprocess.run(["sh", "-n", path], check=True)
    for name, shell in (("own-kernel", "bash"), ("init", "sh")):
        subprocess.run([shell, "-n", recipes / "own-kernel" / name], check=True)


def test_the_same_source_gives_the_same_context(tmp_path: Path) -> None:
    certificates = tmp_path / "certificates"
    certificates.mkdir()
    (certificates / "ours.crt").write_text("-----BEGIN CERTIFICATE-----")
    (certificates / "ours.key").write_text("secret")
    for name in ("one", "two"):
        images.write_context(tmp_path / name, certificates)
    assert images.content_digest(tmp_path / "one") == images.content_digest(tmp_path / "two")
    assert sorted(path.name for path in (tmp_path / "one" / "certificates").glob("ours.*")) == ["ours.crt"]


def test_the_wheel_holds_the_daemon_alone_and_runs(tmp_path: Path) -> None:
    wheel = images.write_daemon_wheel(tmp_path)
    with zipfile.ZipFile(wheel) as opened:
        names = opened.namelist()
        opened.extractall(tmp_path / "installed")
    assert not [name for name in names if name.startswith("supervisor") or "__pycache__" in name]
    command = [sys.executable, "-m", "agent_daemon", "--version"]
    said = subprocess.run(
        command, cwd=tmp_path / "installed", capture_output=True, text=True, check=True, env={"PYTHONSAFEPATH": ""}
    )
    assert "agent-daemon" in said.stdout
    assert "click==" in " ".join(images.daemon_requirements())
