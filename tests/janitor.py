"""Ends what a test process leaves running when it is killed: supervisors, their daemons, and what those run."""

import subprocess
import sys
from pathlib import Path

from agent_daemon.processes import sweep
from tests.site import processes_of

HERE = Path(__file__).parents[1]


def watch_over(folder: Path) -> "subprocess.Popen[bytes]":
    """A process that sees this one end, however it ends, and then ends all that works on roots in `folder`.

    Its standard input is the other end of a pipe that nobody but this process holds open.
    """
    command = [sys.executable, "-m", "tests.janitor", str(folder)]
    return subprocess.Popen(command, cwd=HERE, stdin=subprocess.PIPE, start_new_session=True)


if __name__ == "__main__":
    sys.stdin.buffer.read()
    sweep(lambda: processes_of(Path(sys.argv[1])), grace_seconds=0)
