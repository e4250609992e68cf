"""The text of a task file, made of the options of `task add`: an option for each key of the file."""

from collections.abc import Callable
from typing import Any, TypeVar, get_args

import click
import yaml

from agent_daemon.protocol.model import Expects, Limits, Priority, TaskType, WorkspaceMode
from supervisor.cli.place import complete_configured, complete_task

_Command = TypeVar("_Command", bound=Callable[..., Any])
_LIMITS = ", ".join(Limits.model_fields)

OPTIONS = (
    click.option(
        "--project",
        metavar="NAME",
        help="Needed where more than one is configured; written into the file in any case.",
        shell_complete=complete_configured("projects"),
    ),
    click.option("--description", metavar="TEXT", help="What is wanted; - reads it from standard input."),
    click.option("--type", type=click.Choice(get_args(TaskType)), help="[default: feature]"),
    click.option("--priority", type=click.Choice([p.value for p in Priority]), help="[default: medium]"),
    click.option("--label", "labels", multiple=True, metavar="TEXT", help="Decides who does it. (*)"),
    click.option(
        "--specialist",
        metavar="TYPE",
        help="The workstation type that does it, whatever the labels.",
        shell_complete=complete_configured("workstations"),
    ),
    click.option(
        "--criterion",
        "acceptance_criteria",
        multiple=True,
        metavar="TEXT",
        help="What must be true at the end. (*)",
    ),
    click.option("--verify", "verification", multiple=True, metavar="NAME=COMMAND", help="Must pass. (*)"),
    click.option("--file", "related_files", multiple=True, metavar="PATH", help="A file to look at first. (*)"),
    click.option(
        "--depends-on",
        "depends_on",
        multiple=True,
        metavar="ID[:merged]",
        shell_complete=complete_task,
        help="A task that must be in review, or merged, first. (*)",
    ),
    click.option("--limit", "limits", multiple=True, metavar="NAME=NUMBER", help=f"One of {_LIMITS}. (*)"),
    click.option(
        "--max-failures", type=click.IntRange(1, 100), metavar="N", help="Failed attempts, then a person is asked."
    ),
    click.option("--base-branch", metavar="NAME", help="Start from it and merge into it."),
    click.option(
        "--workspace-mode",
        type=click.Choice([mode.value for mode in WorkspaceMode]),
        help="Whether its worktree is one of a shared clone.",
    ),
    click.option("--expects", type=click.Choice(get_args(Expects)), help="[default: commits]"),
    click.option("--allow-empty", is_flag=True, help="No change is a legal result."),
    click.option("--plan-approval", is_flag=True, help="Have it planned first, and the plan approved."),
)


def task_options(command: _Command) -> _Command:
    """Gives a command the options for every key of a task file but its title, named as the keys are."""
    for option in reversed(OPTIONS):
        command = option(command)
    return command


class _Dumper(yaml.SafeDumper):
    """Block style, texts of several lines as such, lists indented."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)


def _text_node(dumper: _Dumper, value: str) -> yaml.Node:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)


_Dumper.add_representer(str, _text_node)


def task_text(title: str, options: dict[str, Any]) -> str:
    """The YAML of a new task file: only what was given; click.UsageError for what is not of an option's form."""
    value = {"title": title} | options
    for key, read in _READ.items():
        value[key] = [read(given) for given in options.get(key) or ()]
    value["limits"] = dict(_limit_of(given) for given in options.get("limits") or ())
    given = {key: list(entry) if isinstance(entry, tuple) else entry for key, entry in value.items() if entry}
    body = yaml.dump(given, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=1000)
    return f"# yaml-language-server: $schema=../state/schemas/task.schema.json\n{body}"


def _check_of(given: str) -> dict[str, str]:
    name, equals, command = given.partition("=")
    if not equals or not name.strip() or not command.strip():
        raise click.UsageError(f"--verify takes NAME=COMMAND, such as 'tests=pytest -q', and not '{given}'.")
    return {"name": name.strip(), "command": command.strip()}


def _dependency_of(given: str) -> str | dict[str, str]:
    task, colon, until = given.partition(":")
    return {"task": task, "until": until} if colon else given


def _limit_of(given: str) -> tuple[str, str | float]:
    name, equals, number = given.partition("=")
    if not equals or not name or not number:
        raise click.UsageError(f"--limit takes NAME=NUMBER, such as 'timeout_minutes=60', and not '{given}'.")
    try:
        return name, float(number) if "." in number else int(number)
    except ValueError:
        return name, number  # the reader of task files says what is wrong


_READ: dict[str, Callable[[str], Any]] = {"verification": _check_of, "depends_on": _dependency_of}
