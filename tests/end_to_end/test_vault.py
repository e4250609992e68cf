"""What a Vault lends to an agent: had within its attempt, and nothing of it left on the server afterwards."""

import contextlib
import hashlib
import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent_daemon.failpoints import LEASE_FAILPOINTS, VARIABLE
from tests.end_to_end.test_credentials import assert_nowhere, grants
from tests.fakes.vault import FakeVault
from tests.openbao import running_openbao
from tests.site import Site, wait_for
from tests.vault_site import VaultSite, vault_site

NPM = "npm-secret-Xy12_value"
ASK = "agent-daemon credential database_url --access read_write --reason 'migrate' --wait 60"


@pytest.fixture
def vault() -> Iterator[VaultSite]:
    with vault_site(fake=True) as made:
        made.put("npm/read", value=NPM)
        yield made


@pytest.fixture
def lender(site: Site, vault: VaultSite) -> Site:
    return lent_from(site, vault)


def lent_from(site: Site, vault: VaultSite) -> Site:
    """A site whose secrets are in the Vault, and of which agents may have a database's URL by rule."""
    outside = site.folder / "outside"
    outside.mkdir()
    site.config["secrets"] = vault.settings(outside)
    url = "postgres://{username}:{password}@db.example/app"
    site.config["credentials"] = {
        "npm_token": {"access": {"read": {"secret": "npm/read"}}},
        "database_url": {"access": {"read_write": {"lease": vault.lease, "template": url, "granted": "by_rule"}}},
    }
    return site


def fake_of(vault: VaultSite) -> FakeVault:
    assert vault.fake is not None
    return vault.fake


def hold(site: Site, *steps: str) -> Path:
    """The agent asks, tells that it has it, and waits for the file that is returned."""
    go = site.folder / "go"
    site.use_script(
        ASK,
        f'cp "$CLOUD_CODE_CREDENTIALS/DATABASE_URL" {place_seen(site)}; touch {site.folder}/has',
        f"until [ -e {go} ]; do sleep 0.1; done",
        *steps,
        "sed -i 's/a - b/a + b/' calc.py",
    )
    site.write_config()
    return go


@pytest.fixture(autouse=True)
def _clean(site: Site) -> Iterator[None]:
    yield
    place_seen(site).unlink(missing_ok=True)


def place_seen(site: Site) -> Path:
    """Outside of what is searched. The folder has this name at another test of another worker, too."""
    return Path(f"/dev/shm/cloud-code-test-{hashlib.sha256(str(site.folder).encode()).hexdigest()}")


def seen(site: Site) -> str:
    return place_seen(site).read_text()


def nothing_lent(vault: VaultSite, site: Site) -> bool:
    fake = fake_of(vault)
    return not fake.lent() and not fake.signed_in("auth/token") and not list(site.root.leases.glob("*"))


def test_it_is_lent_for_the_attempt_and_taken_back_with_it(lender: Site, vault: VaultSite) -> None:
    site, fake = lender, fake_of(vault)
    go = hold(site, 'echo "it is $DATABASE_URL and $(cat "$CLOUD_CODE_CREDENTIALS/DATABASE_URL" | base64 -w0)"')
    site.start()
    site.write_task("fix-add")
    wait_for((site.folder / "has").exists, what="the agent has it")
    (lease,) = fake.lent()
    user, password = lease.data["username"], lease.data["password"]
    assert seen(site) == f"postgres://{user}:{password}@db.example/app"
    (page,) = site.root.leases.glob("*.json")
    assert json.loads(page.read_text())["lease"] == lease.id and page.stat().st_mode & 0o777 == 0o600
    go.touch()
    site.wait_state("demo.fix-add", "review")
    wait_for(lambda: nothing_lent(vault, site), what="nothing is lent any more")
    audited = json.loads(site.cli("credential", "audit", "--json").stdout)
    names = [e["event"].partition(".")[2] for e in audited]
    assert names[:2] == ["granted", "given"] and "returned" in names
    shown = json.loads(site.cli("credential", "show", "fix-add", "cred-001", "--json").stdout)
    assert shown["from"] == f"a lease of {vault.lease}" and len(shown["events"]) == len(audited)
    assert "The books" in site.cli("credential", "show", "fix-add", "cred-001").stdout
    assert_nowhere(site.folder, password, seen(site))


