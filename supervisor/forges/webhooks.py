"""Hears webhooks of GitHub and GitLab. A delivery says nothing but that there may be news: it wakes the poll.

Whoever reaches the port may send anything: a connection carries one request, in bounded time and size, and what
a delivery says is never used.
"""

import asyncio
import contextlib
import json
import logging
import queue
import re
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from loguru import logger
from uvicorn.protocols.http.h11_impl import H11Protocol

from supervisor.core.decision import Event
from supervisor.core.settings import Config, ProjectSettings, WebhookListener, WebhookSettings
from supervisor.core.webhook import PATH, Wakes, delivery_id, is_authentic, proof_of
from supervisor.forges.errors import ForgeError
from supervisor.forges.tokens import ReadSecret, sign_in_with
from supervisor.pool import Message

MAX_BODY_BYTES = 1024 * 1024
MAX_CONNECTIONS = 64
CONNECTION_SECONDS = 15.0
REMEMBERED = 4096
_TELL_SECONDS = 60.0
_RETRY_SECONDS = 30.0
_STOP_SECONDS = 1
_PATH = re.compile(re.escape(PATH) + r"([a-z][a-z0-9-]{0,40})")

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class _RefusedError(Exception):
    """A request gets this status and this sentence."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status, self.text = status, text


class _GoneError(Exception):
    """The other side has left."""


@dataclass
class _Request:
    """One request, whose body is read when it is asked for."""

    scope: Scope
    receive: Receive
    whole: bool = False

    @property
    def headers(self) -> dict[bytes, bytes]:
        return dict(self.scope["headers"])

    async def body(self) -> bytes:
        too_big = _RefusedError(413, f"More than {MAX_BODY_BYTES} bytes.")
        if int(self.headers.get(b"content-length", b"0")) > MAX_BODY_BYTES:
            raise too_big
        found = bytearray()
        while not self.whole:
            found += await self._chunk()
            if len(found) > MAX_BODY_BYTES:
                raise too_big
        return bytes(found)

    async def _chunk(self) -> bytes:
        message = await self.receive()
        if message["type"] != "http.request":
            raise _GoneError
        self.whole = not message.get("more_body", False)
        return bytes(message.get("body", b""))

    async def answer(self, send: Send, status: int, text: str) -> None:
        """Answer, then take what is still sent: a connection that is cut meanwhile loses the answer."""
        head = [(b"content-type", b"text/plain; charset=utf-8"), (b"connection", b"close")]
        data = f"{text}\n".encode()
        head += [(b"content-length", str(len(data)).encode()), *([(b"allow", b"POST")] if status == 405 else [])]
        await send({"type": "http.response.start", "status": status, "headers": head})
        await send({"type": "http.response.body", "body": data, "more_body": True})
        while not self.whole:
            await self._chunk()
        await send({"type": "http.response.body"})


@dataclass
class Receiver:
    """The ASGI application: ``POST /hooks/<project>``. `wake` is called for each delivery that is one."""

    read_secret: ReadSecret
    projects: Mapping[str, ProjectSettings]
    wake: Callable[[str], None]
    _met: dict[tuple[str, bytes], None] = field(default_factory=dict, init=False, repr=False)
    _told: dict[tuple[str, int], float] = field(default_factory=dict, init=False, repr=False)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        request = _Request(scope, receive)
        with contextlib.suppress(_GoneError):
            try:
                status, text = await self._take(request)
            except _RefusedError as refused:
                status, text = refused.status, refused.text
            await request.answer(send, status, text)

    async def _take(self, request: _Request) -> tuple[int, str]:
        found = _PATH.fullmatch(str(request.scope["path"]))
        name = found[1] if found is not None else ""
        settings = self.projects.get(name)
        if settings is None or settings.webhook is None:
            raise _RefusedError(404, "Nothing is heard here.")
        if request.scope["method"] != "POST":
            raise _RefusedError(405, "Deliveries are sent with POST.")
        headers = request.headers
        await self._prove(name, settings.forge, settings.webhook, request)
        if headers.get(b"x-github-event") == b"ping":
            return 200, "Heard."
        if self._is_known(name, delivery_id(headers)):
            return 202, "It came before."
        self.wake(name)
        return 202, "Heard."

    async def _prove(self, name: str, forge: str, hook: WebhookSettings, request: _Request) -> None:
        """Refuse what is no delivery of the forge."""
        proof = proof_of(forge, request.headers)
        if not proof:
            raise _RefusedError(401, "Neither a signature nor a token: set a secret where the webhook is made.")
        try:
            secret = sign_in_with(self.read_secret, hook.secret)
        except ForgeError as error:
            self._tell(name, 503, f"{error.code}: {error.message} {error.mend}")
            raise _RefusedError(503, "The secret cannot be read here.") from None
        body = await request.body()
        if not is_authentic(forge, secret, request.headers, body, time.time()):
            self._tell(name, 401, f"its proof does not fit {hook.secret}: set the same secret on both sides")
            raise _RefusedError(401, "Not what the secret here makes of it.")
        try:
            json.loads(body)
        except (ValueError, RecursionError):
            self._tell(name, 400, "it is no JSON: set the content type to application/json where it is made")
            raise _RefusedError(400, "Not JSON: set the content type to application/json.") from None

    def _is_known(self, name: str, delivery: bytes) -> bool:
        """Whether this delivery came before; it is remembered, so many at most."""
        key = (name, delivery)
        if not delivery or key in self._met:
            return bool(delivery)
        self._met[key] = None
        if len(self._met) > REMEMBERED:
            del self._met[next(iter(self._met))]
        return False

    def _tell(self, name: str, status: int, why: str) -> None:
        """A line in the log for what a person must mend; strangers cannot fill it."""
        now, key = time.monotonic(), (name, status)
        if now - self._told.get(key, -_TELL_SECONDS) >= _TELL_SECONDS:
            self._told[key] = now
            logger.bind(project=name).warning("a delivery to the webhook of {} is refused: {}", name, why)


@dataclass
class Waker:
    """Posts polls of projects when `Wakes` says so; all of it in the listener's thread."""

    inbox: "queue.SimpleQueue[Message]"
    _wakes: dict[str, Wakes] = field(default_factory=dict, init=False)
    _timers: dict[str, asyncio.TimerHandle] = field(default_factory=dict, init=False)

    def delivered(self, project: str) -> None:
        now = asyncio.get_running_loop().time()
        self._wakes[project] = self._wakes.get(project, Wakes()).delivered(now)
        self._go_on(project)

    def _go_on(self, project: str) -> None:
        loop = asyncio.get_running_loop()
        self._wakes[project], is_due = self._wakes[project].taken(loop.time())
        if is_due:
            self.inbox.put(("poll", project))
        if project in self._timers:
            self._timers.pop(project).cancel()
        moment = self._wakes[project].next
        if moment is not None:
            self._timers[project] = loop.call_at(moment, self._go_on, project)


