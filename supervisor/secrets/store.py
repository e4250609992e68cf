"""The one port behind `{secret: NAME}`, and the two backends that need no server."""

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from supervisor.errors import CloudCodeError
from supervisor.secrets.age_file import AgeFile

VARIABLE_PREFIX = "CLOUD_CODE_SECRET_"


class SecretStore(Protocol):
    """Secrets by name. Asked from any thread but the loop's, which may only have what is known."""

    def get(self, name: str) -> str | None:
        """The value as it is now; None where there is none. CloudCodeError where that cannot be told."""

    def known(self) -> Mapping[str, str]:
        """What is known without asking anybody, by name: it is searched for in all that leaves."""

    def learn(self, names: Collection[str]) -> None:
        """Have `known` tell these. CloudCodeError where that cannot be: nothing may leave unsearched."""

    def mend(self, name: str) -> str:
        """What to do where there is none."""


@dataclass(frozen=True)
class AgeStore:
    """One encrypted file of the root."""

    file: AgeFile

    def get(self, name: str) -> str | None:
        secret = self.file.read().get(name)
        return secret.value.get_secret_value() if secret is not None else None

    def known(self) -> Mapping[str, str]:
        try:
            return {name: secret.value.get_secret_value() for name, secret in self.file.read().items()}
        except CloudCodeError:
            return {}

    def learn(self, names: Collection[str]) -> None:
        if names:
            self.file.read()

    def mend(self, name: str) -> str:
        return f"Set it: `cloud-code secret set {name}`."


@dataclass(frozen=True)
class EnvStore:
    """Variables around the supervisor, to try things out: whoever may see its environment has them."""

    environment: Mapping[str, str] = field(default_factory=lambda: os.environ, repr=False)

    def get(self, name: str) -> str | None:
        return self.environment.get(variable_of(name))

    def known(self) -> Mapping[str, str]:
        return {name: value for name, value in self.environment.items() if name.startswith(VARIABLE_PREFIX)}

    def learn(self, names: Collection[str]) -> None:
        pass

    def mend(self, name: str) -> str:
        return f"Set {variable_of(name)} around `cloud-code run`."


def variable_of(name: str) -> str:
    """The variable of a secret: forges/github is in CLOUD_CODE_SECRET_FORGES_GITHUB."""
    return VARIABLE_PREFIX + "".join(c if c.isalnum() else "_" for c in name).upper()
