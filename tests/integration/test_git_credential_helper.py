"""Real git gets a granted token for its forge's host from the helper, and for no other."""

import faulthandler
import os
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from agent_daemon.credentials import VARIABLE, Given
from agent_daemon.git_credential import HELPER, answer, helper_variables
from agent_daemon.hiding import looks_secret
from agent_daemon.noting import lay_out
from agent_daemon.protocol.model import SealedCredential
from tests.fakes.forge.github import GitHub
from tests.fakes.forge.running import running_github
from tests.site import git, make_remote

TOKEN, REPO = "ghs_canary-of-the-helper", "acme/app"


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[GitHub]:
    with running_github({REPO: make_remote(tmp_path / "hub.git", {"a.py": "1"})}) as hub:
        hub.add_person("bot", TOKEN, {REPO: "read"})
        yield hub


def sealed(url: str | None, **changes: object) -> SealedCredential:
    told = {"task": "hub.1", "attempt": 1, "id": "cred-001", "env": "GITHUB_TOKEN", "value": TOKEN}
    more = {"git_url": url, "git_user": "x-access-token"}
    return SealedCredential.model_validate(told | more | changes)


def clone(
    url: str, into: Path, environment: Mapping[str, str], *options: str, recurse: bool = False
) -> subprocess.CompletedProcess[str]:
    path = f"{lay_out(into.parent / 'bin')}:{os.environ['PATH']}"
    bare = {"PATH": path, "HOME": str(into.parent), "GIT_TERMINAL_PROMPT": "0", "GIT_CONFIG_NOSYSTEM": "1"}
    modules = ["--recurse-submodules"] if recurse else []
    command = ["git", *options, "clone", "--quiet", *modules, f"{url}/{REPO}.git", str(into)]
    traced = {"GIT_TRACE": "1", "GIT_TRACE_CURL": "0"}
    # Each host that asks costs two starts of Python: where ten others want the processor it takes half a minute.
    try:
        return subprocess.run(
            command, env={**bare, **traced, **environment}, capture_output=True, text=True, timeout=140
        )
    except subprocess.TimeoutExpired as error:
        faulthandler.dump_traceback()
        raise AssertionError(f"git waits for an answer: {error.stderr!r}") from None


def test_git_is_told_the_token_for_its_host_and_for_no_other(hub: GitHub, tmp_path: Path) -> None:
    given = Given(tmp_path / "memory" / "hub.1" / "1")
    assert given.folder is not None
    given.take(sealed(hub.origin))
    environment = given.environment() | helper_variables(given.git_hosts(), {})
    assert environment["GIT_CONFIG_KEY_0"] == f"credential.{hub.origin}.helper"
    assert TOKEN not in "".join(value for name, value in environment.items() if name.startswith("GIT_"))
    done = clone(hub.origin, tmp_path / "clone", environment)
    assert done.returncode == 0 and (tmp_path / "clone" / "a.py").exists(), done.stderr
    assert TOKEN not in done.stderr and "git-credential get" in done.stderr
    assert not [f for f in (tmp_path / "clone").rglob("*") if f.is_file() and TOKEN.encode() in f.read_bytes()]
    assert clone(hub.origin, tmp_path / "none", {VARIABLE: str(given.folder)}).returncode != 0
    by_hand = clone(
        hub.origin, tmp_path / "by-hand", {VARIABLE: str(given.folder)}, "-c", f"credential.helper={HELPER}"
    )
    assert by_hand.returncode == 0, by_hand.stderr
    elsewhere = hub.origin.replace("127.0.0.1", "localhost")
    refused = clone(
        elsewhere, tmp_path / "other", {VARIABLE: str(given.folder)}, "-c", f"credential.helper={HELPER}"
    )
    assert refused.returncode != 0 and "could not read Username" in refused.stderr
    assert given.keep(set()) == ["cred-001"] and not list(given.folder.iterdir())
    assert clone(hub.origin, tmp_path / "late", environment).returncode != 0


def test_submodules_take_it_too(hub: GitHub, tmp_path: Path) -> None:
    library = make_remote(tmp_path / "lib.git", {"lib.py": "1"})
    hub.add_repository("acme/lib", library)
    work = tmp_path / "work"
    git("clone", "--quiet", str(hub.repositories[REPO]), str(work), cwd=tmp_path)
    commit = git("rev-parse", "main", cwd=library)
    (work / ".gitmodules").write_text(f'[submodule "lib"]\n\tpath = lib\n\turl = {hub.origin}/acme/lib.git\n')
    git("add", ".gitmodules", cwd=work)
    git("update-index", "--add", "--cacheinfo", f"160000,{commit},lib", cwd=work)
    git("commit", "--quiet", "--message=Library", cwd=work)
    git("push", "--quiet", "origin", "HEAD:main", cwd=work)
    given = Given(tmp_path / "memory" / "hub.1" / "1")
    given.take(sealed(hub.origin))
    told = {VARIABLE: str(given.folder)}
    by_hand = ("-c", f"credential.helper={HELPER}")
    for name, environment, options in (
        ("by-itself", told | helper_variables(given.git_hosts(), {}), ()),
        ("by-hand", told, by_hand),
    ):
        done = clone(hub.origin, tmp_path / name, environment, *options, recurse=True)
        assert done.returncode == 0 and (tmp_path / name / "lib" / "lib.py").exists(), done.stderr


def test_what_is_not_for_git_gives_git_nothing(tmp_path: Path) -> None:
    given = Given(tmp_path / "memory" / "hub.1" / "1")
    assert given.folder is not None
    given.take(sealed(None))
    assert given.git_hosts() == [] and helper_variables([], {}) == {}
    given.take(sealed("https://git.example.org", id="cred-002", env="KEY", value="two\nlines"))
    host = {"protocol": "https", "host": "git.example.org"}
    assert answer(given.folder, host) is None
    given.take(sealed("https://git.example.org", id="cred-003", env="B"))
    assert answer(given.folder, host) == ("x-access-token", TOKEN)
    for other in ({"protocol": "http"}, {"host": "git.example.org.evil.example"}, {"username": "ada"}):
        assert answer(given.folder, host | other) is None


def test_what_is_configured_for_git_already_stays(tmp_path: Path) -> None:
    made = helper_variables(["https://a.example"], {"GIT_CONFIG_COUNT": "2", "GIT_CONFIG_KEY_1": "x.y"})
    assert made["GIT_CONFIG_COUNT"] == "3" and made["GIT_CONFIG_KEY_2"] == "credential.https://a.example.helper"
    assert not looks_secret("GIT_CONFIG_KEY_2") and looks_secret("API_KEY")
