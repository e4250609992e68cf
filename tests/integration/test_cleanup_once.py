"""The daemon's side of clean-up: it removes what it is told to, and nothing of which it is in doubt."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from agent_daemon.cleanup import Cleaner
from agent_daemon.parting import NotThereError, StillUsedError, is_touched, leave, refuse_if_used, size_bytes
from agent_daemon.places import attempt_places
from agent_daemon.protocol.codec import decode_framed, encode
from agent_daemon.protocol.files import make_folder, write_file
from agent_daemon.protocol.model import (
    Cleanup,
    CleanupDone,
    CleanupItem,
    CleanupReport,
    SupervisorIdentity,
    Tasking,
)
from agent_daemon.protocol.paths import Root
from agent_daemon.workplace import bundle_again, salvage
from agent_daemon.workplace import leave as leave_place
from tests.site import PATIENCE_SECONDS, git, make_remote
from tests.unit.conftest import NOW

WS, TASK = "backend-1", "demo.odd"
SUPERVISOR = SupervisorIdentity(id="r", epoch=1)
OUTPUT = CleanupItem(kind="output", task=TASK, attempt=1)
CLONE = CleanupItem(kind="clone", project="demo")


class Place:
    """A root with one workstation, a clone in it, and one released attempt's folders."""

    def __init__(self, folder: Path) -> None:
        self.root = Root(folder / "root")
        self.cleaner = Cleaner(self.root, WS)
        self.remote = make_remote(folder / "remote.git", {"a.txt": "a\n"})
        for made in (self.root.mail_in(WS), self.root.mail_out(WS), self.root.workspace(WS)):
            make_folder(made)
        self.clone = self.root.clone(WS, "demo")
        git("clone", "--quiet", str(self.remote), str(self.clone), cwd=folder)
        self.output = self.root.attempt_out(WS, TASK, 1)
        (self.output / "logs").mkdir(parents=True)
        (self.output / "logs/cli.log").write_text("x" * 100_000)
        self.report("released")

    def report(self, status: str, attempt: int = 1) -> None:
        entry = {"attempt": attempt, "status": status}
        whole = {"version": 1, "revision": 3, "tasks": {TASK: entry}, "end": 3}
        (self.output / "reporting.yaml").write_text(yaml.safe_dump(whole, sort_keys=False))

    def ask(self, *items: CleanupItem, revision: int = 1) -> tuple[CleanupDone, ...]:
        wanted = Cleanup(revision=revision, updated_at=NOW, supervisor=SUPERVISOR, items=items)
        make_folder(self.root.mail_in(WS) / "cleanup")
        write_file(self.root.mail_in(WS) / "cleanup/wanted.yaml", encode(wanted))
        self.cleaner.look()
        self.cleaner.wait(PATIENCE_SECONDS)
        data = (self.root.mail_out(WS) / "cleanup/done.yaml").read_bytes()
        answer = decode_framed(CleanupReport, data, file="done.yaml")
        assert answer.observed_revision == revision
        return answer.items


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_an_output_and_a_clone_go_and_are_told_with_their_size(place: Place) -> None:
    output, clone = place.ask(OUTPUT, CLONE)
    assert output.done and output.bytes >= 100_000 and clone.done and clone.bytes > 0
    assert not place.output.parent.exists() and not place.clone.exists()
    assert place.cleaner.clones() == ()
    again = place.ask(OUTPUT, CLONE, revision=2)
    assert [(item.done, item.bytes) for item in again] == [(True, 0), (True, 0)], "a repetition does no harm"


def test_the_homes_of_the_clis_stay(place: Place) -> None:
    """Logins and caches are the workstation's, not a task's."""
    login = place.root.workspace(WS) / ".homes/codex/.codex/auth.json"
    login.parent.mkdir(parents=True)
    login.write_text("{}")
    homes = CleanupItem(kind="clone", project=".homes")
    assert [item.done for item in place.ask(OUTPUT, CLONE, homes)] == [True, True, False]
    place.cleaner.begin()
    assert login.exists()


