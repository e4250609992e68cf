"""`python -m supervisor.egress --root ROOT`: the egress proxy of one root, at most one at a time."""

import argparse
import asyncio
import os
import sys
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout
from loguru import logger

from agent_daemon.protocol.files import make_folder
from agent_daemon.protocol.paths import Root
from supervisor.egress.dial import Dialer
from supervisor.egress.files import note_proxy
from supervisor.egress.process import Egress
from supervisor.egress.program import OPTION, own_program


def serve(root: Root, dialer: Dialer | None = None, *, stays: bool = False) -> int:
    """Be the proxy of a root until it ends; exit code 75 when another process is."""
    make_folder(root.egress)
    lock = FileLock(root.egress / "lock", timeout=0)
    try:
        with lock:
            note_proxy(root, datetime.now(UTC), own_program())
            logger.info("the egress proxy of {} runs, process {}", root.path, os.getpid())
            asyncio.run(Egress(root, dialer, stays=stays).run())
            logger.info("the egress proxy ended")
    except Timeout:
        logger.warning("another egress proxy works on {}", root.path)
        return os.EX_TEMPFAIL
    return 0


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m supervisor.egress", description=__doc__)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--root", type=Path, help="the root folder")
    what.add_argument(OPTION, action="store_true", help="say which program this is, and end")
    parser.add_argument("--stays", action="store_true", help="run also while no workstation needs it")
    given = parser.parse_args()
    if given.root is None:
        sys.stdout.write(f"{own_program()}\n")
        return 0
    logger.remove()
    logger.add(
        sys.stderr, format="{time:YYYY-MM-DDTHH:mm:ss.SSSZZ} {level} {message}", level="INFO", diagnose=False
    )
    return serve(Root(given.root.resolve()), stays=given.stays)


if __name__ == "__main__":
    sys.exit(main())
