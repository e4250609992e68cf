"""What a daemon holds for an attempt: only its own key opens it, in memory only, and no longer than it may."""

import os
import time
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyrage
import pytest

from agent_daemon import credentials
from agent_daemon.attempt import wait_for_given
from agent_daemon.credentials import VARIABLE, Keyring
from agent_daemon.execution import StopRequest
from agent_daemon.hiding import Mask
from agent_daemon.own_log import OwnLog
from agent_daemon.protocol.codec import decode_framed
from agent_daemon.protocol.model import (
    Credential,
    External,
    ReportError,
    Reporting,
    ReportStatus,
    SealedCredential,
    TaskingTask,
)
from agent_daemon.reporting import AttemptReport
from tests.unit.conftest import make_tasking

VALUE = "hunter2-of-the-registry"


def tasking(keyring: Keyring, **changes: object) -> TaskingTask:
    told = {"id": "cred-001", "type": "npm_token", "status": "injected", "file": "cred-001.age"}
    credential = Credential.model_validate(told | {"recipient": keyring.recipient} | changes)
    return make_tasking(id="demo.a", credentials=(credential,))


def seal(inbox: Path, recipient: str, **changes: object) -> None:
    told = {"task": "demo.a", "attempt": 1, "id": "cred-001", "env": "NPM_TOKEN", "value": VALUE}
    plaintext = SealedCredential.model_validate(told | changes).model_dump_json().encode()
    (inbox / "credentials").mkdir(parents=True, exist_ok=True)
    sealed = pyrage.encrypt(plaintext, [pyrage.x25519.Recipient.from_str(recipient)])
    (inbox / "credentials" / "cred-001.age").write_bytes(sealed)


@pytest.fixture
def keyring(tmp_path: Path) -> Keyring:
    return Keyring(tmp_path / "mail")


def test_it_is_there_for_programs_and_hidden_in_what_they_write(keyring: Keyring, tmp_path: Path) -> None:
    given, stream = keyring.of("demo.a", 1), None
    mask = given.hidden_by(Mask(()))
    stream = mask.stream()
    assert given.environment() == {VARIABLE: str(given.folder)}
    seal(tmp_path, keyring.recipient)
    (said,) = keyring.take(tmp_path, tasking(keyring))
    assert "npm_token" in said and VALUE not in said + repr(given) + repr(keyring)
    assert given.environment()["NPM_TOKEN"] == VALUE and given.folder is not None
    assert (given.folder / "NPM_TOKEN").read_text() == VALUE
    assert VALUE.encode() not in stream.feed(f"a {VALUE}\n".encode()) + stream.finish()
    assert keyring.take(tmp_path, tasking(keyring)) == []
    assert keyring.take(tmp_path, tasking(keyring, status="revoked")) == ["cred-001 is taken back"]
    assert given.environment() == {VARIABLE: str(given.folder)} and not (given.folder / "NPM_TOKEN").exists()
    keyring.close()


def test_what_comes_as_a_file_is_whole_and_its_variable_names_it(keyring: Keyring, tmp_path: Path) -> None:
    key = "-----BEGIN KEY-----\nabc\n-----END KEY-----"
    seal(tmp_path, keyring.recipient, env="SSH_KEY", deliver="file", value=key)
    keyring.take(tmp_path, tasking(keyring))
    given = keyring.of("demo.a", 1)
    place = Path(given.environment()["SSH_KEY"])
    assert place.read_text() == key + "\n" and place.stat().st_mode & 0o777 == 0o600
    keyring.close()


def test_another_value_takes_the_place_of_the_first(keyring: Keyring, tmp_path: Path) -> None:
    for value, delivery in ((VALUE, 1), ("another-" + VALUE, 2)):
        seal(tmp_path, keyring.recipient, value=value)
        (said,) = keyring.take(tmp_path, tasking(keyring, delivery=delivery))
        assert keyring.of("demo.a", 1).environment()["NPM_TOKEN"] == value and value not in said
    assert "another value" in said
    keyring.close()


@pytest.mark.parametrize("instead", ["folder", "link"])
def test_what_an_agent_put_in_its_place_is_removed_and_nothing_behind_it(
    keyring: Keyring, tmp_path: Path, instead: str
) -> None:
    seal(tmp_path, keyring.recipient)
    keyring.take(tmp_path, tasking(keyring))
    folder, precious = keyring.of("demo.a", 1).folder, tmp_path / "precious" / "file"
    assert folder is not None
    precious.parent.mkdir()
    precious.touch()
    laid = folder / "NPM_TOKEN"
    laid.unlink()
    if instead == "folder":
        laid.mkdir()
        (laid / "link").symlink_to(precious.parent)
    else:
        laid.symlink_to(precious.parent)
    assert keyring.take(tmp_path, tasking(keyring, status="revoked")) == ["cred-001 is taken back"]
    assert precious.exists() and not laid.is_symlink() and not laid.exists()
    keyring.close()


