"""Clean-up with the running programs: what is due goes, and no trap makes it touch anything else."""

import contextlib
import json
import re
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import reliability
from tests.site import Site, git, wait_for

FIX = "sed -i 's/a - b/a + b/' calc.py"
WS = "backend-1"
# A second after its end everything is old enough.
SECOND = 1 / 86_400
AT_ONCE = {
    "worktree_days": SECOND,
    "output_days": SECOND,
    "salvage_days": SECOND,
    "record_days": SECOND,
    "clone_days": SECOND,
    "grace_days": 0,
}


def gc(site: Site) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = json.loads(site.cli("gc", "--dry-run", "--json").stdout)
    return listed


def verdicts(site: Site) -> set[tuple[str, str | None, str]]:
    return {(c["kind"], c["task"], c["verdict"]) for c in gc(site)}


def clean_until(site: Site, condition: Callable[[], object], what: str) -> None:
    """Clean-up goes step by step: each step is seen by the next run only."""

    def done() -> bool:
        site.cli("gc")
        return bool(condition())

    wait_for(done, what=what)


def merge(site: Site, branch: str) -> None:
    git("update-ref", "refs/heads/main", f"refs/heads/{branch}", cwd=site.remote)


def worktree(site: Site, stem: str) -> Path:
    return site.root.worktree(WS, "demo", f"demo.{stem}")


def test_what_ended_tasks_left_behind_goes_step_by_step(site: Site) -> None:
    site.config["cleanup"] = {}
    site.use_script("cat > /dev/null", f"if [ -e {site.folder}/hang ]; then echo x > x.txt; sleep 600; fi", FIX)
    site.write_config()
    site.start()
    site.write_task("merged")
    merged = site.wait_state("demo.merged", "review")
    merge(site, merged.branch)
    site.wait_state("demo.merged", "completed")
    (site.folder / "hang").touch()
    site.write_task("cancelled")
    wait_for((worktree(site, "cancelled") / "x.txt").exists)
    site.cli("task", "cancel", "cancelled")
    bundle = site.root.salvaged("demo.cancelled", 1)
    wait_for(lambda: (t := site.record("demo.cancelled")) is not None and t.attempts[0].saved)
    # For a week nothing happens, and it is said why.
    site.cli("gc")
    listed = {(c["kind"], c["task"]): c for c in gc(site)}
    assert listed["worktree", "demo.merged"]["verdict"] == "keep" and listed["worktree", "demo.merged"]["waiting"]
    assert listed["worktree", "demo.merged"]["size_bytes"] > 0
    assert worktree(site, "merged").exists() and worktree(site, "cancelled").exists()
    assert "stays for a while" in site.cli("task", "explain", "merged").stdout
    # A person looks into one of the worktrees, and changes something.
    (worktree(site, "cancelled") / "person.txt").write_text("noticed later")
    (site.root.tasks / "merged.yaml").unlink()
    restart(site, AT_ONCE)
    assert ("worktree", "demo.merged", "remove") in verdicts(site)
    clean_until(site, lambda: not worktree(site, "merged").exists(), "the worktrees go")
    clean_until(site, lambda: not worktree(site, "cancelled").exists(), "also the one that was touched")
    wait_for(lambda: site.events("worktree.touched"))
    clean_until(site, lambda: not site.root.mail_out(WS).joinpath("demo.merged").exists(), "the outputs go")
    with contextlib.suppress(FileNotFoundError):  # it may be due by now, too
        copied = Path(shutil.copy(bundle, site.folder / "copied.bundle"))
        assert "person.txt" in files_in(site, copied)
    clean_until(site, lambda: not (site.root.salvage / "demo.cancelled").exists(), "the saved work goes")
    clean_until(site, lambda: not site.store.is_archived("demo.merged"), "its record goes last")
    assert site.store.archived_ids() == ["demo.cancelled"], "the file of the other one is still there"
    assert ("record", "demo.cancelled", "keep") in verdicts(site)
    assert not (site.root.requests / "demo.merged.md").exists()
    wait_for(lambda: {"output", "salvage", "record"} <= kinds_of(site, "cleanup.removed"), what="all is told")
    assert kinds_of(site, "cleanup.asked") == {"worktree"}
    assert not site.events("cleanup.failed", "supervisor.bug")


