"""What the schema of `config.yaml` lets pass and no run could use: names that lead nowhere, bad addresses."""

import difflib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from agent_daemon.clis import ADAPTERS
from agent_daemon.protocol.errors import Problem
from agent_daemon.protocol.paths import MAX_NAME_CHARACTERS, check_project
from agent_daemon.protocol.yaml_reader import Document, show_path
from supervisor.core.secret_shapes import looks_like_secret as is_secret
from supervisor.core.secret_shapes import secret_among
from supervisor.core.settings import CliSettings, Config, MaintenanceSettings, ProjectSettings
from supervisor.git.errors import GitError
from supervisor.git.names import check_url, is_address, is_branch

# Those that need no description under `clis`.
_READY = tuple(name for name in ADAPTERS if name != "command")
_FORGE_NAMES = {
    "github": (re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,38}/[A-Za-z0-9._-]{1,100}"), "owner/name"),
    "gitlab": (re.compile(r"[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)+"), "group/name, or group/subgroup/name"),
}
_DESCRIBE = "describe it under `clis.{}`: `adapter: command` with an argv runs any program"


@dataclass(frozen=True)
class _Fault:
    """Something that the schema lets pass: where, what, what was expected, what to do."""

    path: tuple[str | int, ...]
    message: str
    expected: str
    mend: str
    code: str = "E_REFERENCE"


def reference_problems(config: Config, document: Document, file: str) -> list[Problem]:
    """Names in the configuration that lead nowhere or cannot be used, and addresses that would be refused."""
    faults = [
        *_project_faults(config),
        *_workstation_faults(config),
        *_maintenance_faults(config),
        *_cli_faults(config),
        *_budget_faults(config),
        *_credential_faults(config),
    ]
    problems = []
    for fault in faults:
        path = fault.path
        line = next(
            (document.lines[path[:n]] for n in range(len(path), 0, -1) if path[:n] in document.lines), None
        )
        problem = Problem(
            code=fault.code,
            message=fault.message,
            file=file,
            line=line,
            place=show_path(path),
            expected=fault.expected,
            mend=fault.mend,
        )
        problems.append(problem)
    return problems


def _project_faults(config: Config) -> Iterator[_Fault]:
    domains = {station.trust_domain for station in config.workstations.values()}
    known: dict[tuple[str, str | None, str], str] = {}
    for name, project in config.projects.items():
        place = ("projects", name)
        try:
            check_project(name)
        except ValueError as error:
            yield _Fault(place, str(error), "any other name", "rename the project", "E_NAME")
        if project.trust_domain not in domains:
            yield _Fault(
                (*place, "trust_domain"),
                f"no workstation serves the trust domain '{project.trust_domain}'",
                f"one of {', '.join(sorted(domains))}",
                f"use one of those, or give a workstation type `trust_domain: {project.trust_domain}`",
            )
        yield from _unknown_cli(config, (*place, "unstuck"), project.unstuck)
        if project.base_branch is not None and not is_branch(project.base_branch):
            message = f"'{project.base_branch}' is not the name of a branch"
            yield _Fault((*place, "base_branch"), message, "a name such as main", "correct it", "E_BRANCH_NAME")
        if project.forge != "local":
            yield from _forge_faults(place, project)
            there = (project.forge, project.url, project.repository.lower())
            if there in known:
                message = f"'{known[there]}' is this repository already"
                mend = (
                    "one project for each repository: they would take the same issues and push the same branches"
                )
                yield _Fault((*place, "repository"), message, "another repository", mend)
            known.setdefault(there, name)
            continue
        for key in [key for key in ("url", "auth", "webhook") if getattr(project, key) is not None]:
            mend = "remove it, or say `forge: github` or `forge: gitlab`"
            yield _Fault((*place, key), "a project of the forge `local` has no such thing", "no such key", mend)
        try:
            if is_address(project.repository):
                check_url(project.repository)
        except GitError as error:
            credential = error.code == "E_CREDENTIAL_IN_URL"
            yield _Fault(
                (*place, "repository"),
                "the address holds a credential" if credential else "an address of this kind is not taken",
                "https://…, ssh://…, user@host:path, file:///…, or a path",
                "take it out: an ssh address needs none, with a key of your user" if credential else "correct it",
                error.code,
            )


