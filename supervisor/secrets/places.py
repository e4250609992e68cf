"""Where the configuration names secrets."""

from collections import defaultdict
from collections.abc import Iterator

from pydantic import BaseModel

from supervisor.core.secret_settings import AccessSettings, SecretSource
from supervisor.core.settings import Config


def places_of(config: Config) -> dict[str, tuple[str, ...]]:
    """For each name of a secret of the root the keys that name it, as ``projects.my-app.auth.token``."""
    found: dict[str, list[str]] = defaultdict(list)
    for place, source in _walk(config, ""):
        if source.secret is not None:
            found[source.secret].append(place)
    return {name: tuple(places) for name, places in found.items()}


def sources_in(config: Config) -> set[SecretSource]:
    """Every place of a secret that the configuration names."""
    return {source for _, source in _walk(config, "")}


def _walk(value: object, place: str) -> Iterator[tuple[str, SecretSource]]:
    if isinstance(value, SecretSource):
        yield place, value
        return
    if isinstance(value, AccessSettings):
        if value.secret is not None:
            yield place, SecretSource(secret=value.secret)
        return
    items = (
        {name: getattr(value, name) for name in type(value).model_fields}
        if isinstance(value, BaseModel)
        else value
    )
    if isinstance(items, dict):
        for name, item in items.items():
            yield from _walk(item, f"{place}.{name}" if place else str(name))
