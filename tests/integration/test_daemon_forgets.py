"""What the daemon keeps in mind: the attempts that something may still be asked of, and no others."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from agent_daemon.daemon import Daemon
from agent_daemon.execution import ATTEMPT_MARKER
from agent_daemon.processes import identify
from agent_daemon.protocol.codec import encode
from agent_daemon.protocol.files import make_folder, write_file
from agent_daemon.protocol.model import (
    AgentConfig,
    CliConfig,
    ReportStatus,
    SealedCredential,
    SupervisorIdentity,
    Tasking,
    TaskingStatus,
)
from agent_daemon.protocol.paths import Root
from tests.site import Site, wait_for
from tests.unit.conftest import NOW, make_tasking


class Place:
    """A root in which nobody but a daemon works; the mail is written by hand."""

    def __init__(self, folder: Path) -> None:
        self.root = Root(folder)
        self.inbox, self.outbox = self.root.mail_in("backend-1"), self.root.mail_out("backend-1")
        make_folder(self.inbox)
        make_folder(self.outbox)
        make_folder(self.root.worktree("backend-1", "demo", "demo.1").parent)
        self.daemon = self.new_daemon()

    def new_daemon(self) -> Daemon:
        return Daemon(root=self.root, workstation="backend-1", agent_type="backend")

    def ask(self, status: TaskingStatus, number: int = 1, revision: int = 1) -> Path:
        folder = self.root.attempt_in("backend-1", f"demo.{number}", 1)
        make_folder(folder)
        task = make_tasking(
            id=f"demo.{number}",
            status=status,
            workspace_source=str(self.root.mirror("default", "demo")),
            branch=f"cloud-code/{number}-fix-it",
        )
        config = AgentConfig(revision=1, cli=CliConfig(name="scripted", adapter="command", argv=("true",)))
        tasking = Tasking(
            revision=revision,
            updated_at=NOW,
            supervisor=SupervisorIdentity(id="test", epoch=1),
            workspace=str(self.root.worktree("backend-1", "demo", f"demo.{number}")),
            tasks=(task,),
        )
        write_file(folder / "config.yaml", encode(config))
        write_file(folder / "tasking.yaml", encode(tasking))
        return folder

    def report(self, number: int = 1) -> Path:
        return self.root.attempt_out("backend-1", f"demo.{number}", 1) / "reporting.yaml"

    def status(self, number: int = 1) -> str:
        report = self.report(number)
        return (
            str(yaml.safe_load(report.read_text())["tasks"][f"demo.{number}"]["status"]) if report.exists() else ""
        )

    def step(self) -> bool:
        self.daemon.wake()
        self.daemon._receive(0.1)
        self.daemon.step()
        return False


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_what_is_taken_back_at_the_end_is_not_said_over_an_attempts_last_word(place: Place) -> None:
    place.daemon.held = lambda: True
    place.ask(TaskingStatus.ASSIGNED)
    place.step()
    given = place.daemon._keyring.of("demo.1", 1)
    given.take(SealedCredential(task="demo.1", attempt=1, id="cred-001", env="A", value="hunter2-hunter2"))
    place.daemon._entries["demo.1", 1].say("It is done", status=ReportStatus.COMPLETED)
    place.ask(TaskingStatus.CANCELLED, revision=2)
    place.step()
    assert not given.has("cred-001")
    assert "taken back" not in place.report().read_text() and "It is done" in place.report().read_text()
    place.daemon._keyring.close()


def test_what_is_released_and_cleared_is_forgotten_and_its_report_stays_as_it_is(place: Place) -> None:
    folders = [place.ask(TaskingStatus.RELEASED, number) for number in range(1, 6)]
    wait_for(lambda: place.step() or all(place.status(n) == "released" for n in range(1, 6)))
    assert len(place.daemon.known) == 5, "until the supervisor has seen it"
    reports = [place.report(n).read_bytes() for n in range(1, 6)]

    for folder in folders[:4]:
        shutil.rmtree(folder)
    (folders[4] / "tasking.yaml").rename(
        folders[4] / "tasking.yaml.rejected"
    )  # a folder that a person's edit keeps
    place.step()
    assert place.daemon.known == []
    assert [place.report(n).read_bytes() for n in range(1, 6)] == reports
    place.step()
    assert place.daemon.known == [] and place.inbox.is_dir()


def test_an_empty_folder_of_what_is_forgotten_goes(place: Place) -> None:
    folder = place.ask(TaskingStatus.RELEASED)
    wait_for(lambda: place.step() or place.status() == "released")
    place.report().unlink()
    shutil.rmtree(folder.parent)
    place.step()
    assert not place.report().parent.parent.exists() and place.outbox.is_dir()


def test_what_is_not_released_stays_on_disk_and_is_taken_up_again(place: Place) -> None:
    folder = place.ask(TaskingStatus.PAUSED)
    wait_for(lambda: place.step() or place.status() == "paused")
    report = place.report().read_bytes()
    aside = folder.parent.with_name(".aside")
    folder.parent.rename(aside)
    place.step()
    place.step()
    assert place.daemon.known == [] and place.report().read_bytes() == report

    aside.rename(folder.parent)
    place.step()
    assert place.daemon.known == [("demo.1", 1)] and place.status() == "paused"
    place.ask(TaskingStatus.CANCELLED, revision=2)
    wait_for(lambda: place.step() or place.status() == "cancelled")


def test_a_mailbox_that_is_not_there_is_no_order(place: Place) -> None:
    place.ask(TaskingStatus.PAUSED)
    wait_for(lambda: place.step() or place.status() == "paused")
    aside = place.inbox.with_name("in.aside")
    place.inbox.rename(aside)
    place.step()
    place.step()
    assert place.daemon.known == [("demo.1", 1)]
    aside.rename(place.inbox)
    place.step()
    assert place.daemon.known == [("demo.1", 1)]


def test_a_running_attempt_whose_mail_vanishes_is_stopped_and_its_work_kept(site: Site) -> None:
    site.use_script("cat > /dev/null", "echo mine > mine.txt", f"echo $$ > {site.folder}/pid", "sleep 600")
    site.write_config()
    site.start()
    site.write_task("long")
    wait_for((site.folder / "pid").exists)
    cli = int(wait_for((site.folder / "pid").read_text))
    site.stop_supervisors()
    shutil.rmtree(site.root.attempt_in("backend-1", "demo.long", 1))
    folder = site.root.attempt_out("backend-1", "demo.long", 1)
    wait_for(lambda: "status: cancelled" in (folder / "reporting.yaml").read_text())
    assert identify(cli) is None and (folder / "salvage.bundle").exists()
    assert (site.root.worktree("backend-1", "demo", "demo.long") / "mine.txt").exists()


@pytest.fixture
def processes() -> Iterator[list[subprocess.Popen[bytes]]]:
    started: list[subprocess.Popen[bytes]] = []
    yield started
    for process in started:
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=30)


def test_a_daemon_begins_with_nothing_of_its_predecessor_running(
    place: Place, tmp_path: Path, processes: list[subprocess.Popen[bytes]]
) -> None:
    """Of an attempt, too, that nothing in the mail speaks of any more."""

    def start(marker: str, *argv: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(argv, env={**os.environ, ATTEMPT_MARKER: marker}, start_new_session=True)
        processes.append(process)
        return process

    left = start(f"{place.outbox}/demo.gone/1", "sleep", "600")
    other = start(f"{place.root.mail_out('backend-10')}/demo.1/1", "sleep", "600")
    arguments = ("--workstation", "backend-1", "--root", str(place.root.path), "--type", "backend")
    start("", sys.executable, "-m", "agent_daemon", *arguments)
    wait_for(lambda: left.poll() is not None)
    wait_for((place.outbox / "workstation.yaml").exists)
    assert other.poll() is None
