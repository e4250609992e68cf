"""What would be refused for want of a price: a limit of cost on a CLI that does not tell what it costs."""

from collections.abc import Iterator

from agent_daemon.clis import ADAPTERS
from agent_daemon.meter import price_of
from supervisor.core.budgets import governing
from supervisor.core.settings import Config


def unpriced(config: Config) -> Iterator[tuple[str, str]]:
    """Each CLI whose runs would be refused (`E_NO_PRICE`), and for which project and type of workstation."""
    for kind, station in config.workstations.items():
        bounded = [
            name
            for name, project in config.projects.items()
            if project.trust_domain == station.trust_domain
            and (project.limits.cost_usd is not None or governing(config, name, kind))
        ]
        for name in station.clis if bounded else ():
            settings = config.cli(name)
            adapter = ADAPTERS.get(settings.adapter or name)
            tells = adapter is not None and adapter.TELLS_COST != "never"
            if not tells and price_of(settings.model or "", config.prices) is None:
                yield name, f"{bounded[0]} with {kind}"
