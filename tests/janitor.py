"""Ends what a test process leaves running when it is killed: supervisors, their daemons, and what those run.

It imports next to nothing: there is one for each process of pytest.
"""

import os
import subprocess
import sys
from pathlib import Path

from agent_daemon.processes import sweep

HERE = Path(__file__).parents[1]


def watch_over(folder: Path) -> "subprocess.Popen[bytes]":
    """A process that sees this one end, however it ends, and then ends all that works on roots in `folder`.

    Its standard input is the other end of a pipe that nobody but this process holds open.
    """
    command = [sys.executable, "-m", "tests.janitor", str(folder)]
    return subprocess.Popen(command, cwd=HERE, stdin=subprocess.PIPE, start_new_session=True)


# What stands in the command lines of our programs.
OURS = (b"agent_daemon\0", b"-m\0supervisor\0", b"-m\0supervisor.egress\0")


def processes_of(folder: Path) -> list[int]:
    """What works on roots in this folder: they stand in its command line, or in its environment."""
    mark = f"{folder}/".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            command = (entry / "cmdline").read_bytes()
            environment = (entry / "environ").read_bytes()
        except OSError:
            continue
        is_ours = any(word in command for word in OURS) and mark in command
        if is_ours or b"CLOUD_CODE_ATTEMPT=" + mark in environment:
            found.append(int(entry.name))
    return found


if __name__ == "__main__":
    sys.stdin.buffer.read()
    sweep(lambda: processes_of(Path(sys.argv[1])), grace_seconds=0)
