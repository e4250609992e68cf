"""The workstations: started, found again, watched, restarted. What is decided stands in `core.life`.

Times are seconds of watching (`core.liveness`).
"""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field, replace

from agent_daemon.protocol.codec import encode
from agent_daemon.protocol.files import write_file
from agent_daemon.protocol.model import WorkstationFile
from agent_daemon.protocol.paths import Root
from supervisor.core.chores import Chore
from supervisor.core.life import (
    NOTED,
    Life,
    StationState,
    Step,
    Wanted,
    done,
    look,
    not_started,
    not_stopped,
    started,
)
from supervisor.core.liveness import Vitals
from supervisor.core.schedule import WorkstationView
from supervisor.core.settings import Config, WorkstationSettings
from supervisor.errors import CloudCodeError
from supervisor.ports import DaemonHandle, Workstations
from supervisor.station import Station
from supervisor.stations import (
    StationFile,
    configured_stations,
    is_configured,
    load_station,
    passed_variables,
    station_path,
    with_room,
)

LONGEST_BEAT_SECONDS = 5.0


@dataclass(frozen=True, kw_only=True)
class FleetNews:
    """What happened to a workstation; `lost` asks for its attempt to be given up.

    `stop` is a daemon that is to be ended, `chore` what is to be done in its place, each by a job.
    """

    workstation: str
    event: str = ""
    details: dict[str, object] = field(default_factory=dict)
    lost: bool = False
    stop: DaemonHandle | None = None
    chore: Chore | None = None


