"""Taking back what root inside of a *free* workstation has made: folders and files of ours, processes ended.

An agent that may use `sudo` leaves things that its daemon, a plain user, could neither read, change nor remove.
The daemon may use it as well, and gains nothing by that which the agent beside it does not have. Elsewhere all of
this does nothing. Where the agent has broken `sudo`, it fails with a line in the log, until the container is made
anew.
"""

import os
import signal
import subprocess
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from loguru import logger

# Set by the supervisor where `sudo` is there for the agent.
VARIABLE = "CLOUD_CODE_FREE"
_SUDO = ("/usr/bin/sudo", "--non-interactive", "--")
_TREE_SECONDS, _SIGNAL_SECONDS = 300, 5


def reclaim(*folders: Path) -> None:
    """Make this user the owner of everything in these folders; links are not followed, modes stay."""
    there = [str(folder) for folder in folders if not _is_missing(folder)]
    if VARIABLE not in os.environ or not there:
        return
    owner = f"{os.getuid()}:{os.getgid()}"
    foreign = ["-xdev", "!", "-uid", str(os.getuid())]
    find = ["find", *there, *foreign, "-exec", "chown", "--no-dereference", owner, "{}", "+"]
    if said := _as_root(find, _TREE_SECONDS):
        logger.warning("what root made here is not taken back: {}", said)


def signal_others(pids: Iterable[int], number: signal.Signals) -> None:
    """Signal processes of other users, each as its own user: root inside may not signal everybody.

    Those that end meanwhile, or do not, the caller sees.
    """
    by_user: dict[int, list[str]] = defaultdict(list)
    for pid in pids if VARIABLE in os.environ else ():
        try:
            by_user[os.stat(f"/proc/{pid}").st_uid].append(str(pid))
        except FileNotFoundError:
            continue
    for uid, some in by_user.items():
        _as_root(
            ["setpriv", f"--reuid={uid}", "--keep-groups", "kill", f"-{number.value}", *some], _SIGNAL_SECONDS
        )


def _is_missing(folder: Path) -> bool:
    """Not one that cannot be seen, for that may be what is to be taken back."""
    try:
        folder.lstat()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return False


def _as_root(command: list[str], seconds: float) -> str:
    """The last line that it says where it fails."""
    try:
        done = subprocess.run([*_SUDO, *command], capture_output=True, text=True, timeout=seconds, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)[:300]
    return (done.stderr.strip().rpartition("\n")[2] or "it failed")[:300] if done.returncode else ""
