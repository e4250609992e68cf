"""The workstations: started, found again, watched, restarted. Times are seconds of watching (`core.liveness`)."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from agent_daemon.protocol.codec import decode, encode
from agent_daemon.protocol.errors import ProtocolError
from agent_daemon.protocol.files import read_file, write_file
from agent_daemon.protocol.model import WorkstationFile
from agent_daemon.protocol.paths import Root
from supervisor.core.liveness import Vitals, observe, pulse
from supervisor.core.record import Stored
from supervisor.core.settings import Config, WorkstationSettings
from supervisor.errors import CloudCodeError
from supervisor.ports import DaemonHandle, Workstations

CALM_SECONDS = 300.0
# A file that is refused is told of once in this time, whatever else is written into it.
REFUSAL_QUIET_SECONDS = 60.0
LONGEST_BEAT_SECONDS = 5.0


class StationFile(Stored):
    """`state/workstations/<name>.yaml`: what the supervisor knows of a workstation."""

    version: Literal[1] = 1
    name: str
    type: str
    driver: str
    wanted: Literal["running", "stopped"] = "running"
    pid: int | None = None
    start_ticks: int | None = None
    boot_id: str | None = None
    run: str | None = None
    restarts: int = 0


@dataclass
class Station:
    """One workstation as the running supervisor sees it.

    `lost_with` is the daemon that fell silent once too often: when it is dead for sure, its attempt is given up.
    """

    file: StationFile
    settings: WorkstationSettings
    vitals: Vitals
    suspect: bool = False
    lost_with: DaemonHandle | None = None
    failures: int = 0
    not_before: float = 0.0
    started: float = 0.0
    stopping: bool = False
    salvaging: bool = False
    refused: str | None = None
    current_task: str | None = None
    retired: bool = False
    refusal_told: float = -1e9

    @property
    def handle(self) -> DaemonHandle | None:
        file = self.file
        if file.run is not None:
            return DaemonHandle(run=file.run)
        if file.pid is None or file.start_ticks is None or file.boot_id is None:
            return None
        return DaemonHandle(pid=file.pid, start_ticks=file.start_ticks, boot_id=file.boot_id)


@dataclass(frozen=True, kw_only=True)
class FleetNews:
    """What happened to a workstation; `lost` asks for its attempt to be given up."""

    workstation: str
    event: str
    details: dict[str, object] = field(default_factory=dict)
    lost: bool = False
    stop: DaemonHandle | None = None


class Fleet:
    """All workstations of one root. Called from the loop thread only; stopping a daemon is left to a job."""

    def __init__(self, root: Root, config: Config, drivers: dict[str, Workstations]) -> None:
        self._root, self._config, self._drivers = root, config, drivers
        # Before a daemon that keeps dying is started again; with the last of them its attempt is given up.
        self._waits = config.timing.revive_after_seconds
        self.stations: dict[str, Station] = {}
        self._now = 0.0

    def adopt(self, now: float) -> list[FleetNews]:
        """Take up every configured workstation: a daemon that still runs is left undisturbed.

        One that is configured no longer is stopped; its files stay.
        """
        news = []
        for file, settings in self._files():
            station = Station(file=file, settings=settings, vitals=Vitals(beat_at=now), started=now)
            station.retired = not self.is_configured(file.name)
            self.stations[file.name] = station
            driver = self._drivers[file.driver]
            handle = station.handle
            if handle is None or not driver.alive(handle):
                handle = driver.find(file.name)
            if handle is not None:
                self._note(station, handle)
                news.append(FleetNews(workstation=file.name, event="workstation.adopted", details=handle.told()))
        return news

    def _files(self) -> Iterator[tuple[StationFile, WorkstationSettings]]:
        configured = dict(configured_stations(self._config))
        for name, kind in configured.items():
            settings, known = self._config.workstations[kind], load_station(self._root, name)
            yield known or StationFile(name=name, type=kind, driver=settings.driver), settings
        for path in sorted(self._root.workstations.glob("*.yaml")):
            known = None if path.stem in configured else load_station(self._root, path.stem)
            if known is not None and (known.pid is not None or known.run is not None):
                yield known, WorkstationSettings(clis=("none",))

    def check(self, now: float, busy: Iterable[str]) -> list[FleetNews]:
        """One look at every workstation: start what should run, notice what died or fell silent."""
        self._now, occupied = now, set(busy)
        return [news for station in self.stations.values() for news in self._check(station, now, occupied)]

    def _check(self, station: Station, now: float, busy: set[str]) -> list[FleetNews]:
        if station.stopping or station.salvaging:
            return []
        name, handle = station.file.name, station.handle
        driver = self._drivers[station.file.driver]
        if driver.away() is not None:  # it is judged by what is seen from then on
            station.vitals = replace(station.vitals, beat_at=now)
            return []
        if handle is not None and driver.alive(handle):
            if station.file.wanted == "stopped" or station.retired or self._changes_driver(station):
                station.stopping = True
                return [FleetNews(workstation=name, event="workstation.stopping", stop=handle)]
            return self._check_signs(station, handle, now, busy)
        if station.lost_with is not None:
            station.lost_with = None
            self._note(station, None)
            station.not_before = now + self._waits[-1]  # time to bundle what it holds
            return [FleetNews(workstation=name, event="workstation.lost", lost=name in busy)]
        if self._changes_driver(station):  # nothing of the former one runs: the next one goes on from the files
            self._note(station, None)
            station.file = station.file.evolve(driver=station.settings.driver)
            self._save(station)
            return []
        if handle is not None:
            return self._died(station, now, busy)
        if station.file.wanted == "running" and not station.retired and now >= station.not_before:
            return self._start(station, driver, now)
        return []

    @staticmethod
    def _changes_driver(station: Station) -> bool:
        """Whether it is configured with another driver than that which started it last."""
        return not station.retired and station.file.driver != station.settings.driver

    def _check_signs(self, station: Station, handle: DaemonHandle, now: float, busy: set[str]) -> list[FleetNews]:
        """Silent daemons: shown, then restarted; one that falls silent again loses its attempt once it is dead."""
        timing, name = self._config.timing, station.file.name
        if station.failures and now - station.started > max(CALM_SECONDS, 2 * timing.restart_after_seconds):
            station.failures = 0
        state = pulse(station.vitals, timing, now)
        details: dict[str, object] = {"rule": "silent", "silent_seconds": round(now - station.vitals.beat_at)}
        if state == "silent":
            station.stopping = True
            station.failures += 1
            details["failures"] = station.failures
            station.lost_with = handle if station.failures > 1 and name in busy else None
            return [FleetNews(workstation=name, event="workstation.silent", details=details, stop=handle)]
        if state == "suspect" and not station.suspect:
            station.suspect = True
            details["restart_in_seconds"] = round(timing.restart_after_seconds - (now - station.vitals.beat_at))
            return [FleetNews(workstation=name, event="workstation.suspect", details=details)]
        return []

    def _died(self, station: Station, now: float, busy: set[str]) -> list[FleetNews]:
        name = station.file.name
        self._note(station, None)
        if station.file.wanted == "stopped" or station.retired:
            return [FleetNews(workstation=name, event="workstation.stopped")]
        wait = self._waits[min(station.failures, len(self._waits) - 1)]
        station.failures += 1
        station.not_before = now + wait
        lost = station.failures >= len(self._waits) and name in busy
        details: dict[str, object] = {"failures": station.failures, "restart_in_seconds": wait}
        return [FleetNews(workstation=name, event="workstation.died", details=details, lost=lost)]

    def _start(self, station: Station, driver: Workstations, now: float) -> list[FleetNews]:
        file = station.file
        try:
            handle = driver.start(file.name, file.type, self._environment(file.type))
        except (CloudCodeError, OSError) as error:
            station.failures += 1
            station.not_before = now + self._waits[-1]
            repeated, station.refused = station.refused == str(error), str(error)
            details: dict[str, object] = {"message": str(error)}
            return (
                []
                if repeated
                else [FleetNews(workstation=file.name, event="workstation.not_started", details=details)]
            )
        station.vitals, station.started = Vitals(beat_at=now), now
        station.suspect, station.refused = False, None
        self._note(station, handle)
        return [FleetNews(workstation=file.name, event="workstation.started", details=handle.told())]

    def _environment(self, kind: str) -> dict[str, str]:
        # Three beats at least before anyone is suspected.
        beat = min(LONGEST_BEAT_SECONDS, self._config.timing.suspect_after_seconds / 3)
        return passed_variables(self._config, kind) | {"CLOUD_CODE_HEARTBEAT_SECONDS": f"{beat:g}"}

    def heard(self, name: str, sign: WorkstationFile, now: float) -> bool:
        """A workstation's file was read; returns whether it had been suspect and no longer is."""
        station = self.stations.get(name)
        if station is None:
            return False
        station.current_task = sign.current_task
        before, station.vitals = station.vitals, observe(station.vitals, sign, now)
        if station.vitals is before:
            return False
        recovered, station.suspect = station.suspect, False
        return recovered

    def refused(self, name: str, now: float) -> bool:
        """A workstation's file could not be taken, which is no sign of life; whether to tell of it (again)."""
        station = self.stations[name]
        if now - station.refusal_told < REFUSAL_QUIET_SECONDS:
            return False
        station.refusal_told = now
        return True

    def forget_run(self, name: str) -> None:
        """The run of the CLI that was watched has been ended: the next one begins with a clean sheet."""
        station = self.stations.get(name)
        if station is not None:
            station.vitals = replace(station.vitals, activity=None, quiet_seconds=0.0, input_seconds=0.0)

    def stopped(self, name: str) -> None:
        """The job that stops this workstation's daemon has come back; one that still lives is stopped again."""
        station = self.stations[name]
        station.stopping = False
        if station.handle is not None and not self._drivers[station.file.driver].alive(station.handle):
            self._note(station, None)

    def want(self, name: str, wanted: Literal["running", "stopped"]) -> None:
        station = self.stations[name]
        station.file = station.file.evolve(wanted=wanted)
        station.not_before, station.failures = 0.0, 0
        self._save(station)

    def restart(self, name: str) -> DaemonHandle | None:
        """Mark for a restart; returns the daemon that has to be stopped first, if one runs."""
        self.want(name, "running")
        station = self.stations[name]
        if station.handle is not None and not station.stopping:
            station.stopping = True
            return station.handle
        return None

    def lacks_daemon(self, name: str) -> bool:
        """Whether no daemon of this workstation lives, and none is started at once: others must act for it."""
        station = self.stations.get(name)
        if station is None:
            return True
        if station.handle is not None or station.stopping or station.salvaging:
            return False
        unwanted = station.retired or station.file.wanted == "stopped"
        return unwanted or station.refused is not None or self._now < station.not_before

    def driver_of(self, name: str) -> Workstations:
        """The driver of a workstation, be it configured or not any more."""
        station = self.stations.get(name)
        file = station.file if station is not None else load_station(self._root, name)
        return self._drivers[file.driver if file is not None else WorkstationSettings(clis=("none",)).driver]

    def salvaging(self, name: str, under_way: bool) -> None:
        """While what a workstation holds is bundled for it, no daemon of it is started."""
        if name in self.stations:
            self.stations[name].salvaging = under_way

    def give_up(self, name: str, handle: DaemonHandle) -> None:
        """The attempt of this workstation is lost as soon as this daemon is dead."""
        self.stations[name].lost_with = handle

    def is_configured(self, name: str) -> bool:
        kind, _, number = name.rpartition("-")
        settings = self._config.workstations.get(kind)
        return settings is not None and number.isdecimal() and 1 <= int(number) <= settings.count

    def usable(self, name: str) -> bool:
        """Whether a task may be given to it now."""
        station = self.stations[name]
        running = station.handle is not None and station.file.wanted == "running" and not station.retired
        reached = self._drivers[station.file.driver].away() is None
        return (
            running
            and reached
            and not self._changes_driver(station)
            and not station.stopping
            and not station.suspect
        )

    def _note(self, station: Station, handle: DaemonHandle | None) -> None:
        """Write down the daemon's identity, or that there is none."""
        known = station.handle
        changes: dict[str, object] = {"pid": None, "start_ticks": None, "boot_id": None, "run": None}
        if handle is not None:
            process = {"pid": handle.pid, "start_ticks": handle.start_ticks, "boot_id": handle.boot_id}
            changes |= process if handle.run is None else {"run": handle.run}
            if known != handle:
                changes["restarts"] = station.file.restarts + 1
        station.file = station.file.evolve(**changes)
        self._save(station)

    def _save(self, station: Station) -> None:
        write_file(station_path(self._root, station.file.name), encode(station.file), mode=0o640)


def configured_stations(config: Config) -> Iterator[tuple[str, str]]:
    """The name and the type of every workstation that is configured."""
    for kind, settings in config.workstations.items():
        for number in range(1, settings.count + 1):
            yield f"{kind}-{number}", kind


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
