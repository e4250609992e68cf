"""The egress proxy on real sockets: what passes, what does not, and attacks on it.

Names are resolved by a table of the test, and its upstreams on loopback are allowed by construction: no
configuration can do that.
"""

import asyncio
import contextlib
import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from agent_daemon.forwarder import Forwarder
from agent_daemon.protocol.paths import Root
from supervisor.core.egress import Policy
from supervisor.core.refusals import Refusal
from supervisor.egress.dial import Dialer, Streams, is_own, open_connection
from supervisor.egress.files import PolicyFile, read_refusals, running_proxy, write_policy
from supervisor.egress.news import RefusedNews
from supervisor.egress.proxy import Gate
from tests.site import wait_for

SHORT_SECONDS = 1.0
ADDRESSES = {
    "web.example.org": ["127.0.0.1"],
    "deep.sub.example.org": ["127.0.0.1"],
    "private.example.org": ["10.1.2.3"],
    "metadata.example.org": ["169.254.169.254"],
    "six.example.org": ["::1", "fe80::1", "::ffff:10.0.0.1"],
    "mixed.example.org": ["10.1.2.3", "127.0.0.1"],
    "inside.example.org": ["127.0.0.2"],
}
ALLOWED = [f"{name}:{port}" for name in (*ADDRESSES, "gone.example.org") for port in (80, 443, 5432)]


class Upstream:
    """A server on loopback that keeps what it was sent, and answers each connection with the same bytes."""

    def __init__(self, answer: bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello") -> None:
        self.answer, self.heard = answer, list[bytes]()
        self.ends_after: bytes | None = None
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=200)
        self.port = self._socket.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._socket.accept()
                threading.Thread(target=self._talk, args=(connection,), daemon=True).start()

    def _talk(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            self.heard.append(connection.recv(65_536))
            if self.ends_after is None:
                connection.sendall(self.answer)
            while self.ends_after is None or self.ends_after not in b"".join(self.heard):
                if not (data := connection.recv(65_536)):
                    return
                self.heard.append(data)
            connection.sendall(self.answer)

    def close(self) -> None:
        self._socket.close()


@dataclass
class Proxy:
    """A gate on a real socket, in a thread of the test."""

    folder: Path
    upstream: Upstream
    head_seconds: float
    refused: list[Refusal] = field(default_factory=list)
    dialled: list[tuple[str, int]] = field(default_factory=list)
    resolved: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.path, ready = self.folder / "s", threading.Event()
        dialer = Dialer(self._resolve, self._open, also=frozenset({"127.0.0.1"}))
        self.gate = Gate(
            dialer, self.refused.append, Policy.of(ALLOWED), max_connections=20, head_seconds=self.head_seconds
        )

        async def serve() -> None:
            self.loop, self.over = asyncio.get_running_loop(), asyncio.Event()
            async with await asyncio.start_unix_server(self.gate.serve, path=self.path, backlog=100) as server:
                ready.set()
                await self.over.wait()
                server.close()
                await self.gate.shut()

        self.thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
        self.thread.start()
        assert ready.wait(30)

    async def _resolve(self, host: str, _port: int) -> list[str]:
        self.resolved.append(host)
        if host not in ADDRESSES:
            raise socket.gaierror(-2, "Name or service not known")
        return ADDRESSES[host]

    async def _open(self, address: str, port: int) -> Streams:
        self.dialled.append((address, port))
        return await open_connection(address, self.upstream.port)

    def connect(self) -> socket.socket:
        made = socket.socket(socket.AF_UNIX)
        made.settimeout(30)
        made.connect(str(self.path))
        return made

    def ask(self, *parts: bytes) -> bytes:
        """Everything that comes back on a connection that was sent this."""
        with self.connect() as connection:
            with contextlib.suppress(BrokenPipeError):  # it has been answered, and was cut before this came
                for part in parts:
                    connection.sendall(part)
            return read_all(connection)

    def change(self, policy: Policy) -> None:
        self.loop.call_soon_threadsafe(self.gate.change, policy)

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.over.set)
        self.thread.join(30)


def read_all(connection: socket.socket) -> bytes:
    data = b""
    with contextlib.suppress(ConnectionResetError):
        while more := connection.recv(65_536):
            data += more
    return data


