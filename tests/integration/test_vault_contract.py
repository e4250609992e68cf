"""The stand-in for a Vault server answers the requests that were recorded with a real one alike."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.fakes.vault import FakeVault

RECORDED = Path(__file__).parents[1] / "samples" / "vault" / "exchanges.jsonl"


@pytest.fixture
def vault() -> Iterator[FakeVault]:
    with FakeVault() as running:
        yield running


ROOT = "root"


def shape(value: Any) -> Any:
    """A value without what differs from run to run."""
    if isinstance(value, dict):
        return {key: shape(item) for key, item in value.items()}
    if isinstance(value, list):
        return [shape(item) for item in value]
    if isinstance(value, bool) or value is None:
        return value
    return "text" if isinstance(value, str) and value else value if isinstance(value, str) else "number"


def leaves(recorded: Any, found: Any) -> Iterator[tuple[str, str]]:
    """Each text that was recorded with the one that stands there now."""
    if isinstance(recorded, dict) and isinstance(found, dict):
        for key in recorded.keys() & found.keys():
            yield from leaves(recorded[key], found[key])
    elif isinstance(recorded, str) and isinstance(found, str):
        yield recorded, found


def without_names(value: Any) -> Any:
    """`entity_id` is known to a real server's identity store only."""
    if isinstance(value, dict):
        return {key: without_names(item) for key, item in value.items() if key != "entity_id"}
    return value


def test_it_answers_what_was_recorded_alike(vault: FakeVault) -> None:
    now_called: dict[str, str] = {}

    def renamed(text: str) -> str:
        for old, new in now_called.items():
            text = text.replace(old, new)
        return text

    for line in RECORDED.read_text().splitlines():
        recorded = json.loads(line)
        asked, told = recorded["request"], recorded["response"]
        what = f"{asked['method']} {asked['path']}"
        answer = requests.request(
            asked["method"],
            vault.address + renamed(asked["path"]),
            headers={name: renamed(value) for name, value in asked["headers"].items()},
            json=json.loads(renamed(json.dumps(asked["body"]))) if asked["body"] is not None else None,
            timeout=10,
        )
        assert answer.status_code == told["status"], f"{what}: {answer.text}"
        body = answer.json() if answer.content else None
        if "errors" in (told["body"] or {}):
            assert body == told["body"], what
        else:
            assert shape(without_names(body)) == shape(without_names(told["body"])), what
        for old, new in leaves(told["body"], body):
            if old != new and len(old) > 15:
                now_called[old] = new


def test_what_is_lent_ends_by_itself_and_with_its_token(vault: FakeVault) -> None:
    def ask(method: str, path: str, token: str = ROOT, **body: Any) -> Any:
        headers = {"X-Vault-Token": token}
        answer = requests.request(method, f"{vault.address}/v1/{path}", headers=headers, json=body, timeout=10)
        return answer.json() if answer.content else {}

    ask("POST", "database/roles/ro", default_ttl="60s", max_ttl="90s")
    child = ask("POST", "auth/token/create", policies=["x"], ttl="600s")["auth"]
    ask("PUT", "sys/policy/x", policy='path "database/creds/*" { capabilities=["read"] }')
    lease = ask("GET", "database/creds/ro", child["client_token"])["lease_id"]
    ask("GET", "database/creds/ro")
    assert len(vault.lent()) == 2
    vault.advance(50)
    assert ask("PUT", "sys/leases/renew", lease_id=lease, increment=60)["lease_duration"] == 40
    vault.advance(20)
    assert [one.id for one in vault.lent()] == [lease]
    ask("POST", "auth/token/revoke-accessor", accessor=child["accessor"])
    assert vault.lent() == [] and vault.signed_in() == []
