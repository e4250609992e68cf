"""What `config.yaml` may say of secrets: where they are kept, where one is read from, what agents may ask for."""

import re
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from agent_daemon.protocol.model import Written

# Names of the root's own secrets, as forges/github.
SECRET_NAME = r"^[a-z0-9][a-z0-9._-]*(/[a-z0-9][a-z0-9._-]*){0,4}$"  # noqa: S105
SecretName = Annotated[str, StringConstraints(pattern=SECRET_NAME, max_length=100)]
Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,40}$")]
Variable = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,100}$")]
Word = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]{0,40}$")]
# A path within a Vault, as database/creds/reader.
VaultPath = Annotated[
    str,
    StringConstraints(
        pattern=r"^[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*){0,9}$", max_length=200
    ),
]
# Over https, or on this very machine; nothing but a host and a port.
VAULT_ADDRESS = r"^(https://[^\s/@?#]{1,300}|http://(127\.0\.0\.1|localhost|\[::1\])(:[0-9]{1,5})?)/?$"
SHORT = StringConstraints(min_length=1, max_length=1000)


class SecretSource(Written):
    """Where a secret is read from each time it is needed.

    The root's own secrets, a file, or a variable around the supervisor.
    """

    secret: SecretName | None = None
    file: Annotated[str, SHORT] | None = None
    env: Variable | None = None

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if sum(place is not None for place in (self.secret, self.file, self.env)) != 1:
            raise ValueError("name one place of the secret: `secret:`, `file:` or `env:`")
        return self

    def __str__(self) -> str:
        if self.secret is not None:
            return f"the secret {self.secret}"
        return f"the file {self.file}" if self.file is not None else f"the variable {self.env}"


class ApproleSettings(Written):
    """How to sign in to Vault as an AppRole. `wrapped`: what is read is a wrapping token, not the secret id."""

    role_id: Annotated[str, SHORT]
    secret_id: SecretSource
    wrapped: bool = False
    mount: VaultPath = "approle"


class VaultSettings(Written):
    """A Vault or OpenBao server: where it is, how to sign in, and where the root's secrets lie (KV, version 2).

    `wrap_reads`: what is read comes wrapped, so that it is noticed if somebody else has seen it on its way.
    `timeout_seconds` is for connecting and for each part of an answer.
    """

    address: Annotated[str, StringConstraints(pattern=VAULT_ADDRESS)]
    namespace: Annotated[str, SHORT] | None = None
    ca_file: Annotated[str, SHORT] | None = None
    token: SecretSource | None = None
    approle: ApproleSettings | None = None
    mount: VaultPath = "secret"
    prefix: VaultPath = "cloud-code"
    wrap_reads: bool = False
    timeout_seconds: Annotated[float, Field(gt=0, le=60, allow_inf_nan=False)] = 5

    @model_validator(mode="after")
    def _way_in(self) -> Self:
        if (self.token is None) == (self.approle is None):
            raise ValueError("name one way to sign in: `token:` or `approle:`")
        source = self.token if self.approle is None else self.approle.secret_id
        if source is not None and source.secret is not None:
            raise ValueError("what opens Vault does not lie in it: name a `file:` or an `env:`")
        return self


class SecretsSettings(Written):
    """Where the root's own secrets are kept: one file encrypted with age, a Vault, or variables of the supervisor.

    `identity` opens the file, and what is kept of a Vault's leases. `hold_tokens`: whether what looks like a token
    is held from being pushed although it is none of ours.
    """

    backend: Literal["age", "vault", "env"] = "age"
    file: Annotated[str, SHORT] = "secrets.age"
    identity: Annotated[str, SHORT] | None = None
    vault: VaultSettings | None = None
    hold_tokens: bool = True

    @model_validator(mode="after")
    def _vault_is_described(self) -> Self:
        if self.backend == "vault" and self.vault is None:
            raise ValueError("`backend: vault` needs `vault:` (its address, and how to sign in)")
        return self


