"""What `status` says of leases that fail, by the newest events."""

from supervisor.notices import failing_leases


def failed(code: str, what: str) -> dict[str, object]:
    details = {"code": code, "message": "Vault at https://v is sealed.", "what": what}
    return {"event": "lease.failed", "details": details}


SEALED, WORKS = failed("E_VAULT_SEALED", "renewed"), {"event": "lease.works", "details": {}}


def test_each_reason_is_one_problem_with_all_that_cannot_be_done() -> None:
    events = [failed("E_VAULT_SEALED", "compared"), SEALED, SEALED, failed("E_FORGE_DOWN", "revoked")]
    sealed, down = failing_leases(events)
    assert (sealed.code, down.code) == ("E_VAULT_SEALED", "E_FORGE_DOWN")
    assert sealed.message.startswith("what agents were given cannot be compared or renewed now, and is tried")
    assert sealed.message.endswith(": Vault at https://v is sealed")
    assert sealed.mend == "unseal Vault: then it goes on by itself (`vault operator unseal`)"


def test_nothing_is_said_once_it_works_or_a_supervisor_has_started_since() -> None:
    assert not list(failing_leases([SEALED, WORKS]))
    assert not list(failing_leases([SEALED, {"event": "supervisor.started"}]))
    assert list(failing_leases([SEALED, WORKS, SEALED]))
    assert not list(failing_leases([{"event": "lease.failed", "details": "odd"}, {"event": 7}]))
