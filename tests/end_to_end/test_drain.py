"""A fleet that is drained: what runs comes to its end, nothing begins, over restarts too."""

import json

import pytest

from supervisor.cli import drain
from supervisor.cli.main import run
from supervisor.core.states import State
from tests import preloaded
from tests.desk import Desk
from tests.site import PATIENCE_SECONDS, Site, wait_for
from tests.unit.conftest import make_attempt

FIX = "sed -i 's/a - b/a + b/' calc.py"


def test_a_drained_fleet_comes_to_rest_and_stays_so_over_a_restart(site: Site) -> None:
    go = site.folder / "go"
    site.use_script("cat > /dev/null", f"while [ ! -e {go} ]; do sleep 0.05; done", FIX)
    site.config["workstations"]["backend"]["count"] = 2
    site.write_config()
    site.start()
    site.write_task("running")
    site.wait_state("demo.running", "in_progress")
    assert "no attempt is given out until it is undone" in site.cli("drain").stdout
    assert "it was drained before" in site.cli("drain").stdout
    site.write_task("later")
    site.wait_state("demo.later", "pending")
    assert "until attempts are given out again" in site.cli("task", "explain", "later").stdout
    assert "drain --undo" in site.cli("task", "explain", "later").stdout

    said = site.folder / "said"
    with said.open("ab") as output:
        words = ["--root", str(site.root.path), "drain", "--wait"]
        waiting = preloaded.start(words, site._environment(), output, output)
    wait_for(lambda: "1 attempt under way" in said.read_text(), what="it has been answered, and waits")
    site.stop_supervisors()
    site.start()
    wait_for(lambda: len(site.events("supervisor.started")) == 2)
    go.touch()
    site.wait_state("demo.running", "review")
    assert waiting.wait(PATIENCE_SECONDS) == 0
    assert said.read_text().endswith("no attempt is under way\n")
    later = site.record("demo.later")
    assert later is not None and later.state == "pending" and not later.attempts
    status = json.loads(site.cli("status", "--json").stdout)
    assert status["drained"]["since"] and "Drained" in site.cli("status").stdout

    assert "attempts are given out" in site.cli("drain", "--undo").stdout
    site.wait_state("demo.later", "review")
    assert json.loads(site.cli("status", "--json").stdout)["drained"] is None
    assert [event["event"] for event in site.events("fleet.drained", "fleet.undrained")] == [
        "fleet.drained",
        "fleet.undrained",
    ]


def test_where_nobody_would_see_an_attempt_end_that_is_said_once(
    site: Site, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    site.write_config()
    Desk(site).keep("running", state=State.IN_PROGRESS, attempts=(make_attempt(),), attempt=1)
    monkeypatch.setattr(drain, "GONE_SECONDS", 0.1)
    assert run(["--root", str(site.root.path), "drain", "--wait"]) == 1
    said = capsys.readouterr().err
    assert said.count("under way: demo.running") == 1 and said.count("cloud-code run") == 1
