"""A disk that runs low, and one that is full: nothing begins, nothing crashes, nothing is lost, all goes on."""

import json
import os
import subprocess
from collections.abc import Iterator

import pytest
import yaml

from supervisor.app import open_root
from supervisor.clock import Clock
from supervisor.core.settings import DiskSettings
from supervisor.disk import DiskWatch, low_problem, seen_state
from supervisor.workstations.examination import engine_disk_checks
from tests import reliability
from tests.site import Site, git, wait_for

FIX = "sed -i 's/a - b/a + b/' calc.py"
MEBIBYTE = 1024**2
DISK_BYTES = 64 * MEBIBYTE
MARKS = {
    "stop_below_bytes": 16 * MEBIBYTE,
    "stop_below_share": 0,
    "resume_above_bytes": 32 * MEBIBYTE,
    "resume_above_share": 0,
}

LOW, FULL = "room falls below the lower mark, and comes back", "fills to the last byte, and is emptied"
reliability.declare("full-disk", [LOW, FULL])


@pytest.fixture
def small(site: Site) -> Iterator[Site]:
    """A site whose root is a file system of 64 MiB."""
    options = ["-t", "tmpfs", "-o", f"size={DISK_BYTES},mode=755", "tmpfs", str(site.root.path)]
    site.root.tasks.rmdir()
    mounted = subprocess.run(["mount", *options], capture_output=True, text=True, check=False)
    if mounted.returncode != 0:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    try:
        site.root.tasks.mkdir()
        site.config["disk"] = MARKS
        yield site
    finally:
        site.close()
        subprocess.run(["umount", "--lazy", str(site.root.path)], check=True)


def test_the_disk_of_the_engine_counts_as_that_of_the_root_does(site: Site) -> None:
    engine = site.folder / "engine"
    engine.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(engine)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("no file system can be mounted here")
    try:
        open_root(site.root)
        settings = DiskSettings.model_validate(MARKS)
        watch = DiskWatch(site.root, settings, Clock(), lambda: [engine])
        assert watch.look() is None and watch.has_room()
        ballast = engine / "ballast"
        ballast.write_bytes(bytes(DISK_BYTES - MARKS["stop_below_bytes"] + MEBIBYTE))
        event = watch.look()
        assert event is not None and (event.name, event.details["path"]) == ("disk.low", str(engine))
        assert not watch.has_room() and not DiskWatch(site.root, settings, Clock()).has_room()
        seen = seen_state(site.root, settings)
        assert seen is not None and seen.path == str(engine)
        problem = low_problem(seen)
        assert problem is not None and "docker system df" in (problem.mend or "")
        (check,) = engine_disk_checks("backend", str(engine))
        assert check.status == "error" and str(engine) in check.detail
        assert not list(engine_disk_checks("backend", "/of/another/host"))
        ballast.unlink()
        event = watch.look()
        assert event is not None and event.name == "disk.recovered"
    finally:
        subprocess.run(["umount", "--lazy", str(engine)], check=True)


def fill(site: Site, leave_bytes: int) -> None:
    """Take room, or give some back, until only so much is left; never more than that on the way."""
    found = os.statvfs(site.root.path)
    more = (found.f_bavail * found.f_frsize - leave_bytes) // MEBIBYTE
    with (site.root.path / "ballast").open("ab") as file:
        if more < 0:
            file.truncate(file.tell() + more * MEBIBYTE)
        for _ in range(more):
            file.write(b"\0" * MEBIBYTE)


