"""What an engine has of one root's containers: listed anew whenever an event says that something changed.

The events are hints, the list is the truth. While the engine is away the last list stays in force: nothing is
taken for dead that nobody can look at.
"""

import threading
import time
from collections import Counter, deque
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

from loguru import logger

from supervisor.workstations.engine import Engine, EngineAwayError

ROOT_LABEL = "cloud-code.root"
PATH_LABEL = "cloud-code.path"
WORKSTATION_LABEL = "cloud-code.workstation"
RUN_LABEL = "cloud-code.run"
# Of what stands in for a daemon for one step.
HELPER_LABEL = "cloud-code.helper"

IDLE_SECONDS = 15.0
RETRY_SECONDS = (0.2, 0.5, 1.0, 2.0)
_LIVING = frozenset({"running", "paused", "restarting"})
_TOLD = ["start", "die", "oom", "destroy", "pause", "unpause"]


@dataclass(frozen=True, kw_only=True)
class Container:
    """A container of a workstation; `run` tells one start from the next.

    `image` is the id of its image; `created` is in seconds of the epoch, by the engine's clock.
    """

    id: str
    name: str
    workstation: str
    run: str
    living: bool
    image: str = ""
    created: float = 0.0


def root_labels(root_id: str, path: str) -> list[str]:
    """What all containers of a root have, and those of a copy of it, which has its id, have not."""
    return [f"{ROOT_LABEL}={root_id}", f"{PATH_LABEL}={path}"]


def list_containers(engine: Engine, root_id: str, path: str) -> dict[str, Container]:
    """The containers of this root's workstations by their run."""
    found, labels = {}, [*root_labels(root_id, path), RUN_LABEL]
    for entry in engine.get("/containers/json", all=1, filters={"label": labels}):
        told: Mapping[str, str] = entry["Labels"]
        found[told[RUN_LABEL]] = Container(
            id=entry["Id"],
            name=entry["Names"][0].lstrip("/") if entry["Names"] else entry["Id"][:12],
            workstation=told.get(WORKSTATION_LABEL, ""),
            run=told[RUN_LABEL],
            living=entry["State"] in _LIVING,
            image=str(entry.get("ImageID", "")),
            created=float(entry.get("Created", 0)),
        )
    return found


def roots_on_image(engine: Engine, image_id: str) -> set[str]:
    """The paths of all roots that have containers of this image."""
    found = engine.get("/containers/json", all=1, filters={"label": [PATH_LABEL]})
    return {entry["Labels"][PATH_LABEL] for entry in found if entry["ImageID"] == image_id}


class Containers:
    """Follows one root's containers in a thread of its own, from the first `refresh` on."""

    def __init__(self, engine: Engine, root_id: str, path: str) -> None:
        self._engine, self._root_id, self._path = engine, root_id, path
        self._seen: dict[str, Container] | None = None
        # The engine says that one died some time before its list does; none is started twice.
        self._dead: set[str] = set()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        # What happens between two subscriptions is asked for, and what is told again is known.
        self._since_ns = time.time_ns()
        self._heard: deque[tuple[object, ...]] = deque(maxlen=512)
        self._closed = False
        self.away: EngineAwayError | None = None
        # How often memory ran out in each workstation, until that is told; under a lock held for moments.
        self._ran_out: Counter[str] = Counter()
        self._counting = threading.Lock()

    def refresh(self) -> dict[str, Container]:
        """The containers as of now, by their run; EngineAwayError, EngineRefusalError."""
        with self._lock:  # (an older answer never replaces a newer one)
            try:
                listed = list_containers(self._engine, self._root_id, self._path)
                self._dead.intersection_update(listed)
                self._seen = {r: replace(c, living=c.living and r not in self._dead) for r, c in listed.items()}
                self.away = None
            except EngineAwayError as error:
                self.away = error
                raise
            finally:
                self._follow()
            return dict(self._seen)

    def is_living(self, run: str) -> bool:
        """Whether this one runs, as far as is known; while nothing could be seen yet, nothing is dead."""
        seen = self._seen
        return seen is None or (run in seen and seen[run].living)

    def seen(self, run: str) -> Container | None:
        """As of the last list."""
        return (self._seen or {}).get(run)

    def last_of(self, workstation: str) -> list[Container]:
        """The containers of a workstation as of the last list."""
        return [container for container in (self._seen or {}).values() if container.workstation == workstation]

    def workstation_of(self, run: str) -> str:
        """Whose container this is; empty when it is not known."""
        seen = self._seen or {}
        return seen[run].workstation if run in seen else ""

    def close(self) -> None:
        """Follow no longer: the thread ends with the next thing that it hears, or after `IDLE_SECONDS`."""
        self._closed = True

    def _follow(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._watch, name="docker events", daemon=True)
            self._thread.start()

    def _watch(self) -> None:
        """Subscribe, list, and list again with each event and now and then; anew when the stream ends."""
        filters = {"label": [f"{ROOT_LABEL}={self._root_id}"], "type": ["container"], "event": _TOLD}
        failures = 0
        while not self._closed:
            try:
                for event in self._engine.events(filters, IDLE_SECONDS, self._since_ns):
                    if self._closed:
                        return
                    self._heed(event)
                    self.refresh()
                    failures = 0
            except EngineAwayError as error:
                self.away = error
                time.sleep(RETRY_SECONDS[min(failures, len(RETRY_SECONDS) - 1)])
                failures += 1
            except Exception as error:  # (whatever it is: with this thread gone, the dead would count as living)
                logger.error("the Docker engine's answer is not understood: {!r}", error)
                time.sleep(RETRY_SECONDS[-1])

    def _heed(self, event: Mapping[str, Any] | None) -> None:
        """Take what no list tells (yet): a death, and that memory ran out, be it of a child alone."""
        if event is None:
            return
        labels, mark = event["Actor"]["Attributes"], (event["timeNano"], event["Actor"]["ID"], event["Action"])
        if mark in self._heard or labels.get(PATH_LABEL) != self._path:
            return
        self._heard.append(mark)
        self._since_ns = max(self._since_ns, int(event["timeNano"]))
        if event["Action"] == "die":
            with self._lock:
                self._dead.add(labels.get(RUN_LABEL, ""))
        elif event["Action"] == "oom":
            with self._counting:
                self._ran_out[labels.get(WORKSTATION_LABEL, "")] += 1

    def take_ran_out(self, besides: Collection[str]) -> tuple[str, int] | None:
        """A workstation whose memory ran out, and how often since it was asked last; none of those `besides`."""
        with self._counting:
            name = next((name for name in self._ran_out if name not in besides), None)
            return None if name is None else (name, self._ran_out.pop(name))
