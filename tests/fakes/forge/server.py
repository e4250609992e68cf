"""What both fake forges share: a real HTTP server with entity tags, pages, a rate limit, faults, git, a journal.

A forge is a `Forge` with routes; its methods get a `Call` and return a `Reply`. All of them run under one lock,
so that the state needs none of its own. Faults are told from outside: fail before or after the work is done,
answer late, drop the connection.
"""

import base64
import hashlib
import json
import re
import subprocess
import threading
import time
import urllib.parse
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, ClassVar

from tests.fakes.forge.contract import Contract
from tests.fakes.serving import Served

MAX_PAGE = 100


@dataclass(frozen=True, kw_only=True)
class Call:
    """One request: `path` without the query, `query` with single values, `body` as sent, `login` who asks."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: Any
    raw: bytes
    token: str
    login: str
    parts: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What a route answers. `paged`: `body` is the whole list, of which a page is sent."""

    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    paged: bool = False


class RefusedError(Exception):
    """A route refuses: the status and the forge's way of saying so."""

    def __init__(self, status: int, body: Any, **headers: str) -> None:
        super().__init__(f"{status}: {body}")
        self.reply = Reply(status=status, body=body, headers=headers)


@dataclass(kw_only=True)
class Fault:
    """Something that goes wrong with the next `times` requests that match.

    `after_work`: the work is done first, then the answer is spoiled. `drop`: the connection is cut instead of
    an answer. `delay_seconds`: the answer comes late.
    """

    method: str = ".*"
    path: str = ".*"
    times: int = 1
    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    body: Any = None
    after_work: bool = False
    drop: bool = False
    delay_seconds: float = 0.0
    met: int = 0

    def matches(self, method: str, path: str) -> bool:
        return self.met < self.times and bool(re.fullmatch(self.method, method) and re.search(self.path, path))


@dataclass(frozen=True, kw_only=True)
class Exchange:
    """One line of the journal; `charged` says whether the rate limit was."""

    method: str
    path: str
    template: str
    status: int
    token: str
    charged: bool
    at: float


Route = Callable[[Any, Call], Reply]


def route(method: str, template: str) -> Callable[[Route], Route]:
    """Marks a method of a forge as the handler of ``METHOD /path/{part}``; ``{part+}`` may hold slashes.

    The forge's prefix comes before it, unless it begins with ``^``.
    """

    def mark(handler: Route) -> Route:
        handler.routes = [*getattr(handler, "routes", []), (method, template)]  # type: ignore[attr-defined]
        return handler

    return mark


