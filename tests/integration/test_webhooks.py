"""The webhook receiver over a real socket: what wakes the poll, and what strangers get."""

import contextlib
import hashlib
import hmac
import http.client
import json
import logging
import queue
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from loguru import logger

from agent_daemon.protocol.paths import Root
from supervisor.core.secret_settings import SecretSource, SecretsSettings
from supervisor.core.settings import Config, WebhookListener
from supervisor.forges import webhooks
from supervisor.forges.webhooks import MAX_BODY_BYTES, MAX_CONNECTIONS, Receiver, Webhooks
from supervisor.pool import Message
from supervisor.secrets.sources import SecretReader
from tests.fakes.forge.contract import VARIABLE, contracts_folder
from tests.fakes.forge.running import running_github, running_gitlab
from tests.site import make_remote, wait_for

SECRET = "hunter2-hunter2"
LARGE = b'"' + b"x" * MAX_BODY_BYTES + b'"'


def configuration(port: int = 8787) -> Config:
    hook = {"secret": {"file": "hook"}}
    shared = {"repository": "acme/app", "auth": {"token": {"file": "token"}}}
    config = Config.model_validate(
        {
            "projects": {
                "hub": {"forge": "github", "webhook": hook, **shared},
                "lab": {"forge": "gitlab", "webhook": hook, **shared},
                "quiet": {"forge": "github", **shared},
            },
            "webhooks": {"port": port or 1},
        }
    )
    return config if port else config.model_copy(update={"webhooks": WebhookListener.model_construct(port=0)})


def secrets_of(root: Root) -> Callable[[SecretSource], str]:
    return SecretReader.of(root, SecretsSettings()).read


class Listening:
    """A receiver on a port of its own; `woken` is what it has posted so far."""

    def __init__(self, folder: Path) -> None:
        (folder / "hook").write_text(SECRET + "\n")
        (folder / "hook").chmod(0o600)
        self.folder = folder
        self.inbox: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self.woken: list[str] = []
        self.hooks = Webhooks(configuration(port=0), secrets_of(Root(folder)), self.inbox)
        self.hooks.start()
        self.host, self.port = wait_for(lambda: self.hooks.address)

    def polls(self) -> list[str]:
        while not self.inbox.empty():
            kind, project = self.inbox.get()
            assert kind == "poll"
            self.woken.append(project)
        return self.woken

    def url(self, project: str) -> str:
        return f"http://{self.host}:{self.port}/hooks/{project}"

    def send(
        self, path: str, body: bytes = b"{}", *, method: str = "POST", **headers: str
    ) -> tuple[int, str, dict[str, str]]:
        with closing(http.client.HTTPConnection(self.host, self.port, timeout=20)) as connection:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body, named)
            answer = connection.getresponse()
            return answer.status, answer.read().decode(), {k.lower(): v for k, v in answer.getheaders()}

    def deliver(self, body: bytes = b"{}", secret: str = SECRET, **headers: str) -> int:
        """Deliver as GitHub would; returns the status."""
        proof = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
        return self.send("/hooks/hub", body, X_Hub_Signature_256=f"sha256={proof}", **headers)[0]

    def connect(self) -> socket.socket:
        return socket.create_connection((self.host, self.port), timeout=20)


@pytest.fixture
def listening(tmp_path: Path) -> Iterator[Listening]:
    made = Listening(tmp_path)
    yield made
    made.hooks.stop()


@pytest.mark.skipif(contracts_folder() is None, reason=f"{VARIABLE} names no folder of published payloads")
class TestPublished:
    def test_githubs_payloads_are_heard(self, listening: Listening) -> None:
        for file in payloads("github-webhooks"):
            event = file.name.partition(".")[0]
            answered = listening.deliver(file.read_bytes(), X_GitHub_Event=event, X_GitHub_Delivery=file.name)
            assert answered == (200 if event == "ping" else 202), file.name
        wait_for(lambda: "hub" in listening.polls())

    def test_githubs_ping_wakes_nothing(self, listening: Listening) -> None:
        (file,) = [file for file in payloads("github-webhooks") if file.stem == "ping"]
        assert listening.deliver(file.read_bytes(), X_GitHub_Event="ping") == 200
        assert not listening.polls()

    def test_gitlabs_payloads_are_heard(self, listening: Listening) -> None:
        for file in payloads("gitlab-examples/webhooks-gitlab4j"):
            assert listening.send("/hooks/lab", file.read_bytes(), X_Gitlab_Token=SECRET)[0] == 202, file.name
        wait_for(lambda: "lab" in listening.polls())


