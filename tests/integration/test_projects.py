"""`cloud-code project`, and what `doctor` says of projects on a forge: the real program against real servers."""

import json
import socket
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from agent_daemon.protocol.codec import encode
from supervisor.cli.forges import check_project
from supervisor.config import load_config
from supervisor.core.forge import Finding
from supervisor.core.states import State
from tests.fakes.forge.github import GitHub
from tests.fakes.forge.gitlab import DEVELOPER, MAINTAINER, GitLab
from tests.fakes.forge.running import running_github, running_gitlab
from tests.fakes.forge.server import Forge
from tests.site import Site, free_port, wait_for
from tests.unit.conftest import make_task

REPO, TOKEN, HOOK = "acme/app", "hunter2-token", "hunter2-hook"


def add_project(site: Site, name: str, forge: str, url: str, **changes: Any) -> None:
    for file, content in (("token", TOKEN), ("hook", HOOK)):
        (site.root.path / file).write_text(content)
        (site.root.path / file).chmod(0o600)
    shared = {"forge": forge, "repository": REPO, "url": url, "auth": {"token": {"file": "token"}}}
    site.config["projects"][name] = shared | changes
    site.write_config()


@pytest.fixture
def hub(site: Site) -> Iterator[GitHub]:
    with running_github({REPO: site.remote}) as made:
        made.add_person("bot", TOKEN, {REPO: "write"})
        made._label(REPO, "cloud-code")
        add_project(site, "hub", "github", made.origin)
        yield made


@pytest.fixture
def lab(site: Site) -> Iterator[GitLab]:
    with running_gitlab({REPO: site.remote}) as made:
        made.add_person("bot", TOKEN, {REPO: DEVELOPER})
        made.make_label(REPO, "cloud-code")
        add_project(site, "lab", "gitlab", made.origin)
        yield made


def checked(site: Site, name: str) -> dict[str, Finding]:
    """What is found of a project, by its name; each lack has its mend, and no secret is told."""
    found = list(check_project(site.root, load_config(site.root), name))
    assert "hunter2" not in str(found)
    assert all(finding.ok or finding.mend for finding in found), found
    return {finding.what: finding for finding in found}


def lacks(site: Site, name: str) -> dict[str, str]:
    return {what: finding.message for what, finding in checked(site, name).items() if not finding.ok}