class Forge(Served):
    """The base of both fakes. Use as a context manager; `url` is where the API answers.

    `tokens` maps a token to a login. `repositories` maps ``owner/name`` to a bare repository on disk, which is
    served over git's smart HTTP at ``/owner/name.git`` to whoever has a token.
    """

    prefix = ""
    git_prefix: ClassVar[str] = ""
    rate_headers: ClassVar[tuple[str, str, str]] = (
        "x-ratelimit-limit",
        "x-ratelimit-remaining",
        "x-ratelimit-reset",
    )

    def __init__(self, contract: Contract | None = None, rate_limit: int = 5000) -> None:
        self.contract, self.rate_limit = contract, rate_limit
        self.lock = threading.RLock()
        self.tokens: dict[str, str] = {}
        self.repositories: dict[str, Path] = {}
        self.faults: list[Fault] = []
        self.journal: list[Exchange] = []
        self.violations: list[str] = []
        self.hooks: list[tuple[str, str]] = []
        self.deliveries: list[dict[str, Any]] = []
        self.spent: Counter[str] = Counter()
        self.ahead_seconds = 0.0  # (of the clock in its answers, after the times in its lists)
        self._last_id = 1000
        self._routes = [
            (
                method,
                re.compile(_route_pattern(template[1:] if template.startswith("^") else self.prefix + template)),
                template,
                handler,
            )
            for handler in (getattr(type(self), name, None) for name in dir(type(self)))
            for method, template in getattr(handler, "routes", ())
        ]
        self._routes.sort(key=lambda entry: (entry[2].count("{"), -len(entry[2])))

    def handler(self) -> type[BaseHTTPRequestHandler]:
        return _Handler

    @property
    def url(self) -> str:
        return self.origin + self.prefix

    # --- for the forges ---------------------------------------------------------------------------------

    def next_id(self) -> int:
        self._last_id += 1
        return self._last_id

    def git(self, repository: str, *arguments: str) -> str:
        """What git says in a repository of this forge; empty when it fails."""
        done = subprocess.run(
            ["git", "-C", str(self.repositories[repository]), *arguments],
            capture_output=True,
            text=True,
            env={"PATH": "/usr/bin:/bin", "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1"},
            timeout=30,
        )
        return done.stdout.strip() if done.returncode == 0 else ""

    def pushed(self, repository: str, login: str) -> None:
        """Called after each push over HTTP: a forge brings its requests up to date."""

    def may_use_git(self, login: str, repository: str, *, push: bool) -> bool:
        """Whether who signs in so may fetch, or push: without it the repository is not there for them."""
        return True

    def deliver(self, url: str, data: bytes, headers: dict[str, str]) -> None:
        """Send a webhook from a thread of its own; what became of it stands in `deliveries`."""
        threading.Thread(target=self._deliver, args=(url, data, headers), daemon=True).start()

    def _deliver(self, url: str, data: bytes, headers: dict[str, str]) -> None:
        request = urllib.request.Request(url, data=data, headers=headers)  # noqa: S310
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
                status = answer.status
        except OSError as error:
            status = getattr(error, "code", 0)
        with self.lock:
            self.deliveries.append({"url": url, "status": status, "headers": headers})

    def admit(self, call: Call, template: str) -> None:
        """Called before a route is: a forge may refuse here."""

    def not_found(self) -> RefusedError:
        return RefusedError(404, {"message": "Not Found"})

    # --- for tests --------------------------------------------------------------------------------------

    def fail(self, **fault: Any) -> Fault:
        """Add a fault; see `Fault`. Returns it, so that a test sees how often it was `met`."""
        made = Fault(**fault)
        with self.lock:
            self.faults.append(made)
        return made

    def calls(self, method: str = ".*", template: str = ".*") -> list[Exchange]:
        """The journal's exchanges of this kind."""
        with self.lock:
            return [e for e in self.journal if re.fullmatch(method, e.method) and re.search(template, e.template)]

    def points(self) -> int:
        """What the rate limit has charged so far, over all tokens."""
        with self.lock:
            return sum(self.spent.values())

    # --- one request ------------------------------------------------------------------------------------

    def answer(self, call: Call) -> tuple[Reply, str]:
        """The reply to a call, and the template of its route."""
        for method, pattern, template, handler in self._routes:
            found = pattern.fullmatch(call.path)
            if found and method == call.method:
                parts = {k: urllib.parse.unquote(v) for k, v in found.groupdict().items()}
                with self.lock:
                    try:
                        self.admit(call, template)
                        return handler(self, _with_parts(call, parts)), template
                    except RefusedError as refused:
                        return refused.reply, template
        return Reply(status=404, body={"message": "Not Found"}), "?"

    def fault_for(self, method: str, path: str) -> Fault | None:
        with self.lock:
            for fault in self.faults:
                if fault.matches(method, path):
                    fault.met += 1
                    return fault
        return None

    def write_down(self, call: Call, template: str, reply: Reply, *, charged: bool) -> None:
        with self.lock:
            if charged:
                self.spent[call.token] += 1
            self.journal.append(
                Exchange(
                    method=call.method,
                    path=call.path,
                    template=template,
                    status=reply.status,
                    token=call.token,
                    charged=charged,
                    at=time.monotonic(),
                )
            )
            if self.contract is not None and "graphql" not in template:
                self.violations += self.contract.violations(
                    call.method, call.path, call.body, reply.status, None if reply.status == 304 else reply.body
                )


def _with_parts(call: Call, parts: dict[str, str]) -> Call:
    return Call(**{**call.__dict__, "parts": parts})


def _route_pattern(template: str) -> str:
    parts = re.split(r"(\{[^}]+\})", template)
    return "".join(
        f"(?P<{part[1:-1].rstrip('+')}>{'.+' if part.endswith('+}') else '[^/]+'})"
        if part.startswith("{")
        else re.escape(part)
        for part in parts
    )


