"""Which processes are alive, whose they are, and how to end them all; Linux only, read from /proc.

A pid alone names nothing, for the kernel uses it again: a process is known by its pid, its start time in
clock ticks since boot, and the boot. None of these depends on the wall clock.
"""

import contextlib
import ctypes
import os
import resource
import signal
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from agent_daemon.reclaiming import signal_others

_PROC = Path("/proc")
_SET_CHILD_SUBREAPER = 36
_GET_CHILD_SUBREAPER = 37
_LOOK_AGAIN_SECONDS = 0.02


@dataclass(frozen=True, kw_only=True)
class ProcessIdentity:
    """One process, told apart from every later one that gets the same pid."""

    pid: int
    start_ticks: int
    boot_id: str


@dataclass(frozen=True, kw_only=True)
class ProcessStat:
    """What /proc/PID/stat says; times are in clock ticks. `waited_ticks` is what its collected children used."""

    pid: int
    state: str
    parent: int
    group: int
    session: int
    threads: int
    start_ticks: int
    cpu_ticks: int
    waited_ticks: int

    @property
    def alive(self) -> bool:
        """False for a zombie; a zombie first thread whose other threads still run counts as alive."""
        return self.state not in "ZXx" or self.threads > 1


@cache
def boot_id() -> str:
    """The kernel's name for this boot."""
    return (_PROC / "sys/kernel/random/boot_id").read_text().strip()


def read_stat(pid: int) -> ProcessStat | None:
    """One process as the kernel shows it, zombies included; None when there is none."""
    try:
        text = (_PROC / str(pid) / "stat").read_bytes().decode("latin-1")
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The second field is the program's name in brackets and may hold anything, brackets and blanks too.
    field = text[text.rindex(")") + 2 :].split()
    return ProcessStat(
        pid=pid,
        state=field[0],
        parent=int(field[1]),
        group=int(field[2]),
        session=int(field[3]),
        cpu_ticks=int(field[11]) + int(field[12]),
        waited_ticks=int(field[13]) + int(field[14]),
        threads=int(field[17]),
        start_ticks=int(field[19]),
    )


def process_table() -> dict[int, ProcessStat]:
    """Every process that can be seen, by pid, zombies included."""
    return {pid: stat for pid in _pids() if (stat := read_stat(pid)) is not None}


def _pids() -> list[int]:
    return [int(entry.name) for entry in _PROC.iterdir() if entry.name.isdigit()]


def identify(pid: int) -> ProcessIdentity | None:
    """The identity of a living process; None when it is gone or a zombie."""
    stat = read_stat(pid)
    if stat is None or not stat.alive:
        return None
    return ProcessIdentity(pid=pid, start_ticks=stat.start_ticks, boot_id=boot_id())


def is_alive(identity: ProcessIdentity) -> bool:
    """Whether exactly this process still runs."""
    return identify(identity.pid) == identity


def descendants(pid: int, table: dict[int, ProcessStat] | None = None) -> list[int]:
    """The living children of a process, their children and so on, without the process itself."""
    table = process_table() if table is None else table
    children: dict[int, list[int]] = {}
    for stat in table.values():
        children.setdefault(stat.parent, []).append(stat.pid)
    found: list[int] = []
    pending = [pid]
    while pending:
        for child in children.get(pending.pop(), []):
            pending.append(child)
            found.append(child)
    return [child for child in found if table[child].alive]


def write_no_core() -> None:
    """Have the kernel write no image of this process or of those that it starts: keys and passwords are in it.

    Who debugs a program may raise the limit again (getrlimit(2), core(5)).
    """
    _, most = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, most))


def allow_many_files() -> int:
    """Have this process open as many files as it can be allowed, to 65,536; that many it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 65_536 if hard == resource.RLIM_INFINITY else min(hard, 65_536)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return wanted


def become_subreaper() -> None:
    """Make orphans among this process's descendants its own children, so that none can slip away.

    OSError when the kernel refuses.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER) failed")


def is_subreaper() -> bool:
    """Whether `become_subreaper` is in force here."""
    answer = ctypes.c_int(0)
    libc = ctypes.CDLL(None, use_errno=True)
    return libc.prctl(_GET_CHILD_SUBREAPER, ctypes.byref(answer), 0, 0, 0) == 0 and answer.value == 1


def find_marked(name: str, value: str) -> list[int]:
    """Living processes that were started with NAME=VALUE in their environment, without this one."""
    wanted = f"{name}={value}".encode()
    return _find_by_environment(lambda entry: entry == wanted)


def find_marked_below(name: str, prefix: str) -> list[int]:
    """The same of those whose value begins with `prefix`."""
    wanted = f"{name}={prefix}".encode()
    return _find_by_environment(lambda entry: entry.startswith(wanted))


