"""What systemd sees of a real supervisor: a real datagram socket, a real hang, another configuration meanwhile."""

import json
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor.running import running_supervisor
from supervisor.service.notify import Notifier
from tests.site import FAKES, PATIENCE_SECONDS, Site, git, wait_for

FIX = "sed -i 's/a - b/a + b/' calc.py"


class Listener:
    """systemd's end of NOTIFY_SOCKET: what was said, each line with the time at which it came."""

    def __init__(self, address: str) -> None:
        self.said: list[tuple[float, str]] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(address)
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        while data := self._socket.recv(4096):
            self.said += [(time.monotonic(), line) for line in data.decode().split("\n")]

    def lines(self, beginning: str, since: float = 0) -> list[str]:
        return [line for at, line in self.said if line.startswith(beginning) and at >= since]

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[Listener]:
    listening = Listener(str(tmp_path / "notify"))
    yield listening
    listening.close()


def test_systemd_is_told_how_it_goes_and_not_told_that_a_hanging_loop_lives(
    site: Site, listener: Listener
) -> None:
    site.write_config()
    process = site.start(NOTIFY_SOCKET=str(site.folder / "notify"), WATCHDOG_USEC="2000000")
    wait_for(lambda: listener.lines("READY=1"))
    told = [line for _, line in listener.said]
    assert "EXTEND_TIMEOUT_USEC=120000000" in told[: told.index("READY=1")], "a start that goes on may take long"
    wait_for(lambda: len(listener.lines("WATCHDOG=1")) >= 2)
    status = wait_for(lambda: listener.lines("STATUS="))[0]
    assert status.startswith("STATUS=0 tasks under way") and status.endswith("of 1 workstation running")

    text = site.root.config.read_text()
    fifo, kept = site.root.path / "fifo", site.root.path / "kept"
    kept.write_text(text)
    os.mkfifo(fifo)  # whoever reads it waits for a writer: here the loop itself
    fifo.replace(site.root.config)
    process.send_signal(signal.SIGHUP)
    wait_for(lambda: listener.lines("RELOADING=1"))
    hung = time.monotonic()
    wait_for(lambda: time.monotonic() - hung > 2.5, what="longer than systemd would wait")
    assert not listener.lines("WATCHDOG=1", since=hung + 0.1)
    with site.root.config.open("w") as writer:
        writer.write(text)
    kept.replace(site.root.config)
    wait_for(lambda: listener.lines("WATCHDOG=1", since=hung + 1), what="it goes on")

    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=PATIENCE_SECONDS) == 0
    wait_for(lambda: listener.lines("STOPPING=1"))
    environ = [d for d in site.daemons() if b"NOTIFY_SOCKET" in Path(f"/proc/{d.pid}/environ").read_bytes()]
    assert not environ, "it is for the supervisor alone"


def test_a_hangup_takes_up_another_configuration_and_agents_do_not_notice(site: Site, listener: Listener) -> None:
    go = site.folder / "go"
    site.use_script("cat > /dev/null", f"while [ ! -e {go} ]; do sleep 0.05; done", FIX)
    site.write_config()
    process = site.start(NOTIFY_SOCKET=str(site.folder / "notify"))
    site.write_task("fix-add")
    site.wait_state("demo.fix-add", "in_progress")
    (daemon,) = site.daemons()

    good = json.loads(json.dumps(site.config))
    site.config["workstations"]["backend"]["count"] = "many"
    site.write_config()
    process.send_signal(signal.SIGHUP)
    (refused,) = wait_for(lambda: site.events("config.refused"))
    assert refused["details"]["code"] == "E_CONFIG" and "many" not in refused["details"]["mend"]
    assert "config.yaml:" in refused["details"]["message"], "with file and line"

    site.config = good
    site.config["workstations"]["backend"]["count"] = 2
    site.config["clis"]["scripted"]["environment"] = {"COLOUR": "whatever-it-is"}
    site.write_config()
    before = len(listener.lines("READY=1"))
    process.send_signal(signal.SIGHUP)
    (reloaded,) = wait_for(lambda: site.events("config.reloaded"))
    assert sorted(reloaded["details"]["changes"]) == [
        "clis.scripted.environment: changed",
        "workstations.backend.count: 1 → 2",
    ]
    wait_for(lambda: len(listener.lines("READY=1")) > before)
    wait_for(lambda: len(site.daemons()) == 2, what="the second workstation is there")
    assert daemon in site.daemons() and process.poll() is None
    assert "E_CONFIG_CHANGED" not in site.cli("status").stdout
    site.config["workstations"]["backend"]["trust_domain"] = "default"  # as it is without being said
    site.write_config()
    assert "E_CONFIG_CHANGED" in site.cli("status").stdout
    process.send_signal(signal.SIGHUP)
    wait_for(lambda: len(site.events("config.reloaded")) == 2)
    assert "E_CONFIG_CHANGED" not in site.cli("status").stdout
    assert "what it said before" in site.cli("events").stdout
    go.touch()
    task = site.wait_state("demo.fix-add", "review")
    assert task.attempt == 1 and len(site.events("supervisor.started")) == 2
    assert "another" in site.cli("run", check=False).stderr.casefold(), "the lock was never given back"


