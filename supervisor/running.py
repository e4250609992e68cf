"""`state/supervisor.yaml`: which process works on this root, since when, and with which configuration."""

import hashlib
import json
import os
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

from pydantic import AwareDatetime, BaseModel

from agent_daemon.processes import ProcessIdentity, identify, is_alive
from agent_daemon.protocol.codec import decode, encode
from agent_daemon.protocol.errors import ProtocolError
from agent_daemon.protocol.files import read_file, write_file
from agent_daemon.protocol.paths import Root
from supervisor import __version__
from supervisor.core.record import Stored
from supervisor.core.settings import Config


class Running(Stored):
    """The supervisor that was started last. `config_sha256` is of what its configuration said then."""

    version: Literal[1] = 1
    program_version: str
    pid: int
    start_ticks: int
    boot_id: str
    started_at: AwareDatetime
    config_sha256: str
    projects: tuple[str, ...]


def note_start(root: Root, config: Config, now: datetime) -> None:
    """Write down that this process is the supervisor of the root; call it with the lock held."""
    identity = identify(os.getpid())
    if identity is None:
        return
    running = Running(
        program_version=__version__,
        pid=identity.pid,
        start_ticks=identity.start_ticks,
        boot_id=identity.boot_id,
        started_at=now,
        config_sha256=digest_of(config),
        projects=tuple(config.projects),
    )
    write_file(root.supervisor, encode(running), mode=0o640)


def running_supervisor(root: Root) -> Running | None:
    """The supervisor of a root, if the one that was started last is alive."""
    try:
        data = read_file(root.state, root.supervisor.name).data
        running = decode(Running, data, file="state/supervisor.yaml")
    except (FileNotFoundError, ProtocolError):
        return None
    identity = ProcessIdentity(pid=running.pid, start_ticks=running.start_ticks, boot_id=running.boot_id)
    return running if is_alive(identity) else None


def digest_of(config: Config) -> str:
    """A digest of what the file says: not of its comments and layout, nor of defaults, which differ by version."""
    return hashlib.sha256(json.dumps(_said(config), default=str).encode()).hexdigest()


def _said(value: Any) -> Any:
    """What was written: the keys of a model in any order, those of a mapping in theirs."""
    if isinstance(value, BaseModel):
        return {name: _said(getattr(value, name)) for name in sorted(value.model_fields_set)}
    if isinstance(value, Mapping):
        return {str(key): _said(entry) for key, entry in value.items()}
    return [_said(entry) for entry in value] if isinstance(value, list | tuple) else value
