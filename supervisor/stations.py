"""What is known of each workstation: its file in `state/workstations/`, and which ones there are to be."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from agent_daemon.protocol.codec import decode
from agent_daemon.protocol.errors import ProtocolError
from agent_daemon.protocol.files import read_file
from agent_daemon.protocol.paths import Root
from supervisor.core.chores import Chore
from supervisor.core.life import StationState, Wanted
from supervisor.core.record import Stored
from supervisor.core.settings import Config, WorkstationSettings
from supervisor.ports import DaemonHandle


class StationFile(Stored):
    """`state/workstations/<name>.yaml`: what the supervisor knows of a workstation.

    `state` is there where the rest does not tell it (`core.life.NOTED`); `chores` are still to be done.
    `worked`: an attempt was there since its last start, or nobody knows.
    """

    version: Literal[1] = 1
    name: str
    type: str
    driver: str
    wanted: Wanted = "running"
    state: StationState | None = None
    chores: tuple[Chore, ...] = ()
    pid: int | None = None
    start_ticks: int | None = None
    boot_id: str | None = None
    run: str | None = None
    restarts: int = 0
    worked: bool = True

    @property
    def handle(self) -> DaemonHandle | None:
        """The daemon that was started last and has not been seen to end."""
        if self.run is not None:
            return DaemonHandle(run=self.run)
        if self.pid is None or self.start_ticks is None or self.boot_id is None:
            return None
        return DaemonHandle(pid=self.pid, start_ticks=self.start_ticks, boot_id=self.boot_id)

    def noting(self, handle: DaemonHandle | None) -> "StationFile":
        """With this daemon's identity, or that there is none."""
        changes: dict[str, object] = {"pid": None, "start_ticks": None, "boot_id": None, "run": None}
        if handle is not None:
            process = {"pid": handle.pid, "start_ticks": handle.start_ticks, "boot_id": handle.boot_id}
            changes |= process if handle.run is None else {"run": handle.run}
            if self.handle != handle:
                changes["restarts"] = self.restarts + 1
        return self.evolve(**changes)


def configured_stations(config: Config) -> Iterator[tuple[str, str]]:
    """The name and the type of every workstation that is configured."""
    for kind, settings in config.workstations.items():
        for number in range(1, settings.most + 1):
            yield f"{kind}-{number}", kind


def is_configured(config: Config, name: str) -> bool:
    kind, _, number = name.rpartition("-")
    settings = config.workstations.get(kind)
    return settings is not None and number.isdecimal() and 1 <= int(number) <= settings.most


def with_room(file: StationFile, settings: WorkstationSettings, known: bool) -> StationFile:
    """What is wanted of it as its type is configured now: of a pool the first ones are there from the start."""
    number = int(file.name.rpartition("-")[2])
    if file.wanted == "removed" and not settings.is_pool:
        return file.evolve(wanted="running")
    return file if known or number <= settings.least else file.evolve(wanted="removed")


def passed_variables(config: Config, kind: str) -> dict[str, str]:
    """The variables that its CLIs name, from our own environment, and over them the configured ones."""
    names = {name for cli in config.clis_of_station(kind) for name in config.cli(cli).variables}
    passed = {name: os.environ[name] for name in sorted(names) if name in os.environ}
    return passed | config.workstations[kind].environment


def station_path(root: Root, name: str) -> Path:
    return root.workstations / f"{name}.yaml"


def load_station(root: Root, name: str) -> StationFile | None:
    """What was known of a workstation; None when nothing is. A damaged file holds nothing that is needed."""
    try:
        data = read_file(root.workstations, f"{name}.yaml").data
        return decode(StationFile, data, file=f"state/workstations/{name}.yaml")
    except (FileNotFoundError, ProtocolError):
        return None
