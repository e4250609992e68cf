"""Which tokens agents of a project are made, and whether its forge makes such."""

from typing import Any

import pytest

from supervisor.core.mint_rules import lacking, mint_rules, role, scope_lack, why_not_made
from supervisor.core.settings import Config

TOKEN, APP = {"token": {"env": "T"}}, {"app": {"id": "7", "private_key": {"env": "K"}}}


def configured(**credentials: Any) -> Config:
    projects = {
        "app": {"forge": "github", "repository": "acme/app", "auth": APP},
        "hub": {"forge": "github", "repository": "acme/hub", "auth": TOKEN},
        "lab": {"forge": "gitlab", "repository": "grp/lab", "auth": TOKEN},
        "demo": {"repository": "/srv/demo.git"},
    }
    return Config.model_validate({"version": 1, "projects": projects, "credentials": credentials})


MINTED: dict[str, Any] = {"access": {"read": {"mint": "repository"}, "write": {"secret": "forges/w"}}}


@pytest.mark.parametrize(
    ("projects", "for_whom"),
    [((), {"app", "hub"}), (("hub",), {"hub"}), (("lab", "demo"), {"lab", "demo"})],
)
def test_what_is_for_any_project_is_for_those_on_its_forge(projects: tuple[str, ...], for_whom: set[str]) -> None:
    config = configured(
        github_token=MINTED | {"projects": projects}, npm_token={"access": {"read": {"secret": "n"}}}
    )
    found = {name: [(kind, rule.mint) for kind, rule in mint_rules(config, name)] for name in config.projects}
    assert {name for name, rules in found.items() if rules == [("github_token", "repository")]} == for_whom
    assert not any(rules for name, rules in found.items() if name not in for_whom)


@pytest.mark.parametrize(
    ("kind", "name", "why"),
    [
        ("github_token", "app", None),
        ("gitlab_token", "lab", None),
        ("github_token", "hub", "no `auth.app`"),
        ("github_token", "lab", "this project's is gitlab"),
        ("gitlab_token", "demo", "this project's is local"),
    ],
)
def test_whether_a_forge_makes_it_at_all(kind: str, name: str, why: str | None) -> None:
    told = why_not_made(kind, configured().projects[name])
    assert told is None if why is None else why in (told or "")


@pytest.mark.parametrize(
    ("granted", "lacks"),
    [
        ({"contents": "write", "checks": "read"}, {}),
        ({"contents": "admin", "checks": "write"}, {}),
        ({"contents": "read", "checks": "read"}, {"contents": "write"}),
        ({"contents": "odd"}, {"contents": "write", "checks": "read"}),
    ],
)
def test_what_an_app_lacks(granted: dict[str, str], lacks: dict[str, str]) -> None:
    assert lacking(granted, {"contents": "write", "checks": "read", "metadata": "read"}) == lacks


def test_roles_and_scopes_in_words() -> None:
    assert [role(level) for level in (0, 15, 30, 40, 60)] == [
        "no member (0)", "Guest (15)", "Developer (30)", "Maintainer (40)", "Owner (60)",
    ]  # fmt: skip
    assert scope_lack(["api", "read_user"]) is None
    assert scope_lack([]) == "its token has no scope, expected is the scope api"
