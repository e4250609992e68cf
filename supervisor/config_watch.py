"""Notices that `config.yaml` is no longer the configuration in force, which only a start takes up."""

from dataclasses import dataclass, field
from typing import Literal

from agent_daemon.protocol.files import Signature, signature
from agent_daemon.protocol.paths import Root
from supervisor.config import load_config
from supervisor.core.decision import Event, problem_details
from supervisor.core.settings import Config
from supervisor.errors import CloudCodeError
from supervisor.notices import config_changed
from supervisor.running import running_supervisor


@dataclass
class ConfigWatch:
    """Compares the file with what this supervisor was started with; unchanged, it costs one `lstat`."""

    root: Root
    _read: Signature | Literal["never"] | None = field(default="never", init=False)
    _changing: Signature | Literal["never"] | None = field(default="never", init=False)
    _told: bool = field(default=False, init=False)

    def look(self) -> Event | None:
        """What there is to tell of the file, once it has stayed the same from one look to the next."""
        found = signature(self.root.config)
        if found == self._read:
            return None
        if found != self._changing:
            self._changing = found
            return None
        self._read = found
        config, reason = self._load()
        problem = config_changed(self.root, config, running_supervisor(self.root))
        was_told, self._told = self._told, problem is not None
        if problem is not None:
            return Event(name="config.changed", details=problem_details(problem) | reason, actor="operator")
        return Event(name="config.restored", actor="operator") if was_told else None

    def _load(self) -> tuple[Config | None, dict[str, str]]:
        try:
            return load_config(self.root), {}
        except CloudCodeError as error:
            return None, {"reason": str(error)}
