"""A small client of the Docker engine's API on its unix socket: for what is asked often, and for the events.

A call of the docker program costs 12 to 80 ms, one of these about one. The paths carry no version: the engine
then answers with its own, from 20.10 to 29.
"""

import contextlib
import http.client
import json
import os
import socket
import threading
import urllib.parse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from supervisor.errors import CloudCodeError, user_name

ANSWER_SECONDS = 5.0
REMOVAL_SECONDS = 120.0
SYSTEM_SOCKET = Path("/var/run/docker.sock")


class EngineAwayError(CloudCodeError):
    """E_ENGINE_AWAY: no engine listens, it does not answer, or this user may not ask it. It may come back."""

    retryable = True


class EngineRefusalError(CloudCodeError):
    """E_ENGINE: the engine answered with an error; `status` is that of HTTP."""

    def __init__(self, status: int, message: str) -> None:
        self.status = status
        super().__init__("E_ENGINE", f"The Docker engine refused: {message[:1000]}")


class Source(Protocol):
    """What bytes are read from, such as an answer, until there are none."""

    def read(self, count: int, /) -> bytes: ...


def engine_socket(environment: Mapping[str, str] = os.environ) -> Path:
    """Where the engine of this host listens: DOCKER_HOST, else the system's socket. E_ENGINE_HOST."""
    named = environment.get("DOCKER_HOST", "")
    if not named:
        return SYSTEM_SOCKET
    if not named.startswith("unix:///"):
        raise CloudCodeError(
            "E_ENGINE_HOST",
            f"DOCKER_HOST is {named.partition('://')[0]}://…: a workstation needs the files of this host.",
            "Use an engine of this host (unix:///…), or unset DOCKER_HOST.",
        )
    return Path(named.removeprefix("unix://"))


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout_seconds: float | None) -> None:
        super().__init__("docker", timeout=timeout_seconds)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


@dataclass(frozen=True)
class Engine:
    """One engine; every method raises EngineAwayError and EngineRefusalError. May be used from any thread.

    Once `ending` is set, no removal is waited for any longer than for any other answer.
    """

    path: Path = field(default_factory=engine_socket)
    ending: threading.Event = field(default_factory=threading.Event, compare=False)

    def version(self) -> str:
        """What the engine says of its version, such as ``20.10.24``; empty when it says nothing."""
        with self._asked("GET", "/_ping", None, ANSWER_SECONDS) as answer:
            words = (answer.getheader("Server") or "").replace("/", " ").split()
        return words[1] if words[:1] == ["Docker"] and len(words) > 1 else ""

    def get(self, path: str, **query: object) -> Any:
        """The JSON answer; a mapping or a list in `query` is sent as JSON, as the engine wants its filters."""
        return json.loads(self.read(path, **query))

    def read(self, path: str, **query: object) -> bytes:
        with self._asked("GET", _with(path, query), None, ANSWER_SECONDS) as answer:
            return answer.read()

    def image(self, name: str) -> dict[str, Any] | None:
        """What the engine knows of an image; None where it has none of this name."""
        try:
            found: dict[str, Any] = self.get(f"/images/{name}/json")
        except EngineRefusalError as error:
            if error.status != 404:
                raise
            return None
        return found

    def post(self, path: str, body: object = None, seconds: float = ANSWER_SECONDS, **query: object) -> Any:
        with self._asked("POST", _with(path, query), body, seconds) as answer:
            said = answer.read()
        return json.loads(said) if said.strip() else None

    @contextlib.contextmanager
    def download(self, path: str, seconds: float, /, **query: object) -> Iterator[http.client.HTTPResponse]:
        """An answer that is read piece by piece; `seconds` is how long each may take."""
        with self._asked("GET", _with(path, query), None, seconds) as answer:
            yield answer

    def upload(self, path: str, file: Source, seconds: float, /, **query: object) -> None:
        """Send a file whole, piece by piece."""
        with self._asked("PUT", _with(path, query), file, seconds) as answer:
            answer.read()

    def delete(self, path: str, **query: object) -> None:
        """What many files lie in takes a while; so nothing is removed where others wait."""
        seconds = ANSWER_SECONDS if self.ending.is_set() else REMOVAL_SECONDS
        with self._asked("DELETE", _with(path, query), None, seconds) as answer:
            answer.read()

    def events(
        self, filters: Mapping[str, object], idle_seconds: float, since_ns: int
    ) -> Iterator[dict[str, Any] | None]:
        """Events since a time (of the epoch); None first, when they are subscribed to.

        Ends when the engine ends the stream, as it does at its own end, and after `idle_seconds` without an event,
        then with another None. The engine remembers the last 256, and tells them again.
        """
        since = f"{since_ns // 10**9}.{since_ns % 10**9:09d}"
        path = _with("/events", {"filters": filters, "since": since})
        with self._asked("GET", path, None, ANSWER_SECONDS, idle_seconds) as answer:
            yield None
            while True:
                try:
                    line = answer.readline()
                except TimeoutError:
                    yield None
                    return  # (a response that has timed out cannot be read any further)
                if not line:
                    return
                with contextlib.suppress(ValueError):
                    yield json.loads(line)

    @contextlib.contextmanager
    def _asked(
        self,
        method: str,
        path: str,
        body: object,
        seconds: float,
        idle_seconds: float | None = None,
    ) -> Iterator[http.client.HTTPResponse]:
        connection = _Connection(self.path, seconds)
        is_file = hasattr(body, "read")
        data: Any = body if body is None or is_file else json.dumps(body).encode()
        kind = "application/x-tar" if is_file else "application/json"
        try:
            connection.request(method, path, data, {"Content-Type": kind} if data is not None else {})
            if idle_seconds is not None and connection.sock is not None:
                connection.sock.settimeout(idle_seconds)
            answer = connection.getresponse()
            if answer.status >= 400:
                raise EngineRefusalError(answer.status, _message(answer.read(100_000)))
            yield answer
        except (OSError, http.client.HTTPException) as error:
            raise EngineAwayError(*_away(self.path, error)) from None
        finally:
            connection.close()


def _with(path: str, query: Mapping[str, object]) -> str:
    values = {k: v if isinstance(v, str | int) else json.dumps(v) for k, v in query.items()}
    return f"{path}?{urllib.parse.urlencode(values)}" if values else path


def _message(body: bytes) -> str:
    try:
        return str(json.loads(body)["message"])
    except (ValueError, KeyError, TypeError):
        return body.decode(errors="replace").strip() or "without a word"


def _away(path: Path, error: Exception) -> tuple[str, str, str]:
    if isinstance(error, PermissionError):
        message = f"This user may not use the Docker engine on {path}."
        mend = f"sudo usermod -aG docker {user_name(os.geteuid())}, then sign in again (a service: restart it)."
        return "E_ENGINE_AWAY", message, mend
    why = getattr(error, "strerror", None) or str(error) or type(error).__name__
    message = f"The Docker engine does not answer on {path}: {why}."
    return "E_ENGINE_AWAY", message, "sudo systemctl start docker (or install it: sudo apt-get install docker.io)"