def read_head(connection: socket.socket) -> bytes:
    """What comes up to the empty line, and nothing of what may have come with it."""
    data = b""
    while not data.endswith(b"\r\n\r\n") and (more := connection.recv(1)):
        data += more
    return data


@contextlib.contextmanager
def running(folder: Path, head_seconds: float) -> Iterator[Proxy]:
    upstream = Upstream()
    made = Proxy(folder, upstream, head_seconds)
    yield made
    made.close()
    upstream.close()


@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[Proxy]:
    """One that waits for a head as long as a busy machine may keep a test from sending it."""
    with running(tmp_path, head_seconds=60) as made:
        yield made


@pytest.fixture
def hasty(tmp_path: Path) -> Iterator[Proxy]:
    with running(tmp_path, SHORT_SECONDS) as made:
        yield made


def connect_to(target: str) -> bytes:
    return f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode()


def hello(name: str | None) -> bytes:
    context = ssl.create_default_context()
    if name is None:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    outgoing = ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=name).do_handshake()
    return outgoing.read()


# --- what passes --------------------------------------------------------------------------------------------


def test_a_tunnel_carries_bytes_both_ways_to_the_address_that_was_checked(proxy: Proxy) -> None:
    with proxy.connect() as client:
        client.sendall(connect_to("WEB.example.org.:5432") + b"early")
        client.sendall(b" bird")
        assert read_head(client) == b"HTTP/1.1 200 Connection established\r\n\r\n"
        wait_for(lambda: b"".join(proxy.upstream.heard) == b"early bird", what="it arrives")
        client.shutdown(socket.SHUT_WR)  # (one direction may end before the other)
        assert read_all(client) == proxy.upstream.answer
    assert proxy.dialled == [("127.0.0.1", 5432)] and proxy.resolved == ["web.example.org"]
    assert proxy.refused == []


def test_of_several_addresses_only_one_that_may_be_is_connected_to(proxy: Proxy) -> None:
    with proxy.connect() as client:
        client.sendall(connect_to("mixed.example.org:5432"))
        assert b" 200 " in read_head(client)
    assert proxy.dialled == [("127.0.0.1", 5432)]


def test_a_plain_request_is_written_anew_and_goes_to_the_host_of_its_address(proxy: Proxy) -> None:
    proxy.upstream.ends_after = b"body"  # (it may come by itself)
    answer = proxy.ask(
        b"POST http://web.example.org/a?b=c HTTP/1.1\r\nHost: evil.example.org\r\nX-Kept: 1\r\n"
        b"Connection: X-Hop\r\nX-Hop: 1\r\nProxy-Authorization: secret\r\n"
        b"Upgrade: websocket\r\nContent-Length: 4\r\n\r\nbody"
    )
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n") and answer.endswith(b"hello")
    heard = b"".join(proxy.upstream.heard)
    assert heard.startswith(b"POST /a?b=c HTTP/1.1\r\n") and heard.endswith(b"\r\n\r\nbody")
    assert b"Host: web.example.org\r\n" in heard and b"X-Kept: 1" in heard
    for gone in (b"evil", b"X-Hop", b"secret", b"websocket"):
        assert gone not in heard


def test_a_body_in_chunks_and_an_answer_without_a_length_pass(proxy: Proxy) -> None:
    proxy.upstream.answer = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + b"x" * 300_000
    proxy.upstream.ends_after = b"0\r\n\r\n"
    head = b"PUT http://web.example.org:80/ HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert proxy.ask(head, b"3\r\nabc\r\n", b"0\r\n\r\n").count(b"x") == 300_000


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not on PATH")
def test_curl_gets_through_the_forwarder_and_is_told_why_it_does_not(proxy: Proxy) -> None:
    told: list[str] = []
    port = Forwarder(proxy.path, told.append, port=0).start()

    def curl(url: str) -> subprocess.CompletedProcess[str]:
        command = ["curl", "--silent", "--show-error", "--include", "--max-time", "30"]
        command += ["--proxy", f"http://127.0.0.1:{port}", url]
        return subprocess.run(command, capture_output=True, text=True, check=False, env={"PATH": "/usr/bin:/bin"})

    assert "hello" in curl("http://web.example.org/").stdout
    for _ in range(3):
        assert "E_EGRESS_NOT_ALLOWED evil.example.org:80" in curl("http://evil.example.org/").stdout
    assert "403" in curl("https://evil.example.org/").stderr
    assert [said.partition(" is ")[0] for said in told] == [
        "E_EGRESS_NOT_ALLOWED evil.example.org:80",
        "E_EGRESS_NOT_ALLOWED evil.example.org:443",
    ]
    proxy.path.unlink()
    assert "502" in curl("http://web.example.org/").stdout and "E_EGRESS_AWAY" in told[-1]