class Fleet:
    """All workstations of one root. Called from the loop thread only; stopping a daemon is left to a job."""

    def __init__(self, root: Root, config: Config, drivers: dict[str, Workstations]) -> None:
        self._root, self._config, self._drivers = root, config, drivers
        self.stations: dict[str, Station] = {}
        self._now = 0.0

    def adopt(self, now: float) -> list[FleetNews]:
        """Take up every configured workstation: a daemon that still runs is left undisturbed.

        One that is configured no longer is stopped; its files stay.
        """
        news = []
        for file, settings in self._files():
            life = Life(chores=file.chores, started=now)
            station = Station(file=file, settings=settings, vitals=Vitals(beat_at=now), life=life)
            station.retired = not is_configured(self._config, file.name)
            self.stations[file.name] = station
            driver, handle = self._driver(station), file.handle
            if handle is None or not driver.alive(handle):
                handle = driver.find(file.name)
            if handle is not None:
                station.life = station.life.moved(StationState.IDLE)
                self._save(station, file.noting(handle))
                news.append(FleetNews(workstation=file.name, event="workstation.adopted", details=handle.told()))
        return news

    def _files(self) -> Iterator[tuple[StationFile, WorkstationSettings]]:
        configured = dict(configured_stations(self._config))
        for name, kind in configured.items():
            settings, known = self._config.workstations[kind], load_station(self._root, name)
            file = known or StationFile(name=name, type=kind, driver=settings.driver)
            yield with_room(file, settings, known is not None), settings
        for path in sorted(self._root.workstations.glob("*.yaml")):
            known = None if path.stem in configured else load_station(self._root, path.stem)
            if known is not None and known.handle is not None:
                yield known, WorkstationSettings(clis=("none",))

    def _driver(self, station: Station) -> Workstations:
        return self._drivers[station.file.driver]

    def check(self, name: str, now: float, busy: Collection[str]) -> list[FleetNews]:
        """One look at a workstation: start what should run, notice what died or fell silent."""
        self._now, station = now, self.stations[name]
        driver, handle = self._driver(station), station.file.handle
        if driver.away() is not None:  # it is judged by what is seen from then on
            station.vitals = replace(station.vitals, beat_at=now)
            return []
        alive = handle is not None and driver.alive(handle)
        seen = station.seen(now, self._config.timing, alive=alive, busy=name in busy)
        step = look(station.life, seen, self._config.timing)
        chore = step.life.chores[0] if step.order == "chore" else None
        self._carry_out(station, step)
        news = FleetNews(
            workstation=name,
            event=f"workstation.{step.event}" if step.event else "",
            details=step.details if step.event else {},
            lost=step.lost,
            stop=handle if step.order == "stop" else None,
            chore=chore,
        )
        told = [news] if news.event or chore is not None else []
        return told + (self._start(station, driver, now) if step.order == "start" else [])

    def _carry_out(self, station: Station, step: Step) -> None:
        """Remember what was decided, in the file where others are to know it."""
        file = station.file
        if step.order == "forget":
            file = file.noting(None)
        elif step.order == "move":
            file = file.noting(None).evolve(driver=station.settings.driver)
        self._decide(station, step.life, file)

    def _decide(self, station: Station, life: Life, file: StationFile) -> None:
        """Write down what others are to do now; OSError where the disk refuses: then it is not decided yet."""
        before, station.life = station.life, life
        try:
            self._save(station, file)
        except OSError:
            station.life = before
            raise

    def _start(self, station: Station, driver: Workstations, now: float) -> list[FleetNews]:
        file = station.file
        try:
            handle = driver.start(file.name, file.type, self._environment(file.type))
        except (CloudCodeError, OSError) as error:
            station.life = not_started(station.life, now, self._config.timing)
            self._save(station, file)
            station.refused = str(error)
            details: dict[str, object] = {"message": str(error)}
            told = FleetNews(workstation=file.name, event="workstation.not_started", details=details)
            return [told] if station.refusal.is_told(str(error), now) else []
        # What the last daemon has left is no sign of life of this one.
        station.vitals = Vitals(beat_at=now, heartbeat=station.vitals.heartbeat)
        station.life, station.refused = started(station.life, now), None
        station.refusal.is_told(None, now)
        noted = file.noting(handle)
        try:
            self._save(station, noted.evolve(worked=False))
        except OSError:  # known here all the same, or another one would be started beside it
            station.file = noted
            raise
        return [FleetNews(workstation=file.name, event="workstation.started", details=handle.told())]

    def _environment(self, kind: str) -> dict[str, str]:
        # Three beats at least before anyone is suspected.
        beat = min(LONGEST_BEAT_SECONDS, self._config.timing.suspect_after_seconds / 3)
        return passed_variables(self._config, kind) | {"CLOUD_CODE_HEARTBEAT_SECONDS": f"{beat:g}"}

    def heard(self, name: str, sign: WorkstationFile, now: float) -> bool:
        """A workstation's file was read; returns whether it had been suspect and no longer is."""
        station = self.stations.get(name)
        return station is not None and station.heard(sign, now)

    def refused(self, name: str, now: float) -> bool:
        """A workstation's file could not be taken, which is no sign of life; whether to tell of it (again)."""
        return self.stations[name].tells_refusal(now)

    def forget_run(self, name: str) -> None:
        """The run of the CLI that was watched has been ended: the next one begins with a clean sheet."""
        if name in self.stations:
            self.stations[name].forget_run()

    def stopped(self, name: str) -> None:
        """The job that stops this workstation's daemon has come back; one that lives is stopped again later."""
        station = self.stations[name]
        handle = station.file.handle
        if handle is not None and self._driver(station).alive(handle):
            station.life = not_stopped(station.life, self._now, self._config.timing)
            return
        station.life = replace(station.life, stopping=False)
        self._save(station, station.file.noting(None))

    def chore_done(self, name: str) -> None:
        """The job that did the first of its chores has come back."""
        station = self.stations[name]
        station.life = done(station.life)
        self._save(station, station.file)

    def want(self, name: str, wanted: Wanted) -> None:
        station = self.stations[name]
        station.life = replace(station.life, not_before=0.0, failures=0)
        self._save(station, station.file.evolve(wanted=wanted))

    def ask(self, name: str, chore: Chore) -> None:
        """Have something done to a workstation as soon as it is idle."""
        station = self.stations[name]
        station.life = station.life.asked(chore)
        self._save(station, station.file)

    def note_work(self, busy: Iterable[str]) -> None:
        """These have an attempt: who is made anew after each gets no other before that, over restarts too."""
        for station in (self.stations[name] for name in busy if name in self.stations):
            self._save(station, station.file.evolve(worked=True))

    def restart(self, name: str) -> DaemonHandle | None:
        """Mark for a restart; returns the daemon that has to be stopped first, if one runs."""
        self.want(name, "running")
        return self.stop(name)

    def stop(self, name: str) -> DaemonHandle | None:
        """Mark as being stopped; returns the daemon that has to be, if one runs and none is at it yet."""
        station = self.stations[name]
        if station.file.handle is None or station.life.stopping:
            return None
        self._decide(station, replace(station.life.moved(StationState.STOPPING), stopping=True), station.file)
        return station.file.handle

    def lacks_daemon(self, name: str) -> bool:
        """Whether no daemon of this workstation lives, and none is started at once: others must act for it."""
        station = self.stations.get(name)
        return station is None or station.lacks_daemon(self._now)

    def driver_of(self, name: str) -> Workstations:
        """The driver of a workstation, be it configured or not any more."""
        station = self.stations.get(name)
        file = station.file if station is not None else load_station(self._root, name)
        return self._drivers[file.driver if file is not None else WorkstationSettings(clis=("none",)).driver]

    def salvaging(self, name: str, under_way: bool) -> None:
        """While what a workstation holds is bundled for it, no daemon of it is started."""
        if name in self.stations:
            self.stations[name].life = replace(self.stations[name].life, held=under_way)

    def give_up(self, name: str) -> None:
        """The attempt of this workstation is lost as soon as its daemon is dead."""
        self.stations[name].life = replace(self.stations[name].life, giving_up=True)

    def is_configured(self, name: str) -> bool:
        return is_configured(self._config, name)

    def usable(self, name: str) -> bool:
        """Whether a task may be given to it now."""
        station = self.stations[name]
        return station.ready and self._driver(station).away() is None

    def view(self, name: str) -> WorkstationView:
        """As scheduling sees it."""
        return self.stations[name].view(self._config)

    def _save(self, station: Station, file: StationFile) -> None:
        """Write its file if that has changed."""
        state = station.life.state if station.life.state in NOTED else None
        file = file.evolve(state=state, chores=station.life.chores)
        if file != station.file:
            write_file(station_path(self._root, file.name), encode(file), mode=0o640)
        station.file = file
