"""Forges and what they lack, for commands: signed in to with the secrets that the configuration names."""

from collections.abc import Iterator

from agent_daemon.protocol.paths import Root
from supervisor.core.forge import Finding
from supervisor.core.settings import Config
from supervisor.forges import access
from supervisor.forges.opening import Forges
from supervisor.secrets.sources import SecretReader


def forges_of(root: Root, config: Config) -> Forges:
    """Opens the forges of this root's projects."""
    return Forges(root, SecretReader.of(root, config.secrets).read)


def check_project(root: Root, config: Config, name: str) -> Iterator[Finding]:
    """What a project lacks."""
    yield from access.check_project(root, config, name, SecretReader.of(root, config.secrets).read)
