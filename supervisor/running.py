"""`state/supervisor.yaml`: which process works on this root, since when, and with which configuration."""

import hashlib
import os
from datetime import datetime
from typing import Literal

from pydantic import AwareDatetime

from agent_daemon.processes import ProcessIdentity, identify, is_alive
from agent_daemon.protocol.codec import decode, encode
from agent_daemon.protocol.errors import ProtocolError
from agent_daemon.protocol.files import read_file, write_file
from agent_daemon.protocol.paths import Root
from supervisor import __version__
from supervisor.core.record import Stored
from supervisor.core.settings import Config


class Running(Stored):
    """The supervisor that was started last. `config_sha256` is of what its configuration meant then."""

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
    """A digest of what a configuration means: its comments and layout do not count."""
    return hashlib.sha256(config.model_dump_json().encode()).hexdigest()
