"""What is done to an idle workstation of the driver `local`: its caches, and a plain word about the rest."""

import json
import os
import re
import signal

from tests.site import Site, wait_for


def test_its_caches_are_trimmed_and_what_makes_no_sense_is_refused(site: Site) -> None:
    site.config["maintenance"] = {"cache_bytes": 1000, "schedule": None}
    site.write_config()
    cache = site.root.workspace("backend-1") / ".homes/scripted/.cache/pip"
    cache.mkdir(parents=True)
    (cache / "wheel").write_bytes(b"x" * 9000)
    site.start()
    wait_for(site.daemons)
    refused = site.cli("workstation", "snapshot", "backend-1", check=False)
    assert refused.returncode == 1 and "nothing of its own to save" in refused.stderr
    said = site.cli("workstation", "maintain", "backend-1").stdout
    assert "its caches took 8.8 KiB, now 0 B" in said, said
    assert not cache.exists() and cache.parent.is_dir()
    wait_for(site.daemons, what="it is there again")
    assert not site.events("workstation.died")


def test_one_that_takes_too_much_of_the_disk_gets_no_task_until_room_was_made(site: Site) -> None:
    site.config["maintenance"] = {"cache_bytes": 1000, "schedule": None}
    site.config["workstations"]["backend"]["disk_limit"] = "2m"
    site.use_script("cat > /dev/null", "sed -i 's/a - b/a + b/' calc.py")
    site.write_config()
    cache = site.root.workspace("backend-1") / ".homes/scripted/.cache/pip"
    cache.mkdir(parents=True)
    (cache / "wheel").write_bytes(os.urandom(3_000_000))
    site.start()
    wait_for(lambda: site.events("workstation.disk_full"))
    site.write_task("one")
    site.wait_state("demo.one", "review")
    names = ["workstation.disk_full", "workstation.maintained", "workstation.disk_recovered", "task.assigned"]
    assert [event["event"] for event in site.events(*names)] == names
    assert site.events("workstation.maintained")[0]["details"]["why"] == "disk"
    (found,) = json.loads(site.cli("workstation", "status", "--json").stdout)
    assert found["limits"]["disk"] == "2m" and found["row"]["disk"]["workspace_bytes"] < 2_000_000
    assert found["use"]["memory_bytes"] > 1_000_000 and found["use"]["processes"] >= 1
    assert "processors" in site.cli("workstation", "status", "backend-1").stdout


def test_a_round_that_was_due_while_nobody_ran_is_made_up_for_and_one_that_was_cut_off_goes_on(site: Site) -> None:
    site.config["maintenance"] = {"schedule": "30 3 * * sun"}
    site.config["workstations"]["backend"]["count"] = 2
    site.write_config()
    site.start()
    file = site.root.state / "maintenance.yaml"
    first = wait_for(lambda: file.exists() and file.read_text())
    wait_for(lambda: len(site.daemons()) == 2)
    site.stop_supervisors(signal.SIGKILL)
    file.write_text(re.sub(r"(?m)^since: .*", "since: '2026-01-01T00:00:00Z'", first))
    site.start()
    wait_for(lambda: len(site.events("workstation.maintained")) == 2)
    assert {event["details"]["why"] for event in site.events("workstation.maintained")} == {"schedule"}
    site.stop_supervisors()
    file.write_text(re.sub(r"(?m)^due: .*", "due: [backend-2]", file.read_text()))
    site.start()
    wait_for(lambda: len(site.events("workstation.maintained")) == 3)
    assert site.events("workstation.maintained")[-1]["workstation"] == "backend-2"
    wait_for(lambda: "due: []" in file.read_text())
    site.stop_supervisors()
    site.config["maintenance"] = {"schedule": "30 3 * * *"}
    site.write_config()
    file.write_text(re.sub(r"(?m)^since: .*", "since: '2026-01-01T00:00:00Z'", file.read_text()))
    site.start()
    wait_for(lambda: "30 3 * * * UTC" in file.read_text(), what="another schedule counts from now on")
    assert len(site.events("workstation.maintained")) == 3