def test_a_real_server_killed_sealed_and_cancelled(site: Site, tmp_path: Path) -> None:
    """Kept over a kill of the supervisor; given back once the sealed server is open again."""
    with running_openbao(tmp_path) as server, server.site() as vault:
        vault.put("npm/read", value=NPM)
        hold(lent_from(site, vault))
        site.start()
        site.write_task("fix-add")
        wait_for((site.folder / "has").exists, what="the agent has it")
        (user,) = server.broker.users
        assert seen(site).startswith(f"postgres://{user}:") and len(vault.lent()) == 1
        site.stop_supervisors(signal.SIGKILL)
        vault.seal()
        site.start()
        site.cli("task", "cancel", "fix-add")
        wait_for(lambda: site.events("lease.failed"), what="it is told that it cannot be taken back")
        assert server.broker.users == {user}
        vault.unseal()
        wait_for(lambda: not server.broker.users, what="the user is removed from the broker")
        wait_for(lambda: not list(site.root.leases.glob("*")), what="the book is empty")
        assert vault.lent() == []
        site.wait_state("demo.fix-add", "cancelled")
        assert_nowhere(site.folder, seen(site))


@pytest.mark.parametrize("end", ["cancel", "revoke", "pause", "sealed"])
def test_it_is_taken_back_however_the_attempt_ends(lender: Site, vault: VaultSite, end: str) -> None:
    site = lender
    hold(site)
    site.start()
    site.write_task("fix-add")
    wait_for((site.folder / "has").exists, what="the agent has it")
    if end == "cancel":
        site.cli("task", "cancel", "fix-add")
    elif end == "revoke":
        site.cli("credential", "revoke", "fix-add", "cred-001")
    elif end == "sealed":
        fake_of(vault).seal()
        site.cli("task", "cancel", "fix-add")
        wait_for(lambda: site.events("lease.failed"), what="it is told that it cannot be taken back")
        assert fake_of(vault).lent()
        fake_of(vault).unseal()
    else:
        site.cli("task", "pause", "fix-add")
        site.cli("task", "cancel", "fix-add")
    wait_for(lambda: nothing_lent(vault, site), what="nothing is lent any more")
    if end == "revoke":
        site.cli("task", "cancel", "fix-add")
    site.wait_state("demo.fix-add", "cancelled")


@pytest.mark.parametrize("point", LEASE_FAILPOINTS)
def test_killed_at(lender: Site, vault: VaultSite, point: str) -> None:
    """What was made on the server and not written down is gone in the end, and the agent has what it asked for."""
    site, fake = lender, fake_of(vault)
    go = hold(site)
    counter = site.folder / "kills"
    kills = {"lease.noted": 1, "lease.revoked": 0}.get(point, 2)  # (what was noted is not lent again)
    counter.write_text(str(kills or 2))
    environment = {VARIABLE: f"{point}={counter}"}
    process = site.start(**environment)
    site.write_task("fix-add")
    go_on = False
    for _ in range(kills):
        assert process.wait(timeout=100) == -signal.SIGKILL
        process = site.start(**environment)
    wait_for((site.folder / "has").exists, what="the agent has it")
    assert seen(site) in {
        f"postgres://{one.data['username']}:{one.data['password']}@db.example/app" for one in fake.lent()
    }
    wait_for(lambda: len(fake.lent()) == 1, what="only what the agent has is lent")
    go.touch()
    while point == "lease.revoked" and counter.read_text() != "0":
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=100)
        process = site.start(**environment)
        go_on = True
    assert go_on == (point == "lease.revoked") and counter.read_text() == "0"
    site.wait_state("demo.fix-add", "review")
    wait_for(lambda: not fake.lent() and not list(site.root.leases.glob("*")), what="nothing is lent any more")
    fake.advance(60)  # (a token whose accessor was never written down)
    assert not fake.signed_in("auth/token")


