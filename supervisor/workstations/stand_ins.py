"""What is done in the place of a workstation's daemon, in containers of their own: each for one step."""

import contextlib
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from supervisor.core.chores import Chore
from supervisor.core.settings import MaintenanceSettings
from supervisor.workstations import snapshots
from supervisor.workstations.container_options import Station
from supervisor.workstations.containers import HELPER_LABEL, WORKSTATION_LABEL, root_labels
from supervisor.workstations.engine import EngineAwayError, EngineRefusalError
from supervisor.workstations.ground import Ground
from supervisor.workstations.keys import keys_folder, remove_keys
from supervisor.workstations.local import SALVAGE_SECONDS, NotDoneError, not_done
from supervisor.workstations.tending import TEND_SECONDS, not_tended, tend_arguments, tended
from supervisor.workstations.tools import remove_volume

# Of what a stand-in says the end is kept: a line that counts, and those before it.
SAID_LINES, SAID_BYTES = 200, 64 * 1024


def salvage(ground: Ground, station: Station, task_id: str, attempt: int) -> str:
    """In a container without a network. NotDoneError, E_ROOT_COPIED."""
    ground.refuse_copied()
    ground.check_image(station)
    command = ["salvage", "--workstation", station.name, "--root", str(ground.root.path)]
    command += ["--task", task_id, "--attempt", str(attempt)]
    return _run_once(ground, station, "salvage", command, SALVAGE_SECONDS)[:1000]


def keep_up(
    ground: Ground, station: Station, chore: Chore, settings: MaintenanceSettings, say: Callable[[str], None]
) -> Mapping[str, object]:
    """Do this to a workstation that has no daemon; what there is to tell of it.

    E_NO_IMAGE, E_NOT_TENDED, E_NO_SNAPSHOT, E_ENGINE, E_ROOT_COPIED, …
    """
    ground.refuse_copied()
    for left in ground.seen_of(station.name):
        ground.remove(left)
    remove_left(ground, station.name)
    if chore.kind == "recreate":
        if chore.fresh_tools:
            remove_volume(ground.engine, station.volume)
        return {"fresh_tools": chore.fresh_tools}
    ground.check_image(station)
    if chore.kind == "restore":
        return snapshots.restore(ground.engine, station, chore.snapshot, ground.refuse_interrupted)
    done: dict[str, object] = {}
    if chore.kind == "maintain":
        say("its caches are looked at" + (", its tools brought up to date" if settings.update_tools else ""))
        done |= tend(ground, station, settings)
    if chore.kind == "snapshot" or settings.snapshot:
        say("its tools are saved")
        done |= snapshots.take(
            ground.engine, station, settings.keep_snapshots, ground.disk, ground.refuse_interrupted
        )
    return done


def tend(ground: Ground, station: Station, settings: MaintenanceSettings) -> dict[str, object]:
    """With the way out that its daemon has, where something is to be fetched; else without any."""
    command = tend_arguments(ground.root, station.name, settings.cache_bytes)
    network, gate = "none", None
    if settings.update_tools:
        command.append("--update")
        network, gate = ground.way_out(station)
    try:
        return tended(_run_once(ground, station, "tend", command, TEND_SECONDS, network, gate))
    except NotDoneError as error:
        raise not_tended(error.message) from None
    finally:
        if gate is not None:  # its daemon opens it anew, if there is to be one
            ground.egress.shut(station.name)


def remove_left(ground: Ground, workstation: str | None = None, before: float | None = None) -> None:
    """Remove what stood in for a daemon and was left so by a supervisor that was killed.

    Of one workstation, whose daemon or stand-in is to be the only one; or of all, made `before` then.
    """
    mine = _labels(ground) + ([f"{WORKSTATION_LABEL}={workstation}"] if workstation is not None else [])
    for found in ground.engine.get("/containers/json", all=1, filters={"label": mine}):
        if before is None or found["Created"] < before:
            snapshots.drop(ground.engine, found["Id"])


def kill_all(ground: Ground) -> None:
    """End what stands in for daemons; whoever waits for one removes it."""
    for found in ground.engine.get("/containers/json", filters={"label": _labels(ground)}):
        with contextlib.suppress(EngineRefusalError):  # it has ended meanwhile
            ground.engine.post(f"/containers/{found['Id']}/kill")


def _labels(ground: Ground) -> list[str]:
    """Those of everything that stands in for a daemon of this root."""
    return [*root_labels(ground.id, str(ground.root.path)), HELPER_LABEL]


def _run_once(
    ground: Ground,
    station: Station,
    what: str,
    command: list[str],
    seconds: int,
    network: str = "none",
    gate: Path | None = None,
) -> str:
    """What `agent-daemon` says at last that does one thing in the place of the daemon. NotDoneError.

    What it says lies with the engine, bounded, until it has ended: agents may have a hand in it.
    """
    from python_on_whales.exceptions import DockerException

    free = station.settings.is_free and ground.free_refusal(station) is None
    keys = keys_folder(station.root_id, station.name)
    remove_keys(keys)  # (of a daemon that was not started any more; an agent may have a hand in what runs here)
    given = ground.options(station, keys, gate, free=free)
    name, labels = station.helper(what)
    given |= {"networks": [network], "name": name, "labels": labels}
    remove_left(ground, station.name)
    ground.refuse_interrupted()
    try:
        ground.docker().run(station.image, command, detach=True, healthcheck=False, **given)
        code = _ended(ground, name, seconds)
        said, errors = (_said(ground, name, **{stream: 1}) for stream in ("stdout", "stderr"))
    except DockerException as error:
        said = re.split(r"\s+(?:Run|See) 'docker ", error.stderr or "")[0]
        raise not_done(error.return_code, said) from None
    finally:
        with contextlib.suppress(EngineAwayError):  # the next one removes it
            snapshots.drop(ground.engine, name)
    if code != 0:
        raise not_done(code, errors)
    return said


def _ended(ground: Ground, name: str, seconds: int) -> int:
    begun = time.monotonic()
    try:
        return int(ground.engine.post(f"/containers/{name}/wait", None, seconds)["StatusCode"])
    except EngineAwayError:
        if time.monotonic() - begun < seconds:
            raise
        raise NotDoneError("E_NOT_BUNDLED", f"it took more than {seconds} s") from None


def _said(ground: Ground, name: str, **streams: int) -> str:
    return ground.last_said(name, SAID_LINES, SAID_BYTES, **streams).decode(errors="replace").strip()
