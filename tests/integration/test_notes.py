"""What an agent tells by `agent-daemon note …`: the real program writes, the daemon's own reader takes."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent_daemon.attempt import Attempt
from agent_daemon.hiding import Mask
from agent_daemon.notes import take_notes
from agent_daemon.noting import ATTEMPT_VARIABLE, lay_out
from agent_daemon.places import AttemptPlaces
from agent_daemon.protocol.model import (
    AgentConfig,
    BlockedReason,
    CliConfig,
    CredentialRequest,
    Criterion,
    ReportStatus,
    TaskReport,
    WaitReason,
)
from agent_daemon.protocol.notes import MAX_NOTE_CHARACTERS, MAX_NOTES
from agent_daemon.reporting import AttemptReport
from tests.unit.conftest import make_tasking

TASK = make_tasking()
CRITERIA = (Criterion(criterion="It works"), Criterion(criterion="It is tested"))


class Place:
    """An attempt's folders, its report on disk, and what was told of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.outbox = folder / "out" / "acme.1" / "1"
        self.notes = self.outbox / "notes"
        self.notes.mkdir(parents=True)
        self.worktree = folder / "worktree"
        (self.worktree / ".cloud-code").mkdir(parents=True)
        (self.worktree / ".cloud-code" / "notes").symlink_to(self.notes)
        self.said: list[str] = []
        self.report = self._report()
        self.report.update(acceptance_criteria=CRITERIA)
        self.report.write(time.monotonic)
        self.attempt = self._attempt()

    def _report(self) -> AttemptReport:
        return AttemptReport(
            self.outbox, self.folder / "bell", task_id="acme.1", attempt=1, agent_id="ws", agent_type="backend"
        )

    def _attempt(self) -> Attempt:
        return Attempt(
            task=TASK,
            config=AgentConfig(revision=1, cli=CliConfig(name="x", adapter="command")),
            places=AttemptPlaces(
                inbox=self.folder / "in",
                outbox=self.outbox,
                clone=self.folder / "clone",
                worktree=self.worktree,
                homes=self.folder / "homes",
            ),
            agent_type="backend",
            known=self.report.value,
            tell=self._tell,
            latest=lambda: TASK,
        )

    def _tell(self, fields: dict[str, Any], message: str | None) -> None:
        self.report.update(**fields)
        if message:
            self.said.append(message)
            self.report.progress(message)
        self.report.write(time.monotonic)

    def restart(self) -> None:
        """Another daemon goes on from the files."""
        self.report = self._report()
        self.attempt = self._attempt()

    def take(self) -> TaskReport:
        take_notes(self.attempt, last=True)
        return self.report.value

    def call(self, *arguments: str, cwd: Path | None = None, **options: Any) -> subprocess.CompletedProcess[str]:
        """As an agent does it: by the name alone, found on the PATH, in a bare environment."""
        commands = lay_out(self.folder / "homes" / ".bin")
        environment = {"PATH": f"{commands}:/usr/bin:/bin", "HOME": str(self.folder), "PYTHONPATH": "/nowhere"}
        return subprocess.run(
            ["/usr/bin/env", "agent-daemon", *arguments],
            cwd=cwd or self.worktree,
            env=environment | options.pop("environment", {}),
            text=True,
            capture_output=True,
            check=False,
            **options,
        )


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def note(kind: str = "note", text: str = "hello", **fields: object) -> str:
    lines = [f"kind: {kind}", f"text: {text}", *(f"{name}: {value}" for name, value in fields.items())]
    return "\n".join(["version: 1", "revision: 1", *lines, "end: 1"]) + "\n"


