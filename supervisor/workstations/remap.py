"""Whether the engine remaps users such that a *free* workstation may be started on it (`core.remap`)."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from supervisor.core import remap
from supervisor.errors import CloudCodeError

COMMAND = "sudo cloud-code install --userns-remap"
FILES = (Path("/etc/subuid"), Path("/etc/subgid"))


def missing_hole(about: Mapping[str, Any], uid: int, gid: int, files: tuple[Path, Path] = FILES) -> str:
    """What the map of an engine that remaps lacks for this user, in words; empty where it lacks nothing.

    The engine names in its folder what root inside is outside; it has read the files when it was started.
    """
    root = str(about.get("DockerRootDir", "")).rpartition("/")[2].split(".")
    lacks = []
    for file, number, start in zip(files, (uid, gid), root if len(root) == 2 else ("", ""), strict=True):
        try:
            ranges = remap.mapping_from(file.read_text(), int(start))
        except (OSError, ValueError):
            ranges = ()
        if remap.outside(ranges, number) != number:
            lacks.append(f"{file} does not leave {number} be")
    return " and ".join(lacks)


def free_refusal(about: Mapping[str, Any]) -> CloudCodeError | None:
    """E_FREE_NEEDS_REMAP where root inside would be root of this host, or could write nothing that is ours."""
    why = ""
    if remap.engine_is_rootless(about):
        why = "the engine is rootless, and does not serve"
    elif not remap.engine_remaps(about):
        why = "this engine remaps no users: root inside would be root of this host"
    elif os.getuid() == 0:
        why = "the supervisor is root, whom no map can leave be"
    elif lack := missing_hole(about, os.getuid(), os.getgid()):
        why = f"in the engine's map, {lack}"
    if not why:
        return None
    mend = COMMAND if os.getuid() != 0 else "run the supervisor as a user of its own (docs/install.md)"
    return CloudCodeError(
        "E_FREE_NEEDS_REMAP", f"`preset: free` cannot be used: {why}.", f"{mend}, or use `preset: hardened`."
    )