def kinds_of(site: Site, name: str) -> set[str]:
    return {event["details"]["kind"] for event in site.events(name)}


def test_a_dry_run_tells_what_would_be_removed_now(site: Site) -> None:
    site.config["cleanup"] = {"worktree_days": SECOND}
    site.use_script("cat > /dev/null", FIX)
    site.write_config()
    site.start()
    site.write_task("merged")
    merge(site, site.wait_state("demo.merged", "review").branch)
    site.wait_state("demo.merged", "completed")
    wait_for(lambda: ("worktree", "demo.merged", "remove") in verdicts(site))
    clean_until(site, lambda: not worktree(site, "merged").exists(), "what was said")


def files_in(site: Site, bundle: Path) -> list[str]:
    clone = site.folder / "look"
    if not clone.exists():
        git("clone", "--quiet", str(site.remote), str(clone), cwd=site.folder)
    git("fetch", "--quiet", str(bundle), "+refs/heads/*:refs/look/*", cwd=clone)
    ref = git("for-each-ref", "--format=%(refname)", "refs/look", cwd=clone).splitlines()[0]
    return git("ls-tree", "-r", "--name-only", ref, cwd=clone).split()


def restart(site: Site, cleanup: dict[str, Any]) -> None:
    site.stop_supervisors()
    site.config["cleanup"] = cleanup
    site.write_config()
    before = len(site.events("supervisor.started"))
    site.start()
    wait_for(lambda: len(site.events("supervisor.started")) > before)


def test_what_a_person_edits_in_an_ended_worktree_is_saved_before_it_goes(site: Site) -> None:
    site.config["cleanup"] = {}
    site.use_script("cat > /dev/null", FIX)
    site.write_config()
    site.start()
    site.write_task("merged")
    task = site.wait_state("demo.merged", "review")
    merge(site, task.branch)
    site.wait_state("demo.merged", "completed")
    (worktree(site, "merged") / "idea.txt").write_text("of a person")
    restart(site, AT_ONCE | {"salvage_days": 30, "output_days": 30})
    clean_until(site, lambda: not worktree(site, "merged").exists(), "the worktree goes")
    bundle = site.root.salvaged("demo.merged", 1)
    assert "idea.txt" in files_in(site, bundle), "what was nowhere else has been saved"
    [row] = json.loads(site.cli("task", "salvage", "list", "--json").stdout)
    assert row["task"] == "demo.merged"


# --- traps --------------------------------------------------------------------------------------------------


def things(site: Site) -> dict[str, set[str]]:
    """Everything that clean-up could ever remove, as it lies there now."""
    root = site.root
    found = {
        "worktrees": [p for ws in root.workspaces.glob("*") for p in ws.glob("*.worktrees/*")],
        "files in worktrees": [p for p in root.workspaces.glob("*/*.worktrees/*/**/*") if ".git" not in p.parts],
        "clones": list(root.workspaces.glob("*/*/.git")),
        "logs": list(root.mail.glob("*/out/*/*/logs/*")),
        "saved": list(root.path.glob("state*/salvage/*/*.bundle")),
        "requests": list(root.path.glob("state*/requests/*.md")),
    }
    shown = {kind: {str(path.relative_to(root.path)) for path in paths} for kind, paths in found.items()}
    places = [path for place in ("tasks", "archive", "quarantine") for path in root.path.glob(f"state*/{place}*")]
    names = {path.name.removeprefix("record-") for place in places for path in place.glob("*.yaml")}
    return shown | {"records": names}  # damaged ones are put aside


