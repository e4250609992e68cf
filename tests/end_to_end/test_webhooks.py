"""Webhooks in a whole supervisor: heard while it runs, and nothing more than a help."""

import hashlib
import hmac
import http.client
import signal
import socket
from contextlib import closing
from pathlib import Path

import pytest

from tests.forge_site import FIX, forge_site
from tests.site import PATIENCE_SECONDS, Site, free_port, wait_for


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def heard(site: Site, port: int) -> Site:
    """A site with a project on a forge, whose webhook is to be heard."""
    for name in ("token", "hook"):
        (site.root.path / name).write_text("hunter2-hunter2\n")
        (site.root.path / name).chmod(0o600)
    site.config["projects"]["hub"] = {
        "forge": "github",
        "repository": "acme/app",
        "url": "http://127.0.0.1:9",
        "auth": {"token": {"file": "token"}, "login": "bot"},
        "webhook": {"secret": {"file": "hook"}},
        "poll_interval_seconds": 3600,
    }
    site.config["webhooks"] = {"port": port}
    site.write_config()
    return site


def deliver(port: int) -> int:
    proof = hmac.new(b"hunter2-hunter2", b"{}", hashlib.sha256).hexdigest()
    headers = {"X-Hub-Signature-256": f"sha256={proof}", "Content-Type": "application/json"}
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=20)) as connection:
        connection.request("POST", "/hooks/hub", b"{}", headers)
        return connection.getresponse().status


def test_they_are_heard_as_long_as_the_supervisor_runs(heard: Site, port: int) -> None:
    running = heard.start()
    (event,) = wait_for(lambda: heard.events("webhooks.listening"))
    assert event["details"]["address"] == f"127.0.0.1:{port}"
    assert deliver(port) == 202
    running.send_signal(signal.SIGTERM)
    assert running.wait(timeout=PATIENCE_SECONDS) == 0
    with pytest.raises(OSError, match="refused"):
        deliver(port)
    log = (heard.folder / "supervisor.log").read_text()
    assert "ERROR" not in log and "Traceback" not in log and "hunter2" not in log, log


def test_a_port_that_is_taken_keeps_nothing_from_being_done(heard: Site, port: int, tmp_path: Path) -> None:
    heard.use_script("echo 'def add(a, b): return a + b' > calc.py")
    heard.write_config()
    with closing(socket.create_server(("127.0.0.1", port))):
        heard.start()
        heard.write_task("fix", project="demo")
        heard.wait_state("demo.fix", "review")
        (event,) = wait_for(lambda: heard.events("webhooks.failed"))
    assert event["details"]["code"] == "E_WEBHOOK_PORT" and str(port) in event["details"]["message"]
    assert "E_WEBHOOK_PORT" in (heard.folder / "supervisor.log").read_text()


def test_a_delivery_finds_what_the_poll_would_find_an_hour_later(tmp_path: Path, port: int) -> None:
    with forge_site(tmp_path) as forges:
        site, hub = forges.site, forges.hub
        (site.root.path / "hook").write_text("hunter2-hunter2\n")
        (site.root.path / "hook").chmod(0o600)
        forges.project("hub", poll_interval_seconds=3600, webhook={"secret": {"file": "hook"}})
        site.config["webhooks"] = {"port": port}
        site.use_script(FIX)
        site.write_config()
        site.start()
        wait_for(lambda: site.events("webhooks.listening"))
        hub.hooks = [(f"http://127.0.0.1:{port}/hooks/hub", "hunter2-hunter2")]
        number = forges.labelled()
        wait_for(lambda: site.record(f"hub.{number}"))
