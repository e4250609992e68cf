"""The root's own secrets: `cloud-code secret` as a program, the encrypted file, and who reads it."""

import json
import os
import pty
import subprocess
import sys
import threading
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pyrage
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent_daemon.credentials import is_in_memory
from agent_daemon.protocol.paths import Root
from supervisor.core.secret_settings import SecretSource, SecretsSettings
from supervisor.core.settings import Config
from supervisor.errors import CloudCodeError
from supervisor.events import EventLog
from supervisor.secrets.age_file import AgeFile, Secret
from supervisor.secrets.identity import CREDENTIAL, IdentityFile
from supervisor.secrets.live import LiveSecrets
from supervisor.secrets.sources import SecretReader, open_age_file
from tests import preloaded
from tests.site import PATIENCE_SECONDS, Site

VALUE = "hunter2-of-the-forge"


def give(site: Site, name: str, value: str = VALUE) -> subprocess.CompletedProcess[str]:
    """`cloud-code secret set NAME` with the value on standard input."""
    return run(site, "secret", "set", name, stdin=value)


def run(site: Site, *arguments: str, stdin: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    words = ["--root", str(site.root.path), *arguments]
    return preloaded.run(words, site._environment() | environment, Path.cwd(), PATIENCE_SECONDS, stdin=stdin)


def listed(site: Site) -> dict[str, dict[str, object]]:
    return {row["name"]: row for row in json.loads(site.cli("secret", "list", "--json").stdout)}


class TestCommands:
    @pytest.fixture(autouse=True)
    def _configured(self, site: Site) -> None:
        site.write_config()

    def test_a_secret_is_kept_listed_masked_and_given_back(self, site: Site) -> None:
        done = give(site, "forges/github", VALUE + "\n")
        assert done.returncode == 0 and "back that up" in done.stderr
        assert run(site, "secret", "get", "forges/github").stdout == VALUE
        table = site.cli("secret", "list").stdout
        assert "forges/github" in table and "••••" in table
        assert VALUE not in table + json.dumps(listed(site)) + done.stdout + done.stderr
        assert listed(site)["forges/github"]["last_used_at"] is None

    def test_the_value_is_nowhere_below_the_root_and_neither_is_what_opens_it(self, site: Site) -> None:
        give(site, "a")
        found = [path for path in site.root.path.rglob("*") if path.is_file()]
        assert site.root.path / "secrets.age" in found
        for path in found:
            data = path.read_bytes()
            assert VALUE.encode() not in data and b"AGE-SECRET-KEY" not in data, path
        assert (site.root.path / "secrets.age").stat().st_mode & 0o777 == 0o600
        home = Path(site._environment()["HOME"])
        assert (home / ".config/cloud-code/identity").stat().st_mode & 0o777 == 0o600

    def test_one_that_is_too_short_to_be_searched_for_is_kept_and_told(self, site: Site) -> None:
        assert "is not searched for it" in give(site, "db/pin", "12345678901").stderr
        assert "is not searched for it" not in give(site, "db/app", "hunter2-x").stderr
        assert listed(site)["db/pin"]["is_set"] is True

    def test_a_text_of_several_lines_stays_as_it_is(self, site: Site) -> None:
        key = "-----BEGIN KEY-----\nabc\n-----END KEY-----\n"
        give(site, "app", key)
        assert run(site, "secret", "get", "app").stdout == key

    def test_get_shows_nothing_on_a_terminal_unless_told_to(self, site: Site) -> None:
        give(site, "a")
        assert "E_SECRET_SHOWN" in on_terminal(site, "secret", "get", "a")
        assert VALUE in on_terminal(site, "secret", "get", "a", "--reveal")

    def test_typed_values_are_not_shown(self, site: Site) -> None:
        shown = on_terminal(site, "secret", "set", "a", typed=f"{VALUE}\n{VALUE}\n")
        assert "kept" in shown and VALUE not in shown
        assert run(site, "secret", "get", "a").stdout == VALUE

    @pytest.mark.parametrize("name", ["A", "../x", "a//b", "a b", "", "x" * 101, "/a"])
    def test_a_bad_name_is_refused(self, site: Site, name: str) -> None:
        done = give(site, name)
        assert done.returncode == 1 and "E_SECRET_NAME" in done.stderr and VALUE not in done.stderr

    @pytest.mark.parametrize("value", ["", "\n", "  ", "a\0b", "x" * 70_000])
    def test_a_bad_value_is_refused(self, site: Site, value: str) -> None:
        done = give(site, "a", value)
        assert done.returncode == 1 and "E_SECRET_VALUE" in done.stderr
        assert not (site.root.path / "secrets.age").exists()

    def test_what_config_names_and_is_missing_is_listed_so(self, site: Site) -> None:
        hook, token = {"secret": {"secret": "hooks/hub"}}, {"token": {"env": "SOME_TOKEN"}}
        site.config["projects"]["hub"] = {"forge": "github", "repository": "a/b", "auth": token, "webhook": hook}
        site.write_config()
        site.config["credentials"] = {"npm_token": {"access": {"read": {"secret": "npm/read"}}}}
        site.write_config()
        assert listed(site)["npm/read"]["named_by"] == ["credentials.npm_token.access.read"]
        row = listed(site)["hooks/hub"]
        assert row["is_set"] is False and row["named_by"] == ["projects.hub.webhook.secret"]
        give(site, "hooks/hub")
        done = run(site, "secret", "rm", "hooks/hub")
        assert "projects.hub.webhook.secret still names" in done.stderr

    def test_edit_opens_the_value_outside_of_any_disk(self, site: Site, tmp_path: Path) -> None:
        give(site, "a", "old")
        editor = tmp_path / "editor"
        editor.write_text('#!/bin/sh\necho "$1" > "$SEEN"\nprintf new > "$1"\necho backup > "$1~"\n')
        editor.chmod(0o755)
        seen = tmp_path / "seen"
        told = {"EDITOR": str(editor), "SEEN": str(seen), "XDG_RUNTIME_DIR": "/var/tmp"}
        assert run(site, "secret", "edit", "a", **told).returncode == 0
        assert run(site, "secret", "get", "a").stdout == "new"
        where = Path(seen.read_text().strip())
        mounts = Path("/proc/self/mounts").read_text()
        assert is_in_memory(where, mounts) and not where.parent.exists()

    def test_rotating_the_identity_keeps_the_secrets_and_forgets_the_old_one(self, site: Site) -> None:
        give(site, "a")
        place = Path(site._environment()["HOME"]) / ".config/cloud-code/identity"
        old = place.read_text()
        assert run(site, "secret", "rotate").returncode == 0
        assert run(site, "secret", "get", "a").stdout == VALUE
        place.write_text(old)
        done = run(site, "secret", "get", "a")
        assert done.returncode == 1 and "E_SECRETS_UNREADABLE" in done.stderr

    def test_one_that_is_not_there_names_those_that_are(self, site: Site) -> None:
        give(site, "forges/github")
        for verb in ("get", "rm", "edit", "rotate"):
            done = run(site, "secret", verb, "forges/githb", stdin="x")
            assert done.returncode == 1 and "forges/github" in done.stderr, verb


class TestPrinted:
    """The words of agents, which may hold what they were given."""

    def said(self, site: Site, *arguments: str) -> str:
        done = run(site, *arguments)
        return done.stdout + done.stderr

    def test_no_command_prints_a_secret_of_the_root(self, site: Site) -> None:
        site.config["clis"]["scripted"]["environment"] = {"MAPS_API_KEY": "value-of-the-key"}
        site.write_config()
        give(site, "forges/github")
        site.root.state.mkdir(exist_ok=True)
        with closing(EventLog(site.root.events)) as events:
            details = {"message": f"it is {VALUE}, {VALUE.encode().hex()} and value-of-the-key"}
            events.append("workstation.refused", at=datetime.now(UTC), details=details)
        for arguments in (("events",), ("events", "--json")):
            said = self.said(site, *arguments)
            assert "it is [hidden], [hidden] and [hidden]" in said and VALUE not in said
        assert run(site, "secret", "get", "forges/github").stdout == VALUE
        said = self.said(site, "credential", "show", VALUE, "cred-001")  # (an error names what was asked for)
        assert "[hidden]" in said and VALUE not in said
        site.root.config.write_text("projects: [")
        assert "it is" in self.said(site, "events")


def on_terminal(site: Site, *arguments: str, typed: str = "") -> str:
    """What a program that runs on a terminal shows there."""
    parent, child = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "supervisor", "--root", str(site.root.path), *arguments],
        stdin=child,
        stdout=child,
        stderr=child,
        env=site._environment(),
        start_new_session=True,
    )
    os.close(child)
    shown, asked = bytearray(), 0
    try:
        while True:
            if typed and b": " in shown[asked:]:  # once it is asked for: what comes before is lost
                asked = len(shown)
                line, _, typed = typed.partition("\n")
                os.write(parent, line.encode() + b"\n")
            shown += os.read(parent, 4096)
    except OSError:  # the other end is closed
        pass
    finally:
        os.close(parent)
        process.wait(timeout=60)
    return shown.decode()


