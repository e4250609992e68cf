"""The driver `docker`: the agent daemon in a container of its own, found again by its labels.

Each start is a new container of the same name; what is to outlive it (the tools, the clones, the mail) is in
volumes and folders. Containers outlive the supervisor, and with `live-restore` the engine, too.
"""

import contextlib
import os
import sys
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path

from loguru import logger

from agent_daemon.protocol.files import make_folder
from agent_daemon.protocol.paths import Root
from supervisor.core.chores import Chore, Condition
from supervisor.core.decision import Event
from supervisor.core.settings import Config, MaintenanceSettings
from supervisor.errors import CloudCodeError
from supervisor.lasting import Lasting
from supervisor.ports import DaemonHandle, Entry, Use
from supervisor.workstations import stand_ins
from supervisor.workstations.container_options import KEYS, Station
from supervisor.workstations.containers import Containers
from supervisor.workstations.engine import Engine, EngineAwayError, EngineRefusalError
from supervisor.workstations.ground import Ground
from supervisor.workstations.keys import FILE, keys_folder, lay_keys, remove_keys, remove_read_keys
from supervisor.workstations.local import NotDoneError
from supervisor.workstations.usage import use_of_group

START_SECONDS = 15.0
MEMORY_QUIET_SECONDS = 60.0


