"""Whose turn it is to be looked after, while others of its type work or are at it."""

import errno
import queue
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from agent_daemon.protocol.files import make_folder, write_file
from agent_daemon.protocol.model import WorkstationFile
from agent_daemon.protocol.paths import Root
from supervisor.core.chores import Chore, Condition
from supervisor.core.settings import Config, MaintenanceSettings
from supervisor.fleet import Fleet
from supervisor.pool import JobPool
from supervisor.ports import DaemonHandle
from supervisor.rounds import Rounds
from supervisor.stations import load_station
from supervisor.upkeep import Upkeep

NAMES = ("backend-1", "backend-2", "backend-3")


class Containers:
    """A driver whose containers always live."""

    def find(self, name: str) -> DaemonHandle:
        return DaemonHandle(run=name)

    def alive(self, handle: DaemonHandle) -> bool:
        return True

    def condition(self, name: str, kind: str, handle: DaemonHandle) -> Condition:
        return Condition()


@pytest.fixture
def upkeep(tmp_path: Path, config: Config) -> Upkeep:
    root, driver = Root(tmp_path), Containers()
    make_folder(root.workstations)
    settings = config.workstations["backend"].model_copy(
        update={"driver": "docker", "count": len(NAMES), "recreate": "per_task"}
    )
    drivers: Any = {"docker": driver}
    fleet = Fleet(root, config.model_copy(update={"workstations": {"backend": settings}}), drivers)
    fleet.adopt(0.0)
    for name in NAMES:
        fleet.heard(name, WorkstationFile(revision=1, agent_id=name, agent_type="backend", heartbeat=1), 1.0)
        fleet.stations[name].file = fleet.stations[name].file.evolve(worked=False)
    rounds = Rounds(root, MaintenanceSettings())
    ledger: Any = SimpleNamespace(config=config)
    return Upkeep(ledger, fleet, drivers, JobPool(queue.SimpleQueue()), rounds)


def asked(upkeep: Upkeep) -> dict[str, list[str]]:
    chores = {name: station.life.chores for name, station in upkeep.fleet.stations.items()}
    return {name: [f"{chore.kind} {chore.why}" for chore in found] for name, found in chores.items() if found}


def test_who_is_spent_does_not_wait_for_one_that_drains(upkeep: Upkeep) -> None:
    upkeep.fleet.ask("backend-1", Chore(kind="maintain"))
    upkeep.fleet.note_work(NAMES)
    upkeep.look(1.0, busy=["backend-1", "backend-3"])
    assert asked(upkeep) == {"backend-1": ["maintain asked"], "backend-2": ["recreate task"]}


def test_in_a_round_the_idle_ones_come_first_and_one_at_a_time(upkeep: Upkeep) -> None:
    upkeep.begin_maintenance()
    upkeep.look(1.0, busy=["backend-1"])
    assert asked(upkeep) == {"backend-2": ["maintain schedule"]}
    upkeep.look(40.0, busy=["backend-1"])
    assert asked(upkeep) == {"backend-2": ["maintain schedule"]} and upkeep.rounds.due == [
        "backend-1",
        "backend-3",
    ]


def test_who_takes_too_much_gets_its_turn_although_the_disk_does_not_take_the_event(upkeep: Upkeep) -> None:
    cleaned: list[bool] = []

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "no room")

    upkeep.clean, upkeep.ledger.log = lambda: cleaned.append(True), refuse  # type: ignore[method-assign]
    station = upkeep.fleet.stations["backend-2"]
    station.settings = station.settings.model_copy(update={"disk_limit": "1g"})
    station.disk_bytes = 2 << 30
    with pytest.raises(OSError, match="no room"):
        upkeep.look(1.0, busy=())
    upkeep.look(2.0, busy=())
    assert cleaned and asked(upkeep) == {"backend-2": ["maintain disk"]}


@pytest.mark.parametrize("killed_at", [1, 2])
def test_a_kill_while_a_turn_is_noted_loses_none(
    upkeep: Upkeep, killed_at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    upkeep.rounds.begin(NAMES)
    written: list[Path] = []

    def write(path: Path, *arguments: Any, **more: Any) -> None:
        written.append(path)
        if len(written) == killed_at:
            raise KeyboardInterrupt
        write_file(path, *arguments, **more)

    for module in ("fleet", "rounds"):
        monkeypatch.setattr(f"supervisor.{module}.write_file", write)
    with pytest.raises(KeyboardInterrupt):
        upkeep.look(1.0, busy=())
    next_rounds = Rounds(upkeep.rounds.root, MaintenanceSettings())
    next_rounds.take_up()
    known = {name: load_station(upkeep.rounds.root, name) for name in NAMES}
    noted = {name for name, file in known.items() if file is not None and file.chores}
    assert noted | set(next_rounds.due) == set(NAMES) and len(noted) == killed_at - 1
