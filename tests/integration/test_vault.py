"""Secrets in a Vault: signing in, reading, and what is told where it cannot be asked."""

import json
import os
import socketserver
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from agent_daemon.protocol.paths import Root
from supervisor.core.secret_settings import SecretSource, SecretsSettings
from supervisor.core.settings import Config
from supervisor.doctor import Check
from supervisor.errors import CloudCodeError
from supervisor.secrets import vault_session
from supervisor.secrets.examination import check_secrets
from supervisor.secrets.identity import IdentityFile
from supervisor.secrets.leases import Leases
from supervisor.secrets.sources import SecretReader, open_leases
from supervisor.secrets.store import EnvStore
from supervisor.secrets.vault import VaultStore
from tests.fakes.vault import FakeVault
from tests.openbao import OpenBao, running_openbao
from tests.site import Site, wait_for
from tests.vault_site import VaultSite, vault_site

VALUE = "hunter2-of-the-vault"


@pytest.fixture(scope="module")
def openbao(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenBao]:
    with running_openbao(tmp_path_factory.mktemp("openbao")) as made:
        yield made


@pytest.fixture(params=["stand-in", "openbao"])
def vault(request: pytest.FixtureRequest) -> Iterator[VaultSite]:
    """The stand-in, or the server that the environment names in its place; and a real one that is started here."""
    real = request.param == "openbao"
    with request.getfixturevalue("openbao").site() if real else vault_site() as made:
        yield made


@pytest.fixture
def stand_in() -> Iterator[VaultSite]:
    with vault_site(fake=True) as made:
        yield made


def cannot_lend(vault: VaultSite) -> bool:
    """Whether it is somebody's server, and nobody said at which path it lends."""
    return vault.fake is None and not vault.unseal_key and "CLOUD_CODE_TEST_VAULT_LEASE" not in os.environ


def reader(folder: Path, settings: dict[str, Any]) -> SecretReader:
    root = Root(folder)
    root.state.mkdir(exist_ok=True)
    return SecretReader.of(root, SecretsSettings.model_validate(settings))


def store_of(made: SecretReader) -> VaultStore:
    assert isinstance(made.store, VaultStore)
    return made.store


def forget_the_pause(made: SecretReader) -> None:
    store_of(made).session._rest = None


def read(made: SecretReader, name: str = "forges/github") -> str:
    return made.read(SecretSource(secret=name))


def fails(made: SecretReader, code: str, name: str = "forges/github") -> CloudCodeError:
    with pytest.raises(CloudCodeError, match=code) as caught:
        read(made, name)
    assert VALUE not in str(caught.value)
    return caught.value


