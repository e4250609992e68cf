"""A stand-in for a Vault server: a real HTTP server that answers the recorded requests alike; leases end.

Its clock goes on by itself and by `advance`. Everything runs under one lock. What it knows of policies is paths
with `*` at the end and capabilities.
"""

import json
import re
import secrets
import ssl
import string
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler
from typing import Any, ClassVar

from tests.fakes.serving import Served

DENIED = "1 error occurred:\n\t* permission denied\n\n"
_UNITS = {"s": 1, "m": 60, "h": 3600}


class RefusedError(Exception):
    """The status and the errors of an answer."""

    def __init__(self, status: int, *errors: str, body: Any = None) -> None:
        super().__init__(f"{status}: {errors}")
        self.status, self.body = status, body if body is not None else {"errors": list(errors)}


@dataclass
class Token:
    """A token; `ends_at` is None for one that never ends."""

    id: str
    accessor: str
    policies: list[str]
    path: str
    made_at: float
    ttl: float
    ends_at: float | None = None
    max_ends_at: float | None = None
    parent: str | None = None
    uses_left: int | None = None
    renewable: bool = True
    display_name: str = "token"
    meta: dict[str, str] | None = None


@dataclass
class Lease:
    """Something that was lent under a token, and goes with it."""

    id: str
    token: str
    made_at: float
    ends_at: float
    max_ends_at: float
    renewable: bool
    data: dict[str, str]


@dataclass
class Request:
    method: str
    path: str
    body: dict[str, Any]
    token: Token | None
    client_token: str


@dataclass
class Fault:
    """What goes wrong with the next requests to paths that match: an answer that comes late, a cut, a status."""

    path: str
    times: int = 1
    delay_seconds: float = 0
    drop_after: bool = False
    status: int | None = None


