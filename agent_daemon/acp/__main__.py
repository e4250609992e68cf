"""The program: an order on standard input, events and messages as JSON lines on standard output."""

import asyncio
import json
import logging
import os
import sys
from collections.abc import Mapping
from typing import Any

from agent_daemon.acp.bridge import Bridge
from agent_daemon.acp.order import Order
from agent_daemon.clis.acp import line_of
from agent_daemon.clis.base import Progress


def _write(line: str) -> None:
    try:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
    except BrokenPipeError:  # nobody listens any more; the CLI's input ends with us
        os._exit(1)


def _show(message: Mapping[str, Any]) -> None:
    _write(json.dumps({"jsonrpc": "2.0", **message}))


def main() -> int:
    """Run one order; see the package."""
    logging.basicConfig(level=logging.CRITICAL)  # the library logs a traceback for each message it does not know
    arguments = sys.argv[1:]
    argv = arguments[arguments.index("--") + 1 :]
    order = Order.decode(sys.stdin.buffer.read())
    try:
        return asyncio.run(Bridge(order, lambda event: _write(line_of(event)), _show).run(argv))
    except OSError as error:
        why = f"could not start {argv[0]}: {error.strerror or error}"
        _write(line_of(Progress(kind="error", message=why, outcome="crashed")))
        return 127


if __name__ == "__main__":
    sys.exit(main())