def now() -> str:
    """The forge's clock, as both forges write times."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def page_of(items: list[Any], query: dict[str, str]) -> tuple[list[Any], int, int, int]:
    """One page of a list: the items, its number, the last page's number, the size of a page."""
    size = max(1, min(int(query.get("per_page", 30)), MAX_PAGE))
    number = max(1, int(query.get("page", 1)))
    last = max(1, -(-len(items) // size))
    return items[(number - 1) * size : number * size], number, last, size


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # (unbuffered, a header is a packet: 40 ms a request)
    served: ClassVar[Forge]
    server_version = "fake"

    def log_message(self, *_: object) -> None:
        pass

    def date_time_string(self, timestamp: float | None = None) -> str:
        return super().date_time_string((timestamp or time.time()) + self.served.ahead_seconds)

    def _serve(self) -> None:
        forge = self.served
        length = int(self.headers.get("Content-Length") or 0)
        raw = self._chunked() if self.headers.get("Transfer-Encoding") == "chunked" else self.rfile.read(length)
        address = urllib.parse.urlsplit(self.path)
        if ".git/" in address.path and not address.path.startswith(forge.prefix + "/repos/"):
            self._git(address, raw)
            return
        call = self._call(address, raw)
        fault = forge.fault_for(call.method, call.path)
        if fault is not None and fault.delay_seconds:
            time.sleep(fault.delay_seconds)
        if fault is not None and not fault.after_work and (fault.status is not None or fault.drop):
            self._spoil(fault)
            return
        reply, template = forge.answer(call)
        reply = self._conditional(call, self._paged(call, reply))
        forge.write_down(call, template, reply, charged=reply.status != 304)
        if fault is not None and fault.after_work:
            self._spoil(fault)
            return
        self._send(reply, call)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _serve  # noqa: N815

    def _call(self, address: urllib.parse.SplitResult, raw: bytes) -> Call:
        headers = {name.lower(): value for name, value in self.headers.items()}
        token = _token(headers)
        try:
            body = json.loads(raw) if raw else None
        except ValueError:
            body = None
        return Call(
            method=self.command,
            path=address.path,
            query=dict(urllib.parse.parse_qsl(address.query)),
            headers=headers,
            body=body,
            raw=raw,
            token=token,
            login=self.served.tokens.get(token, ""),
            parts={},
        )

    def _paged(self, call: Call, reply: Reply) -> Reply:
        if not reply.paged:
            return reply
        items, number, last, size = page_of(reply.body, call.query)
        here = self.served.origin + call.path
        links = []
        for name, page in (("next", number + 1), ("prev", number - 1), ("first", 1), ("last", last)):
            if 1 <= page <= last and page != number:
                query = urllib.parse.urlencode({**call.query, "page": page, "per_page": size})
                links.append(f'<{here}?{query}>; rel="{name}"')
        paging = {
            "x-page": str(number),
            "x-per-page": str(size),
            "x-total": str(len(reply.body)),
            "x-total-pages": str(last),
            "x-next-page": str(number + 1) if number < last else "",
        }
        headers = {**reply.headers, **paging, **({"link": ", ".join(links)} if links else {})}
        return Reply(status=reply.status, body=items, headers=headers)

    def _conditional(self, call: Call, reply: Reply) -> Reply:
        """Entity tags belong to a token, as GitHub's do."""
        if call.method != "GET" or reply.status != 200:
            return reply
        digest = hashlib.sha256(json.dumps([call.token, reply.body], sort_keys=True).encode()).hexdigest()
        tag = f'W/"{digest[:32]}"'
        if call.headers.get("if-none-match") == tag:
            return Reply(status=304, headers={"etag": tag})
        return Reply(status=200, body=reply.body, headers={**reply.headers, "etag": tag})

    def _send(self, reply: Reply, call: Call) -> None:
        data = b"" if reply.body is None else json.dumps(reply.body).encode()
        forge = self.served
        limit, remaining, reset = forge.rate_headers
        self.send_response(reply.status)
        self.send_header(limit, str(forge.rate_limit))
        self.send_header(remaining, str(max(0, forge.rate_limit - forge.spent[call.token])))
        self.send_header(reset, str(int(time.time()) + 3600))
        for name, value in reply.headers.items():
            self.send_header(name, value)
        if reply.status not in (204, 304):
            self.send_header("Content-Type", "application/json; charset=utf-8")
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if reply.status not in (204, 304):
            self.wfile.write(data)
        self.wfile.flush()

    def _spoil(self, fault: Fault) -> None:
        if fault.drop or fault.status is None:
            self.close_connection = True
            self.connection.close()
            return
        data = json.dumps(fault.body if fault.body is not None else {"message": "fault"}).encode()
        self.send_response(fault.status)
        for name, value in fault.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json; charset=utf-8")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
        self.wfile.flush()

    # --- git over smart HTTP ------------------------------------------------------------------------------

    def _chunked(self) -> bytes:
        data = bytearray()
        while size := int(self.rfile.readline().split(b";")[0], 16):
            data += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return bytes(data)

    def _git(self, address: urllib.parse.SplitResult, raw: bytes) -> None:
        forge = self.served
        name, _, rest = address.path.removeprefix(forge.git_prefix).lstrip("/").partition(".git/")
        headers = {key.lower(): value for key, value in self.headers.items()}
        login = forge.tokens.get(_token(headers), "")
        bare = forge.repositories.get(name)
        if bare is not None and login and not forge.may_use_git(login, name, push="receive-pack" in self.path):
            bare = None
        if bare is None or not login:
            status = 404 if bare is None and login else 401
            self.send_response(status)
            if status == 401:
                self.send_header("WWW-Authenticate", 'Basic realm="git"')
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        fault = forge.fault_for(f"GIT-{self.command}", address.path)
        if fault is not None and not fault.after_work:
            time.sleep(fault.delay_seconds)
            if fault.status is not None or fault.drop:
                self._spoil(fault)
                return
        environment = {
            "PATH": "/usr/bin:/bin",
            "GIT_PROJECT_ROOT": str(bare.parent),
            "GIT_HTTP_EXPORT_ALL": "1",
            "PATH_INFO": f"/{bare.name}/{rest}",
            "REQUEST_METHOD": self.command,
            "QUERY_STRING": address.query,
            "CONTENT_TYPE": headers.get("content-type", ""),
            "CONTENT_LENGTH": str(len(raw)),
            "HTTP_CONTENT_ENCODING": headers.get("content-encoding", ""),
            "GIT_PROTOCOL": headers.get("git-protocol", ""),
            "REMOTE_USER": login,
            "GIT_CONFIG_GLOBAL": "/dev/null",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_COUNT": "2",
            "GIT_CONFIG_KEY_0": "http.receivepack",
            "GIT_CONFIG_VALUE_0": "true",
            "GIT_CONFIG_KEY_1": "safe.directory",
            "GIT_CONFIG_VALUE_1": "*",
        }
        done = subprocess.run(["git", "http-backend"], input=raw, env=environment, capture_output=True, timeout=60)
        head, _, body = done.stdout.partition(b"\r\n\r\n")
        fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n") if ": " in line)
        if fault is not None and fault.after_work:
            self._spoil(fault)
            return
        self.send_response(int(fields.pop("Status", "200").split()[0]))
        for key, value in fields.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()
        if rest == "git-receive-pack":
            forge.pushed(name, login)


def _token(headers: dict[str, str]) -> str:
    """The token of a request: Bearer, GitHub's `token`, GitLab's header, or the password of Basic."""
    kind, _, value = headers.get("authorization", "").partition(" ")
    if kind.lower() in ("bearer", "token"):
        return value
    if kind.lower() == "basic":
        return base64.b64decode(value).decode().partition(":")[2]
    return headers.get("private-token", "")


def newest_first(items: Iterable[dict[str, Any]], key: str, *, descending: bool) -> list[dict[str, Any]]:
    """Sorted by a time field; equal times keep their order of making."""
    return sorted(items, key=lambda item: (item[key], item.get("id", 0)), reverse=descending)
