"""Loading `config.yaml`: every key known, every cross-reference checked, before anything starts."""

from importlib import metadata

from agent_daemon.protocol.codec import decode, decode_what_fits
from agent_daemon.protocol.errors import Problem, ProtocolError
from agent_daemon.protocol.paths import Root
from agent_daemon.protocol.yaml_reader import read_yaml, show_path
from supervisor.core.settings import Config
from supervisor.errors import CloudCodeError, mend_of
from supervisor.references import reference_problems

# Whose entries others name.
_NAMED = ("projects", "workstations", "clis")


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
        message = f"{root.config} cannot be read: {error.strerror}."
        raise CloudCodeError("E_CONFIG_UNREADABLE", message, mend_of(error)) from None
    return parse_config(data, file=str(root.config))


def parse_config(data: bytes, *, file: str) -> Config:
    """The configuration in these bytes; raises CloudCodeError with every problem found."""
    try:
        config = decode(Config, data, file=file)
        problems = reference_problems(config, read_yaml(data, file=file), file)
    except ProtocolError as error:
        problems = sorted([*error.problems, *_wrong_besides(data, file)], key=lambda problem: problem.line or 0)
    if problems:
        lines = "\n".join(str(problem) for problem in problems)
        raise CloudCodeError(
            "E_CONFIG",
            f"{file} cannot be used:\n{lines}",
            "Mend it, then run `cloud-code check config`.",
            tuple(problems),
        )
    return config


def _wrong_besides(data: bytes, file: str) -> list[Problem]:
    """What leads nowhere in a configuration that its schema refuses, too, so that all of it is mended at once.

    Nothing that may only seem so because of what the schema refuses.
    """
    config, left_out = decode_what_fits(Config, data, file=file)
    if config is None:
        return []
    around = {show_path(path[:-1]) for path in left_out}
    within = tuple(show_path(path[:-1] if path[-1] == "adapter" else path) for path in left_out)
    unknown = tuple(
        words
        for words, may_be_there in (
            ("there is no ", any(len(path) <= 2 and path[0] in _NAMED for path in left_out)),
            ("no workstation ", any(path[0] == "workstations" for path in left_out)),
        )
        if may_be_there
    )
    return [
        problem
        for problem in reference_problems(config, read_yaml(data, file=file), file)
        if problem.place not in around
        and not (problem.place or "").startswith(within)
        and not problem.message.startswith(unknown)
    ]


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
