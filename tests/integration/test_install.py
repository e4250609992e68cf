"""Installing into a folder that is to become a system, with real files, users and modes, without systemd."""

import json
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor import __version__
from tests import preloaded
from tests.site import PATIENCE_SECONDS

UNIT = "etc/systemd/system/cloud-code.service"


@pytest.fixture
def top() -> Iterator[Path]:
    """A system with a user and a group or two, in which another user can find its way."""
    if os.geteuid() != 0 or shutil.which("useradd") is None:
        pytest.skip("needs root and useradd")
    folder = Path(tempfile.mkdtemp(prefix="cloud-code-top-"))
    folder.chmod(0o755)
    (folder / "etc").mkdir()
    (folder / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\n")
    (folder / "etc/group").write_text("root:x:0:\ndocker:x:997:\n")
    for name in ("shadow", "gshadow"):
        (folder / "etc" / name).touch()
    yield folder
    shutil.rmtree(folder)


def call(top: Path, *words: str, code: int = 0, root: str = "") -> str:
    before = ["--root", root] if root else []
    environment = {"PATH": os.environ["PATH"], "HOME": "/root", "LANG": "C.UTF-8"}
    done = preloaded.run([*before, *words, "--destdir", str(top)], environment, Path("/"), PATIENCE_SECONDS)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def seen(top: Path) -> dict[str, tuple[int, bytes]]:
    """Every file, with its mode and what is in it."""
    return {
        str(path.relative_to(top)): (path.lstat().st_mode, path.read_bytes() if path.is_file() else b"")
        for path in top.rglob("*")
        if not path.is_symlink()
    }


def test_it_is_installed_once_and_kept_up_to_date_and_removed_without_what_is_a_persons(top: Path) -> None:
    before = seen(top)
    dry = call(top, "install", "--dry-run")
    assert seen(top) == before
    assert "→ useradd --prefix" in dry and "would be  /etc/systemd/system/cloud-code.service" in dry

    call(top, "install")
    passwd = (top / "etc/passwd").read_text()
    assert "cloud-code:x:" in passwd and ":/var/lib/cloud-code:/usr/sbin/nologin" in passwd
    assert "docker:x:997:cloud-code" in (top / "etc/group").read_text()
    uid, gid = (int(n) for n in passwd.partition("cloud-code:x:")[2].split(":")[:2])
    for place, mode in (
        ("srv/cloud-code", 0o750),
        ("srv/cloud-code/config.yaml", 0o640),
        ("srv/cloud-code/state/commands", 0o2770),
        ("srv/cloud-code/tasks", 0o2770),
        ("var/lib/cloud-code", 0o700),
    ):
        found = (top / place).stat()
        assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (uid, gid, mode), place
    assert stat.S_IMODE((top / "etc/cloud-code/environment").stat().st_mode) == 0o600
    assert "driver: docker" in (top / "srv/cloud-code/config.yaml").read_text()
    assert os.readlink(top / "usr/local/bin/cloud-code") == "/opt/cloud-code/bin/cloud-code"

    whole = seen(top)
    assert "done" not in call(top, "install")
    assert seen(top) == whole, "once more changes nothing"

    unit = top / UNIT
    older = unit.read_text().replace(f"cloud-code {__version__},", "cloud-code 0.0.1,", 1)
    unit.write_text(older)
    assert f"done      /{UNIT}" in call(top, "upgrade"), "of an older version, and nobody's work: replaced"
    assert seen(top) == whole
    unit.write_text(unit.read_text().replace("WatchdogSec=60", "WatchdogSec=7"))
    mine = unit.read_text()
    assert "somebody changed it, so that it stays" in call(top, "upgrade")
    assert unit.read_text() == mine and "WatchdogSec=60" in unit.with_name("cloud-code.service.new").read_text()
    (top / "srv/cloud-code/config.yaml").write_text("mine")
    (top / "etc/cloud-code/environment").write_text("KEY=mine")
    call(top, "install")
    assert (top / "srv/cloud-code/config.yaml").read_text() == "mine"
    assert (top / "etc/cloud-code/environment").read_text() == "KEY=mine"

    assert "remove it yourself" in call(top, "uninstall")
    assert unit.exists() and not os.path.lexists(top / "usr/local/bin/cloud-code")
    unit.unlink()
    assert "is so" in call(top, "uninstall") and (top / "srv/cloud-code/config.yaml").exists()
    call(top, "uninstall", "--purge", "--yes", "--dry-run")
    assert (top / "srv/cloud-code").is_dir()
    call(top, "uninstall", "--purge", "--yes")
    assert not (top / "srv/cloud-code").exists() and "cloud-code" not in (top / "etc/passwd").read_text()


def test_another_root_and_user_stand_in_the_unit_and_are_known_from_it(top: Path) -> None:
    call(top, "install", "--user", "robot", root="/srv/robots")
    unit = (top / UNIT).read_text()
    for line in ("User=robot", "Group=robot", "ReadWritePaths=/srv/robots", "WorkingDirectory=/srv/robots"):
        assert f"\n{line}\n" in unit
    assert " --root /srv/robots run " in unit
    assert "done" not in call(top, "install")
    assert "E_INSTALL_OTHER" in call(top, "install", code=1, root="/srv/others")
    link = top / "usr/local/bin/cloud-code"
    link.unlink()
    link.symlink_to("/opt/former/bin/cloud-code")
    assert "done      /usr/local/bin/cloud-code" in call(top, "upgrade")
    call(top, "uninstall", "--purge", "--yes")
    assert not (top / "srv/robots").exists() and "robot" not in (top / "etc/passwd").read_text()


def test_a_user_who_was_there_before_outlives_the_service(top: Path) -> None:
    with (top / "etc/passwd").open("a") as users, (top / "etc/group").open("a") as groups:
        users.write("ada:x:1000:1000::/home/ada:/bin/bash\n")
        groups.write("ada:x:1000:\n")
    call(top, "install", "--user", "ada")
    said = call(top, "uninstall", "--purge", "--yes")
    assert "ada:x:1000" in (top / "etc/passwd").read_text() and not (top / "srv/cloud-code").exists()
    assert "kept      the user ada goes" in said and "it stays" in said


def test_what_cannot_be_installed_is_said_with_what_mends_it(top: Path) -> None:
    assert "E_NOT_INSTALLED" in call(top, "upgrade", code=1)
    assert "E_INSTALL_PLACE" in call(top, "install", code=1, root="/home/ada/cloud-code")
    for root, user in (("/srv/a b", "robot"), ("/srv/a", "rob;ot")):
        assert "E_INSTALL_NAME" in call(top, "install", "--user", user, code=1, root=root)
    (top / "srv/cloud-code").mkdir(parents=True)
    (top / "srv/cloud-code").chmod(0o700)
    (top / "srv/cloud-code/thesis.txt").touch()
    os.chown(top / "srv/cloud-code", 1234, 1234)
    said = call(top, "install", code=1)
    assert "E_INSTALL_OWNER" in said and "sudo chown -R cloud-code:" in said
    assert "E_NO_ROOT" in call(top, "uninstall", "--purge", "--yes", code=1)
    assert (top / "srv/cloud-code/thesis.txt").exists()


def test_the_engine_is_told_to_remap_users_and_told_off_again(top: Path) -> None:
    (top / "etc/subuid").write_text("ada:500000:65536\n")
    (top / "etc/docker").mkdir()
    (top / "etc/docker/daemon.json").write_text('{"live-restore": true}\n')
    before = seen(top)
    dry = call(top, "install", "--userns-remap", "--dry-run")
    assert seen(top) == before and 'in /etc/docker/daemon.json: "userns-remap": "default"' in dry

    call(top, "install", "--userns-remap")
    uid, gid = (int(n) for n in (top / "etc/passwd").read_text().partition("cloud-code:x:")[2].split(":")[:2])
    assert (top / "etc/subuid").read_text() == (
        f"ada:500000:65536\ndockremap:565536:{uid}\ndockremap:{uid}:1\ndockremap:{565537 + uid}:{65535 - uid}\n"
    )
    assert f"dockremap:565536:{gid}\ndockremap:{gid}:1\n" in (top / "etc/subgid").read_text()
    settings = json.loads((top / "etc/docker/daemon.json").read_text())
    assert settings == {"live-restore": True, "userns-remap": "default"}
    whole = seen(top)
    assert "done" not in call(top, "install", "--userns-remap")
    assert seen(top) == whole, "once more changes nothing"

    (top / UNIT).unlink()
    call(top, "uninstall")
    assert json.loads((top / "etc/docker/daemon.json").read_text()) == {"live-restore": True}
    assert (top / "etc/subuid").read_text() == "ada:500000:65536\n" and not (top / "etc/subgid").read_text()
    assert "dockremap" not in (top / "etc/passwd").read_text()
    assert not (top / "etc/cloud-code/userns-remap.json").exists()


def test_a_map_of_somebody_elses_gets_the_hole_and_keeps_it_once_it_was_changed(top: Path) -> None:
    with (top / "etc/passwd").open("a") as users:
        users.write("robots:x:3000:3000::/nonexistent:/bin/false\n")
    for name in ("subuid", "subgid"):
        (top / "etc" / name).write_text("robots:165536:65536\n")
    (top / "etc/docker").mkdir()
    daemon = top / "etc/docker/daemon.json"
    daemon.write_text('{"userns-remap": "robots"}')
    call(top, "install", "--userns-remap")
    uid = int((top / "etc/passwd").read_text().partition("cloud-code:x:")[2].split(":")[0])
    punched = f"robots:165536:{uid}\nrobots:{uid}:1\nrobots:{165537 + uid}:{65535 - uid}\n"
    assert (top / "etc/subuid").read_text() == punched and "dockremap" not in (top / "etc/passwd").read_text()
    assert daemon.read_text() == '{"userns-remap": "robots"}'

    (top / "etc/subgid").write_text("robots:165536:1000\n")
    said = call(top, "uninstall")
    assert "somebody changed them since" in said and (top / "etc/subgid").read_text() == "robots:165536:1000\n"
    assert (top / "etc/subuid").read_text() == "robots:165536:65536\n"
    assert daemon.read_text() == '{"userns-remap": "robots"}'


def test_a_setting_of_the_engine_that_cannot_be_read_is_not_written(top: Path) -> None:
    (top / "etc/docker").mkdir()
    for text in ("{", "[]", '{"userns-remap": "1000:1000"}'):
        (top / "etc/docker/daemon.json").write_text(text)
        assert "E_INSTALL_REMAP" in call(top, "install", "--userns-remap", code=1)
        assert (top / "etc/docker/daemon.json").read_text() == text
