"""Snapshots of a workstation: its tools with its home as a file, and a name for its image so that it stays.

Nothing of the container itself is saved, for its image is read-only and the rest lies in volumes and folders.
"""

import contextlib
import gzip
import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, Literal

from pydantic import AwareDatetime

from agent_daemon.protocol.codec import decode, encode
from agent_daemon.protocol.errors import ProtocolError
from agent_daemon.protocol.files import make_folder, write_file
from agent_daemon.protocol.paths import Root
from supervisor.core.disk import is_low
from supervisor.core.record import Stored
from supervisor.core.settings import DiskSettings
from supervisor.core.words import size
from supervisor.disk import space_of
from supervisor.errors import CloudCodeError
from supervisor.workstations.container_options import TOOLS, Station
from supervisor.workstations.engine import Engine, EngineRefusalError, Source

REPOSITORY = "cloud-code-snapshot"
PIECE_SECONDS = 120.0
# Of the tools as they are read: holes in files are zeros then, and a file of terabytes may take no room at all.
MOST_BYTES = 64 * 1024**3
_CHUNK_BYTES = 1024 * 1024
# How often it is looked whether the disk has room for more.
_LOOK_BYTES = 32 * _CHUNK_BYTES


class SnapshotFile(Stored):
    """`state/snapshots/<workstation>/<name>.yaml`: what the archive of that name holds.

    `image` is the name under which the engine keeps the image that it was taken with.
    """

    version: Literal[1] = 1
    name: str
    workstation: str
    taken_at: AwareDatetime
    image: str
    image_id: str
    bytes: int
    sha256: str


def folder_of(root: Root, workstation: str) -> Path:
    return root.state / "snapshots" / workstation


def snapshots_of(root: Root, workstation: str) -> list[SnapshotFile]:
    """Those that are whole, oldest first."""
    found, folder = [], folder_of(root, workstation)
    for path in sorted(folder.glob("*.yaml")):
        with contextlib.suppress(ProtocolError, OSError):
            snapshot = decode(SnapshotFile, path.read_bytes(), file=str(path))
            if snapshot.name == path.stem and _archive(folder, snapshot.name).is_file():
                found.append(snapshot)
    return found


def named(root: Root, workstation: str, name: str | None) -> SnapshotFile:
    """The snapshot of this name, or the newest. E_NO_SNAPSHOT."""
    found = snapshots_of(root, workstation)
    chosen = [snapshot for snapshot in found if name in (None, snapshot.name)]
    if not chosen:
        there = f"There are {', '.join(s.name for s in found)}." if found else "None has been taken."
        asked = f"no snapshot {name}" if name else "no snapshot"
        raise CloudCodeError("E_NO_SNAPSHOT", f"{workstation} has {asked}.", there)
    return chosen[-1]


def take(
    engine: Engine, station: Station, keep: int, disk: DiskSettings, go_on: Callable[[], None]
) -> Mapping[str, object]:
    """Save the tools as they are now; of the snapshots the last `keep` stay. No daemon runs meanwhile.

    It ends where it would take the room by which `disk` has attempts begin, and where `go_on` raises.

    E_NO_IMAGE, E_SNAPSHOT_NOT_TAKEN.
    """
    folder = folder_of(station.root, station.name)
    make_folder(folder)
    folder.chmod(0o700)  # (logins of coding CLIs may be in it)
    there = snapshots_of(station.root, station.name)
    whole = {f"{known.name}.tar.gz" for known in there}
    for left in (*folder.glob(".*.new"), *folder.glob("*.tar.gz")):
        if left.name not in whole:  # of a supervisor that was killed meanwhile
            left.unlink()
    now = next_time(datetime.now(UTC), there)
    name = f"{now:%Y%m%d-%H%M%S}"
    image = engine.image(station.image)
    if image is None:
        raise CloudCodeError("E_NO_IMAGE", f"The engine has no image {station.image}.")
    archive, fresh = _archive(folder, name), folder / f".{name}.new"
    try:
        with _holder(engine, station, station.volume) as holder, _private(fresh) as raw:
            path = f"/containers/{holder}/archive"
            with (
                engine.download(path, PIECE_SECONDS, path=TOOLS) as answer,
                gzip.GzipFile(fileobj=raw, mode="wb", compresslevel=1) as file,
            ):
                copy_bounded(Going(answer, go_on), file, lambda: not is_low(space_of(folder), disk, was_low=False))
        digest = _digest(fresh, go_on)
        fresh.replace(archive)
    finally:
        fresh.unlink(missing_ok=True)
    repository = f"{REPOSITORY}/{station.root_id}-{station.name}"
    engine.post(f"/images/{image['Id']}/tag", None, repo=repository, tag=name)
    snapshot = SnapshotFile(
        name=name,
        workstation=station.name,
        taken_at=now,
        image=f"{repository}:{name}",
        image_id=image["Id"],
        bytes=archive.stat().st_size,
        sha256=digest,
    )
    write_file(folder / f"{name}.yaml", encode(snapshot), mode=0o640)
    gone = snapshots_of(station.root, station.name)[:-keep]
    for old in gone:
        remove(engine, folder, old)
    return {"snapshot": name, "bytes": snapshot.bytes, "removed": [old.name for old in gone]}