@dataclass
class FakeVault(Served):
    """Use as a context manager; `address` is where it answers, `root_token` may do everything."""

    root_token: str = "root"
    namespace: str = ""
    tls: ssl.SSLContext | None = None
    sealed: bool = False
    tokens: dict[str, Token] = field(default_factory=dict)
    leases: dict[str, Lease] = field(default_factory=dict)
    journal: list[tuple[str, str, int]] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    renewals: int = 0

    def __post_init__(self) -> None:
        self._lock = threading.RLock()
        self._ahead = 0.0
        self._policies: dict[str, dict[str, list[str]]] = {}
        self._roles: dict[str, dict[str, Any]] = {}
        self._secret_ids: dict[str, dict[str, Any]] = {}
        self._wrapped: dict[str, tuple[float, Any]] = {}
        self._wrapped_at: dict[str, str] = {}
        self._kv: dict[str, list[dict[str, Any]]] = {}
        self._mounts = {"secret": "kv"}
        self._database: dict[str, dict[str, Any]] = {}
        self._accessors: dict[str, str] = {}
        self.tokens[self.root_token] = Token(
            self.root_token, _word(24), ["root"], "auth/token/root", self.now(), 0
        )

    def handler(self) -> type[BaseHTTPRequestHandler]:
        return _Handler

    @property
    def address(self) -> str:
        return self.origin

    # --- for tests --------------------------------------------------------------------------------------

    def now(self) -> float:
        return time.time() + self._ahead

    def advance(self, seconds: float) -> None:
        """The server's clock goes on by this much, and what is over ends."""
        with self._lock:
            self._ahead += seconds
            self._expire()

    def lent(self, prefix: str = "") -> list[Lease]:
        """What is lent now."""
        with self._lock:
            self._expire()
            return [lease for lease in self.leases.values() if lease.id.startswith(prefix)]

    def signed_in(self, path: str = "auth/") -> list[Token]:
        """The tokens that live now, the root's apart."""
        with self._lock:
            self._expire()
            return [t for t in self.tokens.values() if t.path.startswith(path) and t.id != self.root_token]

    def unseal(self) -> None:
        with self._lock:
            self.sealed = False

    def seal(self) -> None:
        with self._lock:
            self.sealed = True

    def fail(self, path: str, **fault: Any) -> None:
        with self._lock:
            self.faults.append(Fault(path, **fault))

    def fault_for(self, path: str) -> Fault | None:
        with self._lock:
            for fault in self.faults:
                if fault.times > 0 and re.search(fault.path, path):
                    fault.times -= 1
                    return fault
        return None

    # --- one request ------------------------------------------------------------------------------------

    def answer(self, method: str, path: str, headers: dict[str, str], body: dict[str, Any]) -> tuple[int, Any]:
        """The status and the body of the answer."""
        with self._lock:
            try:
                status, found = self._answer(method, path, headers, body)
            except RefusedError as refused:
                status, found = refused.status, refused.body
            self.journal.append((method, path, status))
            return status, found

    def _answer(self, method: str, path: str, headers: dict[str, str], body: dict[str, Any]) -> tuple[int, Any]:
        self._expire()
        if path == "sys/health":
            return self._health()
        if self.sealed:
            raise RefusedError(503, "error performing token check: Vault is sealed")
        if self.namespace and headers.get("x-vault-namespace", "").strip("/") != self.namespace:
            raise RefusedError(404, "no handler for route")
        given = headers.get("x-vault-token", "")
        request = Request(method, path, body, None, given)
        handler, parts = self._route(method, path)
        if (path.startswith("sys/wrapping/") and path != "sys/wrapping/wrap") or path.endswith("/login"):
            return handler(self, request, *parts)
        request.token = self._admit(given)
        self._allow(request.token, path, method)
        status, found = handler(self, request, *parts)
        wrap = headers.get("x-vault-wrap-ttl")
        if wrap and status == 200:
            return 200, self._wrap(found, _seconds(wrap), path)
        return status, found

    def _route(self, method: str, path: str) -> tuple[Callable[..., tuple[int, Any]], tuple[str, ...]]:
        for methods, pattern, handler in _ROUTES:
            found = re.fullmatch(pattern, path)
            if found and method in methods.split():
                return handler, found.groups()
        raise RefusedError(404, f"no handler for route '{path}'")

    def _admit(self, given: str) -> Token:
        if not given:
            raise RefusedError(400, "missing client token")
        token = self.tokens.get(given)
        if token is None:
            raise RefusedError(403, "permission denied")
        if token.uses_left is not None:
            token.uses_left -= 1
            if token.uses_left <= 0:
                self._wrapped.pop(given, None)
                self.tokens.pop(given, None)
        return token

    def capabilities(self, token: Token, path: str) -> list[str]:
        if "root" in token.policies:
            return ["root"]
        found: tuple[int, list[str]] = (-1, ["deny"])
        for policy in [*token.policies, "default"]:
            rules = {**(_DEFAULT if policy == "default" else {}), **self._policies.get(policy, {})}
            for pattern, allowed in rules.items():
                fits = path.startswith(pattern[:-1]) if pattern.endswith("*") else path == pattern
                if fits and len(pattern) > found[0]:
                    found = (len(pattern), allowed)
        return found[1]

    def _allow(self, token: Token, path: str, method: str) -> None:
        allowed = self.capabilities(token, path)
        wanted = {"GET": {"read"}, "LIST": {"list"}, "DELETE": {"delete"}}.get(method, {"update", "create"})
        if "root" not in allowed and not wanted & set(allowed):
            raise RefusedError(403, DENIED)
        if path.startswith("sys/leases/revoke-prefix") and "root" not in allowed and "sudo" not in allowed:
            raise RefusedError(403, DENIED)

    def _expire(self) -> None:
        now = self.now()
        for token in list(self.tokens.values()):
            if token.ends_at is not None and token.ends_at <= now:
                self._end_token(token.id)
        for lease in list(self.leases.values()):
            if lease.ends_at <= now:
                self.leases.pop(lease.id, None)

    def _end_token(self, token_id: str) -> None:
        """A token takes what was lent under it along, and its children."""
        token = self.tokens.pop(token_id, None)
        if token is None:
            return
        self._accessors.pop(token.accessor, None)
        for lease in [lease for lease in self.leases.values() if lease.token == token_id]:
            self.leases.pop(lease.id, None)
        for child in [t.id for t in self.tokens.values() if t.parent == token_id]:
            self._end_token(child)

    # --- system -----------------------------------------------------------------------------------------

    def _health(self) -> tuple[int, Any]:
        mode = "unknown" if self.sealed else "disabled"
        told = {
            "initialized": True,
            "sealed": self.sealed,
            "standby": self.sealed,
            "performance_standby": False,
            "replication_performance_mode": mode,
            "replication_dr_mode": mode,
            "server_time_utc": int(self.now()),
            "version": "1.8.0-dev",
        }
        if self.sealed:
            return 503, told
        return 200, told | {"cluster_name": "vault-cluster", "cluster_id": str(uuid.uuid4())}

    def _seal(self, _request: Request) -> tuple[int, Any]:
        self.sealed = True
        return 204, None

    def _set_policy(self, request: Request, name: str) -> tuple[int, Any]:
        rules = re.findall(
            r'path\s+"([^"]+)"\s*\{\s*capabilities\s*=\s*\[([^]]*)\]', request.body.get("policy", "")
        )
        self._policies[name] = {path: re.findall(r'"(\w+)"', allowed) for path, allowed in rules}
        return 204, None

    def _mount(self, request: Request, path: str) -> tuple[int, Any]:
        if path in self._mounts:
            raise RefusedError(400, f"path is already in use at {path}/")
        self._mounts[path] = request.body["type"]
        return 204, None

    def _nothing(self, *_: object) -> tuple[int, Any]:
        return 204, None

    def _capabilities_self(self, request: Request) -> tuple[int, Any]:
        assert request.token is not None
        found = {path: self.capabilities(request.token, path) for path in request.body.get("paths", [])}
        first = next(iter(found.values()), [])
        return 200, _body(found | {"capabilities": first}) | found | {"capabilities": first}

    def _wrap(self, found: Any, ttl: float, path: str) -> Any:
        token = f"s.{_word(24)}"
        self._wrapped[token] = (self.now() + ttl, found)
        self._wrapped_at[token] = path
        info = {
            "token": token,
            "accessor": _word(24),
            "ttl": int(ttl),
            "creation_time": _time(self.now()),
            "creation_path": path,
        }
        return _body(None, request_id="", wrap_info=info)

    def _wrap_anew(self, request: Request) -> tuple[int, Any]:
        return 200, _body(request.body)

    def _lookup_wrapped(self, request: Request) -> tuple[int, Any]:
        wrapped = request.body.get("token") or request.client_token
        ends_at, _ = self._wrapped.get(wrapped, (0.0, None))
        if ends_at <= self.now():
            raise RefusedError(400, "wrapping token is not valid or does not exist")
        told = {"creation_path": self._wrapped_at[wrapped], "creation_time": _time(self.now()), "creation_ttl": 60}
        return 200, _body(told)

    def _unwrap(self, request: Request) -> tuple[int, Any]:
        if not request.client_token:
            raise RefusedError(400, "missing client token")
        ends_at, found = self._wrapped.pop(request.body.get("token") or request.client_token, (0.0, None))
        if found is None or ends_at <= self.now():
            raise RefusedError(400, "wrapping token is not valid or does not exist")
        return 200, found

    # --- tokens -----------------------------------------------------------------------------------------

    def _make_token(self, **facts: Any) -> Token:
        token = Token(id=f"s.{_word(24)}", accessor=_word(24), made_at=self.now(), **facts)
        token.ends_at = self.now() + token.ttl
        self.tokens[token.id] = token
        self._accessors[token.accessor] = token.id
        return token

    def _auth(self, token: Token, *, entity: str = "") -> Any:
        assert token.ends_at is not None
        auth = {
            "client_token": token.id,
            "accessor": token.accessor,
            "policies": token.policies,
            "token_policies": token.policies,
            "metadata": token.meta,
            "lease_duration": round(token.ends_at - self.now()),
            "renewable": token.renewable,
            "entity_id": entity,
            "token_type": "service",
            "orphan": token.parent is None,
        }
        return _body(None, auth=auth)

    def _create_token(self, request: Request) -> tuple[int, Any]:
        body, parent = request.body, request.token
        assert parent is not None
        if body.get("no_parent") and "root" not in parent.policies:
            raise RefusedError(400, "root or sudo privileges required to create orphan token")
        wanted = body.get("policies") or [p for p in parent.policies if p != "root"]
        if "root" not in parent.policies and set(wanted) - {*parent.policies, "default"}:
            raise RefusedError(400, "child policies must be subset of parent")
        ttl = _seconds(body.get("ttl") or "768h")
        token = self._make_token(
            policies=sorted({*wanted, "default"}),
            path="auth/token/create",
            ttl=ttl,
            parent=None if body.get("no_parent") else parent.id,
            uses_left=body.get("num_uses") or None,
            renewable=body.get("renewable", True),
            display_name=f"token-{body.get('display_name', '')}".rstrip("-"),
            meta=body.get("meta"),
        )
        if body.get("explicit_max_ttl"):
            token.max_ends_at = self.now() + _seconds(body["explicit_max_ttl"])
        return 200, self._auth(token)

    def _token_facts(self, token: Token, *, by_accessor: bool = False) -> Any:
        return {
            "accessor": token.accessor,
            "creation_time": int(token.made_at),
            "creation_ttl": int(token.ttl),
            "display_name": token.display_name,
            "entity_id": "",
            "expire_time": _time(token.ends_at) if token.ends_at is not None else None,
            "explicit_max_ttl": 0,
            "id": "" if by_accessor else token.id,
            "issue_time": _time(token.made_at),
            "meta": token.meta,
            "num_uses": token.uses_left or 0,
            "orphan": token.parent is None,
            "path": token.path,
            "policies": token.policies,
            "renewable": token.renewable and token.ends_at is not None,
            "ttl": max(0, round(token.ends_at - self.now())) if token.ends_at is not None else 0,
            "type": "service",
        }

    def _lookup_self(self, request: Request) -> tuple[int, Any]:
        assert request.token is not None
        return 200, _body(self._token_facts(request.token))

    def _renew_self(self, request: Request) -> tuple[int, Any]:
        token = request.token
        assert token is not None
        if token.ends_at is None or not token.renewable:
            raise RefusedError(400, "lease is not renewable")
        wanted = self.now() + (_seconds(request.body.get("increment") or 0) or token.ttl)
        token.ends_at = wanted if token.max_ends_at is None else min(wanted, token.max_ends_at)
        self.renewals += 1
        return 200, self._auth(token)

    def _revoke_self(self, request: Request) -> tuple[int, Any]:
        assert request.token is not None
        self._end_token(request.token.id)
        return 204, None

    def _of_accessor(self, request: Request) -> Token:
        token = self.tokens.get(self._accessors.get(request.body.get("accessor", ""), ""))
        if token is None:
            raise RefusedError(400, "1 error occurred:\n\t* invalid accessor\n\n")
        return token

    def _lookup_accessor(self, request: Request) -> tuple[int, Any]:
        return 200, _body(self._token_facts(self._of_accessor(request), by_accessor=True))

    def _revoke_accessor(self, request: Request) -> tuple[int, Any]:
        self._end_token(self._of_accessor(request).id)
        return 204, None

    # --- AppRole ----------------------------------------------------------------------------------------

    def _set_role(self, request: Request, name: str) -> tuple[int, Any]:
        known = self._roles.get(name, {"role_id": str(uuid.uuid4())})
        self._roles[name] = known | request.body
        return 204, None

    def _role_id(self, _request: Request, name: str) -> tuple[int, Any]:
        return 200, _body({"role_id": self._roles[name]["role_id"]})

    def _secret_id(self, request: Request, name: str) -> tuple[int, Any]:
        made, role = str(uuid.uuid4()), self._roles[name]
        uses, ttl = int(role.get("secret_id_num_uses") or 0), _seconds(role.get("secret_id_ttl") or 0)
        meta = json.loads(request.body.get("metadata") or "{}")
        ends_at = self.now() + ttl if ttl else None
        self._secret_ids[made] = {"role": name, "uses": uses or None, "meta": meta, "ends_at": ends_at}
        facts = {"secret_id": made, "secret_id_accessor": str(uuid.uuid4()), "secret_id_ttl": int(ttl)}
        return 200, _body(facts)

    def _login(self, request: Request) -> tuple[int, Any]:
        wanted = request.body.get("role_id")
        name = next((n for n, role in self._roles.items() if role["role_id"] == wanted), None)
        if name is None:
            raise RefusedError(400, "invalid role ID")
        known = self._secret_ids.get(request.body.get("secret_id", ""))
        if known is None or known["role"] != name or (known["ends_at"] or self.now() + 1) <= self.now():
            raise RefusedError(400, "invalid secret id")
        if known["uses"] is not None:
            known["uses"] -= 1
            if not known["uses"]:
                del self._secret_ids[request.body["secret_id"]]
        role = self._roles[name]
        policies = role.get("token_policies") or []
        policies = policies.split(",") if isinstance(policies, str) else policies
        token = self._make_token(
            policies=sorted({*policies, "default"}),
            path="auth/approle/login",
            ttl=_seconds(role.get("token_ttl") or "768h"),
            display_name="approle",
            meta={"role_name": name, **known["meta"]},
        )
        longest = _seconds(role.get("token_max_ttl") or 0)
        token.max_ends_at = self.now() + longest if longest else None
        return 200, self._auth(token, entity=str(uuid.uuid4()))

    # --- KV, version 2 ------------------------------------------------------------------------------------

    def _kv_write(self, request: Request, path: str) -> tuple[int, Any]:
        versions = self._kv.setdefault(path, [])
        cas = (request.body.get("options") or {}).get("cas")
        if cas is not None and cas != len(versions):
            raise RefusedError(400, "check-and-set parameter did not match the current version")
        made = {"created_time": _time(self.now()), "deletion_time": "", "destroyed": False}
        made["version"] = len(versions) + 1
        versions.append({"data": request.body["data"], "metadata": made})
        return 200, _body(made)

    def _kv_read(self, _request: Request, path: str) -> tuple[int, Any]:
        versions = self._kv.get(path)
        if not versions:
            raise RefusedError(404)
        newest = versions[-1]
        if newest["data"] is None:
            raise RefusedError(404, body=_body(newest))
        return 200, _body(newest)

    def _kv_delete(self, _request: Request, path: str) -> tuple[int, Any]:
        for newest in self._kv.get(path, [])[-1:]:
            newest["data"] = None
            newest["metadata"]["deletion_time"] = _time(self.now())
        return 204, None

    def _kv_metadata(self, _request: Request, path: str) -> tuple[int, Any]:
        versions = self._kv.get(path)
        if not versions:
            raise RefusedError(404)
        told = {
            str(version["metadata"]["version"]): {k: v for k, v in version["metadata"].items() if k != "version"}
            for version in versions
        }
        made = versions[0]["metadata"]["created_time"]
        facts = {"cas_required": False, "created_time": made, "current_version": len(versions)}
        facts |= {"delete_version_after": "0s", "max_versions": 0, "oldest_version": 0}
        return 200, _body(facts | {"updated_time": versions[-1]["metadata"]["created_time"], "versions": told})

    def _kv_list(self, _request: Request, path: str) -> tuple[int, Any]:
        below = f"{path.rstrip('/')}/" if path else ""
        names = {name[len(below) :] for name in self._kv if name.startswith(below)}
        keys = sorted({name.partition("/")[0] + ("/" if "/" in name else "") for name in names})
        if not keys:
            raise RefusedError(404)
        return 200, _body({"keys": keys})

    # --- databases, and what they lend ----------------------------------------------------------------------

    def _database_config(self, _request: Request, _name: str) -> tuple[int, Any]:
        return 200, _body(None)

    def _database_role(self, request: Request, name: str) -> tuple[int, Any]:
        self._database[name] = request.body
        return 204, None

    def _credentials(self, request: Request, name: str) -> tuple[int, Any]:
        role, token = self._database.get(name), request.token
        assert token is not None
        if role is None:
            raise RefusedError(400, f"unknown role: {name}")
        ttl, longest = _seconds(role.get("default_ttl") or "1h"), _seconds(role.get("max_ttl") or "24h")
        user = f"v-{token.display_name}-{name}-{_word(20)}-{int(self.now())}"
        lease = Lease(
            id=f"database/creds/{name}/{_word(24)}",
            token=token.id,
            made_at=self.now(),
            ends_at=self.now() + ttl,
            max_ends_at=self.now() + longest,
            renewable=True,
            data={"password": f"{_word(18)}-{_word(2)}", "username": user},
        )
        self.leases[lease.id] = lease
        return 200, _body(lease.data, lease_id=lease.id, renewable=True, lease_duration=round(ttl))

    def _renew_lease(self, request: Request) -> tuple[int, Any]:
        lease = self.leases.get(request.body.get("lease_id", ""))
        if lease is None:
            raise RefusedError(400, "lease not found")
        lease.ends_at = min(self.now() + _seconds(request.body.get("increment") or 3600), lease.max_ends_at)
        self.renewals += 1
        seconds = round(lease.ends_at - self.now())
        return 200, _body(None, lease_id=lease.id, renewable=True, lease_duration=seconds)

    def _revoke_lease(self, request: Request) -> tuple[int, Any]:
        self.leases.pop(request.body.get("lease_id", ""), None)
        return 204, None

    def _revoke_prefix(self, _request: Request, prefix: str) -> tuple[int, Any]:
        for lease in [lease for lease in self.leases.values() if lease.id.startswith(prefix.rstrip("/") + "/")]:
            del self.leases[lease.id]
        return 204, None


