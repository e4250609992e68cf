"""What was configured when a task began need not be configured at the next start."""

from tests.site import Site, make_remote, wait_for

FIX = "sed -i 's/a - b/a + b/' calc.py"


def hold(site: Site) -> str:
    return f"while [ ! -e {site.folder}/go ]; do sleep 0.1; done"


def test_an_attempt_on_a_workstation_that_is_gone_is_given_up_and_its_daemon_stopped(site: Site) -> None:
    site.config["workstations"]["backend"]["count"] = 2
    site.use_script("cat > /dev/null", hold(site), FIX)
    site.write_config()
    site.start()
    site.write_task("one")
    site.write_task("two")
    for stem in ("one", "two"):
        site.wait_state(f"demo.{stem}", "in_progress")
    assert len(site.daemons()) == 2
    site.stop_supervisors()
    site.config["workstations"]["backend"]["count"] = 1
    site.write_config()
    (site.folder / "go").touch()
    site.start()
    for stem in ("one", "two"):
        task = site.wait_state(f"demo.{stem}", "review")
        assert task.attempts[-1].workstation == "backend-1"
    wait_for(lambda: len(site.daemons()) == 1, what="the daemon that is configured no longer is stopped")
    lost = [e for e in site.events("attempt.ended") if e["details"]["verdict"] == "workstation lost"]
    assert len(lost) == 1


def test_tasks_of_a_project_that_is_gone_rest_and_those_of_a_type_that_is_gone_are_routed_anew(site: Site) -> None:
    make_remote(site.folder / "other.git", {"x.txt": "x"})
    site.config["projects"]["other"] = {"repository": str(site.folder / "other.git")}
    site.config["workstations"]["frontend"] = {"driver": "local", "clis": ["scripted"]}
    site.use_script("cat > /dev/null", hold(site), FIX)
    site.write_config()
    site.start()
    site.write_task("here", project="demo", specialist="frontend", depends_on=["later"])
    site.write_task("there", project="other", depends_on=["never"])
    wait_for(lambda: site.record("demo.here") and site.record("other.there"))
    site.stop_supervisors()
    del site.config["projects"]["other"], site.config["workstations"]["frontend"]
    site.write_config()
    (site.folder / "go").touch()
    site.write_task("later", project="demo")
    site.start()
    here = site.wait_state("demo.here", "review")
    assert here.specialist == "backend"
    resting = site.record("other.there")
    assert resting is not None and resting.state == "pending"
    assert site.events("task.resting")[0]["details"]["code"] == "E_PROJECT_GONE"
    assert "resting: the project other is not configured" in site.cli("status").stdout
    refused = site.cli("task", "cancel", "other.there", check=False)
    assert refused.returncode == 1 and "E_PROJECT_GONE: other.there rests" in refused.stderr


def test_a_damaged_record_is_put_aside_and_its_task_not_begun_again(site: Site) -> None:
    site.use_script("cat > /dev/null", hold(site), FIX)
    site.write_config()
    site.start()
    site.write_task("one")
    site.wait_state("demo.one", "in_progress")
    site.write_task("two")
    wait_for(lambda: site.record("demo.two"))
    site.stop_supervisors()
    record = site.root.records / "demo.one.yaml"
    whole = record.read_bytes()
    record.write_bytes(whole[: len(whole) // 2] + b"\0")
    site.start()
    wait_for(lambda: site.events("record.damaged"))
    assert (site.root.quarantine / "record-demo.one.yaml").exists()
    report = site.root.attempt_out("backend-1", "demo.one", 1) / "reporting.yaml"
    wait_for(lambda: "status: paused" in report.read_text(), what="the agent that nobody answers for is held")
    (site.folder / "go").touch()
    site.wait_state("demo.two", "review")
    assert site.record("demo.one") is None
    assert "E_RECORD_DAMAGED" in site.cli("status").stdout
