"""Conditional reads: the entity tag of each address, so that reading what has not changed costs nothing."""

import threading

from supervisor.core.forge import Cursor

# More addresses than any project reads in a poll; the oldest are forgotten.
_MAX_TAGS = 2000


class Tags:
    """The tags of one project's cursor. They belong to a token: another one begins anew (GitHub, GHES)."""

    def __init__(self, cursor: Cursor, generation: str) -> None:
        self._known = dict(cursor.tags) if cursor.token_generation == generation else {}
        self._lock = threading.Lock()

    def headers(self, address: str) -> dict[str, str]:
        with self._lock:
            tag = self._known.get(address)
        return {"If-None-Match": tag} if tag else {}

    def note(self, address: str, tag: str) -> None:
        """Remember the tag of an answer that is taken in; an answer without one forgets the address."""
        with self._lock:
            self._known.pop(address, None)
            if tag:
                self._known[address] = tag

    def forget_path(self, path: str) -> None:
        """Read this path anew next time, whatever the parameters."""
        with self._lock:
            for address in [known for known in self._known if known.partition("?")[0] == path]:
                del self._known[address]

    def all(self) -> dict[str, str]:
        with self._lock:
            return dict(list(self._known.items())[-_MAX_TAGS:])