def next_time(now: datetime, there: Sequence[SnapshotFile]) -> datetime:
    """When the next one is taken: later than those that there are, whose order is that of their names."""
    newest = max((snapshot.taken_at for snapshot in there), default=None)
    later = newest + timedelta(seconds=1) if newest is not None else now
    return max(now, later).replace(microsecond=0)


def restore(engine: Engine, station: Station, name: str | None, go_on: Callable[[], None]) -> Mapping[str, object]:
    """Put the tools of a snapshot in the place of those that there are, which stay until it is whole.

    It ends where `go_on` raises. E_NO_SNAPSHOT, E_SNAPSHOT_DAMAGED.
    """
    snapshot = named(station.root, station.name, name)
    archive = _archive(folder_of(station.root, station.name), snapshot.name)
    if _digest(archive, go_on) != snapshot.sha256:
        mend = "Take an older one (`--snapshot NAME`); the tools are as they were."
        raise CloudCodeError("E_SNAPSHOT_DAMAGED", f"{archive} is not what was written.", mend)
    with (
        station.tools.replacing(engine) as fresh,
        _holder(engine, station, fresh) as holder,
        archive.open("rb") as file,
    ):
        engine.upload(f"/containers/{holder}/archive", Going(file, go_on), PIECE_SECONDS, path="/")
    current = engine.image(station.image)
    same = current is not None and current["Id"] == snapshot.image_id
    return {"snapshot": snapshot.name, "other_image": None if same else snapshot.image}


def remove(engine: Engine, folder: Path, snapshot: SnapshotFile) -> None:
    """Its description first: what has none is no snapshot."""
    (folder / f"{snapshot.name}.yaml").unlink(missing_ok=True)
    _archive(folder, snapshot.name).unlink(missing_ok=True)
    with contextlib.suppress(EngineRefusalError):  # somebody else has, or a container uses it
        engine.delete(f"/images/{snapshot.image}")


@contextlib.contextmanager
def _holder(engine: Engine, station: Station, volume: str) -> Iterator[str]:
    """A container that is never started, through which the engine reads and writes a volume."""
    name, labels = station.helper("holder")
    drop(engine, name)
    made = engine.post(
        "/containers/create",
        {
            "Image": station.image,
            "Labels": labels,
            "HostConfig": {
                "NetworkMode": "none",
                "Mounts": [{"Type": "volume", "Source": volume, "Target": TOOLS}],
            },
        },
        PIECE_SECONDS,
        name=name,
    )
    try:
        yield made["Id"]
    finally:
        engine.delete(f"/containers/{made['Id']}", force=1)


def drop(engine: Engine, container: str) -> None:
    """Remove a container, by its name or id, with its own volumes, if it is there."""
    try:
        engine.delete(f"/containers/{container}", force=1, v=1)
    except EngineRefusalError as error:
        if error.status != 404:
            raise


@dataclass(frozen=True)
class Going:
    """A source that ends where `go_on` raises."""

    source: Source
    go_on: Callable[[], None]

    def read(self, count: int, /) -> bytes:
        self.go_on()
        return self.source.read(count)


def copy_bounded(
    source: Source, file: IO[bytes] | gzip.GzipFile, has_room: Callable[[], bool], most_bytes: int = MOST_BYTES
) -> None:
    """E_SNAPSHOT_NOT_TAKEN where there is more than that, or the disk does not take it: others need it, too."""
    count, looked = 0, -_LOOK_BYTES
    while piece := source.read(_CHUNK_BYTES):
        count += len(piece)
        if count > most_bytes:
            raise _not_taken(f"the tools and the home are more than {size(most_bytes)}, holes in files counted")
        if count - looked >= _LOOK_BYTES:
            looked = count
            if not has_room():
                raise _not_taken("the disk of the root has no more room for it")
        try:
            file.write(piece)
        except OSError as error:  # (of this disk, not of the engine's)
            raise _not_taken(f"it cannot be written: {error.strerror}") from None


def _not_taken(why: str) -> CloudCodeError:
    mend = "Look into its home and /tools (`cloud-code workstation shell NAME`), or make room on the disk."
    return CloudCodeError("E_SNAPSHOT_NOT_TAKEN", f"No snapshot was taken: {why}.", mend)


def _private(path: Path) -> IO[bytes]:
    """For writing, and for nobody else to read."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb")


def _archive(folder: Path, name: str) -> Path:
    return folder / f"{name}.tar.gz"


def _digest(path: Path, go_on: Callable[[], None]) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        source = Going(file, go_on)
        while chunk := source.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
