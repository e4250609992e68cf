"""Tokens that forges make for agents: what is asked for, that it is written down first, and that none is left."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from agent_daemon.failpoints import MINT_FAILPOINTS, VARIABLE
from agent_daemon.protocol.paths import Root
from supervisor.core.settings import ProjectSettings
from supervisor.errors import CloudCodeError
from supervisor.forges.gitlab.client import GitLabClient
from supervisor.forges.gitlab.read_token import ReadTokens
from supervisor.forges.opening import Forges
from supervisor.forges.tokens import TokenFrom
from supervisor.secrets.identity import IdentityFile
from supervisor.secrets.minting import Minting
from tests.fakes.forge.github import GitHub
from tests.fakes.forge.gitlab import DEVELOPER, MAINTAINER, GitLab
from tests.fakes.forge.running import running_github, running_gitlab
from tests.site import make_remote

REPO, PROJECT = "acme/app", "grp/app"


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[GitHub]:
    with running_github({REPO: make_remote(tmp_path / "hub.git", {"a.py": "1"})}) as hub:
        hub.add_app("7", "acme", [REPO])
        yield hub


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[GitLab]:
    with running_gitlab({PROJECT: make_remote(tmp_path / "lab.git", {"a.py": "1"})}) as lab:
        lab.add_person("bot", "lab-token", {PROJECT: MAINTAINER})
        yield lab


@pytest.fixture(scope="module")
def key() -> str:
    return private_key()


def private_key() -> str:
    made = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    return made.private_bytes(*pem).decode()


def minting(folder: Path, forge: str, origin: str, secret: str) -> Minting:
    app = {"app": {"id": "7", "private_key": {"file": "key"}}}
    auth = app if forge == "github" else {"token": {"file": "key"}}
    repository = REPO if forge == "github" else PROJECT
    told = {"forge": forge, "repository": repository, "url": origin, "auth": auth}
    settings = ProjectSettings.model_validate(told)
    forges = Forges(Root(folder), lambda _: secret)
    return Minting(
        lambda _, api: forges.minter(settings, api=api), folder / "minted", IdentityFile(folder / "identity")
    )


def take_back(book: Minting) -> None:
    for page in book.pages():
        book.revoke(page.name)


def test_github_makes_one_for_the_repository_that_reads(hub: GitHub, key: str, tmp_path: Path) -> None:
    book = minting(tmp_path, "github", hub.origin, key)
    book.minter("hub", False).probe()
    token = book.mint("hub.1", "cred-001", 1, api=False)
    (asked,) = hub.apps["7"]["minted"]
    assert (asked["repositories"], asked["permissions"]) == (["app"], {"contents": "read", "metadata": "read"})
    assert token in hub.tokens and token in book.values().values()
    assert book.mint("hub.1", "cred-001", 1, api=False) == token
    other = book.mint("hub.1", "cred-001", 2, api=False)
    assert other != token and token not in repr(book) + repr(book.pages())
    assert not [file for file in tmp_path.rglob("*.json") if token in file.read_text()]
    again = minting(tmp_path, "github", hub.origin, key)
    assert {page.attempt for page in again.pages() if page.is_lent} == {1, 2}
    take_back(again)
    assert not {token, other} & hub.tokens.keys() and not list(again.folder.iterdir())
    assert token in again.values().values()
    take_back(book)  # (they have ended already)
    assert not book.pages()


def test_gitlab_makes_a_reporters_that_ends_by_itself(lab: GitLab, tmp_path: Path) -> None:
    book = minting(tmp_path, "gitlab", lab.origin, "lab-token")
    book.minter("lab", False).probe()
    token = book.mint("lab.1", "cred-001", 1, api=False)
    book.mint("lab.1", "cred-002", 1, api=True)
    plain, api = lab.minted
    assert (plain["scopes"], api["scopes"]) == (["read_repository"], ["read_repository", "read_api"])
    assert plain["access_level"] == api["access_level"] == 20
    ends = datetime.fromisoformat(plain["expires_at"]).replace(tzinfo=UTC)
    assert timedelta(minutes=59) < ends - datetime.now(UTC) <= timedelta(hours=25)
    assert token in lab.tokens
    take_back(book)
    assert not lab.projects[PROJECT]["tokens"] and not list(book.folder.iterdir())


def test_a_clock_that_is_ahead_keeps_none_from_being_revoked(
    lab: GitLab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    book = minting(tmp_path, "gitlab", lab.origin, "lab-token")
    book.mint("lab.1", "cred-001", 1, api=False)

    class Ahead(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
            return datetime.now(tz) + timedelta(days=9)

    monkeypatch.setattr("supervisor.secrets.minting.datetime", Ahead)
    take_back(book)
    assert not lab.projects[PROJECT]["tokens"] and not book.pages()


def test_at_midnight_it_lasts_an_hour_all_the_same(lab: GitLab) -> None:
    client = GitLabClient(lab.origin, TokenFrom(lambda: "lab-token"))
    client.now = lambda: datetime(2026, 3, 31, 23, 30, tzinfo=UTC)
    made = ReadTokens(client, PROJECT, api=False).mint("cloud-code-x")
    assert made.ends == datetime(2026, 4, 2, tzinfo=UTC) and lab.minted[0]["expires_at"] == "2026-04-02"


def test_another_takes_its_place_where_it_is_wanted_for_longer(lab: GitLab, tmp_path: Path) -> None:
    book = minting(tmp_path, "gitlab", lab.origin, "lab-token")
    token = book.mint("lab.1", "cred-001", 1, api=False)
    (page,) = book.pages()
    assert book.renew(page.name, 600) and page.renew_at == float("inf")
    assert not book.renew(page.name, 4000) and page.is_worn
    assert book.mint("lab.1", "cred-001", 1, api=False) != token
    again = minting(tmp_path, "gitlab", lab.origin, "lab-token")
    assert sorted(one.is_worn for one in again.pages()) == [False, True]
    take_back(again)
    assert not lab.projects[PROJECT]["tokens"]


def test_who_may_make_none_is_told_why(lab: GitLab, tmp_path: Path) -> None:
    lab.people["bot"]["levels"][PROJECT] = DEVELOPER
    book = minting(tmp_path, "gitlab", lab.origin, "lab-token")
    with pytest.raises(CloudCodeError) as refused:
        book.mint("lab.1", "cred-001", 1, api=False)
    assert refused.value.code == "E_MINT_RIGHTS" and "Maintainer" in refused.value.mend
    with pytest.raises(CloudCodeError):
        book.minter("lab", False).probe()
    assert not book.pages() and not list(book.folder.iterdir()), "nothing was made that is to be looked for"
    assert len(lab.calls("GET", "access_tokens$")) == 1, "by the look whether one could be made"


def test_one_that_may_too_much_and_cannot_be_revoked_at_once_is_found_by_its_name(
    lab: GitLab, tmp_path: Path
) -> None:
    wrong = {"id": 999, "token": "glpat-of-more", "scopes": ["api"]}
    lab.fail(method="POST", path=r"/access_tokens$", status=201, body=wrong, after_work=True)
    lab.fail(method="DELETE", path=r"/access_tokens/999$", status=403)
    book = minting(tmp_path, "gitlab", lab.origin, "lab-token")
    with pytest.raises(CloudCodeError) as refused:
        book.mint("lab.1", "cred-001", 1, api=False)
    assert refused.value.code == "E_FORGE_ANSWER" and len(book.pages()) == 1
    take_back(book)
    assert not lab.projects[PROJECT]["tokens"] and not book.pages()


def test_one_that_cannot_be_shown_is_not_forgotten(hub: GitHub, key: str, tmp_path: Path) -> None:
    """GitHub revokes only what it is shown: a start without the identity is no reason to let it live."""
    token = minting(tmp_path, "github", hub.origin, key).mint("hub.1", "cred-001", 1, api=False)
    away = (tmp_path / "identity").rename(tmp_path / "away")
    book = minting(tmp_path, "github", hub.origin, key)
    (page,) = book.pages()
    assert not page.is_lent
    with pytest.raises(CloudCodeError) as failed:
        take_back(book)
    assert failed.value.code == "E_SECRETS_IDENTITY" and len(book.pages()) == 1
    away.rename(tmp_path / "identity")
    take_back(book)
    assert token not in hub.tokens and token in book.values().values() and not list(book.folder.iterdir())


@pytest.mark.parametrize("place", MINT_FAILPOINTS)
def test_killed_anywhere_nothing_is_left(lab: GitLab, tmp_path: Path, place: str) -> None:
    script = (
        "import sys; from pathlib import Path; from tests.integration.test_minting import minting, take_back\n"
        "book = minting(Path(sys.argv[1]), 'gitlab', sys.argv[2], 'lab-token')\n"
        "book.mint('lab.1', 'cred-001', 1, api=False); take_back(book)"
    )
    command = [sys.executable, "-c", script, str(tmp_path), lab.origin]
    killed = subprocess.run(command, env=os.environ | {VARIABLE: place}, timeout=60)
    assert killed.returncode == -signal.SIGKILL
    book = minting(tmp_path, "gitlab", lab.origin, "lab-token")
    assert len(book.pages()) == 1
    take_back(book)
    assert not lab.projects[PROJECT]["tokens"] and not list(book.folder.iterdir())
