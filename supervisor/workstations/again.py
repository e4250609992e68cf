"""A *free* workstation that died is started again as it was: what apt installed in it is in its container alone.

What was ended on purpose is made anew, and so is what would be made otherwise by now: of another image, with other
limits or folders. One that lived for a moment only is made anew, too: its agent may have broken what it needs.
"""

import hashlib
import json
import time
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from loguru import logger

from supervisor.workstations.containers import Container
from supervisor.workstations.engine import Engine, EngineRefusalError

# A container that lived shorter than that would fare no better a second time.
LIVED_SECONDS = 10.0
# The engine tells of a death a moment before its container has ended.
END_SECONDS = 15.0
START_SECONDS = 60.0


def made_of(image_id: str | None, network: str, options: Mapping[str, Any]) -> str:
    """What tells one way of making a container from another."""
    told = json.dumps([image_id, network, options], default=str, sort_keys=True)
    return hashlib.sha256(told.encode()).hexdigest()


def to_go_on(left: Iterable[Container], wanted: str) -> Container | None:
    """The one of a workstation's that can be started once more; `wanted` is how one would be made now."""
    return next((one for one in left if not one.living and one.made_of == wanted), None)


def start_again(engine: Engine, left: Container) -> bool:
    """Start a container that died; whether it was, else it is of no use. EngineAwayError."""
    try:
        state = _ended(engine, left)
        if (lived := lived_seconds(state)) < LIVED_SECONDS:
            logger.info("{} is made anew: it lived for {:.1f} s", left.name, lived)
            return False
        engine.post(f"/containers/{left.id}/start", None, START_SECONDS)
    except EngineRefusalError as error:
        logger.warning("{} is made anew, for it could not be started again: {}", left.name, error)
        return False
    return True


def _ended(engine: Engine, left: Container) -> Mapping[str, Any]:
    deadline = time.monotonic() + END_SECONDS
    while True:
        state: Mapping[str, Any] = engine.get(f"/containers/{left.id}/json")["State"]
        if not state["Running"] or time.monotonic() > deadline:
            return state
        time.sleep(0.1)


def lived_seconds(state: Mapping[str, Any]) -> float:
    """How long a container ran when it did so last; 0 of one that still runs, or never did."""
    began, ended = (datetime.fromisoformat(state[name]) for name in ("StartedAt", "FinishedAt"))
    return max((ended - began).total_seconds(), 0.0) if not state["Running"] else 0.0
