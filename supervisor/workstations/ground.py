"""What the driver of containers stands on: the engine, what it has of this root, and what is configured."""

import os
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loguru import logger

from agent_daemon.protocol.paths import Root
from agent_daemon.streams import put_aside_full
from supervisor.core.settings import Config, DiskSettings, WorkstationSettings
from supervisor.errors import CloudCodeError
from supervisor.root_identity import root_id_of
from supervisor.workstations.container_options import (
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
from supervisor.workstations.engine import (
    ANSWER_SECONDS,
    Engine,
    EngineRefusalError,
    Source,
    engine_socket,
)
from supervisor.workstations.leavings import refuse_copied, remove_unnamed
from supervisor.workstations.local import LOG_BYTES
from supervisor.workstations.remap import free_refusal

if TYPE_CHECKING:
    from python_on_whales import DockerClient

LOG_LINES_KEPT = 5000
# How long the id of an image is taken for what it was.
IMAGE_SECONDS = 10.0
_PIECE_BYTES = 64 * 1024


class Ground:
    """Neither the engine nor its library is used before something is asked of them. For any thread."""

    def __init__(self, root: Root, config: Config | None, engine: Engine | None = None) -> None:
        self.root, self._config = root, config
        self._named_engine = engine
        self.followed: Containers | None = None
        self._root_id = ""
        self._image_ids: dict[str, tuple[float, str | None]] = {}
        self._one_at_a_time = threading.Lock()
        self.egress = EgressProxy(root, config)
        self.data_folder: Path | None = None

    @property
    def id(self) -> str:
        self._root_id = self._root_id or root_id_of(self.root)
        return self._root_id

    @property
    def disk(self) -> DiskSettings:
        """How much room of the root's disk is left to attempts."""
        return self._config.disk if self._config else DiskSettings()

    @property
    def engine(self) -> Engine:
        if self._named_engine is None:
            self._named_engine = Engine(engine_socket())
        return self._named_engine

    @property
    def containers(self) -> Containers:
        if self.followed is None:
            self.followed = Containers(self.engine, self.id, str(self.root.path))
            try:
                self.followed.refresh()
            except CloudCodeError as error:  # known as `away`
                logger.warning("{}", error)
        return self.followed

    def seen_of(self, name: str) -> list[Container]:
        """The containers of a workstation, as of now."""
        return [c for c in self.containers.refresh().values() if c.workstation == name]

    def station(self, name: str, kind: str) -> Station:
        configured = self._config.workstations.get(kind) if self._config else None
        settings = configured or WorkstationSettings(driver="docker", clis=("none",))
        return Station(root=self.root, root_id=self.id, name=name, kind=kind, settings=settings)

    def options(self, station: Station, keys: Path, gate: Path | None, *, free: bool) -> dict[str, Any]:
        user = f"{os.getuid()}:{os.getgid()}"
        return options(station, keys, prompt_folders(self._config, station.settings), user, gate, free=free)

    def free_refusal(self, station: Station) -> CloudCodeError | None:
        return free_refusal(self.engine.get("/info")) if station.settings.is_free else None

    def check_image(self, station: Station) -> None:
        """E_NO_IMAGE, as of now."""
        if self.engine.image(station.image) is None:
            raise self.no_image(station)

    def learn_data_folder(self) -> None:
        """Where the engine keeps what containers write, so that its disk is looked at, too."""
        named = self.engine.get("/info").get("DockerRootDir")
        self.data_folder = Path(named) if named else None

    def refuse_interrupted(self) -> None:
        """E_INTERRUPTED once the supervisor ends."""
        if self.engine.ending.is_set():
            raise CloudCodeError("E_INTERRUPTED", "The supervisor ends; this is begun anew after its next start.")

    def refuse_copied(self) -> None:
        """E_ROOT_COPIED where another root's containers have the names and the volumes of this one's."""
        refuse_copied(self.engine, self.root, self.id)

    def no_image(self, station: Station) -> CloudCodeError:
        """E_NO_IMAGE, with what makes it."""
        made = recipe_of(station.kind, station.settings)
        mend = f"cloud-code workstation build {made}" if made else "Build it, or pull it."
        return CloudCodeError("E_NO_IMAGE", f"The engine has no image {station.image}.", mend)

    def image_id(self, name: str) -> str | None:
        """Asked of the engine once for all workstations that are looked at together."""
        known = self._image_ids.get(name)
        if known is None or time.monotonic() - known[0] > IMAGE_SECONDS:
            found = self.engine.image(name)
            known = self._image_ids[name] = (time.monotonic(), found["Id"] if found is not None else None)
        return known[1]

    def way_out(self, station: Station) -> tuple[str, Path | None]:
        """The network that it is in, and the folder with the socket of its way out, if it has one."""
        gate = None
        if station.settings.controlled:
            gate = self.egress.open(station.name, station.kind)
        else:
            self.egress.shut(station.name)
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
            if not self.engine.get("/networks", filters={"name": [f"^{name}$"]}):
                self.engine.post("/networks/create", wanted)
        return name

    def remove(self, container: Container) -> None:
        """Stop a container, append the end of its log to the workstation's, and remove it with its own volumes."""
        try:
            if container.living:
                self.engine.post(f"/containers/{container.id}/stop", None, STOP_SECONDS + 10, t=STOP_SECONDS)
            self._keep_log(container)
            self.engine.delete(f"/containers/{container.id}", v=1, force=1)
            if not self._is_configured(container.image):
                remove_unnamed(self.engine, container.image)
        except EngineRefusalError as error:
            if error.status != 404:  # somebody else has removed it
                raise

    def _is_configured(self, image_id: str) -> bool:
        """Whether a type names this image by its id, or by a part of that."""
        stations = self._config.workstations.values() if self._config else ()
        named = [s.image.removeprefix("sha256:") for s in stations if s.image]
        return any(image_id.removeprefix("sha256:").startswith(name) for name in named)

    def _keep_log(self, container: Container) -> None:
        log = self.root.workstations / f"{container.workstation}.log"
        try:
            said = self.last_said(container.id, LOG_LINES_KEPT, LOG_BYTES, stdout=1, stderr=1)
            put_aside_full(log, LOG_BYTES)
            with log.open("ab") as file:
                file.write(said)
        except (OSError, EngineRefusalError) as error:  # a full disk, or one half removed (409), ends all the same
            logger.warning("the log of {} is not kept: {}", container.name, error)

    def last_said(self, container: str, lines: int, most_bytes: int, **streams: int) -> bytes:
        """The end of what a container has said: agents may have a hand in it, so that it is bounded twice."""
        path = f"/containers/{container}/logs"
        with self.engine.download(path, ANSWER_SECONDS, tail=lines, **streams) as answer:
            return last_of(answer, most_bytes)

    def docker(self) -> "DockerClient":
        from python_on_whales import DockerClient

        return DockerClient(host=f"unix://{self.engine.path}", client_call=["docker"])


def last_of(log: Source, most_bytes: int) -> bytes:
    """The last bytes of a container's log, of which no more than that and a piece is ever held.

    The engine puts eight bytes before each piece, the last four its length.
    """
    kept = bytearray()
    while len(head := log.read(8)) == 8:
        left = int.from_bytes(head[4:], "big")
        while left and (piece := log.read(min(left, _PIECE_BYTES))):
            left -= len(piece)
            kept += piece
            del kept[:-most_bytes]
    return bytes(kept)