def use_app(site: Site) -> None:
    """The project `hub` signs in as an App."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (site.root.path / "app.pem").write_bytes(pem)
    (site.root.path / "app.pem").chmod(0o600)
    site.config["projects"]["hub"]["auth"] = {"app": {"id": "7", "private_key": {"file": "app.pem"}}}
    site.write_config()


def mints(site: Site, kind: str, what: str) -> None:
    """Agents are to be made tokens of this type."""
    site.config["credentials"] = {kind: {"access": {"read": {"mint": what}}}}
    site.write_config()


class TestBoth:
    @pytest.fixture(params=["hub", "lab"])
    def named(self, request: pytest.FixtureRequest) -> tuple[str, Forge]:
        return request.param, request.getfixturevalue(request.param)

    def test_a_project_that_can_be_worked_on(self, site: Site, named: tuple[str, Forge]) -> None:
        name, _ = named
        found = checked(site, name)
        assert "signed in as bot" in found["account"].message
        assert {"scopes", "push", "issues", "label cloud-code", "git", "base branch", "budget"} <= set(found)
        assert "calls left" in found["budget"].message
        assert not lacks(site, name)
        shown = site.cli("project", "check", name).stdout
        assert "signed in as bot" in shown and "→" not in shown and "hunter2" not in shown

    def test_a_lack_is_told_with_its_mend(self, site: Site, named: tuple[str, Forge]) -> None:
        name, forge = named
        forge.tokens.clear()
        done = site.cli("project", "check", name, "--json", check=False)
        (project,) = json.loads(done.stdout)
        assert (done.returncode, project["project"], project["ok"]) == (1, name, False)
        denied = next(finding for finding in project["findings"] if finding["what"] == "access")
        assert denied["status"] == "error" and "E_FORGE_DENIED" in denied["message"] and denied["mend"]
        shown = site.cli("project", "check", name, check=False).stdout
        assert f"→ {denied['mend']}" in shown

    def test_a_login_that_is_another_accounts(self, site: Site, named: tuple[str, Forge]) -> None:
        name, forge = named
        auth = site.config["projects"][name]["auth"]
        for login, lacking in (("BOT", set()), ("ada", {"account"})):
            site.config["projects"][name]["auth"] = auth | {"login": login}
            site.write_config()
            assert set(lacks(site, name)) == lacking
        forge.fail(path="/user$", status=403, body={"message": "Resource not accessible by integration"})
        assert not lacks(site, name), "not every token tells whose it is"

    def test_a_secret_that_is_not_there(self, site: Site, named: tuple[str, Forge]) -> None:
        name, forge = named
        (site.root.path / "token").unlink()
        assert set(lacks(site, name)) == {"secret"}
        assert not forge.journal, "nobody was asked without one"

    def test_a_variable_is_looked_for_in_the_own_shell(self, site: Site, named: tuple[str, Forge]) -> None:
        name, _ = named
        site.config["projects"][name]["auth"] = {"token": {"env": "NOT_SET_IN_ANY_TEST"}}
        site.write_config()
        assert "this shell" in checked(site, name)["secret"].mend

    def test_a_token_that_nobody_knows(self, site: Site, named: tuple[str, Forge]) -> None:
        name, forge = named
        forge.tokens.clear()
        assert set(lacks(site, name)) == {"access", "git"}

    def test_a_label_and_a_branch_that_are_missing(self, site: Site, named: tuple[str, Forge]) -> None:
        name, _ = named
        changes = {"trigger": {"labels": ["cloud-code", "agent"]}, "base_branch": "nope"}
        site.config["projects"][name] |= changes
        site.write_config()
        found = checked(site, name)
        assert (found["label agent"].status, found["base branch"].status) == ("warning", "error")
        assert set(lacks(site, name)) == {"label agent", "base branch"}

    def test_a_forge_that_is_down(self, site: Site, named: tuple[str, Forge]) -> None:
        name, forge = named
        forge.fail(status=502, times=100)
        forge.fail(method="GIT-.*", status=502, times=100)
        assert {"access", "git"} == set(lacks(site, name))

    def test_nothing_left_of_the_budget(self, site: Site, named: tuple[str, Forge]) -> None:
        name, forge = named
        forge.spent[TOKEN] = forge.rate_limit - forge.rate_limit // 20
        assert set(lacks(site, name)) == {"budget"}

    def test_a_webhook_that_no_configuration_hears(self, site: Site, named: tuple[str, Forge]) -> None:
        name, _ = named
        site.config["projects"][name]["webhook"] = {"secret": {"file": "nowhere"}}
        site.write_config()
        assert {"webhook secret", "webhook listener"} == set(lacks(site, name))

    def test_doctor_says_the_same_in_one_line(self, site: Site, named: tuple[str, Forge]) -> None:
        name, _ = named
        by_name = {check["name"]: check for check in json.loads(site.cli("doctor", "--json", check=False).stdout)}
        told = by_name[f"project {name}"]
        assert told["status"] == "ok" and "signed in as bot" in told["detail"] and "calls left" in told["detail"]
        (site.root.path / "token").chmod(0o644)
        done = site.cli("doctor", "--json", check=False)
        told = {check["name"]: check for check in json.loads(done.stdout)}[f"project {name}"]
        assert told["status"] == "error" and "chmod 600" in told["mend"] and done.returncode == 1


class TestGitHub:
    def test_who_may_only_read(self, site: Site, hub: GitHub) -> None:
        hub.add_person("bot", permissions={REPO: "read"})
        assert lacks(site, "hub") == {"push": "may not push"}

    @pytest.mark.parametrize(
        ("scopes", "private", "ok"),
        [
            ("repo, workflow", True, True),
            ("public_repo", False, True),
            ("public_repo", True, False),
            ("", True, False),
        ],
    )
    def test_a_classic_tokens_scopes(self, site: Site, hub: GitHub, scopes: str, private: bool, ok: bool) -> None:
        hub.scopes[TOKEN] = scopes
        hub.repos[REPO]["shown"] = {"private": private}
        assert (checked(site, "hub")["scopes"].status == "ok") == ok

    def test_a_repository_that_is_off(self, site: Site, hub: GitHub) -> None:
        hub.repos[REPO]["shown"] = {"archived": True, "has_issues": False}
        assert set(lacks(site, "hub")) == {"push", "issues"}

    def test_a_repository_that_was_renamed(self, site: Site, hub: GitHub) -> None:
        hub.rename(REPO, "acme/new")
        assert lacks(site, "hub") == {"repository": "acme/app is called acme/new now"}

    def test_checks_that_may_not_be_read(self, site: Site, hub: GitHub) -> None:
        hub.fail(path="check-runs", status=403, times=100, body={"message": "Resource not accessible"})
        assert lacks(site, "hub") == {"checks": "may not read checks"}

    def test_a_webhook_is_seen_by_administrators_only(self, site: Site, hub: GitHub) -> None:
        listen(site, "hub")
        hub.register_hook(REPO, "https://example.org/hooks/hub")
        assert "may not see" in checked(site, "hub")["webhook"].message and not lacks(site, "hub")
        hub.add_person("bot", permissions={REPO: "admin"})
        assert "points here" in checked(site, "hub")["webhook"].message

    @pytest.mark.parametrize(
        ("changes", "said"),
        [
            ({"config": {"url": "https://example.org/hooks/x", "content_type": "json"}}, "none points here"),
            ({"config": {"url": "https://example.org/hooks/hub", "content_type": "form"}}, "content type"),
            ({"active": False}, "switched off"),
            ({"events": ["push", "issues"]}, "issue_comment"),
            ({"last_response": {"code": 401, "status": "unauthorized", "message": "Invalid"}}, "401"),
        ],
    )
    def test_what_may_be_wrong_with_a_webhook(
        self, site: Site, hub: GitHub, changes: dict[str, Any], said: str
    ) -> None:
        listen(site, "hub")
        hub.add_person("bot", permissions={REPO: "admin"})
        hub.register_hook(REPO, "https://example.org/hooks/hub", **changes)
        assert said in lacks(site, "hub")["webhook"]

    def test_an_app_may_what_its_token_was_given_for(self, site: Site, hub: GitHub) -> None:
        """GitHub shows no permissions of an installation."""
        use_app(site)
        assert "Install the App" in checked(site, "hub")["access"].mend
        hub.add_app("7", "acme", [REPO])
        hub.repos[REPO]["shown"] = {"permissions": dict.fromkeys(["admin", "pull", "push"], False)}
        found = checked(site, "hub")
        assert found["account"].message == "signed in as acme[bot]" and not lacks(site, "hub")
        (site.root.path / "app.pem").write_text("no key")
        assert "no private key" in lacks(site, "hub")["secret"]

    def test_an_app_that_is_suspended_or_may_too_little_says_what_was_expected(
        self, site: Site, hub: GitHub
    ) -> None:
        use_app(site)
        hub.add_app("7", "acme", [REPO])
        mints(site, "github_token", "repository")
        assert "agents can be made one" in checked(site, "hub")["github_token"].message and not lacks(site, "hub")
        assert {made["permissions"]["contents"] for made in hub.apps["7"]["minted"]} == {"write"}, (
            "none for agents"
        )
        del hub.apps["7"]["permissions"]["contents"]
        found = lacks(site, "hub")
        assert "E_APP_PERMISSIONS" in found["access"] and "contents: none" in found["github_token"]
        assert "expected is contents: read" in found["github_token"]
        hub.apps["7"]["permissions"] = {"contents": "read", "checks": "read", "statuses": "read"}
        found = lacks(site, "hub")
        assert "expected is contents: write, issues: write, pull_requests: write" in found["access"]
        assert "github_token" not in found
        hub.apps["7"]["suspended_at"] = "2026-03-01T00:00:00Z"
        found = lacks(site, "hub")
        assert "E_APP_SUSPENDED" in found["access"] and "github_token" not in found, "it is told once"

    def test_a_plain_token_has_none_made_for_agents(self, site: Site, hub: GitHub) -> None:
        mints(site, "github_token", "repository")
        found = checked(site, "hub")["github_token"]
        assert found.message.startswith("E_NO_MINT: ") and found.status == "warning" and "auth.app" in found.mend
        told = site.cli("doctor", "--json", check=False).stdout
        (check,) = [check for check in json.loads(told) if check["name"] == "project hub"]
        assert "E_NO_MINT" in check["detail"] and check["status"] == "warning" and "auth.app" in check["mend"]
        site.config["credentials"]["github_token"]["projects"] = ["demo"]
        site.write_config()
        assert not lacks(site, "hub")
        found = checked(site, "demo")["github_token"]
        assert "this project's is local" in found.message and "credentials.github_token.projects" in found.mend


class TestGitLab:
    def test_who_cannot_have_tokens_made_for_agents_is_told_before_one_asks(self, site: Site, lab: GitLab) -> None:
        mints(site, "gitlab_token", "api")
        found = checked(site, "lab")["gitlab_token"]
        assert found.status == "warning" and "Maintainer" in found.mend
        assert found.message == (
            "E_MINT_RIGHTS: GitLab: bot is Developer (30) of the project, expected is Maintainer (40)."
        )
        lab.add_person("bot", levels={REPO: MAINTAINER})
        assert "agents can be made one" in checked(site, "lab")["gitlab_token"].message
        assert not lacks(site, "lab") and not lab.minted
        lab.projects[REPO]["has_tokens"] = False
        found = checked(site, "lab")["gitlab_token"]
        assert "shows bot no access tokens" in found.message and "paid plan" in found.mend
        lab.projects[REPO]["has_tokens"] = True
        lab.told_of_token["scopes"] = ["read_api", "read_user"]
        assert "expected is the scope api" in lacks(site, "lab")["gitlab_token"]
        lab.told_of_token["scopes"] = ["api"]
        lab.add_person("project_7_bot_1a2b", TOKEN, {REPO: MAINTAINER})
        assert "can make no others" in lacks(site, "lab")["gitlab_token"]

    def test_a_token_for_pushing_is_asked_about_and_none_is_made(self, site: Site, lab: GitLab) -> None:
        site.config["projects"]["lab"]["auth"]["push"] = "project_token"
        site.write_config()
        assert "Until then `token` pushes" in lacks(site, "lab")["push token"]
        lab.add_person("bot", levels={REPO: MAINTAINER})
        found = checked(site, "lab")
        assert found["push token"].ok and found["git"].ok and not lab.minted

    def test_who_may_only_report(self, site: Site, lab: GitLab) -> None:
        lab.add_person("bot", levels={REPO: 20})
        assert lacks(site, "lab") == {"push": "may not push"}

    def test_a_token_that_may_only_read_and_ends_soon(self, site: Site, lab: GitLab) -> None:
        soon = datetime.now(UTC) + timedelta(days=2)
        lab.told_of_token = {"scopes": ["read_api"], "expires_at": f"{soon:%Y-%m-%d}"}
        found = checked(site, "lab")
        assert (found["scopes"].status, found["token's end"].status) == ("error", "warning")

    def test_a_token_that_does_not_tell_of_itself(self, site: Site, lab: GitLab) -> None:
        lab.fail(path="personal_access_tokens", status=404, times=100)
        assert "does not tell" in checked(site, "lab")["scopes"].message

    def test_a_project_that_is_off(self, site: Site, lab: GitLab) -> None:
        lab.projects[REPO]["shown"] = {"archived": True, "issues_access_level": "disabled"}
        assert set(lacks(site, "lab")) == {"push", "issues"}

    def test_a_webhook_is_seen_by_maintainers_only(self, site: Site, lab: GitLab) -> None:
        listen(site, "lab")
        assert "may not see" in checked(site, "lab")["webhook"].message
        lab.add_person("bot", levels={REPO: MAINTAINER})
        assert lacks(site, "lab") == {"webhook": "none points here"}
        lab.register_hook(REPO, "https://example.org/hooks/lab", note_events=False)
        assert "tells nothing of note" in lacks(site, "lab")["webhook"]
        lab.projects[REPO]["hooks"][0] |= {"note_events": True, "alert_status": "temporarily_disabled"}
        assert "temporarily disabled" in lacks(site, "lab")["webhook"]
        lab.projects[REPO]["hooks"][0]["alert_status"] = "executable"
        assert not lacks(site, "lab")


def listen(site: Site, name: str) -> None:
    """The configuration hears the project's webhook."""
    site.config["projects"][name]["webhook"] = {"secret": {"file": "hook"}}
    site.config["webhooks"] = {}
    site.write_config()