_WRITE = "POST PUT"
_ROUTES: list[tuple[str, str, Callable[..., tuple[int, Any]]]] = [
    (_WRITE, "sys/seal", FakeVault._seal),
    (_WRITE, r"sys/policy/([\w-]+)", FakeVault._set_policy),
    (_WRITE, r"sys/auth/([\w-]+)", FakeVault._nothing),
    (_WRITE, r"sys/mounts/([\w-]+)", FakeVault._mount),
    (_WRITE, "sys/capabilities-self", FakeVault._capabilities_self),
    (_WRITE, "sys/wrapping/unwrap", FakeVault._unwrap),
    (_WRITE, "sys/wrapping/lookup", FakeVault._lookup_wrapped),
    (_WRITE, "sys/wrapping/wrap", FakeVault._wrap_anew),
    (_WRITE, "sys/leases/renew", FakeVault._renew_lease),
    (_WRITE, "sys/leases/revoke", FakeVault._revoke_lease),
    (_WRITE, "sys/leases/revoke-prefix/(.+)", FakeVault._revoke_prefix),
    (_WRITE, "auth/token/create", FakeVault._create_token),
    ("GET", "auth/token/lookup-self", FakeVault._lookup_self),
    (_WRITE, "auth/token/renew-self", FakeVault._renew_self),
    (_WRITE, "auth/token/revoke-self", FakeVault._revoke_self),
    (_WRITE, "auth/token/lookup-accessor", FakeVault._lookup_accessor),
    (_WRITE, "auth/token/revoke-accessor", FakeVault._revoke_accessor),
    (_WRITE, r"auth/approle/role/([\w-]+)", FakeVault._set_role),
    ("GET", r"auth/approle/role/([\w-]+)/role-id", FakeVault._role_id),
    (_WRITE, r"auth/approle/role/([\w-]+)/secret-id", FakeVault._secret_id),
    (_WRITE, "auth/approle/login", FakeVault._login),
    (_WRITE, "secret/data/(.+)", FakeVault._kv_write),
    ("GET", "secret/data/(.+)", FakeVault._kv_read),
    ("DELETE", "secret/data/(.+)", FakeVault._kv_delete),
    ("GET", "secret/metadata/(.+)", FakeVault._kv_metadata),
    ("LIST", "secret/metadata/?(.*)", FakeVault._kv_list),
    (_WRITE, r"database/config/([\w-]+)", FakeVault._database_config),
    (_WRITE, r"database/roles/([\w-]+)", FakeVault._database_role),
    ("GET", r"database/creds/([\w-]+)", FakeVault._credentials),
]
# Of the policy `default` of a real server, what is used here.
_DEFAULT = {
    "auth/token/lookup-self": ["read"],
    "auth/token/renew-self": ["update"],
    "auth/token/revoke-self": ["update"],
    "sys/capabilities-self": ["update"],
    "sys/wrapping/unwrap": ["update"],
    "sys/leases/renew": ["update"],
    "sys/leases/lookup": ["update"],
}