def test_below_the_lower_mark_nothing_begins_until_the_upper_one_is_reached(small: Site) -> None:
    go = small.folder / "go"
    small.use_script("cat > /dev/null", f"while [ ! -e {go} ]; do sleep 0.1; done", FIX)
    small.config["workstations"]["backend"]["count"] = 2
    small.write_config()
    small.start()
    small.write_task("running")
    small.wait_state("demo.running", "in_progress")
    fill(small, 10 * MEBIBYTE)
    wait_for(lambda: small.events("disk.low"))
    small.write_task("later")
    small.wait_state("demo.later", "pending")
    go.touch()
    small.wait_state("demo.running", "review")
    explained = small.cli("task", "explain", "later").stdout
    assert "It waits for room on the disk" in explained
    assert "E_DISK_LOW" in small.cli("status").stdout
    assert "E_DISK_LOW" in small.cli("doctor", check=False).stdout
    fill(small, 24 * MEBIBYTE)  # between the marks
    small.stop_supervisors()
    small.start()  # which does not forget that it was low
    wait_for(lambda: len(small.events("supervisor.started")) == 2)
    small.write_task("between", depends_on=["later"])
    small.wait_state("demo.between", "pending")
    assert small.record("demo.later").state == "pending"  # type: ignore[union-attr]
    (small.root.path / "ballast").unlink()
    small.wait_state("demo.later", "review")
    assert len(small.events("disk.low")) == len(small.events("disk.recovered")) == 1
    assert "E_DISK_LOW" not in small.cli("status").stdout
    outcome = "no attempt begins, the running one ends well; they begin again above the upper mark"
    reliability.record("full-disk", LOW, outcome, code="E_DISK_LOW")


def test_a_full_disk_keeps_the_old_files_and_goes_on_when_there_is_room(small: Site) -> None:
    small.config["disk"] = dict.fromkeys(MARKS, 0)
    go = small.folder / "go"
    small.use_script("cat > /dev/null", f"while [ ! -e {go} ]; do sleep 0.1; done", FIX, "echo done")
    small.write_config()
    process = small.start()
    small.write_task("running")
    small.wait_state("demo.running", "in_progress")
    fill_to_the_last_byte(small)
    log = small.folder / "supervisor.log"

    def tried(times: int) -> bool:
        fill_to_the_last_byte(small)  # what was being written has perhaps made room
        return log.read_text().count("E_STATE_DISK") >= times

    rewrite_in_place(small, "Another title")
    wait_for(lambda: tried(1), what="the record cannot be written")
    go.touch()  # the agent's work now meets a disk that takes nothing
    wait_for(lambda: tried(3), what="it is tried again")
    for path in small.root.records.glob("*.yaml"):
        assert yaml.safe_load(path.read_text())["title"] == "Task running", "the old file is whole"
    assert process.poll() is None and len(small.daemons()) == 1
    assert small.cli("task", "cancel", "nothing", check=False).returncode == 1
    (small.root.path / "ballast").unlink()
    task = small.wait_state("demo.running", "review", "blocked")
    if task.state == "blocked":  # the agent could not write, and the work was not there to be handed in
        small.cli("task", "retry", "running")
        task = small.wait_state("demo.running", "review")
    wait_for(lambda: small.record("demo.running").title == "Another title", what="the edit is taken")  # type: ignore[union-attr]
    assert "a + b" in git("show", f"{task.branch}:calc.py", cwd=small.remote)
    small.write_task("later")
    small.wait_state("demo.later", "review")
    assert process.poll() is None
    small.stop_supervisors()  # so that no line is read while it is written
    numbers = [json.loads(line)["seq"] for line in small.root.events.read_text().splitlines()]
    assert numbers == list(range(1, len(numbers) + 1)), "no event is lost, torn or told twice"
    outcome = (
        "the old files stay whole; tried again until there is room, then everything goes on; no event is lost"
    )
    reliability.record("full-disk", FULL, outcome, code="E_STATE_DISK")


def rewrite_in_place(site: Site, title: str) -> None:
    """A change that needs no further block of the disk."""
    with (site.root.tasks / "running.yaml").open("r+") as file:
        file.write(f"title: {title}\n")
        file.truncate()


def fill_to_the_last_byte(site: Site) -> None:
    fill(site, 0)
    with (site.root.path / "ballast").open("ab", buffering=0) as file:
        try:
            while True:
                file.write(b"\0" * 4096)
        except OSError:
            return
