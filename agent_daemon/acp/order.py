"""What the bridge is asked to do, handed over as JSON on its standard input, and what both ends know."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

# How an error begins when a session is gone.
SESSION_LOST = "the session cannot be resumed"


@dataclass(frozen=True, kw_only=True)
class Order:
    """One prompt for one CLI.

    `session_id` is a session to go on with; `ledger` a database in which the CLI sums up what a session used.
    `mode` is chosen where the CLI offers it. Permissions are given once each, except for the tool calls
    named in `declined`. `mcp_servers` are as the protocol has them.
    """

    prompt: str = field(repr=False)
    cwd: str
    session_id: str | None = None
    ledger: str | None = None
    mode: str = ""
    declined: tuple[str, ...] = ()
    mcp_servers: tuple[dict[str, Any], ...] = field(default=(), repr=False)

    def encode(self) -> bytes:
        return json.dumps(asdict(self)).encode()

    @classmethod
    def decode(cls, raw: bytes) -> "Order":
        """The order that `encode` wrote; raises ValueError or TypeError for anything else."""
        given = json.loads(raw)
        lists = {name: tuple(given.get(name, ())) for name in ("declined", "mcp_servers")}
        return cls(**{**given, **lists})


_ALLOWING = ("allow_once", "allow_always")
_REFUSING = ("reject_once", "reject_always")


def choose(order: Order, params: Mapping[str, Any]) -> dict[str, Any]:
    """The answer to a ``session/request_permission``: allowed once, for the workstation is the sandbox."""
    call = params.get("toolCall")
    declined = isinstance(call, Mapping) and call.get("toolCallId") in order.declined
    options = [option for option in _listed(params.get("options")) if "optionId" in option]
    for kind in _REFUSING if declined else _ALLOWING:
        for option in options:
            if option.get("kind") == kind:
                return {"outcome": {"outcome": "selected", "optionId": option["optionId"]}}
    return {"outcome": {"outcome": "cancelled"}}


def offered_modes(session: Mapping[str, Any]) -> set[str]:
    """The modes that a session can be in, by what ``session/new`` or ``session/load`` answered."""
    modes = session.get("modes")
    listed = _listed(modes.get("availableModes")) if isinstance(modes, Mapping) else ()
    return {str(mode.get("id")) for mode in listed}


def _listed(value: Any) -> Iterable[Mapping[str, Any]]:
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, list) else []
