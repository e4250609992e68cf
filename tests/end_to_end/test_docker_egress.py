"""What a container of a real engine reaches, and that nothing which is restarted outside cuts it off."""

import contextlib
import json
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from supervisor.egress.files import running_proxy
from tests import docker_engine
from tests.end_to_end.test_docker import PATIENCE_SECONDS, DockerSite
from tests.site import wait_for

# The image may have to be built first, or is just being built for another test.
pytestmark = pytest.mark.timeout(600)

LOOK_AROUND = """
import json, os, socket, subprocess, sys, urllib.error, urllib.request
own, port = sys.argv[1], int(sys.argv[2])
found = {}
def ask(name, url):
    try:
        with urllib.request.urlopen(url, timeout=30) as answer:
            found[name] = answer.read().decode()
    except urllib.error.HTTPError as error:
        found[name] = error.reason
    except OSError as error:
        found[name] = str(error)
ask("allowed", f"http://web.example.org:{port}/")
ask("other port", "http://web.example.org:22/")
ask("other host", "https://evil.example.org/")
ask("private", "https://10-1-2-3.example.org/")
ask("metadata by name", "http://169-254-169-254.example.org/")
ask("metadata", "http://169.254.169.254/latest/")
ask("this host", f"http://{own}:{port}/")
found["directly"] = []
for host in (own, "172.17.0.1", "169.254.169.254", "1.1.1.1"):
    with socket.socket() as direct:
        direct.settimeout(3)
        found["directly"].append(direct.connect_ex((host, port)) == 0)
found["gates"] = os.listdir("/run/cloud-code-egress")
for bend in (lambda: os.unlink("/run/cloud-code-egress/proxy"), lambda: open("/run/cloud-code-egress/x", "w")):
    try:
        bend()
        found["bent"] = True
    except OSError:
        pass
print(json.dumps(found))
"""


class Download:
    """A file on this host that comes at once but for its end, which is sent when told."""

    BYTES = 3_000_000

    def __init__(self) -> None:
        self.begun, self.go_on = threading.Event(), threading.Event()
        self._socket = socket.create_server(("0.0.0.0", 0))  # noqa: S104 (as a host's ports are)
        self.port = self._socket.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            connection, _ = self._socket.accept()
            threading.Thread(target=self._talk, args=(connection,), daemon=True).start()

    def _talk(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):  # (who asked has gone)
            asked = connection.recv(65_536)
            while asked and b"\r\n\r\n" not in asked and (more := connection.recv(65_536)):
                asked += more
            slow = b" /slow " in asked
            size = self.BYTES if slow else 5
            connection.sendall(f"HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n".encode())
            if not slow:
                connection.sendall(b"hello")
                return
            connection.sendall(b"x" * (size - 4))
            self.begun.set()
            self.go_on.wait(PATIENCE_SECONDS)
            connection.sendall(b"last")


@pytest.fixture
def site(tmp_path: Path) -> Iterator[DockerSite]:
    made = DockerSite(tmp_path)
    made.engine = docker_engine.engine()
    yield made
    made.close()


@pytest.fixture
def proxy(site: DockerSite) -> Iterator["subprocess.Popen[bytes]"]:
    """The supervisor finds this one and starts none."""
    process = subprocess.Popen([sys.executable, "-m", "tests.fakes.egress_proxy", "--root", str(site.root.path)])
    wait_for(lambda: running_proxy(site.root), what="the proxy runs")
    yield process
    process.kill()
    process.wait()


def own_address() -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("198.18.0.1", 9))
        except OSError:
            return "127.0.0.1"
        return str(probe.getsockname()[0])


def refusals(site: DockerSite, host: str) -> list[dict[str, Any]]:
    return [event for event in site.events("egress.refused") if event["details"]["host"] == host]


def test_a_container_reaches_what_is_listed_and_no_restart_outside_cuts_it_off(
    site: DockerSite, proxy: "subprocess.Popen[bytes]"
) -> None:
    download = Download()
    names = [f"web.example.org:{download.port}", "10-1-2-3.example.org:443", "169-254-169-254.example.org:80"]
    site.use_docker(network="allow", egress=names)
    site.use_script(
        "sed -i 's/a - b/a + b/' calc.py",
        "curl --silent --show-error https://evil.example.org/ || true",
        f"curl --silent --show-error --fail --output /tmp/file http://web.example.org:{download.port}/slow",
        f"test $(wc -c </tmp/file) = {download.BYTES}",
        "echo fixed the sign",
    )
    site.write_config()
    site.start()
    site.write_task("fix-add")
    wait_for(lambda: download.begun.is_set(), PATIENCE_SECONDS, "the agent downloads")

    found = json.loads(site.inside("python3", "-c", LOOK_AROUND, own_address(), str(download.port)))
    assert found["allowed"] == "hello"
    assert "E_EGRESS_NOT_ALLOWED" in found["other port"] and "E_EGRESS_NOT_ALLOWED" in found["other host"]
    assert "E_EGRESS_ADDRESS 10-1-2-3.example.org leads to 10.1.2.3 (private)" in found["private"]
    assert "leads to 169.254.169.254 (link-local" in found["metadata by name"]
    assert "E_EGRESS_ADDRESS" in found["metadata"] and "E_EGRESS_ADDRESS" in found["this host"]
    assert found["directly"] == [False] * 4 and found["gates"] == ["proxy"] and "bent" not in found

    site.stop_supervisors(signal.SIGKILL)
    site.start()
    wait_for(lambda: site.events("workstation.adopted"), PATIENCE_SECONDS, "it is found again")
    download.go_on.set()
    task = site.wait_state("demo.fix-add", "review", timeout_seconds=PATIENCE_SECONDS)
    assert len(task.attempts) == 1

    refused = wait_for(lambda: refusals(site, "evil.example.org"), what="refusals are told")[-1]
    assert (refused["task"], refused["workstation"]) == ("demo.fix-add", "backend-1")
    assert "E_EGRESS_NOT_ALLOWED evil.example.org:443" in site.cli("workstation", "logs", "backend-1").stderr
    assert "evil.example.org:443" in site.cli("task", "logs", "demo.fix-add", "--log", "egress").stdout
    listed = json.loads(site.cli("workstation", "refused", "--json").stdout)
    assert {"evil.example.org", "10-1-2-3.example.org"} <= {row["host"] for row in listed}

    proxy.kill()  # and the supervisor starts one that no test has made
    proxy.wait()
    ask = ("curl", "--silent", "--show-error", "http://evil.example.org/")
    said = partial(site.cli, "workstation", "shell", "backend-1", *ask, check=False)
    wait_for(lambda: "E_EGRESS_NOT_ALLOWED" in said().stdout, PATIENCE_SECONDS, "another one is there")
    site.cli("workstation", "stop", "backend-1")
    wait_for(lambda: not site.root.egress_policy("backend-1").exists(), PATIENCE_SECONDS, "its gate is shut")