def test_an_agent_keeps_what_it_has_over_a_restart_of_the_supervisor_and_its_daemon(
    lender: Site, vault: VaultSite
) -> None:
    site, fake = lender, fake_of(vault)
    go = hold(site, f'cmp "$CLOUD_CODE_CREDENTIALS/DATABASE_URL" {place_seen(site)}')
    site.start()
    site.write_task("fix-add")
    wait_for((site.folder / "has").exists, what="the agent has it")
    before = [lease.id for lease in fake.lent()]
    site.stop_supervisors(signal.SIGKILL)
    (site.folder / "outside" / "secret-id").write_text("used up")  # (what was signed in with is kept)
    site.signal_daemons(signal.SIGKILL)
    (site.folder / "has").unlink()
    site.start()
    wait_for((site.folder / "has").exists, what="the agent has it again")
    assert [lease.id for lease in fake.lent()] == before
    go.touch()
    site.wait_state("demo.fix-add", "review")
    wait_for(lambda: nothing_lent(vault, site), what="nothing is lent any more")


def test_renewed_while_it_is_wanted_and_lent_anew_at_its_end(lender: Site, vault: VaultSite) -> None:
    site, fake = lender, fake_of(vault)
    vault.lends(default_ttl="6s", max_ttl="12s")
    go = hold(site)
    site.start()
    site.write_task("fix-add")
    wait_for((site.folder / "has").exists, what="the agent has it")
    first = fake.lent()[0]
    wait_for(lambda: site.events("credential.refreshed"), what="its lease is renewed")
    wait_for(lambda: [one for one in fake.lent() if one.id != first.id], what="another one is lent")
    wait_for(lambda: not [one for one in fake.lent() if one.id == first.id], what="the first one is gone")
    assert len(fake.lent()) == 1
    go.touch()
    site.wait_state("demo.fix-add", "review")
    wait_for(lambda: nothing_lent(vault, site), what="nothing is lent any more")


def test_sealed_the_task_waits_with_the_reason_and_goes_on_by_itself(lender: Site, vault: VaultSite) -> None:
    site, fake = lender, fake_of(vault)
    site.use_script(
        "agent-daemon credential npm_token --reason 'packages' --wait 20 || {",
        "  agent-daemon blocked credential 'I need the packages'; exit 0; }",
        f'cat "$CLOUD_CODE_CREDENTIALS/NPM_TOKEN" | sha256sum > {site.folder}/sum',
        "sed -i 's/a - b/a + b/' calc.py",
    )
    site.write_config()
    fake.seal()
    site.start()
    site.write_task("fix-add")
    task = site.wait_state("demo.fix-add", "blocked")
    (wait,) = task.waits_for
    assert (wait.reason, wait.ref) == ("credential", "cred-001") and task.failures == 0
    assert "cannot be had now: E_VAULT_SEALED: Vault at" in wait.message and "is sealed" in wait.message
    shown = site.cli("task", "explain", "fix-add").stdout
    assert "is sealed" in shown
    fake.unseal()
    task = site.wait_state("demo.fix-add", "review")
    assert [attempt.verdict for attempt in task.attempts] == ["blocked", "completed"]
    sums = subprocess.run(["sha256sum"], input=NPM, capture_output=True, text=True).stdout.split()[0]
    assert sums in (site.folder / "sum").read_text()