# --- what does not ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ("evil.example.org:5432", "NOT_ALLOWED"),
        ("web.example.org:22", "NOT_ALLOWED"),
        ("x.web.example.org:443", "NOT_ALLOWED"),
        ("private.example.org:443", "ADDRESS"),
        ("metadata.example.org:443", "ADDRESS"),
        ("six.example.org:443", "ADDRESS"),
        ("inside.example.org:443", "ADDRESS"),
        ("127.0.0.1:443", "ADDRESS"),
        ("2130706433:443", "ADDRESS"),
        ("0x7f.1:443", "ADDRESS"),
        ("[::1]:443", "ADDRESS"),
        ("[::ffff:127.0.0.1]:443", "ADDRESS"),
        ("[fe80::1%25eth0]:443", "ADDRESS"),
        ("localhost:443", "REQUEST"),
        ("web.example.org:80", "REQUEST"),
        ("web.example.org", "REQUEST"),
        ("web.example.org:443@evil.example.org:443", "REQUEST"),
        ("web.example.org:0443", "REQUEST"),
        ("http://web.example.org:443/", "REQUEST"),
    ],
)
def test_what_a_tunnel_is_refused_for(proxy: Proxy, asked: str, code: str) -> None:
    answer = proxy.ask(connect_to(asked))
    assert answer.startswith(b"HTTP/1.1 403 E_EGRESS_") and f"E_EGRESS_{code} ".encode() in answer
    assert proxy.dialled == [] and [refusal.code for refusal in proxy.refused] == [f"E_EGRESS_{code}"]


@pytest.mark.parametrize(
    "request_line",
    [
        b"GET http://evil.example.org/ HTTP/1.1",
        b"GET http://web.example.org:22/ HTTP/1.1",
        b"GET http://web.example.org@evil.example.org/ HTTP/1.1",
        b"GET http://evil.example.org\\@web.example.org/ HTTP/1.1",
        b"GET http://web.example.org#@evil.example.org/ HTTP/1.1",
        b"GET http://127.0.0.1/ HTTP/1.1",
        b"GET http://[::1]/ HTTP/1.1",
        b"GET http:///evil HTTP/1.1",
        b"GET https://web.example.org/ HTTP/1.1",
        b"GET file:///etc/passwd HTTP/1.1",
        b"GET / HTTP/1.1",
        b"OPTIONS * HTTP/1.1",
        b"GET http://web.example.org/ HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked",
        b"GET http://web.example.org/ HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2",
        b"GET http://web.example.org/ HTTP/1.1\r\nTransfer-Encoding: gzip, chunked",
        b"GET http://web.example.org/ HTTP/1.1\r\nX: a\0b",
        b"GET http://web.example.org/ HTTP/1.1\r\nX : a",
        b"GET http://web.example.org/\x01 HTTP/1.1",
        b"CONNECT web.example.org:5432 HTTP/1.1\r\nContent-Length: 3",
        b"PRI * HTTP/2.0",
        b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03",
        b"\x05\x01\x00",
    ],
)
def test_what_a_plain_request_is_refused_for(proxy: Proxy, request_line: bytes) -> None:
    """Smuggling, other schemes, other protocols: none reaches any host."""
    answer = proxy.ask(request_line + b"\r\nHost: web.example.org\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 403 E_EGRESS_"), answer
    assert proxy.dialled == [] and len(proxy.refused) == 1


def test_a_second_request_on_a_connection_is_not_carried_out(proxy: Proxy) -> None:
    first = b"GET http://web.example.org/1 HTTP/1.1\r\nHost: x\r\n\r\n"
    proxy.ask(first + b"GET http://evil.example.org/2 HTTP/1.1\r\nHost: x\r\n\r\n")
    assert proxy.dialled == [("127.0.0.1", 80)]
    assert b"evil" not in b"".join(proxy.upstream.heard) and b"/2" not in b"".join(proxy.upstream.heard)