def test_what_cannot_be_removed_ends_nobody(keyring: Keyring, tmp_path: Path) -> None:
    seal(tmp_path, keyring.recipient, expires_at=datetime.now(UTC) + timedelta(seconds=-1))
    keyring.take(tmp_path, tasking(keyring))
    folder = keyring.of("demo.a", 1).folder
    assert folder is not None
    (folder / "NPM_TOKEN").unlink()
    folder.rmdir()
    folder.touch()
    keyring.expire()
    assert not keyring.of("demo.a", 1).has("cred-001")
    folder.unlink()
    keyring.close()


@pytest.mark.parametrize(
    "changes", [{"task": "demo.b"}, {"attempt": 2}, {"id": "cred-002"}, {"env": "PATH" * 300}], ids=str
)
def test_what_is_for_another_attempt_is_not_taken(
    keyring: Keyring, tmp_path: Path, changes: dict[str, object]
) -> None:
    plaintext = {"version": 1, "task": "demo.a", "attempt": 1, "id": "cred-001", "env": "X", "value": VALUE}
    if "env" in changes:
        with pytest.raises(ValueError, match="env"):
            SealedCredential.model_validate(plaintext | changes)
        return
    seal(tmp_path, keyring.recipient, **changes)
    assert keyring.take(tmp_path, tasking(keyring)) == []
    assert "NPM_TOKEN" not in keyring.of("demo.a", 1).environment()


def test_what_is_for_the_daemon_before_or_damaged_is_passed_over(keyring: Keyring, tmp_path: Path) -> None:
    other = Keyring(tmp_path / "other")
    seal(tmp_path, other.recipient)
    assert keyring.take(tmp_path, tasking(keyring, recipient=other.recipient)) == []
    assert keyring.take(tmp_path, tasking(keyring)) == []  # the tasking is wrong about it
    (tmp_path / "credentials" / "cred-001.age").write_bytes(b"no age file")
    assert keyring.take(tmp_path, tasking(keyring)) == []
    (tmp_path / "credentials" / "cred-001.age").unlink()
    assert keyring.take(tmp_path, tasking(keyring)) == []


def test_it_ends_by_its_time_without_a_word_of_the_supervisor(keyring: Keyring, tmp_path: Path) -> None:
    seal(tmp_path, keyring.recipient, expires_at=datetime.now(UTC) + timedelta(hours=1))
    keyring.take(tmp_path, tasking(keyring))
    keyring.expire()
    assert "NPM_TOKEN" in keyring.of("demo.a", 1).environment()
    seal(tmp_path, keyring.recipient, expires_at=datetime.now(UTC) - timedelta(seconds=1))
    keyring.take(tmp_path, tasking(keyring))
    keyring.expire()
    assert "NPM_TOKEN" not in keyring.of("demo.a", 1).environment()


@pytest.mark.parametrize(
    ("mounts", "is_there"),
    [
        ("/dev/sda / ext4 rw 0 0\ntmpfs /dev tmpfs rw 0 0\nshm /dev/shm tmpfs rw 0 0\n", True),
        ("/dev/sda / ext4 rw 0 0\ntmpfs /dev tmpfs rw 0 0\n", True),
        ("/dev/sda / ext4 rw 0 0\nshm /dev/shm2 tmpfs rw 0 0\n", False),
        ("tmpfs / tmpfs rw 0 0\n/dev/sdb /dev/shm xfs rw 0 0\n", False),
        ("", False),
    ],
)
def test_what_looks_like_memory_and_is_a_disk_is_not_used(mounts: str, is_there: bool) -> None:
    assert credentials.is_in_memory(Path("/dev/shm"), mounts) is is_there