@pytest.fixture
def planted(site: Site) -> Site:
    """Worktrees, outputs, saved work and records of tasks in every stage; the supervisor is stopped."""
    site.config["cleanup"] = {}
    site.config["workstations"]["other"] = {"driver": "local", "clis": ["scripted"]}  # so that the first is idle
    hang = f"echo x > x.txt; touch {site.folder}/$(basename $(pwd)); sleep 600"
    site.use_script("cat > /dev/null", f"case $(pwd) in *stopped*|*live*) {hang};; esac", FIX)
    site.write_config()
    site.start()
    site.write_task("merged")
    merged = site.wait_state("demo.merged", "review")
    merge(site, merged.branch)
    site.wait_state("demo.merged", "completed")
    site.write_task("stopped")
    wait_for((site.folder / "demo.stopped").exists)
    site.cli("task", "cancel", "stopped")
    wait_for(lambda: (t := site.record("demo.stopped")) is not None and t.attempts[0].saved)
    site.write_task("live", specialist="other")
    wait_for((site.folder / "demo.live").exists)
    site.wait_state("demo.live", "in_progress")
    for path in (
        site.root.workspace(WS) / "demo.worktrees/foreign",
        site.root.mail_out(WS) / "demo.foreign/1/logs",
    ):
        path.mkdir(parents=True)
        (path / "mine.txt").write_text("a stranger's")
    site.stop_supervisors(signal.SIGKILL)
    return site


def a_clock_that_jumped_by_a_year(site: Site) -> None:
    """Everything that is written down was a year earlier by the clock on the wall, though an hour ago at most."""

    def earlier(match: re.Match[str]) -> str:
        return f"{int(match[1]) - 1}-{match[2]}"

    for path in (
        *site.root.records.glob("*.yaml"),
        *site.root.archive.glob("*.yaml"),
        site.root.state / "runs.yaml",
    ):
        path.write_text(re.sub(r"\b(20\d\d)-(\d\d-\d\dT)", earlier, path.read_text()))


def records_that_are_missing(site: Site) -> None:
    for folder in (site.root.records, site.root.archive):
        folder.rename(folder.with_name(f"{folder.name}.away"))
        folder.mkdir()
    for stem in ("merged", "stopped", "live"):
        (site.root.tasks / f"{stem}.yaml").rename(site.folder / f"{stem}.yaml")


def a_damaged_record(site: Site) -> None:
    for task in ("demo.merged", "demo.stopped"):
        record = site.root.record(task)
        record.write_bytes(record.read_bytes()[:200] + b"\0")


def a_renamed_project(site: Site) -> None:
    site.config["projects"]["renamed"] = site.config["projects"].pop("demo")
    for stem in ("merged", "stopped", "live"):
        (site.root.tasks / f"{stem}.yaml").rename(site.folder / f"{stem}.yaml")


def a_state_folder_that_is_empty(site: Site) -> None:
    site.root.state.rename(site.root.path / "state.away")
    for stem in ("merged", "stopped", "live"):
        (site.root.tasks / f"{stem}.yaml").rename(site.folder / f"{stem}.yaml")


def saved_work_that_is_not_mounted(site: Site) -> None:
    """The pushed task may go by the rules; it is made one whose work lies in `state/salvage/`, too."""
    away = site.root.path / "state.away/salvage"
    away.parent.mkdir()
    site.root.salvage.rename(away)
    record = site.root.record("demo.merged")
    record.write_text(record.read_text().replace("saved_in: remote", "saved_in: salvage"))


def workspaces_that_are_not_mounted(site: Site) -> None:
    site.root.workspace(WS).rename(site.root.workspaces / "unmounted")


TRAPS = {
    "a clock that jumped by a year": (a_clock_that_jumped_by_a_year, {}),
    "records that are missing": (records_that_are_missing, AT_ONCE),
    "damaged records": (a_damaged_record, AT_ONCE),
    "a project that was renamed": (a_renamed_project, AT_ONCE),
    "an empty state folder": (a_state_folder_that_is_empty, AT_ONCE),
    "saved work that is not mounted": (saved_work_that_is_not_mounted, AT_ONCE | {"salvage_days": 30}),
    "workspaces that are not mounted": (workspaces_that_are_not_mounted, AT_ONCE | {"output_days": 30}),
}