class TestList:
    def test_each_project_is_shown_with_its_tasks(self, site: Site) -> None:
        add_project(site, "hub", "github", "http://127.0.0.1:9")
        key = {"app": {"id": "12", "private_key": {"env": "KEY"}}}
        add_project(site, "app", "github", "http://127.0.0.1:9", auth=key, repository="acme/other")
        site.root.records.mkdir(parents=True)
        for name, state in (("a", State.PENDING), ("b", State.REVIEW), ("c", State.CANCELLED)):
            task = make_task(id=f"hub.{name}", project="hub", state=state)
            (site.root.records / f"hub.{name}.yaml").write_bytes(encode(task))
        rows = {row["name"]: row for row in json.loads(site.cli("project", "list", "--json").stdout)}
        assert list(rows) == ["demo", "hub", "app"]
        assert (rows["hub"]["live"], rows["hub"]["review"], rows["demo"]["live"]) == (2, 1, 0)
        assert rows["hub"]["signs_in"] == "token in the file token" and rows["hub"]["poll_seconds"] == 30
        assert rows["app"]["signs_in"] == "App 12, key in the variable KEY" and rows["demo"]["signs_in"] == ""
        shown = site.cli("project", "list").stdout
        assert REPO in shown and "token in the file token" in shown

    def test_what_is_not_configured_is_a_mistake(self, site: Site) -> None:
        site.write_config()
        done = site.cli("project", "check", "nope", check=False)
        assert done.returncode == 1 and "E_UNKNOWN_PROJECT" in done.stderr and "demo" in done.stderr


