"""The judgements of `cloud-code doctor`, on literal observations."""

from pathlib import Path
from typing import Any

import pytest

from agent_daemon.protocol.paths import Root
from supervisor.core.settings import Config
from supervisor.doctor import (
    Check,
    cli_check,
    clock_check,
    disk_check,
    file_system,
    file_system_check,
    git_check,
    inotify_check,
)
from supervisor.installed_clis import look_from_here

MOUNTS = """\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
23 22 0:20 / /srv rw - nfs4 server:/x rw
24 23 0:21 / /srv/my\\040disk rw - tmpfs tmpfs rw
"""


@pytest.mark.parametrize(
    ("path", "kind"), [("/home/x", "ext4"), ("/srv/cc", "nfs4"), ("/srv/my disk/r", "tmpfs"), ("/srvx", "ext4")]
)
def test_the_file_system_is_that_of_the_innermost_mount(path: str, kind: str) -> None:
    assert file_system(Path(path), MOUNTS) == kind


@pytest.mark.parametrize(("kind", "status"), [("ext4", "ok"), ("nfs4", "warning"), ("tmpfs", "warning")])
def test_network_and_memory_are_no_place_for_a_root(kind: str, status: str) -> None:
    assert file_system_check(Path("/srv/x"), kind).status == status


@pytest.mark.parametrize(
    ("said", "status"),
    [
        ("git version 2.39.5", "ok"),
        ("git version 2.45.1.windows.1", "ok"),
        ("git version 2.30.2", "warning"),
        (None, "error"),
    ],
)
def test_git_is_there_and_new_enough(said: str | None, status: str) -> None:
    check = git_check(said)
    assert check.status == status and bool(check.mend) == (status != "ok")


@pytest.mark.parametrize(("gibibytes", "status"), [(100, "ok"), (2, "warning"), (0.1, "error")])
def test_the_disk_has_room(gibibytes: float, status: str) -> None:
    assert disk_check(Path("/srv/x"), int(gibibytes * 1024**3)).status == status


def test_many_workstations_need_more_watches_than_usual() -> None:
    assert inotify_check(128, 65536, 2).status == "ok"
    check = inotify_check(128, 65536, 100)
    assert check.status == "warning" and "sysctl -w fs.inotify.max_user_instances=512" in check.mend


def test_a_clock_before_the_newest_event_is_suspect() -> None:
    now = 1_800_000_000.0
    assert clock_check(now, now - 10).status == "ok"
    assert clock_check(now, now + 3600).status == "warning"
    assert clock_check(1000.0, 0.0).status == "error"


def found(tmp_path: Path, name: str, **clis: Any) -> Check:
    """What is said of a CLI whose program can be in this folder only."""
    config = Config.model_validate(
        {
            "projects": {"acme": {"repository": "/x"}},
            "workstations": {"backend": {"clis": [name], "environment": {"PATH": str(tmp_path)}}},
            "clis": clis,
        }
    )
    return cli_check("backend", look_from_here(Root(tmp_path / "root"), config, "backend", name))


def test_the_program_of_a_coding_cli_is_looked_for_where_it_will_be(tmp_path: Path) -> None:
    mine = {"adapter": "command", "argv": ["my-agent", "--yes"]}
    missing = found(tmp_path, "codex")
    assert missing.status == "error" and "npm install" in missing.mend
    assert "clis.mine.argv" in found(tmp_path, "mine", mine=mine).mend
    elsewhere = found(tmp_path, "mine", mine={"adapter": "command", "argv": ["/no/such/program"]})
    assert "/no/such/program is not there" in elsewhere.detail and "correct the path" in elsewhere.mend
    program = tmp_path / "my-agent"
    program.write_text("#!/bin/sh\necho my-agent 1.2\n")
    program.chmod(0o755)
    there = found(tmp_path, "mine", mine=mine)
    assert (there.status, there.detail) == ("ok", f"{program} 1.2 (none found)")


def test_a_coding_cli_whose_program_has_another_name(tmp_path: Path) -> None:
    check = found(tmp_path, "claude-code")
    assert "the program claude is not on PATH" in check.detail
    assert "@anthropic-ai/claude-code" in check.mend


def test_an_old_coding_cli_without_its_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    program = tmp_path / "codex"
    program.write_text("#!/bin/sh\necho codex-cli 0.99.9\n")
    program.chmod(0o755)
    check = found(tmp_path, "codex", codex={"pass_environment": ["OPENAI_API_KEY"]})
    assert check.status == "warning"
    assert "version 0.99.9 is older than any that was tried" in check.detail
    assert "OPENAI_API_KEY is to be passed on, and not set" in check.detail
    assert check.mend == "npm install --global @openai/codex@latest"
