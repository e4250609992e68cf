"""The secrets that this supervisor knows at the moment, by the names that people know them by."""

import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from agent_daemon.hiding import secrets_in
from supervisor.core.secret_settings import SecretSource
from supervisor.core.settings import Config
from supervisor.errors import CloudCodeError
from supervisor.secrets.places import sources_in
from supervisor.secrets.sources import SecretReader

# What is read here is searched for in every line of the log.
_RENEWED_SECONDS = 1.0
# So many values that were replaced are searched for still.
_FORMER = 200


@dataclass
class LiveSecrets:
    """The root's own secrets, what the configuration names elsewhere, and keys of coding CLIs.

    What cannot be read now is not known, unless it was read before: a value that was replaced still counts.
    """

    config: Config
    reader: SecretReader
    lent: Callable[[], Mapping[str, str]] = dict
    _elsewhere: list[SecretSource] = field(init=False)
    _named: list[str] = field(init=False)
    _seen: dict[str, str] = field(default_factory=dict, init=False, repr=False)
    _former: tuple[tuple[str, str], ...] = field(default=(), init=False, repr=False)
    _read_at: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        sources = sources_in(self.config)
        self._elsewhere = [source for source in sources if source.secret is None]
        self._named = [source.secret for source in sources if source.secret is not None]

    def values(self) -> Mapping[str, str]:
        """Value by name; at most a second old."""
        now = time.monotonic()
        if not self._read_at or now - self._read_at >= _RENEWED_SECONDS:
            self._read_at = now
            found = self._seen | self._current()
            gone = ((name, value) for name, value in self._seen.items() if found[name] != value)
            # (asked from many threads, by each line of the log, too: nothing is changed in place, nobody waits)
            self._former, self._seen = (*self._former, *gone)[-_FORMER:], found
        former = {f"{name}, before ({number})": value for number, (name, value) in enumerate(self._former)}
        return {**self._seen, **former, **self.lent()}

    def learn(self) -> None:
        """Know all of the root's own secrets that the configuration names. CloudCodeError where that cannot be."""
        self.reader.store.learn(self._named)

    def _current(self) -> dict[str, str]:
        found = {f"the variable {name}": os.environ[name] for name in self._variables() if os.environ.get(name)}
        for place, environment in _environments(self.config):
            found |= {f"{place}.{name}": value for name, value in secrets_in(environment).items()}
        found |= {f"the secret {name}": value for name, value in self.reader.store.known().items()}
        for source in self._elsewhere:
            try:
                found[str(source)] = self.reader.read(source)
            except CloudCodeError:
                continue
        return found

    def _variables(self) -> set[str]:
        return {name for cli in self.config.clis.values() for name in cli.variables}


def _environments(config: Config) -> Iterator[tuple[str, Mapping[str, str]]]:
    """Every set of variables that the configuration writes out, with its place there."""
    for kind, station in config.workstations.items():
        yield f"workstations.{kind}.environment", station.environment
    for name, cli in config.clis.items():
        yield f"clis.{name}.environment", cli.environment
        for server, settings in cli.mcp.servers.items() if cli.mcp is not None else ():
            yield f"clis.{name}.mcp.servers.{server}.environment", settings.environment
