"""Every workspace mode through the whole life: death of the daemon, a second attempt, release, another run."""

import os
import signal
from pathlib import Path

import pytest

from tests.site import Site, git, wait_for

MODES = ("shared", "copy_on_write", "isolated")


def script(site: Site) -> None:
    """The first run commits, leaves something, and waits; the others go on with whatever they find."""
    site.use_script(
        "cat > /dev/null",
        f"echo $$ >> {site.folder}/starts; n=$(wc -l < {site.folder}/starts)",
        f"ls > {site.folder}/found.$n",
        f"git rev-parse --path-format=absolute --git-common-dir > {site.folder}/repository.$n",
        "if [ $n = 1 ]; then",
        "  echo committed > committed.txt; git add committed.txt; git commit -qm 'First step'",
        f"  echo loose > loose.txt; touch {site.folder}/begun; sleep 120",
        "fi",
        "echo x >> steps.txt",
    )


def found(site: Site, number: int) -> set[str]:
    return set((site.folder / f"found.{number}").read_text().split())


def places(site: Site, mode: str) -> tuple[Path, Path]:
    workspace = site.root.task_workspace("backend-1", "demo.life", mode)
    return workspace.worktree, workspace.own or workspace.worktree


@pytest.mark.parametrize("mode", MODES)
def test_the_whole_life(site: Site, mode: str) -> None:
    script(site)
    site.config["projects"]["demo"]["workspace_mode"] = mode
    site.write_config()
    site.start()
    site.write_task("life", verification=[{"name": "two", "command": "[ $(wc -l < steps.txt) -ge 2 ]"}])
    worktree, own = places(site, mode)

    wait_for((site.folder / "begun").exists)
    clone = site.root.task_workspace("backend-1", "demo.life", mode).clone
    assert (site.folder / "repository.1").read_text().strip() == str(clone / ".git")
    assert (clone / ".git/objects/info/alternates").exists() is (mode != "isolated")
    (daemon,) = site.daemons()
    os.kill(daemon.pid, signal.SIGKILL)

    task = site.wait_state("demo.life", "review")
    assert {"committed.txt", "loose.txt"} <= found(site, 2), "resumed where the dead daemon left it"
    assert {"committed.txt", "loose.txt", "steps.txt"} <= found(site, 3), "begun from start.bundle"
    assert [attempt.verdict for attempt in task.attempts] == ["failed", "completed"]
    assert {attempt.workspace_mode for attempt in task.attempts} == {mode}
    assert task.attempts[1].start_commit == task.attempts[0].bundle_head
    assert git("show", f"{task.branch}:loose.txt", cwd=site.remote) == "loose"
    assert "First step" in git("log", "--format=%s", task.branch, cwd=site.remote)
    assert (site.root.salvage / "demo.life" / "1.bundle").exists()

    git("update-ref", "refs/heads/main", f"refs/heads/{task.branch}", cwd=site.remote)
    wait_for(lambda: site.store.is_archived("demo.life"), what="it is released and archived")
    assert not worktree.exists() and not own.exists()
    site.cli("task", "retry", "life")
    again = site.wait_state("demo.life", "review")
    assert again.branch.endswith("-r2") and {"committed.txt", "steps.txt"} <= found(site, 4)


def test_the_mode_is_the_tasks_then_the_projects_then_the_workstations(site: Site) -> None:
    site.use_script("cat > /dev/null", "sleep 120")
    site.config["workstations"]["backend"]["workspace_mode"] = "isolated"
    site.write_config()
    site.start()
    site.write_task("life")
    site.wait_state("demo.life", "in_progress")
    wait_for(places(site, "isolated")[0].exists)
    told = site.cli("task", "explain", "life").stdout
    assert "isolated" in told and "cannot give it one of its own" in " ".join(told.split())
    site.write_task("life", workspace_mode="copy_on_write")
    wait_for(lambda: (r := site.record("demo.life")) and r.workspace_mode == "copy_on_write")
    live = site.record("demo.life")
    assert live is not None and live.attempts[0].workspace_mode == "isolated", "an attempt keeps its own"
    site.write_task("life", workspace_mode="on_the_moon")
    (refused,) = wait_for(lambda: site.events("input.refused"))
    assert "workspace_mode" in str(refused["details"])


def test_work_goes_from_one_mode_to_another(site: Site) -> None:
    site.config["retry"] = {"first_seconds": 600}
    site.use_script("cat > /dev/null", "echo x >> steps.txt")
    site.write_config()
    site.start()
    check = [{"name": "two", "command": "[ $(wc -l < steps.txt) -ge 2 ]"}]
    site.write_task("life", workspace_mode="isolated", verification=check)
    site.wait_state("demo.life", "failed")
    site.write_task("life", workspace_mode="shared", verification=check)
    wait_for(lambda: (r := site.record("demo.life")) and r.workspace_mode == "shared")
    site.cli("task", "retry", "life")
    task = site.wait_state("demo.life", "review")
    assert [attempt.workspace_mode for attempt in task.attempts] == ["isolated", "shared"]
    assert git("show", f"{task.branch}:steps.txt", cwd=site.remote) == "x\nx"
    wait_for(lambda: (r := site.record("demo.life")) and r.attempts[0].released)
    assert not places(site, "isolated")[1].exists() and places(site, "shared")[0].exists()


@pytest.mark.parametrize("mode", MODES)
def test_work_of_a_dead_daemon_is_saved_and_its_place_removed_by_the_next_one(site: Site, mode: str) -> None:
    script(site)
    site.write_config()
    site.start()
    site.write_task("life", workspace_mode=mode)
    wait_for((site.folder / "begun").exists)
    site.cli("workstation", "stop", "backend-1")
    wait_for(lambda: not site.daemons())
    site.cli("task", "cancel", "life")
    wait_for((site.root.salvage / "demo.life" / "1.bundle").exists)
    assert places(site, mode)[0].exists(), "nothing is removed by anybody but a daemon"
    site.cli("workstation", "start", "backend-1")
    wait_for(lambda: site.store.is_archived("demo.life"), what="it is released")
    assert not places(site, mode)[1].exists()
    listed = site.cli("task", "salvage", "show", "life").stdout
    assert "committed.txt" in listed and "loose.txt" in listed