class _Connection(H11Protocol):
    """A connection that ends in time, whatever is sent or not; and only so many of them."""

    _end: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > MAX_CONNECTIONS:
            transport.abort()
        else:
            self._end = self.loop.call_later(CONNECTION_SECONDS, transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._end is not None:
            self._end.cancel()
        super().connection_lost(exc)

    def shutdown(self) -> None:
        """The server ends: what is still being sent is not waited for."""
        if self.cycle is None or self.cycle.more_body:
            self.transport.abort()
        else:
            super().shutdown()


class Webhooks:
    """Hears webhooks in a thread of its own, if the configuration says where.

    A port that cannot be had stops nothing: forges are polled anyway, `look` tells of it, and it is tried again.
    """

    def __init__(self, config: Config, read_secret: ReadSecret, inbox: "queue.SimpleQueue[Message]") -> None:
        self._read_secret, self._listener, self._inbox = read_secret, config.webhooks, inbox
        self._projects = {
            name: project
            for name, project in config.projects.items()
            if project.webhook is not None and project.forge != "local"
        }
        self._news: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._stop = threading.Event()
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None
        self._failed = False
        self.address: tuple[str, int] | None = None

    def start(self) -> None:
        if self._listener is None:
            return
        _quieten()
        self._thread = threading.Thread(target=self._run, args=[self._listener], name="webhooks", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Finish what is being answered, for a moment, and end."""
        self._stop.set()
        if self._server is not None:
            self._server.should_exit = True
        if self._thread is not None:
            self._thread.join(timeout=_STOP_SECONDS + 3)

    def look(self) -> Event | None:
        """Whether it has begun to listen, or cannot; each once."""
        with contextlib.suppress(queue.Empty):
            return self._news.get_nowait()
        return None

    def _run(self, listener: WebhookListener) -> None:
        while not self._stop.is_set():
            try:
                self._hear(open_socket(listener))
            except OSError as error:
                self._tell_failure(listener, error.strerror or str(error))
            except Exception as error:
                logger.exception("E_BUG in hearing webhooks")
                self._tell_failure(listener, type(error).__name__)
            self._stop.wait(_RETRY_SECONDS)

    def _tell_failure(self, listener: WebhookListener, why: str) -> None:
        if not self._failed:
            details = {
                "code": "E_WEBHOOK_PORT",
                "message": f"{listener.host}, port {listener.port} cannot be listened on ({why}).",
                "mend": f"Forges are polled meanwhile, and it is tried again every {_RETRY_SECONDS:.0f} s.",
            }
            self._news.put(Event(name="webhooks.failed", details=details))
        self._failed = True

    def _hear(self, listening: socket.socket) -> None:
        with listening:
            host, port = listening.getsockname()[:2]
            shown = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
            self._server = uvicorn.Server(
                uvicorn.Config(
                    Receiver(self._read_secret, self._projects, Waker(self._inbox).delivered),
                    http=_Connection,
                    loop="asyncio",
                    ws="none",
                    lifespan="off",
                    log_config=None,
                    access_log=False,
                    server_header=False,
                    proxy_headers=False,
                    timeout_graceful_shutdown=_STOP_SECONDS,
                )
            )
            self._server.should_exit = self._stop.is_set()
            self.address, self._failed = (host, port), False
            self._news.put(Event(name="webhooks.listening", details={"address": shown}))
            asyncio.run(_serve(self._server, listening))


async def _serve(server: uvicorn.Server, listening: socket.socket) -> None:
    await server.serve(sockets=[listening])
    for connection in list(server.server_state.connections):
        connection.transport.abort()
    await asyncio.sleep(0)


def open_socket(listener: WebhookListener) -> socket.socket:
    """Listen where the configuration says; OSError."""
    family = socket.AF_INET6 if ":" in listener.host else socket.AF_INET
    return socket.create_server((listener.host, listener.port), family=family, backlog=MAX_CONNECTIONS)


class _Errors(logging.Handler):
    """Errors of the server go into our log."""

    def emit(self, record: logging.LogRecord) -> None:
        logger.opt(exception=record.exc_info).error("webhooks: {}", record.getMessage())


def _quieten() -> None:
    """The server's own log: what strangers send is no news."""
    theirs = logging.getLogger("uvicorn")
    theirs.handlers, theirs.propagate = [_Errors(level=logging.ERROR)], False
    theirs.setLevel(logging.ERROR)