def _forge_faults(place: tuple[str, ...], project: ProjectSettings) -> Iterator[_Fault]:
    """A project on GitHub or GitLab: its name there, the address, and a way to sign in."""
    pattern, shown = _FORGE_NAMES[project.forge]
    if pattern.fullmatch(project.repository) is None:
        message = f"'{project.repository}' is not the name of a repository there"
        yield _Fault((*place, "repository"), message, shown, "give the name, not an address; `url` is for that")
    if project.auth is None:
        message = "nothing says how to sign in"
        yield _Fault((*place, "auth"), message, "auth: {token: {file: …}}", "add it")
    elif project.auth.app is not None and project.forge != "github":
        message = "only GitHub has Apps"
        yield _Fault((*place, "auth", "app"), message, "auth: {token: {file: …}}", "use a token")
    elif project.auth.push != "token" and project.forge != "gitlab":
        message = "only GitLab makes tokens of a project"
        yield _Fault((*place, "auth", "push"), message, "push: token", "remove it: a GitHub App's are short-lived")
    try:
        if project.url is not None:
            check_url(project.url)
            if not project.url.startswith("http"):
                raise GitError("E_URL", "")
    except GitError as error:
        mend = "give the address that a browser shows, such as https://git.example.org"
        yield _Fault((*place, "url"), "an address of this kind is not taken", "https://…", mend, error.code)


def _maintenance_faults(config: Config) -> Iterator[_Fault]:
    """Only what differs from the default is looked at: that takes a library."""
    settings = config.maintenance
    if settings.schedule == MaintenanceSettings().schedule and settings.timezone == "UTC":
        return
    from supervisor.calendars import maintenance_trigger

    try:
        maintenance_trigger(settings)
    except ValueError as error:
        yield _Fault(
            ("maintenance", "timezone" if "time zone" in str(error) else "schedule"),
            str(error),
            "minute, hour, day, month, day of the week, as in `30 3 * * sun`, and a zone such as Europe/Berlin",
            "correct it",
            "E_SCHEDULE",
        )


def _workstation_faults(config: Config) -> Iterator[_Fault]:
    for kind, station in config.workstations.items():
        longest = MAX_NAME_CHARACTERS - len(f"-{station.most}")
        if len(kind) > longest:
            yield _Fault(
                ("workstations", kind),
                f"'{kind}' is too long: `{kind}-{station.most}` cannot be the name of a workstation",
                f"at most {longest} characters",
                "shorten it",
                "E_NAME",
            )
        for index, cli in enumerate(station.clis):
            yield from _unknown_cli(config, ("workstations", kind, "clis", index), cli)
        yield from _unknown_cli(config, ("workstations", kind, "unstuck"), station.unstuck)
    for kind in config.routing:
        if kind not in config.workstations:
            yield _Fault(
                ("routing", kind),
                f"there is no workstation type '{kind}'",
                f"one of {', '.join(config.workstations)}",
                _near(kind, config.workstations) or f"describe it under `workstations.{kind}`, or remove this",
            )


def _unknown_cli(config: Config, place: tuple[str | int, ...], cli: str | None) -> Iterator[_Fault]:
    if cli is None or cli in config.clis or cli in _READY:
        return
    known = tuple(dict.fromkeys((*config.clis, *_READY)))
    mend = _near(cli, known) or _DESCRIBE.format(cli)
    yield _Fault(place, f"there is no coding CLI '{cli}'", f"one of {', '.join(known)}", mend)


def _cli_faults(config: Config) -> Iterator[_Fault]:
    for name, settings in config.clis.items():
        place: tuple[str, ...] = ("clis", name)
        adapter = settings.adapter or name
        if adapter == "command" and not settings.argv:
            mend = "add argv: the program and its arguments, as a list"
            yield _Fault(
                place, f"'{name}' is run by the adapter `command` and has no argv", "argv: [program, …]", mend
            )
        elif adapter not in ADAPTERS:
            given = f"there is no adapter '{adapter}'"
            where = place if settings.adapter is None else (*place, "adapter")
            said = (
                given if settings.adapter is not None else f"'{name}' has no adapter of its name, and names none"
            )
            mend = _near(adapter, ADAPTERS) or "`adapter: command` runs any program: its argv says which"
            yield _Fault(where, said, f"one of {', '.join(ADAPTERS)}", mend)
        else:
            yield from _adapter_faults((*place,), adapter, settings)
        yield from _secret_faults((*place,), settings)


