"""Holding files against what they should be: the configuration, task files, and the files of the protocol."""

import os
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel

from agent_daemon.clis.mcp import McpError, read_entries, servers_of
from agent_daemon.protocol.codec import decode, decode_framed
from agent_daemon.protocol.errors import Problem, ProtocolError
from agent_daemon.protocol.model import Mcp
from agent_daemon.protocol.paths import Root
from agent_daemon.protocol.yaml_reader import Limits, read_yaml
from supervisor.config import load_config, parse_config
from supervisor.core.intake import Draft
from supervisor.core.record import TaskRecord
from supervisor.core.schedule import dependency_cycle
from supervisor.core.settings import Config
from supervisor.core.task_file import TaskFile
from supervisor.errors import CloudCodeError
from supervisor.git.names import is_address
from supervisor.installed_clis import install_hint, missing_programs, not_found
from supervisor.notices import misplaced_files
from supervisor.reader import TaskFiles
from supervisor.records import RECORD_LIMITS
from supervisor.schemas import SCHEMAS

# A task's description may be long.
_TASK_LIMITS = Limits(max_scalar_bytes=200 * 1024)

Checked = tuple[list[str], list[Problem]]

# Which keys give a file's kind away; the first that is there counts.
_TELLING_KEYS = (
    ("projects", "config"),
    ("current_task", "workstation"),
    ("heartbeat", "workstation"),
    ("source", "record"),
    ("supervisor", "tasking"),
    ("tasks", "reporting"),
    ("cli", "agent-config"),
    ("items", "feedback"),
    ("channel", "command"),
    ("done", "command-answer"),
)
_TELLING_NAMES = {
    "tasking.yaml": "tasking",
    "reporting.yaml": "reporting",
    "workstation.yaml": "workstation",
    "feedback.yaml": "feedback",
}


def check_config(root: Root) -> Checked:
    """What is wrong with the configuration of a root."""
    try:
        config = load_config(root)
    except CloudCodeError as error:
        return [str(root.config)], list(_problems(error))
    return [str(root.config)], [*missing_repositories(config, root), *unusable_mcp_files(config, root)]


def missing_repositories(config: Config, root: Root) -> list[Problem]:
    """Repositories that are paths of this machine where nothing is; `doctor` asks the others."""
    return [
        Problem(
            code="E_NO_REPOSITORY",
            message=f"there is nothing at {project.repository}",
            file=str(root.config),
            place=f"projects.{name}.repository",
            expected="the path or the address of a git repository",
            mend="correct it; `cloud-code doctor` then asks the repository itself",
        )
        for name, project in config.projects.items()
        if project.forge == "local"
        and not is_address(project.repository)
        and not (root.path / Path(project.repository).expanduser()).exists()
    ]


def missing_clis(config: Config, root: Root) -> list[Problem]:
    """CLIs that are not installed here. A workstation may be somewhere else: no mistake, and worth knowing."""
    return [
        Problem(
            code="E_CLI_NOT_INSTALLED",
            message=f"the program {cli.wanted} of the coding CLI {name} {not_found(cli)}",
            file=str(root.config),
            place=f"workstations.{kind}.clis",
            mend=install_hint(cli),
        )
        for kind, name, cli in missing_programs(config)
    ]


def unusable_mcp_files(config: Config, root: Root) -> list[Problem]:
    """Files with MCP servers that are not there, or that their CLI could not be given."""
    return [
        Problem(
            code="E_MCP",
            message=said,
            file=str(root.config),
            place=f"clis.{name}.mcp.file",
            expected='JSON: {"mcpServers": {"docs": {"command": "docs-mcp", "args": []}}}',
            mend="correct it, or describe the servers under `mcp.servers`",
        )
        for name, settings in config.clis.items()
        if settings.mcp is not None and settings.mcp.file is not None
        for said in _mcp_faults(root.path / settings.mcp.file, settings.adapter or name)
    ]


def _mcp_faults(file: Path, adapter: str) -> Iterator[str]:
    try:
        if adapter == "claude-code":  # it is given the file as it is
            read_entries(str(file))
        else:
            servers_of(Mcp(file=str(file)))
    except McpError as error:
        yield str(error)


def check_tasks(root: Root, files: TaskFiles) -> Checked:
    """What is wrong with the task files of a root, circles among them included; raises CloudCodeError."""
    config = load_config(root)
    checked: list[str] = []
    problems: list[Problem] = []
    graph: dict[str, list[str]] = {}
    drafts: list[Draft] = []
    try:
        names = sorted(filter(files.is_one, os.listdir(root.tasks)))
    except FileNotFoundError:
        names = []
    for name in names:
        checked.append(str(root.tasks / name))
        try:
            draft = files.read(root.tasks, name, config)
        except ProtocolError as error:
            problems += error.problems
            continue
        drafts.append(draft)
        project = draft.project
        needed = [d.task if "." in d.task else f"{project}.{d.task}" for d in draft.text.depends_on]
        graph[draft.id] = needed
    problems += misplaced_files(root, drafts).values()
    return checked, problems + _circles(graph)


def _circles(graph: dict[str, list[str]]) -> list[Problem]:
    found: dict[frozenset[str], Problem] = {}
    for task_id in graph:
        circle = dependency_cycle(task_id, lambda name: graph.get(name, ()))
        if circle is not None and frozenset(circle) not in found:
            found[frozenset(circle)] = Problem(
                code="E_DEPENDENCY_CYCLE",
                message=f"the tasks wait for each other: {' → '.join(circle)}",
                file=f"tasks/{task_id.partition('.')[2]}.yaml",
                place="depends_on",
                mend="remove one of these dependencies",
            )
    return list(found.values())


def check_file(path: Path, root: Root, files: TaskFiles) -> Checked:
    """What is wrong with one file, whose kind is told by its name, its place or its keys."""
    try:
        data = path.read_bytes()
        kind = kind_of(path, data)
        if kind == "config":
            parse_config(data, file=str(path))
        elif kind == "task":
            _check_task(path, data, root, files)
        else:
            model, framed = SCHEMAS[kind]
            _decode(model, data, str(path), framed=framed)
    except CloudCodeError as error:
        return [str(path)], list(_problems(error))
    except ProtocolError as error:
        return [str(path)], list(error.problems)
    return [str(path)], []


def kind_of(path: Path, data: bytes) -> str:
    """The name of the schema that a file is to be held against; a task file when nothing speaks for another."""
    if path.name in _TELLING_NAMES:
        return _TELLING_NAMES[path.name]
    keys = read_yaml(data, file=str(path), limits=RECORD_LIMITS).value
    if path.parent.name == "tasks" and path.parent.parent.name != "state":
        return "task"
    return next((kind for key, kind in _TELLING_KEYS if key in keys), "task")


def _check_task(path: Path, data: bytes, root: Root, files: TaskFiles) -> None:
    decode(TaskFile, data, file=str(path), limits=_TASK_LIMITS)
    folder = path.resolve().parent
    if folder == root.tasks:
        files.read(folder, path.name, load_config(root))


def _decode(model: type[BaseModel], data: bytes, file: str, *, framed: bool) -> None:
    if framed:
        decode_framed(model, data, file=file)
    elif model is TaskRecord:
        decode(model, data, file=file, limits=RECORD_LIMITS)
    else:
        decode(model, data, file=file)


def _problems(error: CloudCodeError) -> tuple[Problem, ...]:
    return error.problems or (Problem(code=error.code, message=error.message, mend=error.mend),)
