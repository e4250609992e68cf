"""What is done to an idle workstation of the driver `local`: its caches, and a plain word about the rest."""

import json
import os

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
