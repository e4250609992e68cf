"""What an agent leaves for people beside its commits: copied out of the worktree, counted and bounded.

The agent puts files into ``.cloud-code/artifacts/``; nothing there is committed. Links, pipes and what is over a
limit are left out, and that is told. What the agent was given in secret is hidden in them.
"""

import contextlib
import hashlib
import mimetypes
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from agent_daemon.clone import PROTOCOL_FOLDER
from agent_daemon.hiding import Mask
from agent_daemon.protocol.errors import ProtocolError
from agent_daemon.protocol.files import copy_file, make_folder, write_file
from agent_daemon.protocol.model import Artifact
from agent_daemon.protocol.paths import ARTIFACTS

PLACE = f"{PROTOCOL_FOLDER}/{ARTIFACTS}"
MAX_FILES = 50
MAX_FILE_BYTES = 10 * 1024 * 1024
MAX_BYTES = 50 * 1024 * 1024
_MAX_LISTED = 1000
_MAX_PATH_CHARACTERS = 180
_NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9._/-]")


@dataclass(frozen=True, kw_only=True)
class Collected:
    """What was copied, and of what was not, a name with its reason each."""

    artifacts: tuple[Artifact, ...] = ()
    left_out: tuple[str, ...] = ()


def collect(worktree: Path, outbox: Path, mask: Mask | None = None) -> Collected:
    """Copy the agent's artifacts to `outbox`/artifacts, in place of those of an earlier run; raises OSError."""
    mask = mask or Mask(())
    target = outbox / ARTIFACTS
    _clear(target)
    made: list[Artifact] = []
    left_out: list[str] = []
    room = MAX_BYTES
    for name in _listed(worktree):
        path = f"{ARTIFACTS}/{_NOT_IN_A_NAME.sub('-', name)}"
        why = "a secret in its name" if mask.hides(os.fsencode(name)) else _obstacle(path, made)
        if not why:
            try:
                made.append(_copy(worktree, name, outbox, path, min(room, MAX_FILE_BYTES), mask))
                room -= made[-1].size
                continue
            except (ProtocolError, FileNotFoundError) as error:
                why = error.problem.code if isinstance(error, ProtocolError) else "it is gone"
        left_out.append(f"{mask.hide(_shown(name))} ({why})")
    return Collected(artifacts=tuple(made), left_out=tuple(left_out))


def _clear(target: Path) -> None:
    """Whatever an earlier run, or an agent, put into the place of the copies."""
    if target.is_symlink() or target.is_file():
        target.unlink()
    shutil.rmtree(target, ignore_errors=True)


def _listed(worktree: Path) -> Iterator[str]:
    """The files below the agent's folder, by their names relative to it, in order; links are not followed."""
    place, count = worktree / PLACE, 0
    for folder, below, names in os.walk(place):
        below.sort()
        for name in sorted(names):
            count += 1
            if count > _MAX_LISTED:
                return
            yield str((Path(folder) / name).relative_to(place))


def _obstacle(path: str, made: list[Artifact]) -> str:
    if len(made) >= MAX_FILES:
        return f"more than {MAX_FILES} files"
    if len(path) > _MAX_PATH_CHARACTERS:
        return "its path is too long"
    return "another one of that name" if any(other.path == path for other in made) else ""


def _copy(worktree: Path, name: str, outbox: Path, path: str, max_bytes: int, mask: Mask) -> Artifact:
    make_folder((outbox / path).parent)
    copied = copy_file(worktree, f"{PLACE}/{name}", outbox / path, max_bytes=max_bytes)
    sha256 = copied.sha256
    if mask:
        data = mask.blank((outbox / path).read_bytes())
        sha256 = hashlib.sha256(data).hexdigest()
        if sha256 != copied.sha256:
            write_file(outbox / path, data)
    with contextlib.suppress(OSError):
        (outbox / path).chmod(0o644)
    kind = mimetypes.guess_type(path)[0] or "application/octet-stream"
    return Artifact(name=_shown(name), path=path, media_type=kind, size=copied.size, sha256=sha256)


def _shown(name: str) -> str:
    return name.encode("utf-8", "replace").decode()[:1000]
