"""Killed with SIGKILL at each named place, twice in a row, the end must be that of the undisturbed run."""

import contextlib
import re
import signal
import subprocess
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from agent_daemon.failpoints import (
    CLEANUP_FAILPOINTS,
    DAEMON_FAILPOINTS,
    FORGE_FAILPOINTS,
    LEASE_FAILPOINTS,
    MINT_FAILPOINTS,
    MOVED_BASE_FAILPOINTS,
    RESTORE_FAILPOINTS,
    SUPERVISOR_FAILPOINTS,
    VARIABLE,
)
from supervisor import spool
from supervisor.control import new_command
from tests import reliability
from tests.site import Site, Supervisor, git, wait_for

KILLS = 2
POINTS = reliability.declare("kill-points", [*SUPERVISOR_FAILPOINTS, *DAEMON_FAILPOINTS])
CLEANUP_POINTS = reliability.declare("kill-points", CLEANUP_FAILPOINTS)
ROOT = Path(__file__).parents[2]
CHECK = {"name": "sum", "command": "python3 -B -c 'import calc; assert calc.add(1, 2) == 3'"}


def prepare(site: Site) -> None:
    """The first attempt fails its verification and is saved, the second one builds on it and passes."""
    site.use_script(
        "echo started; sleep 0.3",
        "if grep -q E_VERIFICATION_FAILED; then sed -i 's/a - b/a + b/' calc.py; else echo 1 > first.txt; fi",
    )
    site.config["timing"]["deletion_grace_seconds"] = 30
    site.write_config()
    site.write_task("fix-add", verification=[CHECK])


def run_to_the_end(site: Site, environment: dict[str, str]) -> int:
    """Keep a supervisor running until the merged task is archived; returns how often it had to be started."""
    merged, starts = False, 0
    deadline_steps = 1500
    process = None
    for _ in range(deadline_steps):
        if process is None or process.poll() is not None:
            assert process is None or process.returncode == -signal.SIGKILL, site.story("demo.fix-add")
            process, starts = site.start(**environment), starts + 1
        task = site.record("demo.fix-add")
        if task is not None and task.state == "review" and not merged:
            merge(site, task.branch)
            merged = True
        if site.store.is_archived("demo.fix-add"):
            return starts
        try:
            process.wait(timeout=0.1)
        except subprocess.TimeoutExpired:
            continue
    raise AssertionError(site.story("demo.fix-add"))


def merge(site: Site, branch: str) -> None:
    git("update-ref", "refs/heads/main", f"refs/heads/{branch}", cwd=site.remote)


def end_state(site: Site) -> dict[str, Any]:
    """What a person can see at the end, without times and hashes that depend on them."""
    task = site.record("demo.fix-add")
    assert task is not None and task.delivery is not None and task.request is not None
    wait_for(lambda: not list(site.root.quarantine.iterdir()), what="no look at the branches is under way")
    request = (site.root.requests / "demo.fix-add.md").read_text()
    return {
        "state": task.state.value,
        "attempts": [(a.number, a.verdict, a.saved, a.released) for a in task.attempts],
        "failures": task.failures,
        "history": [(step.source.value, step.target.value) for step in task.history],
        "effects": sorted((e.kind, e.status) for e in task.effects),
        "branches": sorted(git("for-each-ref", "--format=%(refname)", cwd=site.remote).split()),
        "pushed": git("rev-parse", task.branch, cwd=site.remote) == task.delivery.pushed_head,
        "subjects": git("log", "--format=%s by %an", task.branch, cwd=site.remote).splitlines(),
        "files": git("ls-tree", "-r", "--name-only", task.branch, cwd=site.remote).split(),
        "request": re.sub(r"[0-9a-f]{12,64}|\d+\.\d s", "#", request),
        "salvage": sorted(p.name for p in (site.root.salvage / "demo.fix-add").iterdir()),
        "requests": sorted(p.name for p in site.root.requests.iterdir()),
        "quarantine": sorted(p.name for p in site.root.quarantine.iterdir()),
        "worktrees": [p.name for p in site.root.workspace("backend-1").glob("*.worktrees/*")],
    }


EXPECTED = {
    "state": "completed",
    "attempts": [(1, "failed", True, True), (2, "completed", True, True)],
    "failures": 0,
    "history": [
        ("pending", "assigned"),
        ("assigned", "in_progress"),
        ("in_progress", "failed"),
        ("failed", "pending"),
        ("pending", "assigned"),
        ("assigned", "in_progress"),
        ("in_progress", "review"),
        ("review", "completed"),
    ],
    "effects": [("push", "done"), ("request", "done")],
    "branches": ["refs/heads/cloud-code/fix-add", "refs/heads/main"],
    "pushed": True,
    "subjects": ["Task fix-add by Cloud Code", "Task fix-add by Cloud Code", "Start by Ada"],
    "files": ["calc.py", "first.txt"],
    "salvage": ["1.bundle"],
    "requests": ["demo.fix-add.md"],
    "quarantine": [],
    "worktrees": [],
}


def undisturbed_but_for_the_request_text(state: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in state.items() if key != "request"}


def test_the_undisturbed_run(site: Site) -> None:
    prepare(site)
    assert run_to_the_end(site, {}) == 1
    assert undisturbed_but_for_the_request_text(end_state(site)) == EXPECTED
    wait_for(lambda: site.events("task.completed"))
    names = [event["event"] for event in site.events()]
    assert names.count("branch.pushed") == names.count("request.opened") == 1