def test_a_clock_that_jumps_ends_nothing(
    keyring: Keyring, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seal(tmp_path, keyring.recipient, expires_at=datetime.now(UTC) + timedelta(hours=1))
    keyring.take(tmp_path, tasking(keyring))

    class Ahead(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
            return datetime.now(tz) + timedelta(days=1)

    monkeypatch.setattr(credentials, "datetime", Ahead)
    keyring.expire()
    assert keyring.take(tmp_path, tasking(keyring)) == []
    assert "NPM_TOKEN" in keyring.of("demo.a", 1).environment()
    keyring.close()


def test_two_of_one_name_leave_the_place_to_each_other(keyring: Keyring, tmp_path: Path) -> None:
    """As one for reading, and one for publishing that a person granted later and for a shorter time."""
    given = keyring.of("demo.a", 1)
    for name, value in (("cred-001", VALUE), ("cred-002", "another-" + VALUE)):
        given.take(SealedCredential(task="demo.a", attempt=1, id=name, env="NPM_TOKEN", value=value))
    assert given.folder is not None
    assert (given.folder / "NPM_TOKEN").read_text() == "another-" + VALUE == given.environment()["NPM_TOKEN"]
    assert given.keep({"cred-001"}) == ["cred-002"]
    assert (given.folder / "NPM_TOKEN").read_text() == VALUE == given.environment()["NPM_TOKEN"]
    given.keep(set())
    assert not (given.folder / "NPM_TOKEN").exists()
    keyring.close()


def test_a_later_attempt_of_the_task_shows_it_as_little_although_it_was_not_given_it(
    keyring: Keyring, tmp_path: Path
) -> None:
    """What the first one left, it may find and print."""
    seal(tmp_path, keyring.recipient)
    keyring.take(tmp_path, tasking(keyring))
    keyring.forget("demo.a", 1)
    given = keyring.of("demo.a", 2)
    assert given.environment().keys() == {VARIABLE}
    assert given.hidden_by(Mask(())).hide(VALUE) == "[hidden]"
    assert keyring.of("demo.b", 1).hidden_by(Mask(())).hide(VALUE) == VALUE
    keyring.close()


def test_nothing_of_a_task_is_left_once_it_is_forgotten(keyring: Keyring, tmp_path: Path) -> None:
    seal(tmp_path, keyring.recipient)
    keyring.take(tmp_path, tasking(keyring))
    folder = keyring.of("demo.a", 1).folder
    keyring.forget("demo.a", 1)
    assert folder is not None and not folder.parent.exists()
    keyring.close()


def test_nothing_is_left_in_memory_by_a_daemon_that_was_killed(keyring: Keyring, tmp_path: Path) -> None:
    seal(tmp_path, keyring.recipient)
    keyring.take(tmp_path, tasking(keyring))
    folder = keyring.of("demo.a", 1).folder
    assert folder is not None and folder.exists()
    os.mkfifo(folder / "A_PIPE")
    again = Keyring(tmp_path / "mail")
    assert not folder.exists()
    assert not again.of("demo.a", 1).environment().get("NPM_TOKEN")
    left = f"{VALUE} in a home".encode()  # (of an attempt that is cancelled before it is given anything again)
    assert again.of("demo.a", 1).everything.hides(left) and not again.of("demo.b", 1).everything.hides(left)
    assert again.hide(VALUE) == "[hidden]"


@pytest.mark.parametrize("comes", [True, False])
def test_what_was_granted_before_is_there_when_a_program_starts(
    keyring: Keyring, tmp_path: Path, comes: bool
) -> None:
    given, looks = keyring.of("demo.a", 1), 0
    seal(tmp_path, keyring.recipient)

    def latest() -> TaskingTask:
        nonlocal looks
        looks += 1
        if looks < 3:
            return tasking(keyring, status="pending", on_its_way=comes, file=None, recipient=None)
        keyring.take(tmp_path, tasking(keyring))
        return tasking(keyring)

    attempt: Any = SimpleNamespace(latest=latest, given=given, stop=StopRequest())
    wait_for_given(attempt)
    assert (looks, "NPM_TOKEN" in given.environment()) == ((3, True) if comes else (1, False))


def test_reports_and_the_log_of_the_daemon_hide_it_wherever_it_stands(keyring: Keyring, tmp_path: Path) -> None:
    """Such as the name of a branch or a file in what git says, which no other mask has seen."""
    report = AttemptReport(
        tmp_path / "out",
        tmp_path / "bell",
        task_id="demo.a",
        attempt=1,
        agent_id="backend-1",
        agent_type="backend",
        mask=keyring.of("demo.a", 1).everything,
    )
    with (tmp_path / "daemon.log").open("a") as stream:
        log = OwnLog(stream)
        log.hide = keyring.hide
        seal(tmp_path, keyring.recipient)
        keyring.take(tmp_path, tasking(keyring))
        log(f"fatal: no branch {VALUE}\n")
    report.update(
        status=ReportStatus.FAILED,
        error=ReportError(code="E_DAEMON", message=f"GitError: fatal: no branch {VALUE}"),
        external=External(submodules=(f"lib/{VALUE}",), submodules_total=1),
    )
    report.progress(f"left out: {VALUE}", {"path": VALUE, "all": [VALUE]})
    report.write(time.monotonic)
    told = decode_framed(Reporting, (tmp_path / "out" / "reporting.yaml").read_bytes(), file="x").tasks["demo.a"]
    assert told.status is ReportStatus.FAILED and told.external is not None and told.error is not None
    assert told.error.message == "GitError: fatal: no branch [hidden]"
    assert told.external.submodules == ("lib/[hidden]",)
    assert told.progress[-1].details == {"path": "[hidden]", "all": ["[hidden]"]}
    assert VALUE not in (tmp_path / "out" / "reporting.yaml").read_text() + (tmp_path / "daemon.log").read_text()
    keyring.close()
