"""`agent-daemon tend` as the drivers run it: what it is told, and what it says that it did."""

import json

from agent_daemon.protocol.paths import Root
from supervisor.errors import CloudCodeError

TEND_SECONDS = 3600


def tend_arguments(root: Root, name: str, limit_bytes: int) -> list[str]:
    return ["tend", "--workstation", name, "--root", str(root.path), "--limit-bytes", str(limit_bytes)]


def tended(output: str) -> dict[str, object]:
    """What `agent-daemon tend` says that it did. E_NOT_TENDED.

    Agents may have a hand in that: it is only shown.
    """
    try:
        said = json.loads(output.strip().rpartition("\n")[2])
        caches, updated = said["caches"], said["updated"]
        before, after = int(caches["bytes_before"]), int(caches["bytes_after"])
        return {
            "caches_bytes_before": before,
            "caches_bytes_after": after,
            "updated": [str(one["tool"])[:40] for one in updated if not one["error"]][:10],
            "not_updated": [f"{one['tool']}: {one['error']}"[:200] for one in updated if one["error"]][:10],
        }
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise not_tended(f"its answer is not understood: {error}") from None


def not_tended(errors: str) -> CloudCodeError:
    said = errors.strip().rpartition("\n")[2].removeprefix("agent-daemon: ")
    return CloudCodeError("E_NOT_TENDED", said[:1000] or "it ended without a word")
