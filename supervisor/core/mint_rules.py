"""Tokens that forges make for agents: which a project's are to get, and whether its forge makes such at all."""

from collections.abc import Iterable, Iterator, Mapping

from supervisor.core.secret_settings import AccessSettings
from supervisor.core.settings import Config, ProjectSettings

FORGE_TOKENS = {"github_token": "github", "gitlab_token": "gitlab"}

# GitLab's role that makes tokens of a project, and how the roles are called (its documentation of permissions).
MAINTAINER = 40
_ROLES = {0: "no member", 10: "Guest", 20: "Reporter", 30: "Developer", MAINTAINER: "Maintainer", 50: "Owner"}
# What a GitHub App may, the later the more.
_MIGHT = ("read", "write", "admin")


def mint_rules(config: Config, name: str) -> Iterator[tuple[str, AccessSettings]]:
    """Each type of token that agents of this project are made, with its rule.

    What is for any project is passed over where another forge makes it: nobody meant that.
    """
    for kind, settings in config.credentials.items():
        if settings.projects and name not in settings.projects:
            continue
        if not settings.projects and config.projects[name].forge != FORGE_TOKENS.get(kind):
            continue
        yield from ((kind, rule) for rule in settings.access.values() if rule.mint is not None)


def why_not_made(kind: str, project: ProjectSettings) -> str | None:
    """Why the project's forge makes no token of this type, whatever the account may."""
    if project.forge != FORGE_TOKENS[kind]:
        return f"it is made by the task's forge, and this project's is {project.forge}"
    if project.forge == "github" and (project.auth is None or project.auth.app is None):
        return "GitHub makes tokens for Apps only, and this project signs in with a token: it has no `auth.app`"
    return None


def lacking(granted: Mapping[str, str], wanted: Mapping[str, str]) -> dict[str, str]:
    """The permissions that an App's installation is without, or has too little of. Every App reads metadata."""
    return {
        name: level
        for name, level in wanted.items()
        if name != "metadata" and _might(granted.get(name, "")) < _might(level)
    }


def _might(level: str) -> int:
    return _MIGHT.index(level) if level in _MIGHT else -1


def role(level: int) -> str:
    """A role on GitLab, with its number: the highest whose rights the level has."""
    return f"{_ROLES[max(number for number in _ROLES if number <= level)]} ({level})"


def scope_lack(scopes: Iterable[str]) -> str | None:
    """Why a token with these scopes makes no other on GitLab."""
    has = sorted(scopes)
    return None if "api" in has else f"its token has {', '.join(has) or 'no scope'}, expected is the scope api"
