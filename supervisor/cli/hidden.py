"""What a command prints, without the secrets that the root knows: an agent's words may hold some.

Read for the first text that is printed, from the root alone: no Vault and no forge is asked for anything.
"""

import time
from collections.abc import Callable, Mapping
from functools import cache

from agent_daemon.protocol.paths import Root

# No value that is searched for is shorter.
_LEAST_CHARACTERS = 8
# How often what attempts were lent is looked at again by a command that goes on printing.
_RENEWED_SECONDS = 2.0

_root: Root | None = None


def hide_for(root: Root) -> None:
    """Hide the secrets of this root in everything that is printed from now on."""
    global _root
    _root = root


def hide(text: str) -> str:
    """The text without them; as it is where no root was named, or what it knows cannot be read."""
    return text if _root is None or len(text) < _LEAST_CHARACTERS else _hiding(_root)(text)


def hide_in_error(text: str) -> str:
    """The same for what tells of an error, which may be one of this very search."""
    try:
        return hide(text)
    except Exception:
        return text


@cache
def _hiding(root: Root) -> Callable[[str], str]:
    from agent_daemon.protocol.errors import ProtocolError
    from supervisor.config import load_config
    from supervisor.errors import CloudCodeError
    from supervisor.outgoing import Outgoing
    from supervisor.ports import Minter
    from supervisor.secrets.live import LiveSecrets
    from supervisor.secrets.sources import SecretReader, open_leases, open_minting, values_of

    def no_minter(_project: str, _api: bool) -> Minter:
        raise CloudCodeError("E_BUG", "Nothing is made here.")

    try:
        config = load_config(root)
    except (CloudCodeError, ProtocolError, OSError):
        return str  # (whoever prints something says what is wrong with it)
    settings, reader = config.secrets, SecretReader.of(root, config.secrets)
    read_at, known = -_RENEWED_SECONDS, dict[str, str]()

    def lent() -> Mapping[str, str]:
        nonlocal read_at, known
        if time.monotonic() - read_at >= _RENEWED_SECONDS:
            leases = open_leases(root, settings, reader.store)
            known |= values_of(open_minting(root, settings, no_minter), leases)
            read_at = time.monotonic()
        return known

    return Outgoing(LiveSecrets(config, reader, lent).values).hide