def told(place: Place, item: CleanupItem) -> str:
    """The reason why it is kept; and it is still there."""
    [answer] = place.ask(item, revision=time.monotonic_ns())
    assert not answer.done and answer.reason
    folder = place.output if item.kind == "output" else place.clone
    assert folder.exists() or folder.is_symlink()
    return answer.reason


@pytest.mark.parametrize("status", ["completed", "failed", "in_progress", "received"])
def test_an_output_that_is_not_released_stays(place: Place, status: str) -> None:
    place.report(status)
    assert f"is {status}, not released" in told(place, OUTPUT)


def test_an_output_that_nobody_can_vouch_for_stays(place: Place) -> None:
    place.report("released", attempt=2)
    assert "something else" in told(place, OUTPUT)
    (place.output / "reporting.yaml").write_text("version: 1\nrevision: 3\n")
    assert "E_UNFINISHED" in told(place, OUTPUT)
    (place.output / "reporting.yaml").unlink()
    assert "whose is it?" in told(place, OUTPUT)
    place.report("released")
    away = place.output.rename(place.output.with_name("elsewhere"))
    place.output.symlink_to(away)
    assert "is no folder" in told(place, OUTPUT)
    assert (away / "logs/cli.log").exists()


def test_what_is_asked_for_in_the_mail_stays(place: Place) -> None:
    folder = place.root.attempt_in(WS, TASK, 1)
    make_folder(folder)
    (folder / "tasking.yaml").write_text("version: 1\n")
    assert "still spoken of" in told(place, OUTPUT)
    for status in ("assigned", "released"):
        write_file(folder / "tasking.yaml", encode(tasking(place, status=status)))
        assert "still spoken of" in told(place, OUTPUT)


def tasking(place: Place, **changes: Any) -> Tasking:
    entry = {
        "id": TASK,
        "attempt": 1,
        "title": "Odd",
        "status": "released",
        "workspace_source": str(place.remote),
        "branch": "cloud-code/odd",
        "base_branch": "main",
        "base_commit": git("rev-parse", "main", cwd=place.remote),
    }
    worktree = str(place.root.worktree(WS, "demo", TASK))
    values = {"revision": 1, "updated_at": NOW, "supervisor": SUPERVISOR, "workspace": worktree}
    return Tasking.model_validate(values | {"tasks": [entry | changes]})


def add_worktree(place: Place) -> Path:
    worktree = place.root.worktree(WS, "demo", TASK)
    worktree.parent.mkdir(exist_ok=True)
    git("worktree", "add", "--quiet", "-b", "cloud-code/odd", str(worktree), cwd=place.clone)
    return worktree


def test_a_clone_with_a_worktree_stays_even_where_its_folder_is_not_mounted(place: Place) -> None:
    worktree = add_worktree(place)
    assert "is registered" in told(place, CLONE)
    worktree.parent.rename(place.clone.with_name("unmounted"))
    assert "is registered" in told(place, CLONE)


def test_a_foreign_folder_among_the_worktrees_keeps_the_clone(place: Place) -> None:
    (place.clone.with_name("demo.worktrees") / "mine").mkdir(parents=True)
    assert "may be a worktree of it" in told(place, CLONE)


def test_commits_that_are_nowhere_else_keep_the_clone(place: Place) -> None:
    git("commit", "--quiet", "--allow-empty", "-m", "Mine", cwd=place.clone)
    assert "nowhere else" in told(place, CLONE)
    git("push", "--quiet", "origin", "main", cwd=place.clone)
    (place.clone / "a.txt").write_text("changed")
    git("stash", "--quiet", cwd=place.clone)
    assert "nowhere else" in told(place, CLONE)


@pytest.fixture
def sleeper() -> Iterator[list[subprocess.Popen[bytes]]]:
    started: list[subprocess.Popen[bytes]] = []
    yield started
    for process in started:
        process.kill()
        process.wait()


