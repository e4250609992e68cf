"""Which image is built for a type of workstations, by whom, and what a lack of it is mended with."""

import os
from pathlib import Path

import pytest
from click.testing import CliRunner
from pydantic import ValidationError

from agent_daemon.protocol.paths import Root
from supervisor.cli.place import as_owner
from supervisor.cli.workstation_build import build
from supervisor.core.settings import Config, WorkstationSettings
from supervisor.service.examination import push_checks
from supervisor.workstations.container_options import clis_of_image, packages_of_image, recipe_of
from supervisor.workstations.examination import build_command, image_checks


def config(**stations: WorkstationSettings) -> Config:
    return Config.model_validate(
        {
            "projects": {"a": {"repository": "/srv/git/a.git"}, "b": {"repository": "https://example.org/b.git"}},
            "workstations": {kind: settings.model_dump(exclude_unset=True) for kind, settings in stations.items()},
        }
    )


def docker(*clis: str, image: str | None = None) -> WorkstationSettings:
    more = {"image": image} if image else {}
    return WorkstationSettings.model_validate({"driver": "docker", "clis": list(clis), **more})


@pytest.mark.parametrize(
    ("kind", "image", "made"),
    [
        ("backend", None, "backend"),
        ("coder", "cloud-code/backend", "backend"),
        ("coder", "cloud-code/backend:latest", "backend"),
        ("coder", "cloud-code/coder", None),
        ("coder", "registry.example.org/cloud-code/backend", None),
        ("backend", "ours/backend:7", None),
    ],
)
def test_a_type_has_the_image_of_another_one_built(kind: str, image: str | None, made: str | None) -> None:
    assert recipe_of(kind, docker("codex", image=image)) == made


def test_an_image_has_the_clis_of_all_types_that_use_it() -> None:
    both = config(backend=docker("aider"), coder=docker("codex", image="cloud-code/backend"))
    assert clis_of_image(both, "cloud-code/backend") == ("aider", "codex")
    for kind in ("backend", "coder"):
        assert build_command(both, kind) == "cloud-code workstation build backend --clis aider,codex"


def test_an_image_has_the_packages_of_all_types_that_use_it_and_a_lack_is_told() -> None:
    settings = [docker("none").model_copy(update={"packages": names}) for names in (("gdb", "jo"), ("g++", "gdb"))]
    coder = settings[1].model_copy(update={"image": "cloud-code/backend"})
    some = config(backend=settings[0], coder=coder)
    assert packages_of_image(some, "cloud-code/backend") == ("g++", "gdb", "jo")
    found = {"Config": {"Labels": {"cloud-code.clis": "codex", "cloud-code.packages": "gdb jo"}}}
    told = [
        c.detail for c in image_checks("w", "i", ("codex", "g++", "gdb"), found, 1, "build") if c.status != "ok"
    ]
    assert told == ["the image i was built without g++"]


@pytest.mark.parametrize("name", ["-o", "a b", "Gdb", "gdb-", "gdb;true", "$(id)", "gdb=", "../x", ""])
def test_what_is_no_name_of_a_package_is_refused(name: str) -> None:
    with pytest.raises(ValidationError, match="packages"):
        WorkstationSettings.model_validate({"driver": "docker", "clis": ["codex"], "packages": [name]})
    said = CliRunner().invoke(build, ["backend", "--packages", f"gdb,{name or '-'}"]).output
    assert "no name of a Debian package" in said


def test_a_mend_names_no_type_that_cannot_be_built() -> None:
    odd = config(coder=docker("codex"), own=docker("codex", image="ours/own"))
    assert "image: cloud-code/backend" in build_command(odd, "coder")
    assert build_command(odd, "own").startswith("build ours/own upon")


def test_the_service_pushes_to_no_folder_that_its_unit_does_not_let_it_write() -> None:
    some = config(backend=docker("codex"))
    (found,) = push_checks(Path("/srv/cloud-code"), some, ["/srv/cloud-code"])
    assert found.status == "error" and "ReadWritePaths=/srv/git/a.git" in found.mend
    assert not list(push_checks(Path("/srv/cloud-code"), some, ["/srv/cloud-code", "-/srv/git"]))


@pytest.mark.skipif(os.getuid() != 0, reason="only root becomes somebody else")
def test_root_looks_as_the_one_whose_the_root_is(tmp_path: Path) -> None:
    os.chown(tmp_path, 61_234, 61_235)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            as_owner(Root(tmp_path))
            os.write(writing, repr((os.getuid(), os.geteuid(), os.getgid(), os.getgroups())).encode())
        finally:
            os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    assert os.read(reading, 100).decode() == repr((61_234, 61_234, 61_235, []))
    as_owner(Root(tmp_path / "not there"))
    assert os.getuid() == 0