def test_a_tunnel_to_443_is_tls_to_the_very_host(proxy: Proxy) -> None:
    """Behind one address of a large network stand others' hosts: the name inside chooses."""
    with proxy.connect() as client:
        client.sendall(connect_to("web.example.org:443"))
        assert b" 200 " in read_head(client)
        whole = hello("web.example.org")
        for place in range(0, len(whole), 100):
            client.sendall(whole[place : place + 100])
        wait_for(lambda: b"".join(proxy.upstream.heard) == whole, what="it arrives as it was sent")
    proxy.upstream.heard.clear()
    for first in (
        hello("evil.example.org"),
        hello(None),
        b"GET / HTTP/1.1\r\nHost: evil\r\n\r\n",
        b"SSH-2.0-x\r\n",
    ):
        answer = proxy.ask(connect_to("web.example.org:443"), first)
        assert answer.endswith(bytes.fromhex("15030100020270"))
    assert not b"".join(proxy.upstream.heard)
    assert [refusal.code for refusal in proxy.refused] == ["E_EGRESS_REQUEST"] * 4
    assert "evil.example.org" in proxy.refused[0].message


def test_a_host_that_is_not_there_is_no_refusal(proxy: Proxy) -> None:
    answer = proxy.ask(connect_to("gone.example.org:443"))
    assert answer.startswith(b"HTTP/1.1 502 ") and b"cannot be resolved" in answer and proxy.refused == []


