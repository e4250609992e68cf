"""Stands in for many agent daemons: `python -m benchmarks.stand_in ROOT NAME…` beats for each, as they would."""

import signal
import sys
import threading
from pathlib import Path

from agent_daemon.heartbeat import HEARTBEAT_SECONDS
from agent_daemon.protocol.codec import encode
from agent_daemon.protocol.files import write_file
from agent_daemon.protocol.model import WorkstationFile
from agent_daemon.protocol.paths import Root


def main(folder: str, names: list[str]) -> None:
    """Spread over the interval, as daemons that were not started together are."""
    root, stop, beat = Root(Path(folder)), threading.Event(), 0
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    while not stop.is_set():
        beat += 1
        for name in names:
            sign = WorkstationFile(
                revision=beat,
                agent_id=name,
                agent_type="backend",
                daemon_version="0",
                clis={"scripted": "1"},
                heartbeat=beat,
            )
            write_file(root.mail_out(name) / "workstation.yaml", encode(sign, end=True))
            if stop.wait(HEARTBEAT_SECONDS / len(names)):
                return


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
