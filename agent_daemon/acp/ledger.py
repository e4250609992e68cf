"""What a session has used, read from the database in which OpenCode sums it up after each reply."""

import contextlib
import sqlite3
from dataclasses import replace
from pathlib import Path

from agent_daemon.clis.base import Usage, minus

# A session's own sums and those of the sub-agents that it started.
_QUERY = """
    SELECT sum(tokens_input), sum(tokens_output), sum(tokens_reasoning), sum(tokens_cache_read),
           sum(tokens_cache_write), sum(cost)
    FROM session WHERE id = :id OR parent_id = :id
"""


class Ledger:
    """Tells what has been added since it was asked last. A database that cannot be read tells nothing."""

    def __init__(self, path: Path, session_id: str) -> None:
        self._path = path
        self._session_id = session_id
        self._before = self._total() or Usage()

    def step(self) -> Usage | None:
        """What has been used since the last look; a cost of nothing means that no price is known."""
        total, before = self._total(), self._before
        if total is None or total == before:
            return None
        self._before = total
        cost = (total.cost_usd or 0.0) - (before.cost_usd or 0.0)
        return replace(minus(total, before), cost_usd=round(cost, 9) if cost > 0 else None)

    def _total(self) -> Usage | None:
        if not self._path.exists():
            return None
        try:
            with contextlib.closing(
                sqlite3.connect(f"{self._path.as_uri()}?mode=ro", uri=True, timeout=0.2)
            ) as database:
                row = database.execute(_QUERY, {"id": self._session_id}).fetchone()
            fresh, written, reasoned, read, stored = (int(count or 0) for count in row[:5])
            cost = float(row[5] or 0.0)
        except (sqlite3.Error, ValueError, TypeError, OverflowError):
            return None
        return Usage(
            input_tokens=fresh + read + stored,
            cached_input_tokens=read,
            output_tokens=written + reasoned,
            cost_usd=cost,
        )