def payloads(folder: str) -> list[Path]:
    """What the forges publish as examples of deliveries."""
    contracts = contracts_folder()
    assert contracts is not None
    files = [file for file in sorted((contracts / folder).glob("*.json")) if "schema" not in file.name]
    assert files
    return files


def test_a_delivery_wakes_the_poll_at_once_and_once_more(listening: Listening) -> None:
    began = time.monotonic()
    assert listening.deliver() == 202
    assert listening.polls()[:1] == ["hub"], "it is there before the answer"
    wait_for(lambda: listening.polls() == ["hub", "hub"])
    assert time.monotonic() - began >= 3


def test_a_storm_of_deliveries_is_no_storm_of_polls(listening: Listening) -> None:
    began = time.monotonic()
    for number in range(100):
        assert listening.deliver(X_GitHub_Delivery=f"d{number}") == 202
    took = time.monotonic() - began
    assert 1 <= len(listening.polls()) <= 4 * took + 2


@pytest.mark.parametrize("header", ["X-GitHub-Delivery", "X-Gitlab-Event-UUID", "Idempotency-Key"])
def test_the_same_delivery_wakes_once(listening: Listening, header: str) -> None:
    path = "/hooks/hub" if "GitHub" in header else "/hooks/lab"
    proof = hmac.new(SECRET.encode(), b"{}", hashlib.sha256).hexdigest()
    headers = {header: "d1", "X-Hub-Signature-256": f"sha256={proof}", "X-Gitlab-Token": SECRET}
    assert listening.send(path, **headers)[:2] == (202, "Heard.\n")
    assert listening.send(path, **headers)[:2] == (202, "It came before.\n")
    assert listening.send(path, **headers | {header: "d2"})[1] == "Heard.\n"


def test_only_so_many_deliveries_are_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhooks, "REMEMBERED", 3)
    receiver = Receiver(secrets_of(Root(tmp_path)), {}, lambda _: None)
    assert [receiver._is_known("hub", name) for name in (b"a", b"b", b"a", b"c", b"d", b"a")] == [
        False,
        False,
        True,
        False,
        False,
        False,  # (the oldest was forgotten)
    ]
    assert not receiver._is_known("lab", b"d") and len(receiver._met) == 3


