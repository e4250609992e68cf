"""The driver `docker`: the agent daemon in a container of its own, found again by its labels.

Each start is a new container of the same name; what is to outlive it (the tools, the clones, the mail) is in
volumes and folders. Containers outlive the supervisor, and with `live-restore` the engine, too.
"""

import os
import sys
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loguru import logger

from agent_daemon.protocol.codec import decode
from agent_daemon.protocol.files import make_folder
from agent_daemon.protocol.model import Written
from agent_daemon.protocol.paths import Root
from agent_daemon.streams import put_aside_full
from supervisor.core.chores import Chore, Condition
from supervisor.core.decision import Event
from supervisor.core.settings import Config, MaintenanceSettings, WorkstationSettings
from supervisor.errors import CloudCodeError
from supervisor.ports import DaemonHandle, Entry, Use
from supervisor.workstations import snapshots
from supervisor.workstations.container_options import (
    KEYS,
    STOP_SECONDS,
    Station,
    bridge_of,
    network_of,
    options,
    prompt_folders,
    recipe_of,
)
from supervisor.workstations.containers import ROOT_LABEL, Container, Containers
from supervisor.workstations.egress import EgressProxy
from supervisor.workstations.engine import Engine, EngineRefusalError, engine_socket
from supervisor.workstations.keys import FILE, keys_folder, lay_keys, remove_keys, remove_read_keys
from supervisor.workstations.local import LOG_BYTES, NotDoneError, not_done
from supervisor.workstations.remap import free_refusal
from supervisor.workstations.tending import not_tended, tend_arguments, tended
from supervisor.workstations.usage import use_of_group

if TYPE_CHECKING:
    from python_on_whales import DockerClient

LOG_LINES_KEPT = 5000
START_SECONDS = 15.0
# How long the id of an image is taken for what it was.
IMAGE_SECONDS = 10.0


class _RootId(Written):
    id: str
    epoch: int = 0


