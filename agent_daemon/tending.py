"""`agent-daemon tend`: caches kept within a limit, and what was installed brought up to date, while nobody works.

Run in the place of a workstation's daemon, never beside it.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

# Each may be removed whole at any time: what needs something of it fetches that again.
CACHES = (
    ".cache/pip",
    ".cache/uv",
    ".cache/yarn",
    ".cache/pnpm",
    ".cache/go-build",
    ".npm/_cacache",
    ".bun/install/cache",
    ".cargo/registry/cache",
)
UPDATE_SECONDS = 900
_SAID_CHARACTERS = 300


@dataclass(frozen=True, kw_only=True)
class Cache:
    """A cache of one home, and what it takes."""

    path: Path
    bytes: int


@dataclass(frozen=True, kw_only=True)
class Updated:
    """What one updater did; `error` is its last line where it failed."""

    tool: str
    error: str = ""


def find_caches(homes: list[Path]) -> list[Cache]:
    """Those that there are. A link is no cache: nothing is followed out of a home."""
    paths = [home / name for home in homes for name in CACHES]
    return [Cache(path=path, bytes=size_of(path)) for path in paths if path.is_dir() and not path.is_symlink()]


def size_of(folder: Path) -> int:
    return sum(size for size in _sizes(folder))


def _sizes(folder: Path) -> Iterator[int]:
    for above, _, names in os.walk(folder):
        for name in names:
            try:
                yield os.lstat(os.path.join(above, name)).st_size
            except OSError:
                continue


def to_remove(caches: list[Cache], limit_bytes: int) -> list[Cache]:
    """The caches that go so that the rest is within the limit: the largest first, as few as possible."""
    left, going = sum(cache.bytes for cache in caches), []
    for cache in sorted(caches, key=lambda cache: (-cache.bytes, str(cache.path))):
        if left <= limit_bytes:
            break
        going.append(cache)
        left -= cache.bytes
    return going


def trim(homes: list[Path], limit_bytes: int) -> dict[str, object]:
    """Remove what is too much, whole caches at a time: a part of one may be what others are built of."""
    caches = find_caches(homes)
    going = to_remove(caches, limit_bytes)
    for cache in going:
        shutil.rmtree(cache.path, ignore_errors=True)
    before = sum(cache.bytes for cache in caches)
    removed = sorted({f"{cache.path.parent.name}/{cache.path.name}" for cache in going})
    return {"bytes_before": before, "bytes_after": before - sum(c.bytes for c in going), "removed": removed}


def updaters(environment: Mapping[str, str]) -> Iterator[tuple[str, list[str]]]:
    """The commands that bring up to date what agents have installed, for those tools with which they did."""
    places = {
        "uv": (environment.get("UV_TOOL_DIR"), ["uv", "tool", "upgrade", "--all"]),
        "pipx": (environment.get("PIPX_HOME", "") + "/venvs", ["pipx", "upgrade-all"]),
        "npm": (environment.get("NPM_CONFIG_PREFIX", "") + "/lib/node_modules", ["npm", "update", "--global"]),
    }
    for tool, (folder, command) in places.items():
        if folder and Path(folder).is_dir() and os.listdir(folder) and shutil.which(command[0]):
            yield tool, command


def update(environment: Mapping[str, str]) -> list[Updated]:
    """Run each; one that fails does not keep the others from theirs."""
    return [Updated(tool=tool, error=_run(command)) for tool, command in updaters(environment)]


def _run(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=UPDATE_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)[:_SAID_CHARACTERS]
    if done.returncode == 0:
        return ""
    return ((done.stderr or done.stdout).strip().rpartition("\n")[2] or "it failed")[:_SAID_CHARACTERS]