def test_a_local_project_is_checked_alike(site: Site, tmp_path: Path) -> None:
    site.config["projects"]["gone"] = {"repository": str(tmp_path / "gone.git")}
    site.write_config()
    done = site.cli("project", "check", "--json", check=False)
    by_name = {project["project"]: project for project in json.loads(done.stdout)}
    assert by_name["demo"]["ok"] and [f["what"] for f in by_name["demo"]["findings"]] == ["git", "base branch"]
    assert not by_name["gone"]["ok"] and done.returncode == 1
    shown = site.cli("project", "check", check=False).stdout
    assert "demo" in shown and "gone" in shown and "→" in shown


def test_what_takes_long_says_so(site: Site, hub: GitHub) -> None:
    hub.fail(method="GET", delay_seconds=6)
    done = site.cli("project", "check", "hub")
    assert "asking the forge and the repository of hub …" in done.stderr


def test_doctor_sees_whether_webhooks_are_heard(site: Site, hub: GitHub) -> None:
    listen(site, "hub")
    port = free_port()  # (also after the other one has left it)
    with closing(socket.create_server(("127.0.0.1", port))):
        site.config["webhooks"] = {"port": port}
        site.write_config()
        assert webhooks_check(site)["status"] == "warning"
    assert webhooks_check(site)["status"] == "ok"
    site.start()
    wait_for(lambda: site.events("webhooks.listening"))
    assert "heard on" in webhooks_check(site)["detail"]


def webhooks_check(site: Site) -> dict[str, str]:
    checks = json.loads(site.cli("doctor", "--json", check=False).stdout)
    found: dict[str, str] = next(check for check in checks if check["name"] == "webhooks")
    return found