class DockerWorkstations:
    """Starts, finds and stops agent daemons in containers. Neither the engine nor its library is used before that.

    Starting is done in a thread: it takes a fifth of a second and more, in which the loop has other things to do.
    """

    def __init__(self, root: Root, config: Config | None = None, engine: Engine | None = None) -> None:
        self._root, self._config = root, config
        self._named_engine = engine
        self._egress = EgressProxy(root, config)
        self._followed: Containers | None = None
        self._root_id = ""
        self._image_ids: dict[str, tuple[float, str | None]] = {}
        self._starting: dict[str, str] = {}
        self._one_at_a_time = threading.Lock()
        self._failed: dict[str, CloudCodeError] = {}
        self._told_away: str | None = None

    # --- the port -------------------------------------------------------------------------------------

    def start(self, name: str, kind: str, environment: Mapping[str, str]) -> DaemonHandle:
        """Begin to start it; what goes wrong is raised here at the next try. E_ENGINE_AWAY, E_NO_IMAGE, …"""
        if failed := self._failed.pop(name, None):
            raise failed
        if away := self.away():
            raise away
        if living := self.find(name):
            return living
        station = self._station(name, kind)
        self._check_image(station)
        run = uuid.uuid4().hex
        keys = keys_folder(station.root_id, name)
        lay_keys(keys, environment)
        self._starting[run] = name
        work = threading.Thread(target=self._start, args=(station, run, keys), name=f"start {name}", daemon=True)
        work.start()
        return DaemonHandle(run=run)

    def find(self, name: str) -> DaemonHandle | None:
        if self.away():
            return None
        return next((DaemonHandle(run=c.run) for c in self._seen_of(name) if c.living), None)

    def alive(self, handle: DaemonHandle) -> bool:
        """As far as can be seen: what was alive when the engine went away is taken for alive."""
        if handle.run is None:
            return False
        starting = self._starting.get(handle.run)
        living = starting is not None or self._containers.is_living(handle.run)
        name = starting or self._containers.workstation_of(handle.run)
        if living and name:
            remove_read_keys(self._id, name, self._root.mail_out(name) / "workstation.yaml")
        return living

    def away(self) -> CloudCodeError | None:
        return self._containers.away

    def close(self) -> None:
        """Wait for those that are just being started: the next supervisor would start them once more."""
        deadline = time.monotonic() + START_SECONDS
        while self._starting and time.monotonic() < deadline:
            time.sleep(0.05)
        if self._followed is not None:
            self._followed.close()

    def look(self) -> Event | None:
        """What there is to tell of the engine; called once a second, does nothing where no container is used."""
        if self._followed is None:
            return None
        away = self.away()
        said = away.message if away else None
        if said != self._told_away:
            self._told_away = said
            if away is None:
                return Event(name="engine.back")
            return Event(
                name="engine.away",
                details={"code": away.code, "message": away.message.removesuffix("."), "mend": away.mend},
            )
        return self._egress.look() if self._followed.news.empty() else self._followed.news.get()

    def stop(self, handle: DaemonHandle) -> None:
        """End the daemon in order, and with its container everything that it ran; keep the last of its log."""
        if handle.run in self._starting:
            raise CloudCodeError("E_STARTING", "The container is just being started.")
        found = self._containers.refresh().get(handle.run or "")
        if found is not None:
            self._remove(found)
            self._egress.shut(found.workstation)
            self._containers.refresh()

    def salvage(self, name: str, task_id: str, attempt: int) -> str:
        """In a container of its own, without a network."""
        if self.find(name):
            raise NotDoneError("E_DAEMON_RUNS", f"a daemon of {name} runs")
        station = self._station(name, name.rpartition("-")[0])
        self._check_image(station)
        command = ["salvage", "--workstation", name, "--root", str(self._root.path)]
        command += ["--task", task_id, "--attempt", str(attempt)]
        return self._run_once(station, "salvage", command)[:1000]

    def _run_once(
        self, station: Station, what: str, command: list[str], network: str = "none", gate: Path | None = None
    ) -> str:
        """What `agent-daemon` says that does one thing in the place of the daemon. NotDoneError."""
        from python_on_whales.exceptions import DockerException

        given = self._options(station, keys_folder(station.root_id, station.name), gate)
        given |= {"networks": [network], "name": f"{station.container}-{what}"}
        given["labels"] = {ROOT_LABEL: station.root_id}  # (without those of a daemon)
        snapshots.drop(self._engine, given["name"])
        try:
            said = self._docker().run(station.image, command, remove=True, healthcheck=False, **given)
        except DockerException as error:
            raise not_done(error.return_code, error.stderr or "") from None
        return str(said).strip()

    def upkeep(
        self, name: str, kind: str, chore: Chore, settings: MaintenanceSettings, say: Callable[[str], None]
    ) -> Mapping[str, object]:
        """In containers of their own, each for one step. E_NO_IMAGE, E_NOT_TENDED, E_NO_SNAPSHOT, E_ENGINE, …"""
        station = self._station(name, kind)
        for left in self._seen_of(name):
            self._remove(left)
        if chore.kind == "recreate":
            if chore.fresh_tools:
                snapshots.remove_volume(self._engine, station)
            return {"fresh_tools": chore.fresh_tools}
        self._check_image(station)
        if chore.kind == "restore":
            return snapshots.restore(self._engine, station, chore.snapshot)
        done: dict[str, object] = {}
        if chore.kind == "maintain":
            say("its caches are looked at" + (", its tools brought up to date" if settings.update_tools else ""))
            done |= self._tend(station, settings)
        if chore.kind == "snapshot" or settings.snapshot:
            say("its tools are saved")
            done |= snapshots.take(self._engine, station, settings.keep_snapshots)
        return done

    def _tend(self, station: Station, settings: MaintenanceSettings) -> dict[str, object]:
        """With the way out that its daemon has, where something is to be fetched; else without any."""
        command = tend_arguments(self._root, station.name, settings.cache_bytes)
        network, gate = "none", None
        if settings.update_tools:
            command.append("--update")
            network, gate = self._way_out(station)
        try:
            return tended(self._run_once(station, "tend", command, network, gate))
        except NotDoneError as error:
            raise not_tended(error.message) from None

    def use(self, name: str) -> Use | None:
        living = next((c for c in self._seen_of(name) if c.living), None)
        if living is None:
            return None
        return use_of_group(self._engine.get(f"/containers/{living.id}/json")["State"]["Pid"])

    def condition(self, name: str, kind: str, handle: DaemonHandle) -> Condition | None:
        container = self._containers.seen(handle.run or "")
        if container is None or self.away():
            return None
        wanted = self._image_id(self._station(name, kind).image)
        changed = wanted is not None and wanted != container.image
        return Condition(image_changed=changed, age_seconds=time.time() - container.created)

    def _image_id(self, name: str) -> str | None:
        """Asked of the engine once for all workstations that are looked at together."""
        known = self._image_ids.get(name)
        if known is None or time.monotonic() - known[0] > IMAGE_SECONDS:
            found = self._engine.image(name)
            known = self._image_ids[name] = (time.monotonic(), found["Id"] if found is not None else None)
        return known[1]

    def enter(self, name: str, command: tuple[str, ...], *, terminal: bool = True) -> Entry:
        """In the container of the daemon that runs, as its user. E_NOT_RUNNING."""
        tty = ["--tty"] if terminal and sys.stdin.isatty() and sys.stdout.isatty() else []
        place = ["--workdir", str(self._root.workspace(name)), "--env", f"TERM={os.environ.get('TERM', 'dumb')}"]
        return self._entry("exec", "--interactive", *tty, *place, self._running(name), *(command or ("bash",)))

    def variables(self, name: str) -> Mapping[str, str] | None:
        """The file with them is gone once they are read."""
        return None

    def log(self, name: str, follow: bool) -> Entry | None:
        mine = next(iter(self._seen_of(name)), None)
        return self._entry("logs", *(["--follow"] if follow else []), mine.id) if mine else None

    # --- one start, in a thread -----------------------------------------------------------------------

    def _start(self, station: Station, run: str, keys: Path) -> None:
        try:
            self._run(station, run, keys)
        except Exception as error:
            remove_keys(keys)
            logger.warning("the container of {} was not started: {}", station.name, error)
            self._failed[station.name] = _start_error(station, error)
        finally:
            self._starting.pop(run, None)

    def _run(self, station: Station, run: str, keys: Path) -> None:
        if refused := self._free_refusal(station):
            raise refused
        for left in self._seen_of(station.name):
            self._remove(left)
        for folder, _ in station.folders():
            make_folder(folder)
        network, gate = self._way_out(station)
        place = ["--workstation", station.name, "--root", str(self._root.path), "--type", station.kind]
        self._docker().run(
            station.image,
            ["--environment", f"{KEYS}/{FILE}", *place],
            detach=True,
            name=station.container,
            labels=station.labels(run),
            networks=[network],
            **self._options(station, keys, gate),
        )
        self._containers.refresh()

    def _way_out(self, station: Station) -> tuple[str, Path | None]:
        """The network that it is in, and the folder with the socket of its way out, if it has one."""
        gate = None
        if station.settings.controlled:
            gate = self._egress.open(station.name, station.kind)
        else:
            self._egress.shut(station.name)
        if station.settings.network != "open":
            return "none", gate
        logger.warning("{} has an open network: it reaches whatever this host reaches", station.name)
        return self._network(station.root_id), gate

    def _network(self, root_id: str) -> str:
        """A network of this root's own, on which its workstations do not see each other."""
        name = network_of(root_id)
        options = {
            "com.docker.network.bridge.name": bridge_of(root_id),
            "com.docker.network.bridge.enable_icc": "false",
        }
        wanted = {"Name": name, "Driver": "bridge", "Labels": {ROOT_LABEL: root_id}, "Options": options}
        with self._one_at_a_time:
            if not self._engine.get("/networks", filters={"name": [f"^{name}$"]}):
                self._engine.post("/networks/create", wanted)
        return name

    def _remove(self, container: Container) -> None:
        """Stop a container, append the end of its log to the workstation's, and remove it with its own volumes."""
        try:
            if container.living:
                self._engine.post(f"/containers/{container.id}/stop", None, STOP_SECONDS + 10, t=STOP_SECONDS)
            raw = self._engine.read(f"/containers/{container.id}/logs", stdout=1, stderr=1, tail=LOG_LINES_KEPT)
            log = self._root.workstations / f"{container.workstation}.log"
            put_aside_full(log, LOG_BYTES)
            with log.open("ab") as file:
                file.write(plain(raw))
            self._engine.delete(f"/containers/{container.id}", v=1, force=1)
        except EngineRefusalError as error:
            if error.status != 404:  # somebody else has removed it
                raise

    # --- what is known --------------------------------------------------------------------------------

    @property
    def _id(self) -> str:
        self._root_id = self._root_id or root_id_of(self._root)
        return self._root_id

    @property
    def _engine(self) -> Engine:
        if self._named_engine is None:
            self._named_engine = Engine(engine_socket())
        return self._named_engine

    @property
    def _containers(self) -> Containers:
        if self._followed is None:
            self._followed = Containers(self._engine, self._id, str(self._root.path))
            try:
                self._followed.refresh()
            except CloudCodeError as error:  # known as `away`
                logger.warning("{}", error)
        return self._followed

    def _seen_of(self, name: str) -> list[Container]:
        """The containers of a workstation, as of now."""
        return [c for c in self._containers.refresh().values() if c.workstation == name]

    def _station(self, name: str, kind: str) -> Station:
        configured = self._config.workstations.get(kind) if self._config else None
        settings = configured or WorkstationSettings(driver="docker", clis=("none",))
        return Station(root=self._root, root_id=self._id, name=name, kind=kind, settings=settings)

    def _options(self, station: Station, keys: Path, gate: Path | None) -> dict[str, Any]:
        user = f"{os.getuid()}:{os.getgid()}"
        free = station.settings.is_free and self._free_refusal(station) is None
        return options(station, keys, prompt_folders(self._config, station.settings), user, gate, free=free)

    def _free_refusal(self, station: Station) -> CloudCodeError | None:
        return free_refusal(self._engine.get("/info")) if station.settings.is_free else None

    def _running(self, name: str) -> str:
        for container in self._seen_of(name):
            if container.living:
                return container.id
        raise CloudCodeError(
            "E_NOT_RUNNING", f"{name} has no container that runs.", f"cloud-code workstation start {name}"
        )

    def _check_image(self, station: Station) -> None:
        if self._engine.image(station.image) is not None:
            return
        made = recipe_of(station.kind, station.settings)
        mend = f"cloud-code workstation build {made}" if made else "Build it, or pull it."
        raise CloudCodeError("E_NO_IMAGE", f"The engine has no image {station.image}.", mend)

    def _docker(self) -> "DockerClient":
        from python_on_whales import DockerClient

        return DockerClient(host=f"unix://{self._engine.path}", client_call=["docker"])

    def _entry(self, *words: str) -> Entry:
        passed = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TERM") if name in os.environ}
        argv = ("docker", "--host", f"unix://{self._engine.path}", *words)
        return Entry(argv=argv, cwd=self._root.path, environment=passed)


def root_id_of(root: Root) -> str:
    """The id of a root, which a supervisor gives it at its first start; E_NOT_RUNNING before that."""
    try:
        return decode(_RootId, root.root_id.read_bytes(), file="state/root-id").id
    except FileNotFoundError:
        raise CloudCodeError("E_NOT_RUNNING", "No supervisor has run here yet.", "cloud-code run") from None


def plain(raw: bytes) -> bytes:
    """The text of a container's log: the engine puts eight bytes before each piece, the last four its length."""
    parts, place = [], 0
    while place + 8 <= len(raw):
        end = place + 8 + int.from_bytes(raw[place + 4 : place + 8], "big")
        parts.append(raw[place + 8 : end])
        place = end
    return b"".join(parts)


def _start_error(station: Station, error: Exception) -> CloudCodeError:
    if isinstance(error, CloudCodeError):
        return error
    said = (getattr(error, "stderr", None) or str(error)).strip()[-1000:]
    return CloudCodeError("E_CONTAINER", f"The container of {station.name} could not be started: {said}")
