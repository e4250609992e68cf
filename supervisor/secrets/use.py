"""When each secret was last used: names and times, so that an unused one is noticed and removed."""

import contextlib
import json
from datetime import UTC, datetime, timedelta

from agent_daemon.protocol.files import write_file
from agent_daemon.protocol.paths import Root

# Secrets are read before every request; this often is often enough to know.
_RENEWED_AFTER = timedelta(hours=1)


def read_uses(root: Root) -> dict[str, datetime]:
    """When each secret was last used, an hour more or less; what cannot be read is not known."""
    with contextlib.suppress(OSError, ValueError, AttributeError, TypeError):
        data = json.loads(root.secret_uses.read_bytes())
        return {str(name): datetime.fromisoformat(at) for name, at in data.items()}
    return {}


def note_use(root: Root, name: str) -> None:
    """Remember that it is used now. That this cannot be written hinders nothing."""
    uses, now = read_uses(root), datetime.now(UTC)
    if name in uses and now - uses[name] < _RENEWED_AFTER:
        return
    uses[name] = now
    with contextlib.suppress(OSError):
        data = {name: at.isoformat(timespec="seconds") for name, at in sorted(uses.items())}
        write_file(root.secret_uses, json.dumps(data, indent=1).encode(), mode=0o600)