class DockerWorkstations:
    """Starts, finds and stops agent daemons in containers. Neither the engine nor its library is used before that.

    Starting is done in a thread: it takes a fifth of a second and more, in which the loop has other things to do.
    """

    def __init__(self, root: Root, config: Config | None = None, engine: Engine | None = None) -> None:
        self._root = root
        self._ground = Ground(root, config, engine)
        self._starting: dict[str, str] = {}
        self._failed: dict[str, CloudCodeError] = {}
        self._told_away = Lasting()
        self._told_memory: dict[str, float] = {}
        self._made_at, self._cleaned = int(time.time()), False

    # --- the port -------------------------------------------------------------------------------------

    def start(self, name: str, kind: str, environment: Mapping[str, str]) -> DaemonHandle:
        """Begin to start it; what goes wrong is raised here at the next try. E_ENGINE_AWAY, E_NO_IMAGE, …

        By what the engine told last: the loop waits for no answer but that about an image, and for that not often.
        """
        if failed := self._failed.pop(name, None):
            raise failed
        if away := self.away():
            raise away
        if living := next((c for c in self._ground.containers.last_of(name) if c.living), None):
            return DaemonHandle(run=living.run)
        station = self._ground.station(name, kind)
        if self._ground.image_id(station.image) is None:
            raise self._ground.no_image(station)
        run = uuid.uuid4().hex
        keys = keys_folder(station.root_id, name)
        self._starting[run] = name
        given = (station, run, keys, dict(environment))
        threading.Thread(target=self._start, args=given, name=f"start {name}", daemon=True).start()
        return DaemonHandle(run=run)

    def find(self, name: str) -> DaemonHandle | None:
        if self.away():
            return None
        return next((DaemonHandle(run=c.run) for c in self._ground.seen_of(name) if c.living), None)

    def alive(self, handle: DaemonHandle) -> bool:
        """As far as can be seen: what was alive when the engine went away is taken for alive."""
        if handle.run is None:
            return False
        starting = self._starting.get(handle.run)
        living = starting is not None or self._ground.containers.is_living(handle.run)
        name = starting or self._ground.containers.workstation_of(handle.run)
        if living and name:
            remove_read_keys(self._ground.id, name, self._sign(name))
        return living

    def away(self) -> CloudCodeError | None:
        return self._ground.containers.away

    def place(self) -> Path | None:
        return self._ground.data_folder

    def interrupt(self) -> None:
        if self._ground.followed is None or self.away():
            return
        self._ground.engine.ending.set()
        with contextlib.suppress(EngineAwayError, EngineRefusalError):  # asked again until all have ended
            stand_ins.kill_all(self._ground)

    def _look_once(self) -> None:
        with contextlib.suppress(EngineAwayError, EngineRefusalError):
            self._ground.learn_data_folder()
        try:
            stand_ins.remove_left(self._ground, before=self._made_at)
        except (EngineAwayError, EngineRefusalError) as error:  # the next start of a workstation tries again
            logger.debug("{}", error)

    def close(self) -> None:
        """Wait for those that are just being started: the next supervisor would start them once more."""
        deadline = time.monotonic() + START_SECONDS
        while self._starting and time.monotonic() < deadline:
            time.sleep(0.05)
        if self._ground.followed is not None:
            self._ground.followed.close()

    def look(self) -> Event | None:
        """What there is to tell of the engine; called once a second, does nothing where no container is used."""
        followed = self._ground.followed
        if followed is None:
            return None
        away = self.away()
        if away is None and not self._cleaned:
            self._cleaned = True
            threading.Thread(target=self._look_once, name="look at the engine", daemon=True).start()
        said = away.message if away else None
        if self._told_away.is_told(said, time.monotonic()):
            if away is None:
                return Event(name="engine.back")
            return Event(
                name="engine.away",
                details={"code": away.code, "message": away.message.removesuffix("."), "mend": away.mend},
            )
        return self._ground.egress.look() or self._out_of_memory(followed)

    def _out_of_memory(self, followed: Containers) -> Event | None:
        """Of a workstation once a minute at most: its agent can run out of memory as often as it likes."""
        now = time.monotonic()
        self._told_memory = {n: at for n, at in self._told_memory.items() if now - at < MEMORY_QUIET_SECONDS}
        found = followed.take_ran_out(self._told_memory)
        if found is None:
            return None
        self._told_memory[found[0]] = now
        details = {"workstation": found[0]} | ({"times": found[1]} if found[1] > 1 else {})
        return Event(name="workstation.out_of_memory", details=details)

    def stop(self, handle: DaemonHandle) -> None:
        """End the daemon in order, and with its container everything that it ran; keep the last of its log."""
        deadline = time.monotonic() + START_SECONDS
        while handle.run in self._starting and time.monotonic() < deadline:
            time.sleep(0.05)
        if handle.run in self._starting:
            raise CloudCodeError("E_STARTING", "The container is just being started.")
        found = self._ground.containers.refresh().get(handle.run or "")
        if found is not None:
            self._ground.remove(found)
            self._ground.egress.shut(found.workstation)
            self._ground.containers.refresh()

    def salvage(self, name: str, task_id: str, attempt: int) -> str:
        """In a container of its own, without a network."""
        if self.find(name):
            raise NotDoneError("E_DAEMON_RUNS", f"a daemon of {name} runs")
        station = self._ground.station(name, name.rpartition("-")[0])
        return stand_ins.salvage(self._ground, station, task_id, attempt)

    def upkeep(
        self, name: str, kind: str, chore: Chore, settings: MaintenanceSettings, say: Callable[[str], None]
    ) -> Mapping[str, object]:
        """In containers of their own, each for one step. E_NO_IMAGE, E_NOT_TENDED, E_NO_SNAPSHOT, E_ENGINE, …"""
        return stand_ins.keep_up(self._ground, self._ground.station(name, kind), chore, settings, say)

    def use(self, name: str) -> Use | None:
        living = next((c for c in self._ground.seen_of(name) if c.living), None)
        if living is None:
            return None
        return use_of_group(self._ground.engine.get(f"/containers/{living.id}/json")["State"]["Pid"])

    def condition(self, name: str, kind: str, handle: DaemonHandle) -> Condition | None:
        container = self._ground.containers.seen(handle.run or "")
        if container is None or self.away():
            return None
        try:
            wanted = self._ground.image_id(self._ground.station(name, kind).image)
        except (
            EngineAwayError,
            EngineRefusalError,
        ) as error:  # if it lasts, it is told
            logger.debug("{}", error)
            return None
        changed = wanted is not None and wanted != container.image
        return Condition(image_changed=changed, age_seconds=time.time() - container.created)

    def enter(self, name: str, command: tuple[str, ...], *, terminal: bool = True) -> Entry:
        """In the container of the daemon that runs, as its user. E_NOT_RUNNING."""
        tty = ["--tty"] if terminal and sys.stdin.isatty() and sys.stdout.isatty() else []
        place = ["--workdir", str(self._root.workspace(name)), "--env", f"TERM={os.environ.get('TERM', 'dumb')}"]
        return self._entry("exec", "--interactive", *tty, *place, self._running(name), *(command or ("bash",)))

    def variables(self, name: str) -> Mapping[str, str] | None:
        """The file with them is gone once they are read."""
        return None

    def log(self, name: str, follow: bool) -> Entry | None:
        mine = next(iter(self._ground.seen_of(name)), None)
        return self._entry("logs", *(["--follow"] if follow else []), mine.id) if mine else None

    # --- one start, in a thread -----------------------------------------------------------------------

    def _start(self, station: Station, run: str, keys: Path, environment: Mapping[str, str]) -> None:
        try:
            self._make_room(station)
            # Not earlier: they would be those of one that runs already.
            lay_keys(keys, environment, self._sign(station.name))
            try:
                self._run(station, run, keys)
            except Exception:
                remove_keys(keys)
                raise
        except Exception as error:
            logger.warning("the container of {} was not started: {}", station.name, error)
            self._failed[station.name] = _start_error(station, error)
        finally:
            self._starting.pop(run, None)

    def _make_room(self, station: Station) -> None:
        """Remove what was left of the last one. E_CONTAINER where that runs, E_ROOT_COPIED."""
        ground = self._ground
        ground.refuse_copied()
        if refused := ground.free_refusal(station):
            raise refused
        for left in ground.seen_of(station.name):
            if left.living:  # (nobody was told of it yet; it is taken up at the next try)
                raise CloudCodeError("E_CONTAINER", f"A container of {station.name} runs already.")
            ground.remove(left)
        stand_ins.remove_left(ground, station.name)
        station.tools.clear_left(ground.engine)
        for folder, _ in station.folders():
            make_folder(folder)

    def _run(self, station: Station, run: str, keys: Path) -> None:
        ground = self._ground
        network, gate = ground.way_out(station)
        place = ["--workstation", station.name, "--root", str(self._root.path), "--type", station.kind]
        ground.docker().run(
            station.image,
            ["--environment", f"{KEYS}/{FILE}", *place],
            detach=True,
            name=station.container,
            labels=station.labels(run),
            networks=[network],
            **ground.options(station, keys, gate, free=station.settings.is_free),
        )
        ground.containers.refresh()

    def _sign(self, name: str) -> Path:
        return self._root.mail_out(name) / "workstation.yaml"

    def _running(self, name: str) -> str:
        for container in self._ground.seen_of(name):
            if container.living:
                return container.id
        raise CloudCodeError(
            "E_NOT_RUNNING", f"{name} has no container that runs.", f"cloud-code workstation start {name}"
        )

    def _entry(self, *words: str) -> Entry:
        passed = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TERM") if name in os.environ}
        argv = ("docker", "--host", f"unix://{self._ground.engine.path}", *words)
        return Entry(argv=argv, cwd=self._root.path, environment=passed)


def _start_error(station: Station, error: Exception) -> CloudCodeError:
    if isinstance(error, CloudCodeError):
        return error
    said = (getattr(error, "stderr", None) or str(error)).strip()[-1000:]
    return CloudCodeError("E_CONTAINER", f"The container of {station.name} could not be started: {said}")