def test_status_says_that_nothing_is_renewed_while_it_is_sealed(lender: Site, vault: VaultSite) -> None:
    site, fake = lender, fake_of(vault)
    vault.lends(default_ttl="6s", max_ttl="1h")
    go = hold(site)
    site.start()
    site.write_task("fix-add")
    wait_for((site.folder / "has").exists, what="the agent has it")

    def told() -> list[dict[str, str]]:
        problems = json.loads(site.cli("status", "--json").stdout)["problems"]
        return [one for one in problems if one["code"] == "E_VAULT_SEALED" and "renewed" in one["message"]]

    assert not told()
    fake.seal()
    (problem,) = wait_for(told, what="status tells it")
    assert problem["message"].startswith("what agents were given cannot be ")
    assert "vault operator unseal" in problem["mend"]
    fake.unseal()
    wait_for(lambda: not told(), what="it is over")
    go.touch()
    site.wait_state("demo.fix-add", "review")


def test_another_value_reaches_an_agent_that_works_and_the_same_is_not_given_again(
    lender: Site, vault: VaultSite
) -> None:
    """What was given stays as it is over a restart; what was changed while no supervisor ran is noticed."""
    site, fake = lender, fake_of(vault)
    site.use_script(
        "agent-daemon credential npm_token --reason 'packages' --wait 60",
        f"touch {site.folder}/has",
        'until grep -q rotated "$CLOUD_CODE_CREDENTIALS/NPM_TOKEN"; do sleep 0.1; done',
        "sed -i 's/a - b/a + b/' calc.py",
    )
    site.write_config()
    site.start()
    site.write_task("fix-add")
    wait_for((site.folder / "has").exists, what="the agent has it")
    site.stop_supervisors(signal.SIGKILL)
    read = f"secret/data/{vault.prefix}/npm/read", 200
    before = [entry[1:] for entry in fake.journal].count(read)
    site.start()
    wait_for(lambda: [entry[1:] for entry in fake.journal].count(read) > before, what="it is compared")
    site.cli("credential", "revoke", "fix-add", "cred-009", check=False)  # (the loop has gone on since)
    site.stop_supervisors(signal.SIGKILL)
    vault.put("npm/read", value="npm-secret-rotated-value")
    site.start()
    site.wait_state("demo.fix-add", "review")
    assert grants(site)["cred-001"]["status"] == "granted"
    assert len(site.events("credential.refreshed")) == 1 and len(site.events("credential.given")) == 2


def test_what_was_lent_is_held_when_it_is_committed(lender: Site, vault: VaultSite) -> None:
    site = lender
    site.use_script(
        "if grep -q E_SECRET_IN_OUTPUT .cloud-code/tasking.yaml; then rm -f leak.txt; echo y > y.txt; exit 0; fi",
        ASK,
        'xxd -p "$CLOUD_CODE_CREDENTIALS/DATABASE_URL" | tr -d "\\n" > leak.txt',
    )
    site.write_config()
    site.start()
    site.write_task("leak")
    task = site.wait_state("demo.leak", "review")
    assert [attempt.verdict for attempt in task.attempts] == ["claim refused", "completed"]
    wait_for(lambda: nothing_lent(vault, site), what="nothing is lent any more")


def test_nothing_is_pushed_while_what_must_not_be_in_it_is_not_known(lender: Site, vault: VaultSite) -> None:
    site, fake = lender, fake_of(vault)
    site.use_script(f"echo {NPM} > key.txt")
    site.write_config()
    fake.seal()
    site.start()
    site.write_task("leak")
    wait_for(lambda: site.record("demo.leak") and site.record("demo.leak").attempts, what="it has begun")

    def asked() -> str | None:
        task = site.record("demo.leak")
        return task.attempts[0].inspecting.error if task is not None else None

    assert "E_VAULT_SEALED" in (wait_for(asked, what="it was inspected in vain") or "")
    for shown in (site.cli("status").stdout, site.cli("task", "explain", "leak").stdout):
        flat = " ".join(shown.split())
        assert "blocked: credential: its work is done" in flat and "vault operator unseal" in flat, shown
    site.stop_supervisors(signal.SIGKILL)
    site.start()
    fake.unseal()
    wait_for(lambda: site.events("claim.refused"), what="the value is found once it is known")
    assert [event["attempt"] for event in site.events("claim.refused")].count(1) == 1