@pytest.fixture
def kept(tmp_path: Path) -> AgeFile:
    return AgeFile(tmp_path / "secrets.age", IdentityFile(tmp_path / "identity"))


def put(kept: AgeFile, name: str, value: str) -> None:
    def update(secrets: dict[str, Secret]) -> None:
        at = "2026-01-01T00:00:00Z"
        facts = {"created_at": at, "changed_at": at, "created_by": "x", "changed_by": "x"}
        secrets[name] = Secret.model_validate({"value": value, **facts})

    kept.change(update)


class TestFile:
    @settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
    @given(value=st.text(min_size=1, max_size=300))
    def test_whatever_is_put_in_comes_out_and_never_shows(self, kept: AgeFile, value: str) -> None:
        value = value.encode(errors="replace").decode()
        put(kept, "a", value)
        secret = AgeFile(kept.path, kept.identity).read()["a"]
        assert secret.value.get_secret_value() == value
        assert len(value) < 8 or value not in repr(kept) + repr(secret) + str(secret.model_dump())

    def test_several_at_once_lose_nothing(self, kept: AgeFile) -> None:
        others = [AgeFile(kept.path, kept.identity) for _ in range(8)]
        threads = [threading.Thread(target=put, args=(one, f"n{i}", "v")) for i, one in enumerate(others)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(kept.read()) == [f"n{number}" for number in range(8)]

    def test_what_cannot_be_opened_is_left_as_it_is(self, kept: AgeFile) -> None:
        put(kept, "a", VALUE)
        damaged = kept.path.read_bytes()[:-1]
        kept.path.write_bytes(damaged)
        with pytest.raises(CloudCodeError, match="E_SECRETS_UNREADABLE"):
            put(kept, "b", VALUE)
        assert kept.path.read_bytes() == damaged

    def test_an_identity_that_others_may_read_is_refused(self, kept: AgeFile) -> None:
        put(kept, "a", VALUE)
        kept.identity.path.chmod(0o640)
        with pytest.raises(CloudCodeError, match=r"E_SECRETS_IDENTITY.*chmod 600"):
            AgeFile(kept.path, kept.identity).read()

    def test_killed_in_the_middle_of_a_rotation_both_identities_open_it(self, kept: AgeFile) -> None:
        put(kept, "a", VALUE)
        kept.identity.write([*kept.identity.read(), pyrage.x25519.Identity.generate()])
        assert AgeFile(kept.path, kept.identity).read()["a"].value.get_secret_value() == VALUE
        kept.rotate_identity()
        assert len(kept.identity.read()) == 1
        assert AgeFile(kept.path, kept.identity).read()["a"].value.get_secret_value() == VALUE


class TestIdentity:
    def test_that_of_systemd_comes_first_and_is_never_written(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / CREDENTIAL).write_text(f"# made by age-keygen\n{pyrage.x25519.Identity.generate()}\n")
        monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
        identity = IdentityFile.find(tmp_path / "other")
        assert identity.given and len(identity.read()) == 1
        kept = AgeFile(tmp_path / "secrets.age", identity)
        put(kept, "a", VALUE)
        with pytest.raises(CloudCodeError, match="given by systemd"):
            kept.rotate_identity()
        assert "a" in kept.read() and not (tmp_path / "other").exists()

    @pytest.mark.parametrize("text", ["", "# only words\n", "AGE-SECRET-KEY-1NONE\n"])
    def test_a_file_without_one_is_told(self, tmp_path: Path, text: str) -> None:
        identity = IdentityFile(tmp_path / "identity")
        identity.path.write_text(text)
        identity.path.chmod(0o600)
        with pytest.raises(CloudCodeError, match="holds no age identity"):
            identity.made()
        assert identity.path.read_text() == text


class TestReader:
    def test_each_place_is_read_anew_and_a_lack_says_what_to_do(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        root = Root(tmp_path)
        root.state.mkdir()
        reader = SecretReader.of(root, SecretsSettings(identity="identity"))
        with pytest.raises(CloudCodeError, match=r"E_NO_SECRET.*cloud-code secret set a"):
            reader.read(SecretSource(secret="a"))
        for value in ("first", "second\n"):
            put(open_age_file(root, SecretsSettings(identity="identity")), "a", value)
            assert reader.read(SecretSource(secret="a")) == value.strip()
        assert json.loads(root.secret_uses.read_text()).keys() == {"a"}
        monkeypatch.setenv("SOME_TOKEN", "third")
        assert reader.read(SecretSource(env="SOME_TOKEN")) == "third"
        with pytest.raises(CloudCodeError, match=r"E_NO_SECRET.*cannot be read"):
            reader.read(SecretSource(file="nothing"))
        (tmp_path / "open").write_text("x")
        (tmp_path / "open").chmod(0o644)
        with pytest.raises(CloudCodeError, match="every user"):
            reader.read(SecretSource(file="open"))


class TestLive:
    def live(self, folder: Path, clis: dict[str, object]) -> LiveSecrets:
        """What is known of a root with these coding CLIs."""
        described = {
            "version": 1,
            "projects": {"demo": {"repository": "/srv/demo.git"}},
            "workstations": {"backend": {"driver": "local", "clis": list(clis)}},
            "clis": clis,
        }
        root = Root(folder)
        root.state.mkdir()
        return LiveSecrets(Config.model_validate(described), SecretReader.of(root, SecretsSettings(identity="id")))

    def test_what_the_configuration_writes_out_or_passes_on_is_known(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SEARCH_BEARER", "value-of-the-bearer")
        servers = {
            "find": {"url": "https://find.example.org", "bearer": "SEARCH_BEARER"},
            "maps": {"command": ["maps"], "environment": {"MAPS_TOKEN": "value-of-the-server"}},
        }
        environment = {
            "MAPS_API_KEY": "value-of-the-key",
            "DATABASE_URL": "postgres://app:hunter2-x@db/app",
            "TOKEN_FILE": "/run/token",
            "CI": "true-and-harmless",
        }
        clis: dict[str, object] = {
            "one": {
                "adapter": "command",
                "argv": ["true"],
                "environment": environment,
                "mcp": {"servers": servers},
            }
        }
        assert set(self.live(tmp_path, clis).values().values()) == {
            "value-of-the-key",
            "postgres://app:hunter2-x@db/app",
            "value-of-the-server",
            "value-of-the-bearer",
        }

    def test_every_value_that_was_replaced_is_known_still(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        clis: dict[str, object] = {
            "one": {"adapter": "command", "argv": ["true"], "pass_environment": ["SOME_KEY"]}
        }
        live = self.live(tmp_path, clis)
        for number in range(4):
            monkeypatch.setenv("SOME_KEY", f"value-number-{number}")
            live._read_at = 0.0  # (it is looked at once a second)
            found = live.values()
        assert sorted(found.values()) == [f"value-number-{number}" for number in range(4)]