def _body(data: Any, **changes: Any) -> dict[str, Any]:
    told = {"request_id": str(uuid.uuid4()), "lease_id": "", "renewable": False, "lease_duration": 0}
    return told | {"data": data, "wrap_info": None, "warnings": None, "auth": None} | changes


def _word(length: int) -> str:
    return "".join(secrets.choice(string.ascii_letters + string.digits) for _ in range(length))


def _seconds(told: Any) -> float:
    found = re.fullmatch(r"(\d+)([smh]?)", str(told))
    return int(found[1]) * _UNITS.get(found[2], 1) if found else 0.0


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1
    served: ClassVar[FakeVault]

    def log_message(self, *_: object) -> None:
        pass

    def _serve(self) -> None:
        vault = self.served
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = self.path.partition("?")[0].removeprefix("/v1/")
        fault = vault.fault_for(path)
        if fault is not None and fault.delay_seconds:
            time.sleep(fault.delay_seconds)
        if fault is not None and fault.status is not None:
            self._send(fault.status, {"errors": ["internal error"]})
            return
        headers = {name.lower(): value for name, value in self.headers.items()}
        status, body = vault.answer(self.command, path, headers, json.loads(raw) if raw else {})
        if fault is not None and fault.drop_after:
            self.close_connection = True
            return
        self._send(status, body)

    do_GET = do_POST = do_PUT = do_DELETE = do_LIST = _serve  # noqa: N815

    def _send(self, status: int, body: Any) -> None:
        data = b"" if body is None else json.dumps(body).encode() + b"\n"
        self.send_response(status)
        self.send_header("Cache-Control", "no-store")
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
