"""What is done in the place of a workstation's daemon, in containers of their own: each for one step."""

from collections.abc import Callable, Mapping
from pathlib import Path

from supervisor.core.chores import Chore
from supervisor.core.settings import MaintenanceSettings
from supervisor.workstations import snapshots
from supervisor.workstations.container_options import Station
from supervisor.workstations.containers import ROOT_LABEL
from supervisor.workstations.ground import Ground
from supervisor.workstations.keys import keys_folder
from supervisor.workstations.local import NotDoneError, not_done
from supervisor.workstations.tending import not_tended, tend_arguments, tended


def salvage(ground: Ground, station: Station, task_id: str, attempt: int) -> str:
    """In a container without a network. NotDoneError."""
    ground.check_image(station)
    command = ["salvage", "--workstation", station.name, "--root", str(ground.root.path)]
    command += ["--task", task_id, "--attempt", str(attempt)]
    return _run_once(ground, station, "salvage", command)[:1000]


def keep_up(
    ground: Ground, station: Station, chore: Chore, settings: MaintenanceSettings, say: Callable[[str], None]
) -> Mapping[str, object]:
    """Do this to a workstation that has no daemon; what there is to tell of it.

    E_NO_IMAGE, E_NOT_TENDED, E_NO_SNAPSHOT, E_ENGINE, …
    """
    for left in ground.seen_of(station.name):
        ground.remove(left)
    if chore.kind == "recreate":
        if chore.fresh_tools:
            snapshots.remove_volume(ground.engine, station)
        return {"fresh_tools": chore.fresh_tools}
    ground.check_image(station)
    if chore.kind == "restore":
        return snapshots.restore(ground.engine, station, chore.snapshot)
    done: dict[str, object] = {}
    if chore.kind == "maintain":
        say("its caches are looked at" + (", its tools brought up to date" if settings.update_tools else ""))
        done |= tend(ground, station, settings)
    if chore.kind == "snapshot" or settings.snapshot:
        say("its tools are saved")
        done |= snapshots.take(ground.engine, station, settings.keep_snapshots)
    return done


def tend(ground: Ground, station: Station, settings: MaintenanceSettings) -> dict[str, object]:
    """With the way out that its daemon has, where something is to be fetched; else without any."""
    command = tend_arguments(ground.root, station.name, settings.cache_bytes)
    network, gate = "none", None
    if settings.update_tools:
        command.append("--update")
        network, gate = ground.way_out(station)
    try:
        return tended(_run_once(ground, station, "tend", command, network, gate))
    except NotDoneError as error:
        raise not_tended(error.message) from None
    finally:
        if gate is not None:  # its daemon opens it anew, if there is to be one
            ground.egress.shut(station.name)


def _run_once(
    ground: Ground,
    station: Station,
    what: str,
    command: list[str],
    network: str = "none",
    gate: Path | None = None,
) -> str:
    """What `agent-daemon` says that does one thing in the place of the daemon. NotDoneError."""
    from python_on_whales.exceptions import DockerException

    free = station.settings.is_free and ground.free_refusal(station) is None
    given = ground.options(station, keys_folder(station.root_id, station.name), gate, free=free)
    given |= {"networks": [network], "name": f"{station.container}-{what}"}
    given["labels"] = {ROOT_LABEL: station.root_id}  # (without those of a daemon)
    snapshots.drop(ground.engine, given["name"])
    try:
        said = ground.docker().run(station.image, command, remove=True, healthcheck=False, **given)
    except DockerException as error:
        raise not_done(error.return_code, error.stderr or "") from None
    return str(said).strip()
