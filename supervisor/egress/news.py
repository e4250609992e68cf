"""What the egress proxy refused, as events: each of its lines once, over restarts of either side."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field

from agent_daemon.protocol.files import Signature, signature, write_file
from agent_daemon.protocol.paths import Root
from supervisor.core.decision import Event
from supervisor.egress.files import read_refusals, refused_names

_TOLD = "told.json"


@dataclass
class RefusedNews:
    """Reads the refusals of a root's workstations as they grow; remembers durably which were taken."""

    root: Root
    _seen: dict[str, Signature | None] = field(default_factory=dict)
    _told: dict[str, int] | None = None

    def take(self) -> Iterator[Event]:
        """The events of what is new, in order; cheap where nothing is. They count as told once all are taken."""
        news = False
        for name in refused_names(self.root):
            found = signature(self.root.egress_refused(name))
            if found is None or self._seen.get(name) == found:
                continue
            told = self._known()
            for entry in read_refusals(self.root, name, told.get(name, 0)):
                keys = ("at", "code", "host", "port", "message", "count", "kinds")
                details = {"workstation": name} | {key: entry[key] for key in keys if key in entry}
                news = True
                yield Event(name="egress.refused", details=details)
                told[name] = entry["id"]  # (who takes them may fail: it comes again then)
            self._seen[name] = found
        if news:
            write_file(self.root.egress / _TOLD, json.dumps(self._told).encode())

    def _known(self) -> dict[str, int]:
        """By workstation, the id of the last line that was taken; a file that cannot be read tells nothing."""
        if self._told is None:
            try:
                given = json.loads((self.root.egress / _TOLD).read_bytes())
                self._told = {str(name): int(last) for name, last in given.items()}
            except (OSError, ValueError, AttributeError, TypeError):
                self._told = {}
        return self._told
