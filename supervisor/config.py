"""Loading `config.yaml`: every key known, every cross-reference checked, before anything starts."""

from importlib import metadata

from agent_daemon.protocol.codec import decode
from agent_daemon.protocol.errors import Problem, ProtocolError
from agent_daemon.protocol.paths import Root
from agent_daemon.protocol.yaml_reader import Document, read_yaml
from supervisor.core.settings import Config
from supervisor.errors import CloudCodeError

KNOWN_ADAPTERS = ("codex", "command")


def load_config(root: Root) -> Config:
    """The configuration of a root; raises CloudCodeError with every problem found."""
    try:
        data = root.config.read_bytes()
    except FileNotFoundError:
        raise CloudCodeError(
            "E_NO_CONFIG",
            f"{root.config} does not exist.",
            f"Run `cloud-code init {root.path}` to make one, or name the right root with --root.",
        ) from None
    except OSError as error:
        raise CloudCodeError("E_CONFIG_UNREADABLE", f"{root.config} cannot be read: {error.strerror}.") from None
    return parse_config(data, file=str(root.config))


def parse_config(data: bytes, *, file: str) -> Config:
    """The configuration in these bytes; raises CloudCodeError with every problem found."""
    try:
        config = decode(Config, data, file=file)
        problems = cross_reference_problems(config, read_yaml(data, file=file), file)
    except ProtocolError as error:
        problems = list(error.problems)
    if problems:
        lines = "\n".join(str(problem) for problem in problems)
        raise CloudCodeError(
            "E_CONFIG",
            f"{file} cannot be used:\n{lines}",
            "Mend it, then run `cloud-code check config`.",
            tuple(problems),
        )
    return config


def cross_reference_problems(config: Config, document: Document, file: str) -> list[Problem]:
    """Names in the configuration that lead nowhere."""
    problems: list[Problem] = []

    def add(path: tuple[str | int, ...], message: str, expected: str) -> None:
        line = next(
            (document.lines[path[:n]] for n in range(len(path), 0, -1) if path[:n] in document.lines), None
        )
        place = ".".join(str(part) for part in path)
        problems.append(
            Problem(code="E_REFERENCE", message=message, file=file, line=line, place=place, expected=expected)
        )

    domains = {station.trust_domain for station in config.workstations.values()}
    for name, project in config.projects.items():
        if project.trust_domain not in domains:
            add(
                ("projects", name, "trust_domain"),
                f"no workstation serves the trust domain '{project.trust_domain}'",
                f"one of {', '.join(sorted(domains))}",
            )
    for name, station in config.workstations.items():
        for index, cli in enumerate(station.clis):
            adapter = config.cli(cli).adapter or cli
            if adapter not in KNOWN_ADAPTERS:
                add(
                    ("workstations", name, "clis", index),
                    f"'{cli}' is no coding CLI that this version knows, and none described under `clis`",
                    f"one of {', '.join(KNOWN_ADAPTERS)}, or `clis.{cli}` with `adapter: command` and `argv`",
                )
    for name, settings in config.clis.items():
        if (settings.adapter or name) == "command" and not settings.argv:
            add(("clis", name), f"'{name}' is run by the `command` adapter but has no argv", "argv: [program, …]")
    for kind in config.routing:
        if kind not in config.workstations:
            add(
                ("routing", kind),
                f"there is no workstation type '{kind}'",
                f"one of {', '.join(config.workstations)}",
            )
    return problems


def check_installation() -> None:
    """Raises CloudCodeError when the foreign distribution with our import name is installed too.

    PyPI's `supervisor` (a process control system) brings an import package of the same name; with both
    installed, either may overwrite files of the other.
    """
    try:
        version = metadata.version("supervisor")
    except metadata.PackageNotFoundError:
        return
    raise CloudCodeError(
        "E_FOREIGN_SUPERVISOR",
        f"The PyPI distribution `supervisor` {version}, which has the same import name, is installed here too.",
        "Install Cloud Code in an environment of its own, or uninstall `supervisor` and install Cloud Code again.",
    )