def test_every_command_reaches_the_report(place: Place) -> None:
    below = place.worktree / "src" / "deep"
    below.mkdir(parents=True)
    calls = [
        ("note", "Looking", "at", "it"),
        ("decision", "Cookies, because sessions are gone"),
        ("criterion", "1", "done", "test_login passes"),
        ("criterion", "2", "left"),
        ("credential", "npm_token", "--scope", "@acme:registry", "--reason", "private packages", "--wait", "1"),
        ("blocked", "credential", "The registry wants one"),
    ]
    for call in calls:
        done = place.call(*call, cwd=below)
        assert (done.returncode, done.stderr) == (4 if call[0] == "credential" else 0, ""), call
    report = place.take()
    assert place.said == [
        "Looking at it",
        "Decided: Cookies, because sessions are gone",
        "Criterion 1 is done: test_login passes",
        "Criterion 2 is left",
        "Asks for a credential (cred-001): npm_token, read for @acme:registry: private packages",
        "Cannot go on (credential): The registry wants one",
    ]
    assert report.decisions == ("Cookies, because sessions are gone",)
    assert report.acceptance_criteria == (
        Criterion(criterion="It works", status="done", evidence="test_login passes"),
        Criterion(criterion="It is tested"),
    )
    wanted = CredentialRequest(
        id="cred-001", type="npm_token", access="read", scope="@acme:registry", reason="private packages"
    )
    assert report.credential_requests == (wanted,)
    assert report.blocked_reason == BlockedReason(reason=WaitReason.CREDENTIAL, ref="cred-001")
    assert report.question == "The registry wants one" and report.status is ReportStatus.RECEIVED


def test_another_cli_or_specialist_is_asked_for(place: Place) -> None:
    place.call("handoff", "codex", "its sandbox has the database")
    report = place.take()
    assert report.recommend_handoff == "codex"
    assert report.blocked_reason == BlockedReason(reason=WaitReason.HANDOFF, ref="codex")
    assert report.question == "Asks that codex takes over: its sandbox has the database"
    place.call("specialist", "database", "a migration")
    report = place.take()
    assert report.recommend_handoff is None
    assert report.blocked_reason == BlockedReason(reason=WaitReason.HUMAN, ref="database")
    assert report.question == "Asks for the database specialist: a migration"


def test_each_note_is_taken_once_also_by_a_daemon_that_starts_again(place: Place) -> None:
    place.call("decision", "one")
    place.take()
    place.call("note", "two")
    place.restart()
    place.take()
    place.restart()
    assert place.take().decisions == ("one",)
    assert place.said == ["Decided: one", "two"]


def test_a_note_that_was_not_reported_before_a_crash_is_taken_again(place: Place) -> None:
    place.call("note", "kept")
    place.attempt.tell = lambda fields, message: None  # the daemon dies before it writes its report
    place.take()
    place.restart()
    place.take()
    assert place.said == ["kept"]


def test_the_attempt_of_the_environment_comes_before_the_folder(place: Place) -> None:
    place.call("note", "here", cwd=place.folder, environment={ATTEMPT_VARIABLE: str(place.outbox)})
    place.take()
    assert place.said == ["here"]


def test_keys_are_hidden_in_what_is_told(place: Place) -> None:
    place.attempt.mask = Mask(["sk-0123456789"])
    place.call("decision", "the key is sk-0123456789!")
    (place.notes / "bad.yaml").write_text(note("sk-0123456789"))
    assert place.take().decisions == ("the key is [hidden]!",)
    assert "sk-0123456789" not in (place.outbox / "reporting.yaml").read_text()


def test_mistakes_are_answered_in_one_sentence(place: Place) -> None:
    outside = place.call("note", "x", cwd=place.folder)
    assert outside.returncode == 1 and "this is not the worktree of a task under way" in outside.stderr
    assert "there is no criterion 3: the task has 2" in place.call("criterion", "3", "done").stderr
    assert "'later' is not one of 'question'" in place.call("blocked", "later", "x").stderr
    assert "needs `text`" in place.call("note", " ").stderr
    assert "has more than 2000 characters" in place.call("note", "-", input="x" * 3000).stderr
    assert place.call("note", "-", input="x" * MAX_NOTE_CHARACTERS).returncode == 0
    assert place.call("daemon").returncode == 2
    assert len(list(place.notes.iterdir())) == 1
    scoped = place.call("credential", "npm_token", "--scope", "s" * 201, "--reason", "x")
    assert scoped.returncode == 2 and "a scope has at most 200 characters" in scoped.stderr


