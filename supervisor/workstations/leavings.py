"""What an engine has of a root that is to be gone: its containers, volumes, networks and names of images."""

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agent_daemon.protocol.paths import Root
from supervisor.errors import CloudCodeError
from supervisor.root_identity import root_id_of
from supervisor.workstations.container_options import STOP_SECONDS
from supervisor.workstations.containers import PATH_LABEL, ROOT_LABEL, root_labels
from supervisor.workstations.engine import Engine, EngineAwayError, EngineRefusalError, engine_socket
from supervisor.workstations.snapshots import REPOSITORY

TYPE_LABEL = "cloud-code.type"  # (of dockerfiles/Dockerfile)


def remove_from_engine(root: Root) -> None:
    """Remove them all. CloudCodeError: E_ENGINE_AWAY, E_ENGINE, E_ROOT_COPIED,
    E_NOT_RUNNING (the root never had any).
    """
    remove_all(Engine(engine_socket()), root)


def running_of(engine: Engine, root: Root) -> list[str]:
    """The containers of a root that run; none where no engine answers, or the root never had any."""
    try:
        labels = root_labels(root_id_of(root), str(root.path))
        return [found["Id"] for found in engine.get("/containers/json", filters={"label": labels})]
    except CloudCodeError:
        return []


def stop_running(engine: Engine, root: Root) -> None:
    """End them in order; what they hold stays. E_ENGINE_AWAY, E_ENGINE."""
    for container in running_of(engine, root):
        engine.post(f"/containers/{container}/stop", None, STOP_SECONDS + 10, t=STOP_SECONDS)


def remove_unnamed(engine: Engine, image_id: str) -> None:
    """Remove an image of ours that another one has replaced, once no container, snapshot or name has it."""
    with contextlib.suppress(EngineAwayError, EngineRefusalError):
        found = engine.image(image_id)
        labels = ((found or {}).get("Config") or {}).get("Labels") or {}
        named = found is None or found.get("RepoTags") or found.get("RepoDigests")
        if not named and TYPE_LABEL in labels:
            engine.delete(f"/images/{image_id}")


def remove_all(engine: Engine, root: Root) -> None:
    """The same of an engine that is known. E_ROOT_COPIED where these are another root's, too."""
    root_id = root_id_of(root)
    label = {"label": [f"{ROOT_LABEL}={root_id}"]}
    mend = "Nothing of the engine was removed. Remove what is left once both are to go."
    containers = _containers(engine, root, root_id, mend)
    for container in containers:
        engine.delete(f"/containers/{container['Id']}", force=1, v=1)
    for volume in engine.get("/volumes", filters={"name": [f"cc-{root_id}-"]})["Volumes"] or ():
        engine.delete(f"/volumes/{volume['Name']}")
    for network in engine.get("/networks", filters=label):
        engine.delete(f"/networks/{network['Id']}")
    for image in engine.get("/images/json", filters={"reference": [f"{REPOSITORY}/{root_id}-*"]}):
        for name in image["RepoTags"] or ():
            if name.startswith(f"{REPOSITORY}/{root_id}-"):  # (its other names stay)
                with contextlib.suppress(EngineRefusalError):
                    engine.delete(f"/images/{name}")


def refuse_copied(engine: Engine, root: Root, root_id: str) -> None:
    """E_ROOT_COPIED where another root has this one's id, after which volumes are named, and containers."""
    mend = f"End the other one's (`workstation stop --all`), or delete {root.root_id}: a new id is made then."
    _containers(engine, root, root_id, mend)


def _containers(engine: Engine, root: Root, root_id: str, mend: str) -> list[dict[str, Any]]:
    """All that have the id of this root. E_ROOT_COPIED where some are another root's."""
    found: list[dict[str, Any]] = engine.get(
        "/containers/json", all=1, filters={"label": [f"{ROOT_LABEL}={root_id}"]}
    )
    if others := {place for one in found if (place := _other_root(one, root)) is not None}:
        message = f"{', '.join(sorted(others))} has the id of {root.path}, of which one is a copy, and containers."
        raise CloudCodeError("E_ROOT_COPIED", message, mend)
    return found


def _other_root(container: Mapping[str, Any], root: Root) -> str | None:
    """The root that a container belongs to, if that is there and not this one."""
    place = str(container["Labels"].get(PATH_LABEL, root.path))
    return place if Path(place).resolve() != root.path.resolve() and _is_there(Path(place)) else None


def _is_there(place: Path) -> bool:
    try:
        return Root(place).root_id.exists()
    except PermissionError:  # another user's
        return True