class TestReading:
    def test_as_an_approle_and_what_is_there(self, vault: VaultSite, tmp_path: Path) -> None:
        vault.put("forges/github", value=VALUE)
        vault.put("forges/app", pem="one field")
        vault.put("several", user="a", password="b")
        made = reader(tmp_path, vault.settings(tmp_path))
        assert read(made) == VALUE and read(made, "forges/app") == "one field"
        assert read(made, "several") == '{"password": "b", "user": "a"}'
        mend = fails(made, "E_NO_SECRET", "forges/none").mend
        assert f"vault kv put -mount=secret {vault.prefix}/forges/none" in mend
        assert VALUE not in repr(made)

    @pytest.mark.parametrize("wrap", [False, True])
    def test_with_a_token_that_is_read_anew(self, vault: VaultSite, tmp_path: Path, wrap: bool) -> None:
        vault.put("forges/github", value=VALUE)
        place = tmp_path / "token"
        settings = vault.settings(tmp_path, approle=None, token={"file": str(place)}, wrap_reads=wrap)

        def put_token() -> None:
            place.write_text(
                vault.ask("POST", "auth/token/create", policies=[vault.prefix])["auth"]["client_token"]
            )
            place.chmod(0o600)

        put_token()
        made = reader(tmp_path, settings)
        assert read(made) == VALUE
        vault.ask("POST", "auth/token/revoke-accessor", accessor=store_of(made).session.signed_in().accessor)
        store_of(made)._read_at.clear()
        fails(made, "E_VAULT_DENIED")
        put_token()
        assert read(made) == VALUE

    def test_a_wrapped_secret_id_is_had_once_and_by_nobody_else(self, vault: VaultSite, tmp_path: Path) -> None:
        vault.put("forges/github", value=VALUE)
        settings = vault.settings(tmp_path, wrapped=True)
        made = reader(tmp_path, settings)
        assert read(made) == VALUE
        session = store_of(made).session  # (what it signs in with is searched for in what leaves, too)
        assert {session.signed_in().token, session._secret_id} == set(session.values().values())
        assert read(reader(tmp_path, settings)) == VALUE  # a supervisor that is started anew
        other = tmp_path / "other"
        other.mkdir()
        assert "somebody has unwrapped it" in str(fails(reader(other, settings), "E_VAULT_WRAPPED"))

    def test_one_that_somebody_has_seen_and_wrapped_anew_is_told(self, vault: VaultSite, tmp_path: Path) -> None:
        settings = vault.settings(tmp_path, wrapped=True)
        place = tmp_path / "secret-id"
        seen = vault.ask("POST", "sys/wrapping/unwrap", token=place.read_text())["data"]
        place.write_text(vault.ask("POST", "sys/wrapping/wrap", wrap="60s", **seen)["wrap_info"]["token"])
        assert "wrapped it anew" in str(fails(reader(tmp_path, settings), "E_VAULT_WRAPPED"))

    def test_what_was_signed_in_with_lies_nowhere_in_plain(self, vault: VaultSite, tmp_path: Path) -> None:
        vault.put("forges/github", value=VALUE)
        settings = vault.settings(tmp_path, wrapped=True)
        settings["identity"] = str(tmp_path / "outside" / "identity")
        (tmp_path / "outside").mkdir()
        made = reader(tmp_path, settings)
        read(made)
        session = store_of(made).session
        for path in tmp_path.rglob("*"):
            if path.is_file():
                for value in (VALUE, session.signed_in().token, session._secret_id):
                    assert value.encode() not in path.read_bytes(), path

    def test_another_value_counts_within_seconds(self, vault: VaultSite, tmp_path: Path) -> None:
        vault.put("forges/github", value=VALUE)
        made = reader(tmp_path, vault.settings(tmp_path))
        assert read(made) == VALUE
        vault.put("forges/github", value="another value")
        assert read(made) == VALUE
        store_of(made)._read_at.clear()  # (ten seconds later)
        assert read(made) == "another value"

    def test_somebody_else_who_answers_there_is_no_vault(self, tmp_path: Path) -> None:
        class Other(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_error(404)

            def log_message(self, *_: object) -> None:
                pass

        with socketserver.TCPServer(("127.0.0.1", 0), Other) as server:
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
            token = tmp_path / "token"
            token.write_text("s.any")
            token.chmod(0o600)
            vault = {"address": f"http://127.0.0.1:{server.server_address[1]}", "token": {"file": str(token)}}
            made = reader(tmp_path, {"backend": "vault", "vault": vault})
            assert "no answer of a Vault" in str(fails(made, "E_VAULT_REFUSED"))
            server.shutdown()

    def test_what_it_may_not_read_is_told_with_the_path(self, vault: VaultSite, tmp_path: Path) -> None:
        settings = vault.settings(tmp_path)
        settings["vault"]["prefix"] = "of-somebody-else"
        assert "read secret/data/of-somebody-else/a" in str(
            fails(reader(tmp_path, settings), "E_VAULT_DENIED", "a")
        )

    def test_a_namespace_and_a_certificate_of_ones_own(self, tmp_path: Path) -> None:
        certificate, key = tmp_path / "ca.pem", tmp_path / "key.pem"
        subprocess.run(
            f"openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout {key} "
            f"-out {certificate} -days 2 -subj /CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1".split(),
            check=True,
            capture_output=True,
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        with FakeVault(namespace="team", tls=context) as running:
            token = tmp_path / "token"
            token.write_text(running.root_token)
            token.chmod(0o600)
            vault = {"address": running.address, "token": {"file": str(token)}}
            settings = {"backend": "vault", "vault": vault}
            assert "not trusted" in str(fails(reader(tmp_path, settings), "E_VAULT_DOWN", "a"))
            vault |= {"ca_file": "ca.pem"}
            assert "no handler for route" in str(fails(reader(tmp_path, settings), "E_VAULT_REFUSED", "a"))
            vault |= {"namespace": "team"}
            fails(reader(tmp_path, settings), "E_NO_SECRET", "a")


class TestOutOfService:
    def test_sealed_is_told_and_over_once_it_is_unsealed(self, vault: VaultSite, tmp_path: Path) -> None:
        if vault.fake is None and not vault.unseal_key:
            pytest.skip("a server of somebody else's is not sealed")
        vault.put("forges/github", value=VALUE)
        made = reader(tmp_path, vault.settings(tmp_path))
        vault.seal()
        error = fails(made, "E_VAULT_SEALED")
        assert "vault operator unseal" in error.mend and getattr(error, "retryable", False)
        with pytest.raises(CloudCodeError, match="E_VAULT_SEALED"):
            made.store.learn(["forges/github"])
        vault.unseal()
        assert read(made) == VALUE

    def test_nobody_there_is_told_and_asked_again(self, stand_in: VaultSite, tmp_path: Path) -> None:
        settings = stand_in.settings(tmp_path)
        settings["vault"]["address"] = "http://127.0.0.1:1"
        assert "nobody answers there" in str(fails(reader(tmp_path, settings), "E_VAULT_DOWN"))

    def test_who_asks_waits_no_longer_than_the_limit_and_the_next_ones_not_at_all(
        self, stand_in: VaultSite, tmp_path: Path
    ) -> None:
        assert stand_in.fake is not None
        settings = stand_in.settings(tmp_path, timeout_seconds=0.3)
        made = reader(tmp_path, settings)
        stand_in.fake.fail(".", times=100, delay_seconds=60)
        (late,) = stand_in.fake.faults
        began = time.monotonic()
        fails(made, "E_VAULT_DOWN")
        asked = late.times
        for _ in range(20):
            fails(made, "E_VAULT_DOWN")
        assert time.monotonic() - began < 30
        assert late.times == asked, "the server was not even asked again"

    @pytest.mark.parametrize("status", [429, 500, 502])
    def test_its_own_failures_are_told(self, stand_in: VaultSite, tmp_path: Path, status: int) -> None:
        assert stand_in.fake is not None
        stand_in.put("forges/github", value=VALUE)
        made = reader(tmp_path, stand_in.settings(tmp_path))
        stand_in.fake.fail("secret/data", status=status)
        fails(made, "E_VAULT_DOWN")
        forget_the_pause(made)
        assert read(made) == VALUE

    def test_an_answer_that_is_none_and_a_redirect_lead_nowhere(
        self, stand_in: VaultSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert stand_in.fake is not None
        made = reader(tmp_path, stand_in.settings(tmp_path))
        stand_in.fake.fail("secret/data", status=307)
        fails(made, "E_VAULT_DOWN")


class TestSession:
    def test_renewed_at_two_thirds_and_signed_in_anew_at_its_end(
        self, stand_in: VaultSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fake = stand_in.fake
        assert fake is not None
        stand_in.approle(token_ttl="600s", token_max_ttl="1000s")
        ahead = 0.0
        monkeypatch.setattr(vault_session.time, "monotonic", lambda: time.time() + ahead)
        session = store_of(reader(tmp_path, stand_in.settings(tmp_path))).session
        first = session.signed_in()

        def pass_by(seconds: float) -> bool:
            nonlocal ahead
            fake.advance(seconds)
            ahead += seconds
            return session.renew()

        assert not pass_by(390) and fake.renewals == 0
        assert not pass_by(20) and fake.renewals == 1  # two thirds are over
        assert session.signed_in().token == first.token and session.signed_in().left_seconds > 580
        assert pass_by(400)  # 190 s are left of its longest life
        assert session.signed_in().token != first.token
        assert len(fake.signed_in("auth/approle")) == 2  # what was lent under the first one lasts until its end
        assert not pass_by(200) and len(fake.signed_in("auth/approle")) == 1

    def test_a_token_that_is_gone_is_noticed_by_whoever_asks(self, vault: VaultSite, tmp_path: Path) -> None:
        vault.put("forges/github", value=VALUE)
        made = reader(tmp_path, vault.settings(tmp_path))
        session = store_of(made).session
        first = session.signed_in()
        vault.ask("POST", "auth/token/revoke-accessor", accessor=first.accessor)
        assert read(made) == VALUE and session.signed_in().token != first.token

    def test_many_at_once_sign_in_once(self, stand_in: VaultSite, tmp_path: Path) -> None:
        fake = stand_in.fake
        assert fake is not None
        stand_in.put("forges/github", value=VALUE)
        made = reader(tmp_path, stand_in.settings(tmp_path))
        threads = [threading.Thread(target=read, args=(made,)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len([path for _, path, _ in fake.journal if path == "auth/approle/login"]) == 1


class TestLeases:
    @pytest.fixture
    def leases(self, stand_in: VaultSite, tmp_path: Path) -> Leases:
        return self.opened(stand_in, tmp_path)

    def opened(self, vault: VaultSite, folder: Path) -> Leases:
        root, settings = Root(folder), SecretsSettings.model_validate(vault.settings(folder))
        root.state.mkdir(exist_ok=True)
        made = open_leases(root, settings, SecretReader.of(root, settings).store)
        assert made is not None
        return made

    def test_lent_renewed_and_taken_back(self, vault: VaultSite, tmp_path: Path) -> None:
        if cannot_lend(vault):
            pytest.skip("CLOUD_CODE_TEST_VAULT_LEASE names no path")
        leases = self.opened(vault, tmp_path)
        value = leases.lend("demo.a", "cred-001", 1, vault.lease, "db://{username}:{password}@h/")
        assert value.startswith("db://") and value in leases.values().values()
        assert leases.lend("demo.a", "cred-001", 1, vault.lease, None) == value
        (page,) = leases.pages()
        assert page.is_lent and leases.renew(page.name, 3600)
        again = self.opened(vault, tmp_path)
        assert again.pages()[0].entry == page.entry and value in again.values().values()
        again.revoke(page.name)
        leases.revoke(page.name)  # by another one before it
        assert leases.pages() == [] and not list(tmp_path.rglob("leases/*.json"))
        with pytest.raises(AssertionError, match="accessor"):
            vault.ask("POST", "auth/token/lookup-accessor", accessor=page.entry.accessor)
        assert value in leases.values().values()  # what was lent is searched for afterwards, too

    def test_an_answer_that_was_lost_leaves_nothing(
        self, stand_in: VaultSite, leases: Leases, tmp_path: Path
    ) -> None:
        fake = stand_in.fake
        assert fake is not None
        for path in ("database/creds", "auth/token/create"):
            fake.fail(path, drop_after=True)
            with pytest.raises(CloudCodeError, match="E_VAULT_DOWN"):
                leases.lend("demo.a", "cred-001", 1, stand_in.lease, None)
            leases.session._rest = None
        assert len(fake.lent()) == 1
        for page in leases.pages():
            assert not page.is_lent
            leases.revoke(page.name)
        assert fake.lent() == []
        fake.advance(60)
        assert fake.signed_in("auth/token") == []

    def test_what_has_no_lease_and_a_wrong_template_are_told(self, vault: VaultSite, tmp_path: Path) -> None:
        if cannot_lend(vault):
            pytest.skip("CLOUD_CODE_TEST_VAULT_LEASE names no path")
        leases = self.opened(vault, tmp_path)
        vault.put("npm/read", value=VALUE)
        with pytest.raises(CloudCodeError, match=r"E_VAULT_REFUSED.*lends nothing at"):
            leases.lend("demo.a", "cred-001", 1, f"secret/data/{vault.prefix}/npm/read", None)
        with pytest.raises(CloudCodeError, match=r"E_VAULT_REFUSED.*there is nothing"):
            leases.lend("demo.a", "cred-001", 1, f"secret/data/{vault.prefix}/none", None)
        with pytest.raises(CloudCodeError, match=r"E_VAULT_REFUSED.*there are: password, username"):
            leases.lend("demo.a", "cred-001", 1, vault.lease, "{user}")
        with pytest.raises(CloudCodeError, match="E_VAULT_REFUSED"):
            leases.lend("demo.a", "cred-001", 1, vault.lease, "{username.__class__.x}")
        for page in leases.pages():
            leases.revoke(page.name)
        wait_for(lambda: vault.lent() == [], what="what was lent for nothing is taken back")

    def test_a_damaged_page_is_passed_over(self, stand_in: VaultSite, leases: Leases, tmp_path: Path) -> None:
        leases.lend("demo.a", "cred-001", 1, stand_in.lease, None)
        (leases.folder / "other.json").write_text("{")
        assert len(self.opened(stand_in, tmp_path).pages()) == 1

    def test_signed_in_anew_it_is_lent_anew(self, vault: VaultSite, tmp_path: Path) -> None:
        if cannot_lend(vault):
            pytest.skip("CLOUD_CODE_TEST_VAULT_LEASE names no path")
        leases = self.opened(vault, tmp_path)
        first = leases.lend("demo.a", "cred-001", 1, vault.lease, None)
        (page,) = leases.pages()
        vault.ask("POST", "auth/token/revoke-accessor", accessor=page.entry.session)
        wait_for(lambda: vault.lent() == [], what="what was lent under it goes")
        leases.session.call("x", lambda client: client.auth.token.lookup_self())
        assert not leases.renew(page.name, 3600)
        assert leases.lend("demo.a", "cred-001", 1, vault.lease, None) != first
        leases.revoke(page.name)
        assert len(vault.lent()) == 1
        leases.revoke(leases.pages()[0].name)
        wait_for(lambda: vault.lent() == [], what="nothing is lent any more")


class TestDoctor:
    def checks(self, vault: VaultSite, folder: Path, **more: Any) -> dict[str, Check]:
        data = {
            "projects": {"a": {"repository": "/srv/a.git"}},
            "secrets": vault.settings(folder, **more),
            "credentials": {
                "npm_token": {"access": {"read": {"secret": "npm/read"}}},
                "database_url": {"access": {"read_only": {"lease": vault.lease}}},
            },
        }
        root = Root(folder)
        root.state.mkdir(exist_ok=True)
        return {check.name: check for check in check_secrets(root, Config.model_validate(data))}

    def test_all_is_well(self, vault: VaultSite, tmp_path: Path) -> None:
        vault.put("npm/read", value=VALUE)
        found = self.checks(vault, tmp_path)
        assert {name: check.status for name, check in found.items()} == {
            "vault": "ok", "vault's policies": "ok", "secrets": "ok",
        }  # fmt: skip
        assert f"a token of {vault.prefix}, which ends in" in found["vault"].detail

    def test_what_lacks_and_what_is_too_much(self, vault: VaultSite, tmp_path: Path) -> None:
        wide = f"""
            path "secret/data/*" {{ capabilities = ["read"] }}
            path "{vault.lease}" {{ capabilities = ["read"] }}
            path "auth/token/*" {{ capabilities = ["update"] }}
        """
        vault.ask("PUT", f"sys/policy/{vault.prefix}", policy=wide)
        found = self.checks(vault, tmp_path)
        assert (
            found["secrets"].status == "warning" and "npm/read (credentials.npm_token" in found["secrets"].detail
        )
        policies = found["vault's policies"]
        assert policies.status == "warning"
        assert "not-of-" in policies.detail and "auth/token/create-orphan" in policies.detail

    def test_a_path_that_lacks_and_a_token_of_root(self, vault: VaultSite, tmp_path: Path) -> None:
        vault.ask("PUT", f"sys/policy/{vault.prefix}", policy='path "x" { capabilities = ["read"] }')
        lacks = self.checks(vault, tmp_path)["vault's policies"]
        assert lacks.status == "error" and 'path "secret/data/' in lacks.mend
        place = tmp_path / "token"
        place.write_text(vault.root_token)
        place.chmod(0o600)
        found = self.checks(vault, tmp_path, approle=None, token={"file": str(place)})
        assert "a token of root that does not end" in found["vault"].detail
        assert "sys/mounts" in found["vault's policies"].detail

    def test_leases_that_nobody_takes_back(self, tmp_path: Path) -> None:
        root = Root(tmp_path)
        root.leases.mkdir(parents=True)
        config = Config.model_validate({"projects": {"a": {"repository": "/srv/a.git"}}})
        assert list(check_secrets(root, config)) == []
        (root.leases / "a.json").touch()
        (check,) = check_secrets(root, config)
        assert (check.name, check.status) == ("leases", "warning")

    def test_sealed(self, stand_in: VaultSite, tmp_path: Path) -> None:
        assert stand_in.fake is not None
        place = tmp_path / "token"
        place.write_text("s.any")
        place.chmod(0o600)
        settings = stand_in.settings(tmp_path, approle=None, token={"file": str(place)})
        stand_in.fake.seal()
        data = {"projects": {"a": {"repository": "/srv/a.git"}}, "secrets": settings}
        (check,) = check_secrets(Root(tmp_path), Config.model_validate(data))
        assert check.status == "error" and "E_VAULT_SEALED" in check.detail

    def test_what_another_user_keeps_is_not_written_over(self, stand_in: VaultSite, tmp_path: Path) -> None:
        stand_in.put("forges/github", value=VALUE)
        settings = stand_in.settings(tmp_path, wrapped=True)
        assert read(reader(tmp_path, settings)) == VALUE
        before = (tmp_path / "state" / "vault-session.age").read_bytes()
        IdentityFile(tmp_path / "mine").made()
        fails(reader(tmp_path, settings | {"identity": str(tmp_path / "mine")}), "E_SECRETS_UNREADABLE")
        assert (tmp_path / "state" / "vault-session.age").read_bytes() == before


def test_variables_for_trying_out(tmp_path: Path) -> None:
    made = SecretReader(Root(tmp_path), EnvStore({"CLOUD_CODE_SECRET_FORGES_GIT_HUB": VALUE, "HOME": "/root"}))
    (tmp_path / "state").mkdir()
    assert read(made, "forges/git-hub") == VALUE and list(made.store.known().values()) == [VALUE]
    assert "CLOUD_CODE_SECRET_NPM_READ" in fails(made, "E_NO_SECRET", "npm/read").mend


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"backend": "vault"}, "needs `vault:`"),
        ({"backend": "vault", "vault": {"address": "https://v"}}, "one way to sign in"),
        ({"backend": "vault", "vault": {"address": "https://v", "token": {"secret": "t"}}}, "does not lie in it"),
        ({"backend": "vault", "vault": {"address": "http://v.example", "token": {"env": "T"}}}, "pattern"),
        ({"backend": "vault", "vault": {"address": "https://u:p@v", "token": {"env": "T"}}}, "pattern"),
    ],
)
def test_what_cannot_be_meant_is_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        SecretsSettings.model_validate(settings)


def test_the_command_line_tells_what_is_there_and_changes_nothing(
    stand_in: VaultSite, site: Site, tmp_path: Path
) -> None:
    stand_in.put("npm/read", value=VALUE)
    site.config["secrets"] = stand_in.settings(tmp_path)
    kinds = {"read": {"secret": "npm/read"}, "publish": {"secret": "npm/publish"}}
    site.config["credentials"] = {"npm_token": {"access": kinds}}
    site.write_config()
    listed = json.loads(site.cli("secret", "list", "--json").stdout)
    assert {row["name"]: row["is_set"] for row in listed} == {"npm/read": True, "npm/publish": False}
    assert VALUE not in site.cli("secret", "list").stdout
    done = site.cli("secret", "get", "npm/read", check=False)
    assert done.returncode == 1 and "E_SECRETS_ELSEWHERE" in done.stderr and "vault kv put" in done.stderr
