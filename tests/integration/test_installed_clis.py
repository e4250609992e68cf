"""What is said of the coding CLIs of workstations: real programs, looked for in the place of the daemon."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from agent_daemon.clis.base import CliSettings
from agent_daemon.installed import look_at
from supervisor.core.settings import Config
from supervisor.errors import CloudCodeError
from supervisor.installed_clis import _read, gets_keys, judged
from tests import preloaded
from tests.fakes.scripted_model import ScriptedModel
from tests.real_clis import need, program
from tests.site import PATIENCE_SECONDS

KEY = "sk-dummy-0123456789"


def script(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def settings(folder: Path, **changes: Any) -> CliSettings:
    return CliSettings(name="codex", adapter="codex", home=folder / "home", **changes)


def test_version_key_and_login(tmp_path: Path) -> None:
    script(tmp_path / "bin/codex", "echo warning >&2; echo codex-cli 0.201.3; env > $HOME/seen")
    (tmp_path / "home/.codex").mkdir(parents=True)
    (tmp_path / "home/.codex/auth.json").write_text("{}")
    environment = {"PATH": f"{tmp_path}/bin:/usr/bin:/bin", "OPENAI_API_KEY": KEY}
    wanted = settings(tmp_path, pass_environment=("OPENAI_API_KEY", "ABSENT"))
    found = look_at(wanted, environment)
    assert (found.program, found.version, found.is_old) == (str(tmp_path / "bin/codex"), "0.201.3", False)
    assert (found.keys, found.logins, found.missing) == (("OPENAI_API_KEY",), (".codex/auth.json",), ("ABSENT",))
    assert KEY not in repr(found)
    assert [path.name for path in (tmp_path / "home").iterdir()] == [".codex"]  # looking leaves nothing
    assert look_at(settings(tmp_path), environment).keys == ()  # what is not passed on is not there


def test_a_key_is_missed_unless_attempts_get_one_from_their_beginning(tmp_path: Path) -> None:
    script(tmp_path / "bin/codex", "echo codex-cli 0.201.3")
    found = look_at(settings(tmp_path), {"PATH": f"{tmp_path}/bin:/usr/bin:/bin"})
    use = {
        "openai_key": {"access": {"use": {"secret": "openai", "granted": "at_start"}}, "specialists": ["backend"]}
    }
    project = {"acme": {"repository": "/srv/acme.git"}}
    config = Config.model_validate({"projects": project, "credentials": use})
    without, given = (judged("x-1", found, given=gets_keys(config, kind)) for kind in ("frontend", "backend"))
    assert [said for said, _ in without.faults] == ["neither a key nor a login is found"] and not given.faults


@pytest.mark.parametrize(("said", "version"), [("exit 3", ""), ("echo none", ""), ("cat /dev/zero", "")])
def test_a_program_that_tells_no_version(tmp_path: Path, said: str, version: str) -> None:
    script(tmp_path / "bin/codex", said)
    found = look_at(settings(tmp_path), {"PATH": f"{tmp_path}/bin:/usr/bin:/bin"})
    assert (found.program is not None, found.version, found.is_old) == (True, version, False)


@pytest.mark.parametrize(("node", "told"), [("v20.20.2", "20.20.2"), ("v22.1.0", ""), ("v100.0.0", "")])
def test_an_old_node_beside_what_npm_has_installed(tmp_path: Path, node: str, told: str) -> None:
    real = script(tmp_path / "node_modules/@openai/codex/bin/codex.js", "echo 0.169.0")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/codex").symlink_to(real)
    script(tmp_path / "bin/node", f"echo {node}")
    environment = {"PATH": f"{tmp_path}/bin:/usr/bin:/bin"}
    assert look_at(settings(tmp_path), environment).node == told
    mine = script(tmp_path / "elsewhere/codex", "echo 0.169.0")
    assert look_at(settings(tmp_path, argv=(str(mine),)), environment).node == ""


ANSWERS = """
import json, sys
assert "ready" in sys.stdin.read()
print(json.dumps({"type": "result", "message": "ready", "usage": {"input_tokens": 1000, "output_tokens": 5}}))
"""


ALL = {"name": "x", "adapter": "codex", "wanted": "codex", "program": "/bin/codex", "keys": ["KEY"]}


def test_a_daemon_of_another_version_that_tells_more() -> None:
    probe = {"outcome": "completed", "message": "ready", "seconds": 1.0, "mood": "good"}
    found = _read(json.dumps({**ALL, "weight": 3, "probe": probe}))
    assert (found.keys, found.probe and found.probe.message) == (("KEY",), "ready")
    assert _read(json.dumps(ALL)).probe is None


@pytest.mark.parametrize("line", ["", "{", "[]", "3", '{"name": "x"}', json.dumps({**ALL, "probe": {"a": 1}})])
def test_a_daemon_of_another_version_that_tells_too_little(line: str) -> None:
    with pytest.raises(CloudCodeError) as refused:
        _read(line)
    assert refused.value.code == "E_CLI_NOT_ASKED"


def asked(folder: Path, configuration: dict[str, Any], *arguments: str) -> tuple[int, list[dict[str, Any]], str]:
    (folder / "tasks").mkdir(exist_ok=True)
    projects = {"projects": {"demo": {"repository": "/nowhere"}}}
    (folder / "config.yaml").write_text(yaml.safe_dump(projects | configuration))
    words = ["--root", str(folder), "workstation", "clis", *arguments, "--json"]
    done = preloaded.run(words, os.environ, Path.cwd(), PATIENCE_SECONDS)
    return done.returncode, json.loads(done.stdout), done.stdout + done.stderr


def test_the_command_with_a_probe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that answers, with its price; one that fails, and one that is not there."""
    monkeypatch.setenv("MY_KEY", KEY)
    fails = 'import os; print("wrong key", os.environ["MY_KEY"]); raise SystemExit(1)'
    code, found, said = asked(
        tmp_path,
        {
            "workstations": {"backend": {"clis": ["good", "bad", "absent"]}},
            "clis": {
                "good": {"adapter": "command", "argv": [sys.executable, "-c", ANSWERS], "model": "small-1"},
                "bad": {
                    "adapter": "command",
                    "argv": [sys.executable, "-c", fails],
                    "pass_environment": ["MY_KEY"],
                },
                "absent": {"adapter": "command", "argv": ["no-such-program"]},
            },
            "prices": {"small": {"input": 2.0, "output": 4.0}},
        },
        "--probe",
    )
    assert code == 1
    good, bad, absent = found
    assert (good["workstation"], good["faults"]) == ("backend-1", [])
    assert (good["cli"]["probe"]["outcome"], good["cli"]["probe"]["cost_usd"]) == ("completed", 0.00202)
    assert bad["faults"][0][0] == "the probe ended as crashed: exit code 1: wrong key [hidden]"
    assert absent["cli"]["program"] is None
    assert "asking good of backend-1" in said
    assert KEY not in said
    assert not list((tmp_path / "workspaces/backend-1").glob("*"))[1:]  # .homes alone


@pytest.mark.parametrize(
    ("scenario", "outcome"), [("fixes-test", "completed"), ("unauthorized", "authentication")]
)
def test_a_real_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scenario: str, outcome: str) -> None:
    found = program("codex")
    need(found, "codex")
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with ScriptedModel(scenario, final="ready") as model:
        options = {"base_url": model.base_url, "request_max_retries": "0", "stream_max_retries": "0"}
        codex = {
            "argv": [str(found)],
            "model": "gpt-5.5",
            "pass_environment": ["OPENAI_API_KEY"],
            "options": options,
        }
        code, [told], said = asked(
            tmp_path,
            {"workstations": {"backend": {"clis": ["codex"]}}, "clis": {"codex": codex}},
            "backend-1",
            "--probe",
        )
    assert (code, told["cli"]["probe"]["outcome"]) == (int(outcome != "completed"), outcome)
    assert told["cli"]["version"].startswith("0.")
    assert told["cli"]["keys"] == ["OPENAI_API_KEY"]
    assert KEY not in said
    assert len(model.requests) == 1