def sleep_in(folder: Path, started: list[subprocess.Popen[bytes]]) -> None:
    started.append(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], cwd=folder))


def test_a_living_process_keeps_the_clone(place: Place, sleeper: list[subprocess.Popen[bytes]]) -> None:
    (place.clone / "deep").mkdir()
    sleep_in(place.clone / "deep", sleeper)
    assert f"process {sleeper[0].pid}" in told(place, CLONE)


@pytest.mark.parametrize(
    "item",
    [
        CleanupItem(kind="output", task="../..", attempt=1),
        CleanupItem(kind="output", task=TASK),
        CleanupItem(kind="clone", project="isolated"),
        CleanupItem(kind="clone", project="../.."),
    ],
)
def test_what_is_no_name_removes_nothing(place: Place, item: CleanupItem) -> None:
    before = size_bytes(place.root.path)
    assert "not said what it is" in place.ask(item)[0].reason
    assert size_bytes(place.root.mail_out(WS)) and size_bytes(place.root.path) >= before


def test_a_removal_that_was_cut_short_is_finished(place: Place) -> None:
    half = place.clone.with_name(".old.removed-12345678")
    place.clone.rename(half)
    (place.output.parent / ".7.removed-12345678").mkdir()
    place.ask()
    assert not half.exists() and not (place.output.parent / ".7.removed-12345678").exists()
    assert place.output.exists()


# --- before a worktree goes ---------------------------------------------------------------------------------


def test_what_is_touched_after_the_end_is_bundled_again(place: Place) -> None:
    asked = tasking(place)
    places = attempt_places(place.root, WS, asked)
    worktree = add_worktree(place)
    (worktree / "agent.txt").write_text("of the agent")
    (worktree / ".cloud-code").mkdir()
    first = salvage(asked.task, places, begun=True)
    assert first is not None and leave_place(asked.task, places)["worktree_bytes"] > 0
    assert bundle_again(asked.task, places, first.head) is None
    (worktree / ".cloud-code/x").write_text("ours")
    assert not is_touched(worktree), "our own links do not count"
    (worktree / ".gitignore").write_text("*.tmp\n")
    (worktree / "person.txt").write_text("of a person")
    more = bundle_again(asked.task, places, first.head)
    assert more is not None and more.bundle == "salvage-again.bundle"
    assert git("bundle", "list-heads", str(places.outbox / more.bundle), cwd=place.clone).startswith(more.head)
    git("fetch", "--quiet", str(places.outbox / more.bundle), f"{more.head}:refs/look", cwd=place.clone)
    assert git("show", f"{more.head}:person.txt", cwd=place.clone) == "of a person"
    assert bundle_again(asked.task, places, more.head) is None, "and once only"
    (worktree / "built.tmp").write_text("ignored")
    assert is_touched(worktree) and bundle_again(asked.task, places, more.head) is None, (
        "what is ignored is not saved"
    )


def test_a_worktree_that_somebody_works_in_waits(place: Place, sleeper: list[subprocess.Popen[bytes]]) -> None:
    worktree = add_worktree(place)
    leave(worktree)
    refuse_if_used(worktree)
    sleep_in(worktree, sleeper)
    with pytest.raises(StillUsedError, match="works in"):
        bundle_again(tasking(place).task, attempt_places(place.root, WS, tasking(place)), None)


def test_a_workspace_that_is_not_mounted_is_not_released(place: Place) -> None:
    add_worktree(place)
    place.root.workspace(WS).rename(place.root.path / "unmounted")
    place.root.workspace(WS).mkdir()
    with pytest.raises(NotThereError, match="not mounted"):
        bundle_again(tasking(place).task, attempt_places(place.root, WS, tasking(place)), None)


def test_times_that_are_set_back_by_hand_do_not_hide_a_change(place: Place) -> None:
    worktree = add_worktree(place)
    leave(worktree)
    (worktree / "a.txt").write_text("changed")
    os.utime(worktree / "a.txt", (0, 0))
    assert is_touched(worktree)