class AccessSettings(Written):
    """One kind of access, and what gives it: a secret of the root, what Vault lends at a path, or the forge.

    `template` makes one text of what is lent, as ``postgres://{username}:{password}@db/app``. `mint`: the task's
    forge makes a token that reads the task's repository by git, or by its API, too. `granted`: who grants it
    (None: as is usual for the type; `at_start`: every attempt has it, unasked), and `approve`: what a person must
    be allowed on the project for that. `times`: how often one run of a task may have it.
    """

    secret: SecretName | None = None
    lease: VaultPath | None = None
    template: Annotated[str, SHORT] | None = None
    mint: Literal["repository", "api"] | None = None
    granted: Literal["by_rule", "by_person", "at_start"] | None = None
    approve: Literal["write", "admin"] | None = None
    times: Annotated[int, Field(ge=1, le=20)] | None = None

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if sum(place is not None for place in (self.secret, self.lease, self.mint)) != 1:
            raise ValueError("name one thing that gives it: `secret:`, `lease:` or `mint:`")
        if self.template is not None and self.lease is None:
            raise ValueError("`template:` is for what is lent: `lease:`")
        if self.times is not None and self.granted == "at_start":
            raise ValueError("`times:` is for what is asked for: with `granted: at_start` every attempt has it")
        return self

    def __str__(self) -> str:
        if self.mint is not None:
            return "a token that the forge makes for the attempt"
        return f"the secret {self.secret}" if self.secret is not None else f"a lease of {self.lease}"


# Variables by which a program finds others, or is told what else to run: none of them is given a secret.
_STEERING = re.compile(
    r"PATH|HOME|SHELL|IFS|ENV|BASH_ENV|TMPDIR|NODE_OPTIONS|NODE_PATH|LD_\w+|PYTHON(PATH|HOME|STARTUP)|CLOUD_CODE_\w*"
    r"|GIT_(SSH|SSH_COMMAND|ASKPASS|EXEC_PATH|DIR|WORK_TREE|INDEX_FILE|PROXY_COMMAND)"
    r"|GIT_CONFIG(_GLOBAL|_SYSTEM|_NOSYSTEM|_COUNT|_PARAMETERS|_KEY_\d+|_VALUE_\d+)?"
)


def why_not_variable(name: str, settings: "CredentialSettings") -> str:
    """What is wrong about the variable of a credential of this name; empty where nothing is."""
    variable = settings.env or name.upper().replace("-", "_")
    if _STEERING.fullmatch(variable) is None:
        return ""
    return f"{name} would be given in {variable}, by which programs are run: name another variable (`env:`)"


class CredentialSettings(Written):
    """Something that agents may ask for. Empty `projects`, `specialists` and `scopes` mean any.

    `env`: the variable in which it is given; without it that of its type, or its name in capitals. `deliver`: its
    value in the variable, or the path of a file that holds it (None: as is usual for the type).
    """

    access: Annotated[dict[Word, AccessSettings], Field(min_length=1)]
    env: Annotated[str, StringConstraints(pattern=r"^[A-Z_][A-Z0-9_]{0,60}$")] | None = None
    deliver: Literal["environment", "file"] | None = None
    ttl_minutes: Annotated[float, Field(gt=0, le=1440, allow_inf_nan=False)] = 60
    answer_minutes: Annotated[float, Field(gt=0, le=43_200, allow_inf_nan=False)] = 1440
    projects: tuple[Name, ...] = ()
    specialists: tuple[Name, ...] = ()
    scopes: tuple[Annotated[str, SHORT], ...] = ()

    @model_validator(mode="after")
    def _unasked(self) -> Self:
        if self.scopes and any(rule.granted == "at_start" for rule in self.access.values()):
            raise ValueError("`scopes:` is for what is asked for: with `granted: at_start` there is no scope")
        return self
