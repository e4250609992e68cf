"""A pool that grows with its tasks and shrinks to nothing, over a supervisor that is killed meanwhile."""

import signal

from tests.site import Site, wait_for

FIX = "sed -i 's/a - b/a + b/' calc.py"


def test_workstations_come_with_the_tasks_and_go_when_they_are_idle_and_nothing_is_lost(site: Site) -> None:
    go = site.folder / "go"
    site.use_script("cat > /dev/null", f"while [ ! -e {go} ]; do sleep 0.05; done", FIX)
    site.config["workstations"]["backend"] = {
        "driver": "local",
        "clis": ["scripted"],
        "min": 0,
        "max": 3,
        "idle_minutes": 0.04,
    }
    site.write_config()
    site.start()
    assert not site.daemons()
    for stem in ("one", "two"):
        site.write_task(stem)
    for stem in ("one", "two"):
        site.wait_state(f"demo.{stem}", "in_progress")
    assert len(site.events("pool.grown")) == 2, "no more than there are tasks"
    site.stop_supervisors(signal.SIGKILL)
    site.start()
    go.touch()
    done = [site.wait_state(f"demo.{stem}", "review") for stem in ("one", "two")]
    assert {task.attempts[0].workstation for task in done} == {"backend-1", "backend-2"}
    wait_for(lambda: len(site.events("pool.shrunk")) == 2)
    wait_for(lambda: not site.daemons(), what="nobody is left")
    wait_for(lambda: "backend" not in site.cli("workstation", "list").stdout)
    assert site.cli("workstation", "list", "--all").stdout.count("removed") == 3
    assert all(site.root.workspace(task.attempts[0].workstation).is_dir() for task in done)

    site.write_task("three")
    assert site.wait_state("demo.three", "review").attempts[0].workstation == "backend-1"
    assert not site.events("workstation.died", "workstation.lost")