def _adapter_faults(place: tuple[str, ...], name: str, settings: CliSettings) -> Iterator[_Fault]:
    """Settings that this adapter has no use for."""
    adapter = ADAPTERS[name]
    for option in settings.options:
        if option not in adapter.OPTIONS:
            known = f"one of {', '.join(sorted(adapter.OPTIONS))}" if adapter.OPTIONS else "none"
            mend = _near(option, adapter.OPTIONS) or "remove it"
            yield _Fault((*place, "options", option), f"{name} has no option '{option}'", known, mend)
    if settings.mcp is not None and not adapter.MCP:
        able = ", ".join(key for key, each in ADAPTERS.items() if each.MCP)
        message = f"{name} takes no MCP servers"
        yield _Fault((*place, "mcp"), message, f"no such key; {able} take some", "remove it, or use one of those")


def _secret_faults(place: tuple[str, ...], settings: CliSettings) -> Iterator[_Fault]:
    """What every user of the machine would read in the list of processes, or stands in plain in `mail/`."""
    servers = settings.mcp.servers if settings.mcp is not None else {}
    lists: dict[tuple[str, ...], tuple[str, ...]] = {("argv",): settings.argv, ("arguments",): settings.arguments}
    lists |= {("mcp", "servers", name, "command"): server.command for name, server in servers.items()}
    found: list[tuple[str | int, ...]] = [
        (*where, number) for where, given in lists.items() if (number := secret_among(given)) is not None
    ]
    values: dict[tuple[str, ...], dict[str, str]] = {
        ("options",): settings.options,
        ("environment",): settings.environment,
    }
    values |= {("mcp", "servers", name, "environment"): server.environment for name, server in servers.items()}
    found += [(*where, key) for where, given in values.items() for key, text in given.items() if is_secret(text)]
    found += [("mcp", "servers", name, "url") for name, server in servers.items() if is_secret(server.url or "")]
    for where in found:
        message = "this looks like a secret, and would be readable by others"
        mend = "pass it on by the name of a variable: `pass_environment`, or `bearer` of an MCP server"
        yield _Fault((*place, *where), message, "no secret", mend, "E_SECRET_IN_CONFIG")


def _budget_faults(config: Config) -> Iterator[_Fault]:
    for name, budget in config.budgets.items():
        for key, given, known in (
            ("project", budget.project, tuple(config.projects)),
            ("workstation", budget.workstation, tuple(config.workstations)),
        ):
            if given is not None and given not in known:
                what = "project" if key == "project" else "workstation type"
                said = f"there is no {what} '{given}'"
                mend = _near(given, known) or f"use one of these, or leave `{key}` out"
                yield _Fault(("budgets", name, key), said, f"one of {', '.join(known)}", mend)


def _credential_faults(config: Config) -> Iterator[_Fault]:
    for name, credential in config.credentials.items():
        place = ("credentials", name)
        for access, rule in credential.access.items():
            if rule.lease is not None and config.secrets.backend != "vault":
                message = "nothing lends where the secrets are in no Vault"
                mend = "name a `secret:`, or say `secrets.backend: vault`"
                yield _Fault((*place, "access", access, "lease"), message, "secret: NAME", mend)
        for key, given, known in (
            ("projects", credential.projects, tuple(config.projects)),
            ("specialists", credential.specialists, tuple(config.workstations)),
        ):
            for index, word in enumerate(given):
                if word not in known:
                    said = f"there is no {'project' if key == 'projects' else 'workstation type'} '{word}'"
                    mend = _near(word, known) or "use one of these, or leave it out"
                    yield _Fault((*place, key, index), said, f"one of {', '.join(known)}", mend)


def _near(word: str, words: Iterable[str]) -> str:
    near = difflib.get_close_matches(word, list(words), n=1)
    return f"did you mean `{near[0]}`?" if near else ""
