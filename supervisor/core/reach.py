"""What the workstations of a type may connect to, by the configuration."""

import urllib.parse
from collections.abc import Iterator

from supervisor.core.egress import Policy, entry, expand
from supervisor.core.egress_sets import OF_ADAPTER, OF_KEY, SETS
from supervisor.core.settings import CliSettings, Config


def allowed_by(config: Config, kind: str) -> tuple[str, ...]:
    """The `host:port` that the workstations of this type may connect to, sorted."""
    return expand(config.workstations[kind].reach, of_clis(config, kind))


def of_clis(config: Config, kind: str) -> tuple[str, ...]:
    """What the coding CLIs of this type talk to: endpoints that are configured, else their providers.

    One that is passed no key goes by a login, which is renewed elsewhere.
    """
    found = (one for name in config.clis_of_station(kind) for one in _of_cli(name, config.cli(name)))
    return tuple(dict.fromkeys(found))


def lacking(config: Config, kind: str) -> tuple[str, ...]:
    """What its coding CLIs talk to and is not among what it may connect to."""
    policy = Policy.of(allowed_by(config, kind))
    return tuple(one for one in of_clis(config, kind) if not policy.allows(entry(one)))


def out_of_reach(config: Config, kind: str) -> tuple[str, ...]:
    """The endpoints of its coding CLIs that no workstation is connected to: addresses, and this host."""
    clis = [config.cli(name) for name in config.clis_of_station(kind)]
    return tuple(dict.fromkeys(url for cli in clis for url in _endpoints(cli) if _endpoint(url) is None))


def _endpoints(cli: CliSettings) -> list[str]:
    own = [cli.options.get("base_url", "")]
    own += [value for key, value in cli.environment.items() if key.endswith(("BASE_URL", "API_BASE"))]
    return [url for url in own if url]


def _of_cli(name: str, cli: CliSettings) -> Iterator[str]:
    own = _endpoints(cli)
    yield from (found for url in own if (found := _endpoint(url)))
    if not own:
        keys = [OF_KEY[key] for key in (*cli.pass_environment, cli.options.get("env_key", "")) if key in OF_KEY]
        providers = OF_ADAPTER.get(cli.adapter or name, ())
        logins = [f"{one}-login" for one in providers if one not in keys and f"{one}-login" in SETS]
        for name_of_set in dict.fromkeys((*providers, *logins, *keys)):
            yield from SETS[name_of_set]
    for server in cli.mcp.servers.values() if cli.mcp is not None else ():
        if found := _endpoint(server.url or ""):
            yield found


def _endpoint(url: str) -> str | None:
    """Host and port of an address on the web; None for one that no workstation can be connected to."""
    try:
        parts = urllib.parse.urlsplit(url)
        port = parts.port or {"http": 80, "https": 443}[parts.scheme]
        return str(entry(f"{parts.hostname or ''}:{port}"))
    except (ValueError, KeyError):
        return None
