"""Where the configuration names a secret of the root."""

from collections import defaultdict

from pydantic import BaseModel

from supervisor.core.settings import Config, SecretSource


def places_of(config: Config) -> dict[str, tuple[str, ...]]:
    """For each name of a secret the keys that name it, as ``projects.my-app.auth.token``."""
    found: dict[str, list[str]] = defaultdict(list)

    def look(value: object, place: str) -> None:
        if isinstance(value, SecretSource):
            if value.secret is not None:
                found[value.secret].append(place)
        elif isinstance(value, BaseModel):
            for name in type(value).model_fields:
                look(getattr(value, name), f"{place}.{name}" if place else name)
        elif isinstance(value, dict):
            for name, item in value.items():
                look(item, f"{place}.{name}")

    look(config, "")
    return {name: tuple(places) for name, places in found.items()}
