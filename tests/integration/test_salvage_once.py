"""`agent-daemon salvage`: what a killed daemon's attempt left behind is bundled and reported, by hand."""

import os
import signal
import subprocess
from pathlib import Path

import pytest
import yaml
from filelock import FileLock

from tests import preloaded
from tests.site import PATIENCE_SECONDS, Site, git, wait_for

TASK = "demo.lost"


def salvage(site: Site, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The one-shot, as the supervisor or a person runs it."""
    given = arguments or ("--task", TASK, "--attempt", "1")
    place = ("--workstation", "backend-1", "--root", str(site.root.path))
    words = ["salvage", *place, *given]
    return preloaded.run(words, os.environ, Path.cwd(), PATIENCE_SECONDS, program="agent-daemon")


def report(site: Site) -> dict[str, object]:
    data = yaml.safe_load((site.root.attempt_out("backend-1", TASK, 1) / "reporting.yaml").read_text())
    assert data["end"] == data["revision"]
    entry: dict[str, object] = data["tasks"][TASK]
    return entry


def files_in(site: Site, name: str = "salvage.bundle") -> dict[str, str]:
    """What a person gets out of the bundle, in a clone of theirs."""
    bundle = site.root.attempt_out("backend-1", TASK, 1) / name
    clone = site.folder / "person"
    git("clone", "--quiet", str(site.remote), str(clone), cwd=site.folder)
    git("fetch", "--quiet", str(bundle), "+refs/heads/*:refs/salvage/*", cwd=clone)
    ref = git("for-each-ref", "--format=%(refname)", "refs/salvage", cwd=clone)
    names = git("ls-tree", "-r", "--name-only", ref, cwd=clone).split()
    return {name: git("show", f"{ref}:{name}", cwd=clone) for name in names}


@pytest.fixture
def dead(site: Site) -> Site:
    """Supervisor and daemon are killed while the agent has committed one file and left others uncommitted."""
    kill_at_work(site)
    return site


def kill_at_work(site: Site, **fields: object) -> None:
    site.use_script(
        "cat > /dev/null",
        "echo committed > one.txt; git add one.txt; git -c user.name=A -c user.email=a@b commit -qm One",
        "echo uncommitted > two.txt; echo changed >> calc.py; echo two.log > .gitignore; echo secret > two.log",
        f"touch {site.folder}/ready; sleep 600",
    )
    site.write_config()
    site.start()
    site.write_task("lost", **fields)
    wait_for((site.folder / "ready").exists)
    wait_for(lambda: report(site)["status"] == ("planning" if fields else "in_progress"))
    site.stop_supervisors(signal.SIGKILL)
    kill_daemon(site)


def kill_daemon(site: Site) -> None:
    daemons = site.daemons()
    for daemon in daemons:
        os.kill(daemon.pid, signal.SIGKILL)
    wait_for(lambda: not site.daemons())


def test_commits_and_uncommitted_files_are_bundled_and_ignored_ones_are_not(dead: Site) -> None:
    done = salvage(dead)
    assert done.returncode == 0, done.stderr
    assert "1 ignored path(s) are not in it" in done.stdout
    entry = report(dead)
    assert entry["status"] == "cancelled" and "salvage" in entry
    found = files_in(dead)
    assert found["one.txt"] == "committed" and found["two.txt"] == "uncommitted"
    assert found["calc.py"].endswith("changed") and "two.log" not in found
    worktree = dead.root.worktree("backend-1", "demo", TASK)
    assert (worktree / "two.log").exists() and (worktree / "two.txt").exists(), "nothing is removed"
    marked = f"CLOUD_CODE_ATTEMPT={dead.root.attempt_out('backend-1', TASK, 1)}".encode()
    assert not [p for p in Path("/proc").glob("[0-9]*/environ") if marked in read(p)], "its processes are ended"


def test_edits_of_an_attempt_that_was_to_plan_only_are_no_work(site: Site) -> None:
    kill_at_work(site, plan_approval=True)
    done = salvage(site)
    assert done.returncode == 0, done.stderr
    assert "salvage" not in report(site)
    assert {"one.txt", "two.txt"} <= set(files_in(site, "plan-edits.bundle"))


def read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def test_a_second_time_changes_nothing(dead: Site) -> None:
    assert salvage(dead).returncode == 0
    before = report(dead)
    again = salvage(dead)
    assert again.returncode == 0 and "bundled already" in again.stdout
    assert report(dead) == before
    (dead.root.attempt_out("backend-1", TASK, 1) / "salvage.bundle").unlink()
    assert salvage(dead).returncode == 0
    assert (dead.root.attempt_out("backend-1", TASK, 1) / "salvage.bundle").exists(), "what was lost is made anew"


def test_a_living_daemon_does_it_itself(dead: Site) -> None:
    before = report(dead)
    with FileLock(dead.root.mail_out("backend-1") / "daemon.lock", timeout=0):
        refused = salvage(dead)
    assert refused.returncode == os.EX_TEMPFAIL and "another daemon serves backend-1" in refused.stderr
    assert report(dead) == before


def test_the_branch_is_bundled_where_the_worktree_is_gone(dead: Site) -> None:
    worktree = dead.root.worktree("backend-1", "demo", TASK)
    worktree.rename(dead.folder / "moved-away")
    assert salvage(dead).returncode == 0
    assert files_in(dead)["one.txt"] == "committed"


def test_a_workspace_that_is_not_mounted_is_no_empty_one(dead: Site) -> None:
    workspace = dead.root.workspace("backend-1")
    workspace.rename(dead.folder / "unmounted")
    workspace.mkdir()
    before = report(dead)
    refused = salvage(dead)
    assert refused.returncode == 1 and "E_NOT_BUNDLED" in refused.stderr and "is not there" in refused.stderr
    assert report(dead) == before, "nothing is said of work that could not be looked at"


def test_what_cannot_be_done_is_told_in_a_sentence(dead: Site) -> None:
    unknown = salvage(dead, "--task", "demo.other", "--attempt", "1")
    assert unknown.returncode == 1 and "E_NO_ATTEMPT" in unknown.stderr
    assert salvage(dead, "--task", "../x", "--attempt", "1").returncode == 2
    assert salvage(dead, "--task", TASK).returncode == 2
