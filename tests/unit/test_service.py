"""The service: the unit's text, what doctor says of it, one line of standing."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_daemon.protocol.paths import Root
from supervisor.core import unit
from supervisor.core.settings import Config
from supervisor.core.standing import standing
from supervisor.core.states import State
from supervisor.packaged import packaged_folder
from supervisor.service.examination import (
    engine_group_check,
    forge_hosts,
    journal_check,
    linger_check,
    name_check,
    state_checks,
    synchronised_check,
    unit_check,
)
from supervisor.service.host import hidden_from_service
from tests.unit.conftest import make_task

TEXT = (packaged_folder("systemd") / "cloud-code.service").read_text()


class TestUnit:
    @given(st.text(max_size=200), st.text(max_size=10))
    def test_every_change_of_what_was_written_is_seen(self, text: str, more: str) -> None:
        written = unit.marked(text, "1.2.3")
        assert unit.examine(written) == unit.Written(version="1.2.3", untouched=True)
        assert unit.examine(written + more).untouched == (more == "")
        assert unit.examine(text + more) == unit.Written(version=None, untouched=False)

    def test_it_is_rendered_for_a_user_a_root_and_a_program_and_these_are_found_in_it(self) -> None:
        found = unit.render(TEXT, user="robot", root="/srv/robots", programs="/opt/x/bin")
        assert "/srv/cloud-code" not in found and "/opt/cloud-code" not in found
        assert unit.installed_for(found) == ("robot", "/srv/robots")
        assert unit.render(TEXT, user=unit.USER, root=unit.ROOT, programs=unit.PROGRAMS) == TEXT
        assert unit.installed_for("[Service]\n") == (None, None)

    def test_the_proxy_sees_of_the_root_what_it_needs_and_nothing_that_is_made_later(self) -> None:
        text = (packaged_folder("systemd") / "cloud-code-egress.service").read_text()
        root = Root(Path(unit.ROOT))
        assert f"\nBindPaths={root.egress} {root.gates}\n" in text
        (hidden,) = (line for line in text.splitlines() if line.startswith("TemporaryFileSystem="))
        assert f"{root.path}:ro" in hidden.split() and "ReadWritePaths" not in text

    @pytest.mark.parametrize("name", ["cloud-code.service", "cloud-code-egress.service"])
    def test_systemd_takes_it_and_rates_its_hardening(self, tmp_path: Path, name: str) -> None:
        if shutil.which("systemd-analyze") is None:
            pytest.skip("systemd-analyze is not there")
        for program in ("cloud-code", "python"):
            (tmp_path / program).symlink_to("/bin/true")
        path, text = tmp_path / name, (packaged_folder("systemd") / name).read_text()
        path.write_text(unit.render(text, user="root", root="/srv", programs=str(tmp_path)))
        verified = subprocess.run(["systemd-analyze", "verify", path], capture_output=True, text=True, check=False)
        assert (verified.returncode, verified.stderr) == (0, "")
        rating = ["systemd-analyze", "security", "--offline=true", "--no-pager", path]
        rated = subprocess.run(rating, capture_output=True, text=True, check=False).stdout
        (score,) = re.findall(r"exposure level for \S+: ([0-9.]+)", rated)
        assert float(score) <= 2.0


class TestDoctor:
    def test_a_unit_of_another_version_or_hand_is_told(self) -> None:
        assert unit_check(unit.examine(unit.marked(TEXT, "0.0.1")), beside=False).mend == "sudo cloud-code upgrade"
        assert "by hand" in unit_check(unit.examine(TEXT), beside=False).detail
        assert "by hand" in unit_check(unit.examine(unit.marked(TEXT, "0.0.1")), beside=True).detail

    @pytest.mark.parametrize(
        ("seen", "mends"),
        [
            ({"ActiveState": "active", "UnitFileState": "enabled", "NeedDaemonReload": "no"}, [""]),
            ({"ActiveState": "failed", "UnitFileState": "enabled"}, ["journalctl -u cloud-code"]),
            (
                {"ActiveState": "activating", "SubState": "auto-restart", "UnitFileState": "enabled"},
                ["journalctl"],
            ),
            ({"ActiveState": "inactive", "UnitFileState": "disabled"}, ["systemctl start", "systemctl enable"]),
            (
                {"ActiveState": "active", "UnitFileState": "enabled", "NeedDaemonReload": "yes"},
                ["", "daemon-reload"],
            ),
            ({}, ["systemctl status"]),
        ],
    )
    def test_each_state_of_the_service_has_its_mend(self, seen: dict[str, str], mends: list[str]) -> None:
        found = list(state_checks(seen))
        assert len(found) == len(mends)
        for check, mend in zip(found, mends, strict=True):
            assert mend in check.mend and (check.status == "ok") == (check.mend == "")

    def test_the_rest_is_told_with_the_command_that_mends_it(self) -> None:
        assert journal_check(0, ()).status == journal_check(1000, {"adm"}).status == "ok"
        assert "systemd-journal" in journal_check(1000, {"users"}).mend
        assert engine_group_check("robot", {"docker": ["robot"]}).status == "ok"
        assert "usermod -aG docker robot" in engine_group_check("robot", {"docker": []}).mend
        assert "docker.io" in engine_group_check("robot", {}).mend
        assert linger_check("ada", "Linger=yes", kills=True) is None
        assert linger_check("ada", "Linger=no", kills=False) is None
        found = linger_check("ada", "Linger=no", kills=True)
        assert found is not None and found.mend == "sudo loginctl enable-linger ada"
        assert synchronised_check(True).status == synchronised_check(None).status == "ok"
        assert "set-ntp" in synchronised_check(False).mend
        assert name_check("x.example", None).status == "ok"
        assert "getent hosts x.example" in name_check("x.example", "no answer").mend

    def test_names_are_asked_for_where_projects_lie(self) -> None:
        config = Config.model_validate(
            {
                "projects": {
                    "a": {"repository": "/srv/a.git"},
                    "b": {"repository": "ssh://git@git.example.org/b.git"},
                    "c": {"forge": "gitlab", "repository": "acme/c", "url": "https://lab.example.org"},
                    "d": {"forge": "github", "repository": "acme/d"},
                }
            }
        )
        assert forge_hosts(config) == {"git.example.org", "lab.example.org", "github.com"}

    def test_a_program_in_a_home_cannot_be_a_service(self, tmp_path: Path) -> None:
        assert hidden_from_service((Path("/usr/bin/env"), Path("/home/ada/venv/bin/python"))) == Path(
            "/home/ada/venv/bin/python"
        )
        assert hidden_from_service((Path("/usr/bin/env"),)) is None


def test_one_line_says_how_a_root_does() -> None:
    tasks = [make_task(id=f"acme.t{n}", state=state) for n, state in enumerate((State.PENDING, State.BLOCKED))]
    assert standing(tasks, 1, 2, drained=True) == (
        "drained; 0 tasks under way, 1 to begin, 0 in review, 1 blocked, 1 of 2 workstations running"
    )
    away = standing([], 1, 2, drained=True, engine_away=True)
    assert away.startswith("the Docker engine does not answer; drained; 0 tasks under way, ")