@pytest.mark.parametrize("name", POINTS)
def test_killed_at(site: Site, name: str) -> None:
    prepare(site)
    counter = site.folder / "kills"
    counter.write_text(str(KILLS))
    starts = run_to_the_end(site, {VARIABLE: f"{name}={counter}"})
    assert counter.read_text() == "0", "the place was passed and the process killed there as often as wanted"
    assert starts == (1 + KILLS if name in SUPERVISOR_FAILPOINTS else 1)
    assert undisturbed_but_for_the_request_text(end_state(site)) == EXPECTED
    reliability.record("kill-points", name, "as if nothing had happened", kills=KILLS, lost=0, doubled=0)


def prepare_clean_up(site: Site) -> None:
    """A first attempt leaves saved work, the second one is merged; a second later all is old enough to go."""
    failed = f"{site.folder}/$(basename $PWD)"
    site.use_script(
        "cat > /dev/null",
        "echo x >> $(basename $PWD).txt",
        f"if [ ! -e {failed} ]; then touch {failed}; exit 1; fi",
    )
    second = 1 / 86_400
    ages = dict.fromkeys(("worktree_days", "output_days", "salvage_days", "record_days"), second)
    site.config["cleanup"] = ages | {"grace_days": 0}
    site.config["timing"]["deletion_grace_seconds"] = 0.2
    site.write_config()


def clean_to_the_end(site: Site, stem: str, environment: dict[str, str]) -> int:
    """Run a task, delete its file, and clean up until nothing of it is left; the starts of the supervisor."""
    task_id, merged, starts = f"demo.{stem}", False, 0
    file = site.write_task(stem)
    process = last = None
    for _ in range(500):
        if process is None or process.poll() is not None:
            assert process is None or process.returncode == -signal.SIGKILL, site.story(task_id)
            process, starts = site.start(**environment), starts + 1
        task = site.record(task_id)
        if task is not None and task.state == "review" and not merged:
            merge(site, task.branch)
            merged = True
        if task is not None and task.state == "completed":
            file.unlink(missing_ok=True)
        if task is not None:
            last = process
        if task is not None and not task.source.present:
            spool.post(site.root.commands, new_command("clean", "root", "ada", {}))
        if merged and task is None and not left_of(site, task_id):
            if process is last:  # which had the record until now
                wait_for(partial(is_done_with, site, task_id, process))
            was_killed = process.poll() is not None  # when the last of it had just gone: one start less was needed
            process.kill()
            process.wait()
            return starts + was_killed
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=0.2)
    raise AssertionError(f"{left_of(site, task_id)}\n{site.story(task_id)}")


def is_done_with(site: Site, task_id: str, process: Supervisor) -> bool:
    """Whether this one has come to the end of the removal of a record, or was killed on the way there."""
    told = [event["details"] for event in site.events("cleanup.removed")]
    is_told = any(one["kind"] == "record" and one["task"] == task_id for one in told)
    return is_told or process.poll() is not None


def left_of(site: Site, task_id: str) -> list[Path]:
    """What there is of a task, in any stage of its removal."""
    root, worktrees = site.root, site.root.workspace("backend-1") / "demo.worktrees"
    places = [root.record(task_id), root.archived(task_id), root.request(task_id), root.salvage / task_id]
    places += [root.mail_in("backend-1") / task_id, root.mail_out("backend-1") / task_id]
    places += [*worktrees.glob("*"), *worktrees.glob(f".{task_id}*"), *root.quarantine.iterdir()]
    return [place for place in places if place.exists()]


@pytest.mark.parametrize("name", CLEANUP_POINTS)
def test_killed_in_clean_up_at(site: Site, name: str) -> None:
    prepare_clean_up(site)
    counter = site.folder / "kills"
    counter.write_text(str(KILLS))
    starts = sum(clean_to_the_end(site, stem, {VARIABLE: f"{name}={counter}"}) for stem in ("first", "second"))
    assert counter.read_text() == "0", "the place was passed and the process killed there as often as wanted"
    assert starts == 2 + (0 if name.startswith("daemon.") else KILLS)
    assert sorted(git("for-each-ref", "--format=%(refname:short)", cwd=site.remote).split()) == [
        "cloud-code/first",
        "cloud-code/second",
        "main",
    ]
    assert git("ls-tree", "--name-only", "main", cwd=site.remote).split() == [
        "calc.py",
        "demo.first.txt",
        "demo.second.txt",
    ]
    reliability.record("kill-points", name, "as if nothing had happened", kills=KILLS, lost=0, doubled=0)


def test_every_failpoint_in_the_code_is_swept() -> None:
    named = set()
    for path in [*ROOT.glob("supervisor/**/*.py"), *ROOT.glob("agent_daemon/**/*.py")]:
        named |= set(re.findall(r'reach\("([a-z_.]+)"\)', path.read_text()))
        if path.name == "loop.py":
            named |= set(re.findall(r'": "([a-z_]+\.[a-z_]+)"', path.read_text()))
    swept = {*CLEANUP_FAILPOINTS, *FORGE_FAILPOINTS, *LEASE_FAILPOINTS, *MINT_FAILPOINTS}
    swept |= {*MOVED_BASE_FAILPOINTS, *RESTORE_FAILPOINTS}
    assert named == {*SUPERVISOR_FAILPOINTS, *DAEMON_FAILPOINTS, *swept}
