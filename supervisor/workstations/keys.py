"""A daemon's environment, which holds keys: handed over in a file in memory, which goes once it has been read.

`docker run -e` would show it to everybody who may use the engine, and an argument to every user of the host.
"""

import contextlib
import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path

from agent_daemon.protocol.files import write_file
from supervisor.errors import CloudCodeError

FILE = "environment.json"
MEMORY = Path("/dev/shm")  # noqa: S108 (folders in it are checked below)


def _place(root_id: str, workstation: str) -> Path:
    return MEMORY / f"cloud-code-{os.getuid()}" / root_id / workstation


def keys_folder(root_id: str, workstation: str) -> Path:
    """Where the file of a workstation is laid; a folder that only this user can enter. E_KEYS_FOLDER."""
    folder = _place(root_id, workstation)
    for path in (folder.parent.parent, folder.parent, folder):
        with contextlib.suppress(FileExistsError):
            path.mkdir(0o700)
        seen = path.lstat()
        if not stat.S_ISDIR(seen.st_mode) or seen.st_uid != os.getuid() or stat.S_IMODE(seen.st_mode) & 0o077:
            raise CloudCodeError(
                "E_KEYS_FOLDER",
                f"{path} is not a folder that belongs to this user alone.",
                f"Look whose it is (`ls -ld {path}`), and remove it.",
            )
    return folder


def lay_keys(folder: Path, environment: Mapping[str, str], sign: Path) -> None:
    """Lay the file, whose time is that of the last sign of life: the next one shows by another.

    By no clock, which may be set meanwhile, and an agent may give its files any time. It is written beside the
    folder, so that who can look into that sees it whole and with that time.
    """
    fresh = _fresh(folder)
    write_file(fresh, json.dumps(dict(environment)).encode(), mode=0o400)
    os.utime(fresh, ns=(0, _time_of(sign)))
    fresh.replace(folder / FILE)


def remove_read_keys(root_id: str, workstation: str, sign: Path) -> None:
    """Once the daemon has shown a sign of life it has read them; before that, no agent has run. E_KEYS_FOLDER.

    Asked with every look at a daemon: mostly they are gone.
    """
    if not os.path.lexists(_place(root_id, workstation) / FILE):
        return
    folder = keys_folder(root_id, workstation)
    with contextlib.suppress(OSError):
        if _time_of(sign) != (folder / FILE).lstat().st_mtime_ns:
            remove_keys(folder)


def remove_keys(folder: Path) -> None:
    with contextlib.suppress(OSError):
        (folder / FILE).unlink()
    with contextlib.suppress(OSError):  # of a supervisor that was killed meanwhile
        _fresh(folder).unlink()


def _fresh(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}")


def _time_of(sign: Path) -> int:
    """In nanoseconds; 0 where there is none, or root inside took the folder away, which the daemon takes back."""
    try:
        return sign.lstat().st_mtime_ns
    except OSError:
        return 0