def test_a_note_written_by_hand_is_taken_once_it_is_whole(place: Place) -> None:
    (place.notes / "a.yaml").write_text(note()[:-4])
    take_notes(place.attempt)
    assert place.said == []
    (place.notes / "a.yaml").write_text(note())
    take_notes(place.attempt)
    assert place.said == ["hello"]


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (lambda path: path.symlink_to("/etc/passwd"), "E_SYMLINK"),
        (os.mkfifo, "E_NOT_REGULAR"),
        (lambda path: path.mkdir(), "E_NOT_REGULAR"),
        (lambda path: path.write_text("x" * 20_000), "E_TOO_BIG"),
        (lambda path: path.write_text("a: &a [*a]\n"), "E_"),
        (lambda path: path.write_bytes(b"\xff\x00"), "E_"),
        (lambda path: path.write_text(note()[:-8]), "E_UNFINISHED"),
        (lambda path: path.write_text(note("shout")), "E_SCHEMA"),
        (
            lambda path: path.write_text(note("criterion", number=9, status="done")),
            "criterion 9, and the task has 2",
        ),
        (lambda path: path.write_text(note("credential", type="'a b'")), "E_SCHEMA"),
        (lambda path: path.write_text(note(text=f"'{'x' * 2001}'")), "E_SCHEMA"),
    ],
)
def test_junk_is_told_once_and_breaks_nothing(place: Place, make: Callable[[Path], None], code: str) -> None:
    make(place.notes / "bad.yaml")
    (place.notes / "good.yaml").write_text(note())
    place.take()
    place.restart()
    place.take()
    assert len(place.said) == 2 and place.said[0].startswith("A note is not taken: ") and code in place.said[0]
    assert place.said[1] == "hello"


def test_odd_names_are_told_once_and_never_repeated(place: Place) -> None:
    for name in (b"a\nb.yaml", b"\xff.yaml", b"x.txt", b".hidden.yaml"):
        (Path(os.fsdecode(os.path.join(os.fsencode(place.notes), name)))).write_text(note())
    place.take()
    place.restart()
    place.take()
    assert place.said == ["A note is not taken: a file in notes/ has a name that is not allowed"]


def test_a_folder_bent_elsewhere_is_told_and_not_read(place: Place) -> None:
    place.notes.rename(place.folder / "elsewhere")
    (place.folder / "elsewhere" / "a.yaml").write_text(note())
    place.notes.symlink_to(place.folder / "elsewhere")
    place.take()
    place.take()
    assert place.said == ["Notes are not read: notes is no folder any more"]


def test_they_are_bounded_in_number_and_in_bytes(place: Place) -> None:
    for number in range(MAX_NOTES + 50):
        (place.notes / f"{number:04d}.yaml").write_text(note("decision", "x" * 1000))
    report = place.take()
    assert len(report.decisions) == 65 and len(report.notes_taken) == MAX_NOTES + 1
    assert place.said[-1] == f"More than {MAX_NOTES} notes: the rest is not read"
    assert (place.outbox / "reporting.yaml").stat().st_size < 256 * 1024
    assert f"there are {MAX_NOTES} notes already" in place.call("note", "x").stderr
    place.restart()
    said = len(place.said)
    place.take()
    assert len(place.said) == said


def test_nothing_of_an_earlier_agent_lies_beside_the_program(place: Place) -> None:
    folder = place.folder / "homes" / ".bin"
    assert lay_out(folder) == folder
    before = (folder / "agent-daemon").stat().st_ino
    assert lay_out(folder) == folder and (folder / "agent-daemon").stat().st_ino == before
    (folder / "git").write_text("#!/bin/sh\n")
    (folder / "agent-daemon").write_text("#!/bin/sh\necho stolen\n")
    lay_out(folder)
    assert os.listdir(folder) == ["agent-daemon"] and sys.executable in (folder / "agent-daemon").read_text()
    folder.rename(place.folder / "moved")
    folder.symlink_to(place.folder / "moved")
    lay_out(folder)
    assert not folder.is_symlink() and place.call("note", "still there").returncode == 0
