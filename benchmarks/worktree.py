"""What the daemon's worktree costs beside git's own command."""

import os
import random
import shutil
import statistics
import time
from pathlib import Path

from agent_daemon.checkout import WorktreeRequest, ensure_worktree, remove_worktree
from agent_daemon.clone import ensure_clone
from benchmarks.figure import Figure, Size
from tests.site import git, make_remote

FILES_PER_FOLDER = 40


def measure(folder: Path, size: Size) -> list[Figure]:
    """Alternating: `git worktree add`, then the same commit by way of `ensure_clone` and `ensure_worktree`."""
    mirror = make_remote(folder / "mirror.git", _source(size.repository_files))
    commit = git("rev-parse", "main", cwd=mirror)
    clone = folder / "workspace" / "demo"
    ensure_clone(clone, mirror)
    bare: list[float] = []
    ours: list[float] = []
    for number in range(size.runs + 1):
        place = folder / "workspace" / "demo.worktrees" / f"demo.{number + 1}"
        turns = [
            lambda place=place: ours.append(_made(clone, mirror, place, commit)),
            lambda number=number: bare.append(_plain(clone, folder / "plain", commit, number)),
        ]
        for turn in turns if number % 2 else reversed(turns):
            os.sync()  # each begins with nothing left to be written
            turn()
    del bare[0], ours[0]  # they only warmed the caches
    ratio = statistics.median(ours) / statistics.median(bare)
    note = (
        f"{1000 * statistics.median(ours):.0f} ms against {1000 * statistics.median(bare):.0f} ms, "
        f"{size.repository_files} files, half of {size.runs} alternating runs"
    )
    return [Figure(name="worktree: of `git worktree add`", measured=ratio, unit="×", bar=1.5, note=note)]


def _source(files: int) -> dict[str, str]:
    chance = random.Random(1)
    return {
        f"package_{number // FILES_PER_FOLDER}/module_{number}.py": "".join(
            f"value_{line} = {chance.random()}\n" for line in range(chance.randrange(10, 200))
        )
        for number in range(files)
    }


def _plain(clone: Path, place: Path, commit: str, number: int) -> float:
    started = time.perf_counter()
    git("worktree", "add", "--quiet", "--no-track", "-B", f"plain-{number}", str(place), commit, cwd=clone)
    seconds = time.perf_counter() - started
    shutil.rmtree(place)
    git("worktree", "prune", cwd=clone)
    return seconds


def _made(clone: Path, mirror: Path, place: Path, commit: str) -> float:
    request = WorktreeRequest(clone=clone, worktree=place, branch=f"cloud-code/{place.name}", base_commit=commit)
    started = time.perf_counter()
    ensure_clone(clone, mirror)
    ensure_worktree(request)
    seconds = time.perf_counter() - started
    remove_worktree(clone, place, request.branch)
    return seconds