class TestRefused:
    @pytest.mark.parametrize(
        ("path", "method", "status"),
        [
            ("/hooks/nobody", "POST", 404),
            ("/hooks/quiet", "POST", 404),
            ("/hooks/hub/", "POST", 404),
            ("/hooks/hub%2f..", "POST", 404),
            ("/", "GET", 404),
            ("/hooks/hub", "GET", 405),
            ("/hooks/hub", "HEAD", 405),
            ("/hooks/hub", "PUT", 405),
        ],
    )
    def test_other_paths_and_methods(self, listening: Listening, path: str, method: str, status: int) -> None:
        found, _, headers = listening.send(path, method=method)
        assert found == status and headers["connection"] == "close"
        assert (headers.get("allow") == "POST") == (status == 405)
        assert "server" not in headers

    def test_what_is_not_signed_as_it_should_be(self, listening: Listening) -> None:
        assert listening.send("/hooks/hub")[0] == 401
        assert listening.send("/hooks/hub", X_Gitlab_Token=SECRET)[0] == 401
        assert listening.send("/hooks/hub", X_Hub_Signature_256="sha256=" + "0" * 64)[0] == 401
        assert listening.send("/hooks/hub", X_Hub_Signature_256="sha256=é".encode().decode("latin-1"))[0] == 401
        assert listening.send("/hooks/lab", X_Gitlab_Token="x")[0] == 401
        assert listening.deliver(secret="another") == 401
        assert not listening.polls()

    def test_what_is_no_json(self, listening: Listening) -> None:
        for body in (b"payload=%7B%7D", b"", b"\xff", b"[" * 100_000):
            assert listening.deliver(body) == 400
        assert not listening.polls()

    def test_a_secret_that_cannot_be_read_is_told_and_needs_no_restart(self, listening: Listening) -> None:
        secret = listening.folder / "hook"
        secret.chmod(0o644)
        assert listening.deliver() == 503
        secret.chmod(0o600)
        secret.write_text("another")
        assert (listening.deliver(), listening.deliver(secret="another")) == (401, 202)

    def test_what_is_too_large_by_its_own_word(self, listening: Listening) -> None:
        assert listening.deliver(LARGE) == 413
        assert listening.deliver(LARGE[2:]) == 400  # (the largest that is read; no JSON, cut so)
        assert not listening.polls()

    def test_what_is_too_large_is_noticed_while_it_comes(self, listening: Listening) -> None:
        """No length is told, and the end never comes."""
        with listening.connect() as connection:
            head = "POST /hooks/lab HTTP/1.1\r\nHost: x\r\nX-Gitlab-Token: x\r\nTransfer-Encoding: chunked\r\n\r\n"
            connection.sendall(head.encode())
            for _ in range(MAX_BODY_BYTES // 2**16 + 1):
                connection.sendall(b"10000\r\n" + b"x" * 2**16 + b"\r\n")
            assert first_line(connection).startswith(b"HTTP/1.1 413")

    def test_what_is_no_http(self, listening: Listening) -> None:
        with listening.connect() as connection:
            connection.sendall(b"\x16\x03\x01 hello\r\n\r\n")
            assert first_line(connection).startswith(b"HTTP/1.1 400")
        assert listening.deliver() == 202


class TestStrangers:
    def test_a_slow_one_is_cut_off(self, listening: Listening, monkeypatch: pytest.MonkeyPatch) -> None:
        head = b"POST /hooks/lab HTTP/1.1\r\nHost: x\r\n"
        half = head + b"X-Gitlab-Token: x\r\nContent-Length: 100\r\n\r\n{"
        refused = b"POST /hooks/no HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{"
        for sent in (b"", head, half, refused):
            # (One that is to be answered first gets the time that this may take on a busy machine.)
            monkeypatch.setattr(webhooks, "CONNECTION_SECONDS", 3 if sent == refused else 0.3)
            began = time.monotonic()
            with listening.connect() as connection:
                with contextlib.suppress(ConnectionError):  # it was cut off even before
                    connection.sendall(sent)
                found = until_the_end(connection)
                assert found.startswith(b"HTTP/1.1 404") if sent == refused else not found
            assert 0.2 < time.monotonic() - began < 20

    def test_many_at_once_are_not_taken_in(self, listening: Listening) -> None:
        crowd = [listening.connect() for _ in range(MAX_CONNECTIONS)]
        try:
            with listening.connect() as one_more:
                assert until_the_end(one_more) == b""
        finally:
            for connection in crowd:
                connection.close()
        wait_for(lambda: _answers(listening))

    def test_one_that_leaves_is_no_news(self, listening: Listening) -> None:
        with listening.connect() as connection:
            connection.sendall(
                b"POST /hooks/lab HTTP/1.1\r\nHost: x\r\nX-Gitlab-Token: x\r\nContent-Length: 9\r\n\r\n"
            )
        assert listening.deliver() == 202


def first_line(connection: socket.socket) -> bytes:
    """What comes up to the end of the first line, in however many pieces."""
    with connection.makefile("rb") as answer:
        return answer.readline()


def until_the_end(connection: socket.socket) -> bytes:
    """All that comes until the other side closes."""
    found = b""
    try:
        while data := connection.recv(1000):
            found += data
    except ConnectionResetError:
        pass
    return found


def _answers(listening: Listening) -> bool:
    try:
        return listening.deliver() == 202
    except OSError:
        return False


class TestLife:
    def test_a_port_that_is_taken_is_told_once_and_tried_again(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(webhooks, "_RETRY_SECONDS", 0.1)
        with closing(socket.create_server(("127.0.0.1", 0))) as other:
            hooks = Webhooks(
                configuration(other.getsockname()[1]), secrets_of(Root(tmp_path)), queue.SimpleQueue()
            )
            hooks.start()
            event = wait_for(hooks.look)
            assert (event.name, event.details["code"]) == ("webhooks.failed", "E_WEBHOOK_PORT")
        event = wait_for(hooks.look)
        assert event.name == "webhooks.listening" and hooks.look() is None
        hooks.stop()

    @pytest.mark.parametrize("more", ["", "Host: x\r\nContent-Length: 9\r\n\r\n{"], ids=["head", "body"])
    def test_its_end_waits_for_nobody(self, tmp_path: Path, more: str) -> None:
        listening, lines = Listening(tmp_path), list[str]()
        sink = logger.add(lines.append, level="ERROR")
        try:
            with listening.connect() as connection:
                connection.sendall(f"POST /hooks/lab HTTP/1.1\r\nX-Gitlab-Token: x\r\n{more}".encode())
                listening.hooks.stop()
                assert not [thread for thread in threading.enumerate() if thread.name == "webhooks"]
        finally:
            logger.remove(sink)
        with pytest.raises(ConnectionRefusedError):
            listening.connect()
        assert not lines

    def test_without_an_address_nothing_is_heard(self, tmp_path: Path) -> None:
        config = configuration().model_copy(update={"webhooks": None})
        hooks = Webhooks(config, secrets_of(Root(tmp_path)), queue.SimpleQueue())
        hooks.start()
        hooks.stop()
        assert hooks.address is None and hooks.look() is None

    def test_no_secret_is_logged(self, listening: Listening, caplog: pytest.LogCaptureFixture) -> None:
        lines: list[str] = []
        sink = logger.add(lines.append, level=0)
        try:
            listening.deliver(secret="another-secret")
            listening.send("/hooks/lab", X_Gitlab_Token="another-secret")
            listening.deliver(secret="another-secret")
        finally:
            logger.remove(sink)
        assert len(lines) == 2, "one line a project and reason"
        assert SECRET not in "".join(lines) and "another-secret" not in "".join(lines)
        assert not [record for record in caplog.records if record.levelno >= logging.INFO]


def test_githubs_deliveries_arrive(listening: Listening, tmp_path: Path) -> None:
    with running_github({"acme/app": make_remote(tmp_path / "app.git", {"a.py": "x\n"})}) as hub:
        hub.add_person("ada", permissions={"acme/app": "write"})
        hub.hooks = [(listening.url("hub"), SECRET), (listening.url("hub"), "wrong")]
        number = hub.open_issue("acme/app", "ada", "Fix it")
        hub.comment("acme/app", number, "ada", "/cloud-code run")
        wait_for(lambda: len(hub.deliveries) == 4)
        assert sorted(delivery["status"] for delivery in hub.deliveries) == [202, 202, 401, 401]
    assert "hub" in listening.polls()


def test_gitlabs_deliveries_arrive(listening: Listening, tmp_path: Path) -> None:
    with running_gitlab({"grp/app": make_remote(tmp_path / "app.git", {"a.py": "x\n"})}) as lab:
        lab.add_person("ada", levels={"grp/app": 40})
        lab.hooks = [(listening.url("lab"), SECRET), (listening.url("lab"), "wrong")]
        lab.open_issue("grp/app", "ada", "Fix it")
        wait_for(lambda: len(lab.deliveries) == 2)
        assert sorted(delivery["status"] for delivery in lab.deliveries) == [202, 401]
    assert "lab" in listening.polls()


def test_what_is_sent_is_data_that_nobody_reads(listening: Listening) -> None:
    """A delivery of one project that speaks of another wakes the one whose secret it has."""
    assert listening.deliver(json.dumps({"repository": {"full_name": "other/repo"}}).encode()) == 202
    assert set(listening.polls()) == {"hub"}
