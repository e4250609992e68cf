"""A workstation's way out: how programs are told of the port on loopback that leads to the egress proxy."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path

VARIABLE = "CLOUD_CODE_EGRESS"
PORT = 3128

_PROXY = f"http://127.0.0.1:{PORT}"
_VARIABLES = {
    **dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), _PROXY),
    **dict.fromkeys(("NO_PROXY", "no_proxy"), "localhost,127.0.0.1,::1"),
    "NODE_USE_ENV_PROXY": "1",  # Node's own `fetch` looks at the others only with this
}


def proxy_variables(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """What tells programs of the way out; nothing where a workstation has none of this kind."""
    return dict(_VARIABLES) if VARIABLE in environment else {}


def open_way_out(on_refused: Callable[[str], None]) -> None:
    """Begin to pass connections on, where this workstation has a way out of this kind."""
    if VARIABLE in os.environ:
        from agent_daemon.forwarder import Forwarder  # here, for nobody else needs asyncio

        Forwarder(Path(os.environ[VARIABLE]), on_refused).start()