SOUND = "nothing: the control"
reliability.declare("clean-up", [*TRAPS, SOUND])


@pytest.mark.parametrize("name", TRAPS)
def test_a_trap_makes_it_remove_nothing(planted: Site, name: str) -> None:
    spring, cleanup = TRAPS[name]
    spring(planted)
    before = things(planted)
    assert before["worktrees"] and before["logs"] and before["saved"]
    planted.config["cleanup"] = cleanup
    planted.write_config()
    planted.start()
    wait_for(lambda: planted.events("supervisor.started"))
    wait_for(lambda: len(planted.daemons()) == 2)
    if cleanup:
        wait_for(lambda: all(c["age_seconds"] > 1 for c in gc(planted) if c["task"] and c["verdict"] != "doubt"))
    for _ in range(3):
        planted.cli("gc")
        wait_for(lambda: not under_way(planted))
    after = things(planted)
    for kind, paths in before.items():
        away = {path.replace("unmounted", WS) for path in after[kind]} | after[kind]
        assert paths <= away, f"{kind}: {sorted(paths - after[kind])} were removed"
    assert not planted.events("cleanup.removed"), planted.events("cleanup.removed")
    if spring is workspaces_that_are_not_mounted:
        report = planted.root.attempt_out(WS, "demo.merged", 1) / "reporting.yaml"
        wait_for(
            lambda: "is it not mounted" in report.read_text(), what="the workstation says why it removes nothing"
        )
    doubts = len(planted.events("cleanup.doubt"))
    kept = sum(map(len, before.values()))
    reliability.record("clean-up", name, "nothing is removed", things_before=kept, removed=0, told=doubts)


def under_way(site: Site) -> bool:
    """Whether a workstation has yet to answer, or was asked for a release a moment ago."""
    wanted, done = site.root.mail_in(WS) / "cleanup/wanted.yaml", site.root.mail_out(WS) / "cleanup/done.yaml"
    if not wanted.exists():
        return False
    asked = yaml.safe_load(wanted.read_text())["revision"]
    return not done.exists() or yaml.safe_load(done.read_text())["observed_revision"] != asked


def test_a_root_in_which_nothing_ended_has_nothing_to_clean_up(site: Site) -> None:
    site.use_script("cat > /dev/null", "sleep 600")
    site.write_config()
    site.start()
    site.write_task("live")
    site.wait_state("demo.live", "in_progress")
    assert gc(site) == []
    assert "0 would be removed" in site.cli("gc", "--dry-run").stdout
    shutil.rmtree(site.root.salvage)
    site.cli("gc")
    wait_for(lambda: site.daemons())
    assert not site.events("cleanup.failed", "supervisor.bug")


def test_without_a_trap_what_is_due_goes_and_nothing_else(planted: Site) -> None:
    """That the traps stop something: the same root, sound, and everything old enough."""
    before = things(planted)
    planted.config["cleanup"] = AT_ONCE
    planted.write_config()
    planted.start()
    wait_for(planted.daemons)
    clean_until(planted, lambda: not worktree(planted, "merged").exists(), "the worktree of the merged task")
    clean_until(planted, lambda: not worktree(planted, "stopped").exists(), "and that of the cancelled one")
    out = planted.root.mail_out(WS)
    clean_until(planted, lambda: not (out / "demo.merged").exists(), "the output")
    assert planted.record("demo.live").state == "in_progress"  # type: ignore[union-attr]
    planted.stop_supervisors()
    saved = planted.root.salvage / "demo.stopped"
    clean_until(planted, lambda: not saved.exists(), "a person cleans up without a supervisor, too")
    after = things(planted)
    removed = {path for kind, paths in before.items() if kind != "records" for path in paths - after[kind]}
    assert removed and not [path for path in removed if "live" in path or "foreign" in path]
    assert not planted.events("supervisor.bug", "cleanup.failed")
    outcome = "what is due goes; a running task's and a stranger's folders stay"
    reliability.record(
        "clean-up", SOUND, outcome, things_before=sum(map(len, before.values())), removed=len(removed)
    )