def test_half_an_answer_is_not_taken_for_a_whole_one(proxy: Proxy) -> None:
    ask = b"GET http://web.example.org/ HTTP/1.1\r\nHost: x\r\n\r\n"
    proxy.upstream.answer = b"SSH-2.0-not http\r\n\r\n"
    assert proxy.ask(ask).startswith(b"HTTP/1.1 502 ")
    for answer in (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 7\r\n\r\nhello",):
        proxy.upstream.answer = answer
        assert proxy.ask(ask).startswith(b"HTTP/1.1 502 ")


# --- bounds -------------------------------------------------------------------------------------------------


def test_heads_are_bounded_in_size_and_time(hasty: Proxy) -> None:
    proxy = hasty
    large = b"GET http://web.example.org/ HTTP/1.1\r\nX: " + b"a" * 100_000
    with proxy.connect() as client, contextlib.suppress(BrokenPipeError):
        client.sendall(large)
        assert b"E_EGRESS_REQUEST" in read_all(client)
    began = time.monotonic()
    assert b"E_EGRESS_REQUEST" in proxy.ask(b"CONNECT web.exam")
    assert time.monotonic() - began < 20 * SHORT_SECONDS
    wait_for(
        lambda: proxy.ask(connect_to("web.example.org:443"), b"\x16\x03").endswith(b"\x02\x70"),
        what="a hello that never ends is refused",
    )
    assert set(proxy.dialled) == {("127.0.0.1", 443)}
    refused = len(proxy.refused)
    assert proxy.ask(b"") == b"" and len(proxy.refused) == refused  # (one that is opened in store)


def test_slow_and_many_connections_keep_nobody_out_for_long(hasty: Proxy) -> None:
    proxy = hasty
    with contextlib.ExitStack() as open_ones:
        for _ in range(25):
            one = open_ones.enter_context(proxy.connect())
            with contextlib.suppress(BrokenPipeError):  # one too many, and cut before this came
                one.sendall(b"CONNECT web")
        wait_for(
            lambda: any(refusal.code == "E_EGRESS_BUSY" for refusal in proxy.refused), what="there are too many"
        )
        wait_for(lambda: b" 200 " in proxy.ask(b"GET http://web.example.org/ HTTP/1.1\r\nHost: x\r\n\r\n"))
    wait_for(lambda: len(proxy.gate._open) < 20, what="the slow ones are gone")


def test_a_policy_that_changes_cuts_what_is_allowed_no_longer(proxy: Proxy) -> None:
    with proxy.connect() as stays, proxy.connect() as goes:
        for client, host in ((stays, "web.example.org"), (goes, "deep.sub.example.org")):
            client.sendall(connect_to(f"{host}:5432"))
            assert b" 200 " in read_head(client)
        proxy.change(Policy.of(["web.example.org:5432"]))
        assert read_all(goes) == b""
        stays.sendall(b"x")
        wait_for(lambda: b"x" in b"".join(proxy.upstream.heard), what="the other one goes on")
    assert b"NOT_ALLOWED" in proxy.ask(connect_to("deep.sub.example.org:5432"))
    with proxy.connect() as inside:
        proxy.change(Policy.of(["web.example.org:5432"], ["10.1.0.0/16"]))
        inside.sendall(connect_to("web.example.org:5432"))
        assert b" 200 " in read_head(inside)
        proxy.change(Policy.of(["web.example.org:5432"]))
        assert read_all(inside) in (b"", proxy.upstream.answer), "other networks cut all"


def test_own_addresses_are_known_without_a_list() -> None:
    assert is_own("127.0.0.1") and is_own("127.3.2.1") and not is_own("198.18.0.1")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe, contextlib.suppress(OSError):
        probe.connect(("198.18.0.1", 9))
        assert is_own(probe.getsockname()[0])


# --- the process --------------------------------------------------------------------------------------------


def start_process(root: Root) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "tests.fakes.egress_proxy", "--root", str(root.path)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def through(root: Root, workstation: str, request: bytes) -> bytes:
    """What comes back on the socket of a workstation, however long the path to it."""
    try:
        descriptor = os.open(root.gate(workstation), os.O_PATH)
    except FileNotFoundError:
        return b""
    try:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(30)
            client.connect(f"/proc/self/fd/{descriptor}/proxy")
            client.sendall(request)
            return read_all(client)
    except OSError:
        return b""
    finally:
        os.close(descriptor)


def test_the_process_goes_by_its_files_and_is_found_again(tmp_path: Path) -> None:
    root, upstream = Root(tmp_path / ("long" * 30) / "root"), Upstream()
    root.path.mkdir(parents=True)
    ask = f"GET http://web.example.org:{upstream.port}/ HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    write_policy(root, "one-1", PolicyFile(allow=(f"web.example.org:{upstream.port}",)))
    write_policy(root, "two-1", PolicyFile())
    with start_process(root) as process:
        try:
            wait_for(lambda: b" 200 " in through(root, "one-1", ask), what="it is allowed")
            folder = root.gate("one-1").stat().st_ino
            running = running_proxy(root)
            assert running is not None and running.pid == process.pid
            assert b"NOT_ALLOWED" in wait_for(lambda: through(root, "two-1", ask))
            second = subprocess.run(
                [sys.executable, "-m", "supervisor.egress", "--root", str(root.path)],
                capture_output=True,
                check=False,
            )
            assert second.returncode == 75
            write_policy(root, "two-1", PolicyFile(allow=("*.example.org:1", f"*.example.org:{upstream.port}")))
            wait_for(lambda: b" 200 " in through(root, "two-1", ask), what="the new policy counts")
            root.egress_policy("one-1").write_text("allow: everything\n")
            wait_for(lambda: b"NOT_ALLOWED" in through(root, "one-1", ask), what="a bad one allows nothing")
            told = wait_for(lambda: read_refusals(root, "one-1"), what="refusals are written down")
            wait_for(lambda: read_refusals(root, "two-1"), what="those of the other one, too")
            assert told[0]["code"] == "E_EGRESS_NOT_ALLOWED" and told[0]["port"] == upstream.port
        finally:
            process.kill()
    assert running_proxy(root) is None and through(root, "one-1", ask) == b""
    write_policy(root, "one-1", PolicyFile(allow=(f"web.example.org:{upstream.port}",)))
    with start_process(root) as process:
        try:
            wait_for(lambda: b" 200 " in through(root, "one-1", ask), what="its place is taken")
            assert root.gate("one-1").stat().st_ino == folder
            root.egress_policy("two-1").unlink()
            wait_for(lambda: through(root, "two-1", ask) == b"", what="what has no policy has no gate")
            events = list(RefusedNews(root).take())
            assert {event.details["workstation"] for event in events} == {"one-1", "two-1"}
            assert list(RefusedNews(root).take()) == []  # (they were told by the one before)
            json.dumps([event.details for event in events])
            shutil.rmtree(root.path)
            assert process.wait(60) == 0, "without its root it ends"
        finally:
            process.kill()
            upstream.close()