def test_a_terminal_that_is_closed_ends_it_and_a_hangup_in_an_open_one_does_not(site: Site) -> None:
    site.write_config()
    ours, terminal = pty.openpty()
    command = [sys.executable, "-m", "supervisor", "--root", str(site.root.path), "run"]
    environment = {"PATH": os.environ["PATH"], "HOME": str(site.folder)}
    process = subprocess.Popen(
        ["setsid", "--ctty", *command], env=environment, stdin=terminal, stdout=terminal, stderr=terminal
    )
    site.supervisors.append(process)
    os.close(terminal)
    wait_for(lambda: site.events("workstation.started"))
    pid = running_supervisor(site.root).pid  # type: ignore[union-attr]
    os.kill(pid, signal.SIGHUP)
    wait_for(lambda: site.events("config.reloaded"))
    os.close(ours)  # the kernel tells the terminal's processes
    process.wait(timeout=PATIENCE_SECONDS)
    assert site.events("supervisor.stopped") and len(site.daemons()) == 1


def test_an_address_without_a_file_is_heard_too_and_nobody_is_waited_for() -> None:
    name = f"@cloud-code-test-{os.getpid()}"
    listening = Listener("\0" + name[1:])
    environment = {"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "1000", "WATCHDOG_PID": "1", "HOME": "/"}
    notifier = Notifier.taken_from(environment)
    assert environment == {"HOME": "/"} and notifier.watchdog_seconds is None, "the watchdog is another's"
    notifier.ready()
    wait_for(lambda: listening.lines("READY=1"))
    listening.close()
    notifier.ready()
    Notifier().ready()


def test_an_idle_daemon_of_an_older_protocol_gets_no_task_and_is_started_anew(site: Site) -> None:
    site.use_script("cat > /dev/null", FIX)
    site.write_config()
    site.start()
    sign = site.root.mail_out("backend-1") / "workstation.yaml"
    wait_for(lambda: sign.exists())
    (old,) = wait_for(site.daemons, what="the supervisor has written it down")
    os.kill(old.pid, signal.SIGSTOP)  # so that what it says next is ours
    said = re.sub(r"(?m)^(  (?:min|max)): 1$", r"\1: 0", sign.read_text())
    said = re.sub(r"(?m)^(revision|heartbeat|end): \d+$", r"\1: 1000", said)
    assert said.count(": 0\n") >= 2 and said.count(": 1000") == 3, said
    fresh = sign.with_name(".sign.new")
    fresh.write_text(said)
    fresh.replace(sign)
    (outdated,) = wait_for(lambda: site.events("workstation.outdated"))
    assert outdated["details"]["code"] == "E_DAEMON_PROTOCOL" and "speaks protocol 0" in site.cli("events").stdout
    site.write_task("fix-add")
    task = site.wait_state("demo.fix-add", "review")
    assert task.attempt == 1 and old not in site.daemons()
    assert len(site.events("workstation.outdated")) == 1 and len(site.events("workstation.started")) == 2


def test_a_clock_that_is_set_back_keeps_no_poll_waiting(site: Site) -> None:
    shift = site.folder / "clock"
    shift.write_text("0")
    site.use_script("cat > /dev/null", FIX)
    site.write_config()
    site.start(PYTHONPATH=str(FAKES / "clock"), FAKE_CLOCK=str(shift))
    site.write_task("fix-add")
    task = site.wait_state("demo.fix-add", "review")
    shift.write_text("-3600")
    wait_for(lambda: site.events("clock.set_back"))
    assert "set back by 60 min" in site.cli("events").stdout
    git("update-ref", "refs/heads/main", f"refs/heads/{task.branch}", cwd=site.remote)
    site.wait_state("demo.fix-add", "completed")
