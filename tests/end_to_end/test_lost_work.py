"""What an attempt did before its workstation was lost is what the next attempt starts from."""

import signal

from tests.site import Site, files_below, git, wait_for

FIRST = "if [ ! -e {0}/once ]; then touch {0}/once; {1}; touch {0}/ready; sleep 600; fi"
PARTLY = (
    "echo partly > partly.txt; git add . ; git -c user.name=A -c user.email=a@b commit -qm Partly; echo x > x.txt"
)


def use_agent_that_hangs_once(site: Site) -> None:
    """The first attempt commits one file, leaves one uncommitted, and goes on for ever; the next one ends well."""
    site.use_script("cat > /dev/null", FIRST.format(site.folder, PARTLY), "ls > listing.txt")
    site.write_config()


def start_a_task_that_hangs(site: Site) -> None:
    """Returns while the first attempt hangs, its file committed and the other one not."""
    use_agent_that_hangs_once(site)
    site.start()
    site.write_task("lost")
    wait_for((site.folder / "ready").exists)
    site.wait_state("demo.lost", "in_progress")


def kill_until_it_is_given_up(site: Site, task_id: str) -> None:
    def given_up() -> bool:
        site.signal_daemons(signal.SIGKILL)
        task = site.record(task_id)
        return task is not None and task.attempts[0].ended_at is not None

    wait_for(given_up, what="the attempt is given up")


def test_the_next_attempt_starts_from_what_a_dead_daemon_left(site: Site) -> None:
    site.config["workstations"]["backend"]["count"] = 1
    start_a_task_that_hangs(site)
    kill_until_it_is_given_up(site, "demo.lost")
    wait_for(lambda: site.events("attempt.salvaged"), what="it is bundled although no daemon lives")
    task = site.wait_state("demo.lost", "review")
    first, second = task.attempts
    assert first.verdict == "workstation lost" and first.saved and first.save_error is None
    assert second.start_commit == first.bundle_head
    listing = git("show", f"{task.branch}:listing.txt", cwd=site.remote).split()
    assert {"partly.txt", "x.txt"} <= set(listing)
    assert (site.root.salvage / "demo.lost" / "1.bundle").exists()


def test_a_cancelled_task_is_saved_although_its_workstation_was_stopped(site: Site) -> None:
    start_a_task_that_hangs(site)
    site.cli("workstation", "stop", "backend-1")
    wait_for(lambda: not site.daemons())
    site.cli("task", "cancel", "lost")
    saved = site.root.salvage / "demo.lost" / "1.bundle"
    wait_for(saved.exists, what="its work is saved while no daemon lives")
    assert site.root.worktree("backend-1", "demo", "demo.lost").exists(), "nothing is removed meanwhile"
    assert not site.daemons()
    site.cli("workstation", "start", "backend-1")
    wait_for(lambda: site.store.is_archived("demo.lost"), what="released when it is started again")
    task = site.record("demo.lost")
    assert task is not None and [(a.verdict, a.saved, a.released) for a in task.attempts] == [
        ("cancelled", True, True)
    ]


def test_work_on_a_workstation_that_is_configured_no_longer_is_gone_on_with_elsewhere(site: Site) -> None:
    site.config["workstations"]["other"] = {"driver": "local", "clis": ["scripted"]}
    use_agent_that_hangs_once(site)
    site.start()
    site.write_task("lost", specialist="other")
    wait_for((site.folder / "ready").exists)
    site.wait_state("demo.lost", "in_progress")
    site.stop_supervisors()
    del site.config["workstations"]["other"]
    site.write_config()
    site.start()
    task = site.wait_state("demo.lost", "review")
    assert [attempt.workstation for attempt in task.attempts] == ["other-1", "backend-1"]
    assert task.attempts[0].saved and task.attempts[1].start_commit == task.attempts[0].bundle_head
    assert "x.txt" in git("show", f"{task.branch}:listing.txt", cwd=site.remote)


def test_what_cannot_be_bundled_holds_the_next_attempt_up_for_a_while_only(site: Site) -> None:
    site.config["timing"]["salvage_timeout_seconds"] = 3
    site.config["workstations"]["backend"]["count"] = 1
    start_a_task_that_hangs(site)
    (site.root.attempt_out("backend-1", "demo.lost", 1) / "salvage.bundle" / "in-the-way").mkdir(parents=True)
    kill_until_it_is_given_up(site, "demo.lost")
    wait_for(lambda: (t := site.record("demo.lost")) is not None and t.attempts[0].settled)
    task = site.record("demo.lost")
    assert task is not None and task.attempts[0].save_error, site.story("demo.lost")
    worktree = site.root.worktree("backend-1", "demo", "demo.lost")
    wait_for(lambda: files_below(worktree.parent, "x.txt"), what="its worktree stays, if under another name")
    site.wait_state("demo.lost", "review")
