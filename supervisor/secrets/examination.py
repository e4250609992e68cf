"""What `doctor` says of the root's secrets: whether they are there, and a Vault's health, token and policies."""

import math
from collections.abc import Iterator
from typing import Any

from agent_daemon.logins import renews
from agent_daemon.protocol.paths import Root
from supervisor.core.credentials import variable_of
from supervisor.core.settings import Config
from supervisor.core.times import duration
from supervisor.core.words import count
from supervisor.doctor import Check, told
from supervisor.errors import CloudCodeError
from supervisor.secrets.places import places_of
from supervisor.secrets.sources import open_store
from supervisor.secrets.store import SecretStore
from supervisor.secrets.vault import VaultStore
from supervisor.secrets.vault_session import SignedIn, VaultSession

# What no policy of a supervisor has to hold: each of these would let it have, or make, whatever it likes.
_TOO_MUCH = (
    "sys/policies/acl/cloud-code-probe",
    "sys/mounts/cloud-code-probe",
    "sys/auth/cloud-code-probe",
    "auth/token/create-orphan",
    "auth/approle/role/cloud-code-probe",
    "{mount}/data/not-of-{prefix}/probe",
)
_SOON_SECONDS = 24 * 3600


def check_secrets(root: Root, config: Config) -> Iterator[Check]:
    """The secrets that config.yaml names, and what they are kept in; nothing where it names none."""
    store = open_store(root, config.secrets)
    if isinstance(store, VaultStore):
        yield from _vault_checks(config, store.session)
    elif config.secrets.backend == "env":
        detail = "in variables around the supervisor: whoever may see its environment has them"
        yield Check(name="secrets", status="warning", detail=detail, mend="fine to try things out")
    if not isinstance(store, VaultStore) and root.leases.is_dir() and any(root.leases.iterdir()):
        detail = f"{root.leases} tells of leases, and no Vault is configured to take them back"
        mend = "configure it once more, or wait for their end, and remove the folder"
        yield Check(name="leases", status="warning", detail=detail, mend=mend)
    named = places_of(config)
    if named:
        check = told_of_missing(store, named)
        yield check
        yield from lent_logins(store, config) if check.status != "error" else ()


def told_of_missing(store: SecretStore, named: dict[str, tuple[str, ...]]) -> Check:
    """Which of the secrets that config.yaml names are not there."""
    try:
        missing = sorted(name for name in named if not (store.get(name) or "").strip())
    except CloudCodeError as error:
        return Check(name="secrets", status="error", detail=f"{error.code}: {error.message}", mend=error.mend)
    if not missing:
        detail = f"{count(len(named), 'secret')} named in config.yaml, all there"
        return Check(name="secrets", status="ok", detail=detail)
    places = "; ".join(f"{name} ({', '.join(named[name])})" for name in missing)
    return Check(name="secrets", status="warning", detail=f"not set: {places}", mend=store.mend(missing[0]))


def lent_logins(store: SecretStore, config: Config) -> Iterator[Check]:
    """Credentials that give every attempt a copy of one login of a subscription, which the first renewal ends."""
    for name, credential in config.credentials.items():
        for access, rule in credential.access.items():
            try:
                value = (store.get(rule.secret) if rule.secret else None) or ""
            except CloudCodeError:  # told already
                continue
            if renews(variable_of(name, credential), value):
                place = f"credentials.{name}.access.{access}"
                detail = f"E_LOGIN_SHARED: {place} gives each attempt a copy of a login that the first one renews"
                mend = "take it out, and log in at each workstation by itself, or give a key"
                yield Check(name="secrets", status="warning", detail=detail, mend=mend)


def _vault_checks(config: Config, session: VaultSession) -> Iterator[Check]:
    def look() -> str:
        return f"{session.address} answers; {_life(session.signed_in())}"

    reached = told("vault", look)
    yield reached
    if reached.status == "ok":
        try:
            yield from policy_checks(config, session)
        except CloudCodeError as error:
            yield Check(name="vault's policies", status="warning", detail=f"{error.code}: {error.message}")
        if session.settings.token is not None and session.signed_in().left_seconds < _SOON_SECONDS:
            yield from _ends_soon(session.signed_in())


def _life(signed_in: SignedIn) -> str:
    policies = ", ".join(name for name in signed_in.policies if name != "default") or "no policy of its own"
    if math.isinf(signed_in.left_seconds):
        return f"a token of {policies} that does not end"
    renewable = "is renewed" if signed_in.renewable else "cannot be renewed"
    return f"a token of {policies}, which ends in {duration(signed_in.left_seconds)} and {renewable}"


def _ends_soon(signed_in: SignedIn) -> Iterator[Check]:
    if not signed_in.renewable:
        detail = f"the token for Vault ends in {duration(signed_in.left_seconds)}, and cannot be renewed"
        yield Check(name="vault's token", status="warning", detail=detail, mend="write another one to its place")


def policy_checks(config: Config, session: VaultSession) -> Iterator[Check]:
    """Whether the token may do what the configuration needs, and not much more. VaultError."""
    settings = session.settings
    wanted = {f"{settings.mount}/data/{settings.prefix}/{name}": "read" for name in places_of(config)}
    leases = {rule.lease for each in config.credentials.values() for rule in each.access.values() if rule.lease}
    wanted |= dict.fromkeys(leases, "read")
    if leases:
        wanted |= {"auth/token/create": "update", "auth/token/revoke-accessor": "update"}
    too_much = [path.format(mount=settings.mount, prefix=settings.prefix) for path in _TOO_MUCH]
    found = _capabilities(session, [*wanted, *too_much])
    lacking = [path for path, what in wanted.items() if not {what, "root"} & found[path]]
    wide = [path for path in too_much if found[path] - {"deny"}]
    if lacking:
        line = f'path "{lacking[0]}" {{ capabilities = ["{wanted[lacking[0]]}"] }}'
        detail = f"the token may not use {', '.join(lacking)}"
        yield Check(name="vault's policies", status="error", detail=detail, mend=f"add to its policy: {line}")
    if wide:
        detail = f"the token may do more than it needs, as with {', '.join(wide)}"
        mend = "give it a policy of its own, as in docs/secrets.md"
        yield Check(name="vault's policies", status="warning", detail=detail, mend=mend)
    if not lacking and not wide:
        yield Check(name="vault's policies", status="ok", detail="what is needed, and no more")


def _capabilities(session: VaultSession, paths: list[str]) -> dict[str, set[str]]:
    def ask(client: Any) -> dict[str, set[str]]:
        answer = client.sys.get_capabilities(paths)["data"]
        return {path: set(answer.get(path) or ()) for path in paths}

    return session.call("ask what its token may do", ask)
