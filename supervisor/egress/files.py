"""The files of the egress proxy: its policies (the supervisor writes them), itself and its refusals (it does)."""

import json
import os
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import AwareDatetime, ConfigDict

from agent_daemon.processes import ProcessIdentity, identify, is_alive
from agent_daemon.protocol.codec import decode, encode
from agent_daemon.protocol.errors import ProtocolError
from agent_daemon.protocol.files import make_folder, read_file, write_file
from agent_daemon.protocol.paths import NAME, Root
from supervisor import __version__
from supervisor.core.egress import Policy
from supervisor.core.record import Stored
from supervisor.core.refusals import Told

SOCKET = "proxy"
ROTATE_BYTES = 256 * 1024
_SELF = "proxy.yml"  # (no workstation's policy, which end otherwise)


class PolicyFile(Stored):
    """`state/egress/<workstation>.yaml`: where it may connect to. While the file is there, its socket is, too."""

    version: Literal[1] = 1
    allow: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()

    @property
    def policy(self) -> Policy:
        return Policy.of(self.allow, self.networks)


class ProxyFile(Stored):
    """`state/egress/proxy.yml`: the process that was started last, in whichever version.

    `program` is a digest of what it consists of (`program.own_program`).
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    version: Literal[1] = 1
    program_version: str
    program: str = ""
    pid: int
    start_ticks: int
    boot_id: str
    started_at: AwareDatetime


# --- policies ------------------------------------------------------------------------------------------


def write_policy(root: Root, workstation: str, wanted: PolicyFile) -> None:
    """Have a workstation connect by this policy from now on; unchanged bytes are left alone."""
    path, data = root.egress_policy(workstation), encode(wanted)
    make_folder(path.parent)
    if not path.is_file() or path.read_bytes() != data:
        write_file(path, data)


def remove_policy(root: Root, workstation: str) -> None:
    root.egress_policy(workstation).unlink(missing_ok=True)


def policy_names(root: Root) -> list[str]:
    """The workstations that have a policy."""
    try:
        names = [name.removesuffix(".yaml") for name in os.listdir(root.egress) if name.endswith(".yaml")]
    except FileNotFoundError:
        return []
    return sorted(name for name in names if NAME.fullmatch(name))


def read_policy(root: Root, workstation: str) -> Policy:
    """ProtocolError, OSError, ValueError where it cannot be used: nothing is allowed then."""
    data = read_file(root.egress, f"{workstation}.yaml").data
    return decode(PolicyFile, data, file=f"state/egress/{workstation}.yaml").policy


# --- the process ---------------------------------------------------------------------------------------


def note_proxy(root: Root, now: datetime, program: str) -> None:
    """Write down that this process is the proxy; call it with its lock held."""
    identity = identify(os.getpid())
    if identity is not None:
        known = {"pid": identity.pid, "start_ticks": identity.start_ticks, "boot_id": identity.boot_id}
        noted = ProxyFile(program_version=__version__, program=program, started_at=now, **known)
        write_file(root.egress / _SELF, encode(noted))


def running_proxy(root: Root) -> ProxyFile | None:
    """The proxy of a root, if the one that was started last is alive."""
    try:
        noted = decode(ProxyFile, read_file(root.egress, _SELF).data, file=f"state/egress/{_SELF}")
    except (FileNotFoundError, ProtocolError):
        return None
    identity = ProcessIdentity(pid=noted.pid, start_ticks=noted.start_ticks, boot_id=noted.boot_id)
    return noted if is_alive(identity) else None


# --- refusals ------------------------------------------------------------------------------------------


class RefusalLog:
    """Appends what was refused to a workstation, a JSON object a line; `id` grows, over restarts, too."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._last = max((entry["id"] for entry in _lines_of(path)), default=0)

    def write(self, told: Told, now: datetime) -> None:
        self._last = max(self._last + 1, round(now.timestamp() * 1e6))
        entry = {
            "id": self._last,
            "at": now.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "code": told.refusal.code,
            "host": told.refusal.host,
            "port": told.refusal.port,
            "message": told.refusal.message,
            "count": told.count,
            "kinds": told.kinds,
        }
        if self._path.exists() and self._path.stat().st_size > ROTATE_BYTES:
            self._path.replace(_older(self._path))
        with self._path.open("ab") as file:
            file.write(json.dumps(entry).encode() + b"\n")


def read_refusals(root: Root, workstation: str, after: int = 0) -> list[dict[str, Any]]:
    """The lines of a workstation beyond this `id`, oldest first."""
    path = root.egress_refused(workstation)
    return [entry for file in (_older(path), path) for entry in _lines_of(file) if entry["id"] > after]


def refused_names(root: Root) -> list[str]:
    """The workstations of which something was refused."""
    try:
        found = [name.partition(".")[0] for name in os.listdir(root.egress) if ".refused.jsonl" in name]
    except FileNotFoundError:
        return []
    return sorted({name for name in found if NAME.fullmatch(name)})


def _older(path: Path) -> Path:
    return path.with_name(f"{path.name}.1")


def _lines_of(path: Path) -> Iterator[dict[str, Any]]:
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        return
    for line in lines:
        try:
            entry = json.loads(line)
        except ValueError:  # cut short by a crash
            continue
        if isinstance(entry, dict) and isinstance(entry.get("id"), int):
            yield entry
