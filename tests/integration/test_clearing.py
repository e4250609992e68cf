"""`in/` holds what is asked, and nothing of what has ended."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent_daemon.protocol.codec import encode
from agent_daemon.protocol.files import write_file
from agent_daemon.protocol.model import Reporting, ReportStatus, TaskReport
from supervisor.core.assign import Prepared, assign
from supervisor.core.record import Mail as MailState
from supervisor.core.schedule import Assignment
from supervisor.core.states import State
from supervisor.mail import digest
from tests.desk import Desk
from tests.site import Site, git, wait_for
from tests.unit.conftest import NOW, make_attempt

SAVED = make_attempt(ended_at=NOW, verdict="completed", saved=True, mail=MailState(digest=digest(b"")))
RELEASED = SAVED.evolve(released=True)
WRITTEN = ("tasking.yaml", "config.yaml", "description.md", "feedback.yaml", "start.bundle", "earlier-2.bundle")
OURS = (*WRITTEN, f".{'0' * 16}.new", ".start.bundle.new", ".earlier-2.bundle.new")


@pytest.fixture
def desk(site: Site) -> Iterator[Desk]:
    made = Desk(site)
    yield made
    made.close()


def fill(desk: Desk, stem: str, attempt: int = 1, *more: str, station: str = "backend-1") -> Path:
    folder = desk.site.root.attempt_in(station, f"demo.{stem}", attempt)
    folder.mkdir(parents=True)
    for name in (*OURS, *more):
        (folder / name).write_text("")
    return folder


def report(desk: Desk, stem: str, status: ReportStatus) -> None:
    folder = desk.site.root.attempt_out("backend-1", f"demo.{stem}", 1)
    folder.mkdir(parents=True, exist_ok=True)
    reporting = Reporting(revision=1, tasks={f"demo.{stem}": TaskReport(attempt=1, status=status)})
    write_file(folder / "reporting.yaml", encode(reporting, end=True))


def begin(desk: Desk, *attempts: Any, state: State = State.COMPLETED, **fields: Any) -> Path:
    desk.keep("login", state=state, attempt=len(attempts), attempts=attempts, **fields)
    desk.start()
    folder = desk.site.root.attempt_in("backend-1", "demo.login", 1)
    wait_for(lambda: desk.look() or (folder / "tasking.yaml").exists())
    return folder


def test_a_released_attempt_leaves_nothing_in_the_mail_and_a_restart_brings_nothing_back(desk: Desk) -> None:
    folder = begin(desk, SAVED)
    report(desk, "login", ReportStatus.RELEASED)
    wait_for(lambda: desk.look() or not folder.parent.exists())
    assert desk.site.store.is_archived("demo.login") and folder.parents[1].is_dir()
    report(desk, "login", ReportStatus.RELEASED)  # the daemon says it once more
    desk.restart()
    for _ in range(10):
        desk.look()
    assert not folder.parent.exists() and not desk.site.events("report.refused", "supervisor.bug")


def test_a_released_attempt_of_a_live_task_goes_and_the_next_one_stays(desk: Desk) -> None:
    folder = begin(desk, SAVED, make_attempt(number=2), state=State.IN_PROGRESS)
    report(desk, "login", ReportStatus.RELEASED)
    wait_for(lambda: desk.look() or not folder.exists())
    assert (folder.parent / "2/tasking.yaml").exists()
    desk.restart()
    desk.site.cli("task", "list")
    for _ in range(10):
        desk.look()
    assert not folder.exists() and (folder.parent / "2/tasking.yaml").exists()


def test_what_an_earlier_run_left_is_cleared_and_what_is_not_over_stays(desk: Desk) -> None:
    desk.keep("ended", archived=True, state=State.COMPLETED, attempt=1, attempts=(RELEASED,))
    desk.keep("abandoned", archived=True, state=State.CANCELLED, attempts=(SAVED.evolve(abandoned=True),))
    desk.keep("live", state=State.REVIEW, attempt=1, attempts=(SAVED,))
    gone = [fill(desk, "ended"), fill(desk, "ended", 2), fill(desk, "abandoned")]
    (gone[1] / "tasking.yaml").unlink()  # made ready, and never given out
    kept = [fill(desk, "live"), fill(desk, "unknown"), fill(desk, "ended", 1, station="other-1")]
    desk.start()
    wait_for(lambda: desk.look() or not any(folder.exists() for folder in gone))
    for _ in range(5):
        desk.look()
    assert all(len(list(folder.iterdir())) >= len(OURS) for folder in kept)


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize("given_to", ["backend-1", "backend-2"])
def test_what_was_laid_ready_for_a_workstation_goes_when_another_one_gets_the_attempt(
    desk: Desk, given_to: str, restarted: bool
) -> None:
    site = desk.site
    site.config["workstations"]["backend"]["count"] = 2
    clone = site.folder / "clone"
    git("clone", "--quiet", str(site.remote), str(clone), cwd=site.folder)
    git("commit", "--quiet", "--allow-empty", "--message=Earlier work", cwd=clone)
    git("push", "--quiet", "origin", "HEAD:cloud-code/login", cwd=clone)
    desk.keep("login", state=State.PENDING, remote_head=git("rev-parse", "HEAD", cwd=clone))
    supervisor = desk.start()
    folders = {name: site.root.attempt_in(name, "demo.login", 1) for name in ("backend-1", "backend-2")}
    assignment = Assignment(task_id="demo.login", workstation="backend-1", cli="scripted")
    supervisor.work.prepare(assignment, supervisor.ledger)
    wait_for(lambda: desk.look() or not supervisor.work.preparing("demo.login"))  # it has stopped meanwhile
    assert (folders["backend-1"] / "start.bundle").exists()
    if restarted:
        supervisor = desk.restart()
    for _ in range(3):
        desk.look()
    task = supervisor.ledger.tasks["demo.login"]
    prepared = Prepared(base_branch="main", base_commit=git("rev-parse", "main", cwd=site.remote))
    supervisor.ledger.apply(assign(task, prepared, workstation=given_to, cli="scripted", model=None, now=NOW))
    for _ in range(3):
        desk.look()
    assert [name for name, folder in folders.items() if folder.exists()] == [given_to]


def test_what_a_person_left_there_stays(desk: Desk) -> None:
    desk.keep("ended", archived=True, state=State.COMPLETED, attempt=1, attempts=(RELEASED,))
    folder = fill(desk, "ended", 1, "tasking.yaml.rejected", "notes.txt")
    (folder / "tasking.yaml").write_text("a person's words")
    desk.start()
    left = {"tasking.yaml.rejected", "notes.txt"}
    wait_for(lambda: desk.look() or {path.name for path in folder.iterdir()} == left)
    assert "a person's words" in (folder / "tasking.yaml.rejected").read_text()


def test_no_link_is_followed(desk: Desk) -> None:
    desk.keep("ended", archived=True, state=State.COMPLETED, attempt=1, attempts=(RELEASED,))
    desk.keep("other", archived=True, state=State.COMPLETED, attempt=1, attempts=(RELEASED,))
    outside = desk.site.folder / "outside"
    (outside / "1").mkdir(parents=True)
    (outside / "1/config.yaml").write_text("precious")
    (outside / "file").write_text("precious")
    folder = desk.site.root.attempt_in("backend-1", "demo.ended", 1)
    folder.parent.parent.mkdir(parents=True)
    folder.parent.symlink_to(outside)
    other = fill(desk, "other")
    os.unlink(other / "config.yaml")
    (other / "config.yaml").symlink_to(outside / "file")
    desk.start()
    wait_for(lambda: desk.look() or not other.exists())
    assert (outside / "1/config.yaml").read_text() == (outside / "file").read_text() == "precious"


def test_an_abandoned_attempt_is_told_nothing_more_when_its_task_is_run_again(desk: Desk) -> None:
    lost = SAVED.evolve(workstation="gone-1", abandoned=True, verdict="workstation lost")
    desk.keep("login", state=State.CANCELLED, attempt=1, attempts=(lost,))
    supervisor = desk.start()
    folder = desk.site.root.attempt_in("gone-1", "demo.login", 1)
    wait_for(lambda: desk.look() or (desk.site.store.is_archived("demo.login") and not folder.exists()))
    desk.close()
    desk.site.cli("task", "retry", "login")
    supervisor = desk.restart()
    task = desk.see("demo.login")
    assert task.rerun == 2
    desk.site.root.tasks.joinpath("login.yaml").write_text("title: Another title\n")
    wait_for(lambda: desk.look() or supervisor.ledger.tasks["demo.login"].title == "Another title")
    for _ in range(20):
        desk.look()
    assert not folder.exists() and not supervisor.ledger.boxes.get("gone-1")


def test_the_whole_way_ends_with_an_empty_mail(site: Site) -> None:
    site.use_script("cat > /dev/null", "sed -i 's/a - b/a + b/' calc.py")
    site.write_config()
    site.start()
    site.write_task("fix-add")
    site.wait_state("demo.fix-add", "review")
    site.cli("task", "cancel", "fix-add")
    inbox = site.root.mail_in("backend-1")
    wait_for(lambda: site.store.is_archived("demo.fix-add") and [p.name for p in inbox.iterdir()] == ["bell"])
    assert (
        "status: released"
        in (site.root.attempt_out("backend-1", "demo.fix-add", 1) / "reporting.yaml").read_text()
    )
    (before,) = site.daemons()
    site.stop_supervisors()
    site.start()
    site.write_task("again")
    site.wait_state("demo.again", "review")
    assert site.daemons() == [before] and not site.events("workstation.died")
    rows = json.loads(site.cli("workstation", "list", "--json").stdout)
    assert [row["state"] for row in rows] == ["idle"]
    assert sorted(p.name for p in inbox.iterdir()) == ["bell", "demo.again"]
