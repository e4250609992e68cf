"""What a project lacks to be worked on: of its forge, of its repository, and of its webhook."""

from collections.abc import Iterator
from datetime import UTC, datetime

from agent_daemon.protocol.paths import Root
from supervisor.core.forge import Finding, budget_line, is_scarce
from supervisor.core.mint_rules import FORGE_TOKENS, mint_rules, why_not_made
from supervisor.core.secret_settings import SecretSource
from supervisor.core.settings import Config, ProjectSettings
from supervisor.core.webhook import PATH
from supervisor.errors import CloudCodeError
from supervisor.forges.errors import lack
from supervisor.forges.opening import Forges
from supervisor.forges.tokens import ReadSecret, sign_in_with
from supervisor.ports import CodeHost, Forge


def check_project(root: Root, config: Config, name: str, read_secret: ReadSecret) -> Iterator[Finding]:
    """Ask everything that a task of this project will need; nothing is changed, and nothing raised."""
    settings = config.projects[name]
    forges = Forges(root, read_secret)
    try:
        forge, host = forges.open(_with_main_token(settings))
    except CloudCodeError as error:
        yield lack(error)
        return
    asked: tuple[Finding, ...] = ()
    if forge is not None:
        asked = forge.check_access(f"{PATH}{name}" if settings.webhook is not None else None)
        yield from (_from_here(finding, _secret_of(settings)) for finding in asked)
        if any(finding.what == "secret" for finding in asked):
            return  # (there is nothing to sign in with)
        yield from _budget(forge)
        yield from _hook_secret(read_secret, config, settings)
    yield from _git(name, settings, host)
    told = {finding.message for finding in asked}
    minting = (*_push_token(forges, settings), *_minting(forges, config, name))
    yield from (finding for finding in minting if finding.message not in told)


def _with_main_token(settings: ProjectSettings) -> ProjectSettings:
    """Who only looks has no token made for pushing: on GitLab each has an account of its own, for two days."""
    auth = settings.auth
    return (
        settings
        if auth is None
        else settings.model_copy(update={"auth": auth.model_copy(update={"push": "token"})})
    )


def _push_token(forges: Forges, settings: ProjectSettings) -> Iterator[Finding]:
    """Whether the project makes us a token for pushing alone, where one is wanted; none is made."""
    if settings.auth is None or settings.auth.push != "project_token":
        return
    try:
        forges.minter(settings, api=False).probe()
    except CloudCodeError as error:
        found = lack(error, "push token")
        yield found.evolve(message=f"{found.message} Until then `token` pushes.", grave=False)
    else:
        yield Finding(what="push token", ok=True, message="one can be made that pushes alone")


def _secret_of(settings: ProjectSettings) -> SecretSource | None:
    auth = settings.auth
    return None if auth is None else auth.token or (auth.app.private_key if auth.app is not None else None)


def _from_here(finding: Finding, source: SecretSource | None) -> Finding:
    """A variable that is missing in this shell may be there for the supervisor."""
    if finding.what != "secret" or source is None or source.env is None:
        return finding
    return finding.evolve(mend=f"{finding.mend} Only the variables of this shell are seen here.")


def _budget(forge: Forge) -> Iterator[Finding]:
    now = datetime.now(UTC)
    budget = forge.budget()
    message = budget_line(budget, now)
    if message:
        mend = "Ask less often (`poll_interval_seconds`), or give projects accounts of their own."
        yield Finding(what="budget", ok=not is_scarce(budget, now), message=message, mend=mend, grave=False)


def _hook_secret(read_secret: ReadSecret, config: Config, settings: ProjectSettings) -> Iterator[Finding]:
    """Our own side of a webhook."""
    if settings.webhook is None:
        return
    try:
        sign_in_with(read_secret, settings.webhook.secret)
    except CloudCodeError as error:
        yield _from_here(lack(error), settings.webhook.secret).evolve(what="webhook secret", grave=False)
    if config.webhooks is None:
        message, mend = "nothing hears it", "Add `webhooks: {}` to config.yaml, and restart the supervisor."
        yield Finding(what="webhook listener", ok=False, message=message, mend=mend, grave=False)


def _git(name: str, settings: ProjectSettings, host: CodeHost) -> Iterator[Finding]:
    """Whether the repository answers, and has the branch that tasks start from."""
    place = f"projects.{name}"
    try:
        branch = settings.base_branch or host.default_branch()
        tip = host.remote_tip(branch)
    except (CloudCodeError, OSError) as error:
        found = (
            lack(error, "git")
            if isinstance(error, CloudCodeError)
            else Finding(what="git", ok=False, message=str(error))
        )
        mend = f"See what `git ls-remote {host.url()}` says, and correct {place}.repository if it is wrong."
        yield found.evolve(mend=found.mend or mend)
        return
    yield Finding(what="git", ok=True, message=f"{host.url()} answers")
    if tip is None:
        message = f"E_NO_BRANCH: {host.url()} has no branch {branch}."
        mend = f"Set {place}.base_branch in config.yaml to a branch that exists."
        yield Finding(what="base branch", ok=False, message=message, mend=mend)
    else:
        yield Finding(what="base branch", ok=True, message=f"{host.url()}: {branch} is at {tip[:12]}")


def _minting(forges: Forges, config: Config, name: str) -> Iterator[Finding]:
    """Whether agents can be made the tokens that the configuration has for them in this project; none is made."""
    settings = config.projects[name]
    for kind, rule in mint_rules(config, name):
        try:
            _refuse_unmade(kind, name, settings)
            forges.minter(settings, api=rule.mint == "api").probe()
        except CloudCodeError as error:
            yield lack(error, kind).evolve(grave=False)
        else:
            yield Finding(what=kind, ok=True, message="agents can be made one, which reads the repository")


def _refuse_unmade(kind: str, name: str, settings: ProjectSettings) -> None:
    why = why_not_made(kind, settings)
    if why is None:
        return
    if settings.forge == FORGE_TOKENS[kind]:
        mend = "Sign in as a GitHub App (`auth.app`), say `secret:` instead of `mint:`, or name the projects that"
        raise CloudCodeError("E_NO_MINT", f"{why}.", f"{mend} have one in `credentials.{kind}.projects`.")
    raise CloudCodeError("E_NO_MINT", f"{why}.", f"Take {name} out of `credentials.{kind}.projects`.")