def _find_by_environment(fits: Callable[[bytes], bool]) -> list[int]:
    found = []
    for pid in _pids():
        # Another user's process cannot be read, and one that ends meanwhile is no longer of interest.
        with contextlib.suppress(OSError):
            environment = (_PROC / str(pid) / "environ").read_bytes()
            if any(map(fits, environment.split(b"\0"))) and pid != os.getpid() and identify(pid) is not None:
                found.append(pid)
    return found


def working_in(folder: Path) -> list[tuple[int, str]]:
    """Living processes whose working directory is in this folder, with their names; without this one."""
    wanted, found = os.path.realpath(folder), []
    for pid in _pids():
        with contextlib.suppress(OSError):
            place = str((_PROC / str(pid) / "cwd").readlink()).removesuffix(" (deleted)")
            inside = place == wanted or place.startswith(f"{wanted}/")
            if inside and pid != os.getpid() and identify(pid) is not None:
                found.append((pid, (_PROC / str(pid) / "comm").read_text(errors="replace").strip()))
    return found


def find_adopted(since_ticks: int, table: dict[int, ProcessStat] | None = None) -> list[int]:
    """Orphans that this subreaper was given: its children in a foreign session, started since then.

    Zombies are included, for they wait to be reaped. A direct child that was started in a session of its
    own cannot be told from an orphan: leave it out by its pid. Empty when this is no subreaper.
    """
    if not is_subreaper():
        return []
    table = process_table() if table is None else table
    me, session = os.getpid(), os.getsid(0)
    return [
        stat.pid
        for stat in table.values()
        if stat.parent == me and stat.session != session and stat.start_ticks >= since_ticks
    ]


def cpu_ticks(stats: Iterable[ProcessStat]) -> int:
    """Processor time that these processes and the children they collected used so far, in clock ticks."""
    return sum(stat.cpu_ticks + stat.waited_ticks for stat in stats)


def queued_seconds(pids: Iterable[int]) -> float:
    """How long the threads of these processes have stood in line for a processor; 0 where that is not told."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            for task in (_PROC / str(pid) / "task").iterdir():
                with contextlib.suppress(OSError, ValueError, IndexError):
                    total += int((task / "schedstat").read_text().split()[1])
    return total / 1e9


def family(leader: int, since_ticks: int, table: dict[int, ProcessStat]) -> set[int]:
    """The living processes of a run: the leader, its session, orphans that came to us since, and all below.

    A program in a session of its own that was orphaned before this process became a subreaper is not found.
    """
    roots = {leader, *find_adopted(since_ticks, table)}
    roots.update(stat.pid for stat in table.values() if stat.session == leader)
    below = {pid for root in roots for pid in descendants(root, table)}
    return {pid for pid in roots | below if pid != os.getpid() and pid in table and table[pid].alive}


def reap(pids: Iterable[int]) -> None:
    """Collect those of the given children that have ended; what is no child is passed over."""
    for pid in pids:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)


def sweep(
    find: Callable[[], Iterable[int]], *, grace_seconds: float, limit_seconds: float = 3.0
) -> tuple[int, ...]:
    """End everything that `find` names, again and again until it names nothing that lives, twice in a row.

    A process that is becoming another program has no environment for a moment, and is not found by that.
    Each process gets SIGTERM once; what lives after `grace_seconds` gets SIGKILL. Killed children of this
    process are reaped. Returns the pids that were still there `limit_seconds` after that: normally none.
    """
    started = time.monotonic()
    asked: set[ProcessIdentity] = set()
    none_before = False
    while True:
        alive = {identity for pid in find() if (identity := identify(pid)) is not None}
        if not alive and none_before:
            break
        none_before = not alive
        elapsed = time.monotonic() - started
        if elapsed > grace_seconds + limit_seconds:
            return tuple(sorted(identity.pid for identity in alive))
        if elapsed >= grace_seconds:
            _signal_all(alive, signal.SIGKILL)
        else:
            _signal_all(alive - asked, signal.SIGTERM)
        asked |= alive
        time.sleep(_LOOK_AGAIN_SECONDS)
        _reap_ended(asked)
    _reap_ended(asked)
    return ()


def _reap_ended(identities: Iterable[ProcessIdentity]) -> None:
    for identity in identities:
        stat = read_stat(identity.pid)
        if stat is not None and stat.start_ticks == identity.start_ticks:
            reap([identity.pid])


def _signal_all(identities: Iterable[ProcessIdentity], number: signal.Signals) -> None:
    others = []
    for identity in identities:
        try:
            if is_alive(identity):
                os.kill(identity.pid, number)
        except PermissionError:
            others.append(identity.pid)
        except ProcessLookupError:
            continue
    signal_others(others, number)
