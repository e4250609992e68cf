"""The driver `local`: found again by identity, not by number; refuses to live in a service."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent_daemon.protocol.files import make_folder
from agent_daemon.protocol.paths import Root
from supervisor.errors import CloudCodeError
from supervisor.ports import DaemonHandle
from supervisor.workstations.local import LOG_BYTES, LocalWorkstations, is_service, refuse_under_service
from tests.site import wait_for


@pytest.fixture
def root(tmp_path: Path) -> Root:
    made = Root(tmp_path / "root")
    for folder in (made.workstations, made.run, made.mail_in("backend-1")):
        make_folder(folder)
    return made


@pytest.fixture
def started(root: Root) -> Iterator[tuple[LocalWorkstations, DaemonHandle]]:
    driver = LocalWorkstations(root)
    handle = driver.start("backend-1", "backend", {})
    wait_for((root.mail_out("backend-1") / "workstation.yaml").exists, what="the daemon's sign of life")
    yield driver, handle
    driver.stop(handle)


def test_a_daemon_is_a_session_of_its_own_with_a_bare_environment(
    root: Root, started: tuple[LocalWorkstations, DaemonHandle]
) -> None:
    _, handle = started
    assert os.getsid(handle.pid) == handle.pid != os.getsid(0)
    environment = Path(f"/proc/{handle.pid}/environ").read_bytes().split(b"\0")
    names = {entry.partition(b"=")[0].decode() for entry in environment if entry}
    assert names <= {"PATH", "LANG", "LC_ALL", "TZ", "HOME", "SSL_CERT_FILE", "SSL_CERT_DIR"}
    assert f"HOME={root.run / 'backend-1' / 'home'}".encode() in environment


def test_another_supervisor_finds_it_and_a_reused_number_is_not_it(
    root: Root, started: tuple[LocalWorkstations, DaemonHandle]
) -> None:
    _, handle = started
    other = LocalWorkstations(root)
    assert other.find("backend-1") == handle
    assert other.alive(handle)
    assert other.find("backend-10") is None and other.find("backend") is None
    assert LocalWorkstations(Root(root.path.with_name("elsewhere"))).find("backend-1") is None
    for impostor in (
        DaemonHandle(pid=handle.pid, start_ticks=handle.start_ticks + 1, boot_id=handle.boot_id),
        DaemonHandle(pid=handle.pid, start_ticks=handle.start_ticks, boot_id="another boot"),
    ):
        assert not other.alive(impostor)


def test_a_log_that_has_grown_large_is_put_aside_at_the_next_start(root: Root) -> None:
    log = root.workstations / "backend-1.log"
    with log.open("wb") as file:
        file.truncate(LOG_BYTES)
    driver = LocalWorkstations(root)
    driver.stop(driver.start("backend-1", "backend", {}))
    assert log.stat().st_size < LOG_BYTES
    assert log.with_name("backend-1.log.1").stat().st_size == LOG_BYTES


def test_a_log_that_grows_large_while_the_daemon_runs_is_put_aside(root: Root) -> None:
    log = root.workstations / "backend-1.log"
    with log.open("wb") as file:
        file.truncate(LOG_BYTES - 1)
    driver = LocalWorkstations(root)
    handle = driver.start("backend-1", "backend", {})
    wait_for((root.mail_out("backend-1") / "workstation.yaml").exists)
    driver.stop(handle)
    assert log.stat().st_size < LOG_BYTES
    assert log.with_name("backend-1.log.1").stat().st_size >= LOG_BYTES


def test_a_zombie_counts_as_dead(started: tuple[LocalWorkstations, DaemonHandle], root: Root) -> None:
    _, handle = started
    os.kill(handle.pid, signal.SIGKILL)
    other = LocalWorkstations(root)  # which is not its parent's bookkeeping and cannot reap it
    wait_for(lambda: not other.alive(handle))
    assert other.find("backend-1") is None


def test_stop_ends_it_in_order(started: tuple[LocalWorkstations, DaemonHandle], root: Root) -> None:
    driver, handle = started
    driver.stop(handle)
    assert not driver.alive(handle)
    assert "daemon of backend-1 ended" in (root.workstations / "backend-1.log").read_text()
    driver.stop(handle)


def test_two_daemons_never_serve_one_workstation(
    started: tuple[LocalWorkstations, DaemonHandle], root: Root
) -> None:
    other = LocalWorkstations(root)
    second = other.start("backend-1", "backend", {})
    wait_for(lambda: not other.alive(second), what="the second one ends by itself")
    assert "another daemon serves backend-1" in (root.workstations / "backend-1.log").read_text()
    assert started[0].alive(started[1])


SERVICE = "0::/system.slice/cloud-code.service\n"
LOGIN = "0::/user.slice/user-1000.slice/session-3.scope\n"
DESKTOP = "0::/user.slice/user-1000.slice/user@1000.service/app.slice/app-terminal.scope\n"


@pytest.mark.parametrize(
    ("environment", "cgroup", "service"),
    [
        ({"INVOCATION_ID": "1"}, SERVICE, True),
        ({"INVOCATION_ID": "1"}, f"12:pids:/x\n1:name=systemd:{SERVICE[3:]}", True),
        ({"INVOCATION_ID": "1"}, DESKTOP, False),
        ({"INVOCATION_ID": "1"}, LOGIN, False),
        ({}, SERVICE, False),
        ({}, "", False),
    ],
)
def test_what_is_a_service(environment: dict[str, str], cgroup: str, service: bool) -> None:
    assert is_service(environment, cgroup) is service


def test_under_a_service_it_says_why_not() -> None:
    with pytest.raises(CloudCodeError, match="E_LOCAL_UNDER_SERVICE") as refused:
        refuse_under_service({"INVOCATION_ID": "1"}, SERVICE)
    assert "driver" in refused.value.mend
