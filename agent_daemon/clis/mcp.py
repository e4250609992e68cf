"""MCP servers for a coding CLI, from the configuration or from a file in the form that most CLIs share.

Secrets are named and not written: in a file as ``${NAME}``, which Claude Code puts in itself. What can be said in
such a file and not by name to another CLI is refused, for it would have to be written into a command line.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from agent_daemon.hiding import looks_secret
from agent_daemon.protocol.model import Mcp, McpServer

FILE_BYTES = 256 * 1024

_NAME = re.compile(r"[A-Za-z0-9_-]{1,100}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_NAMED = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_BEARER = re.compile(r"Bearer \$\{([A-Za-z_][A-Za-z0-9_]*)\}")


class McpError(ValueError):
    """MCP servers that cannot be given to a CLI; the text is a sentence for people."""


def servers_of(mcp: Mcp) -> dict[str, McpServer]:
    """The servers by their names; raises McpError for a file that cannot be read, or says what only it can say."""
    if mcp.file is None:
        return dict(mcp.servers)
    entries = read_entries(mcp.file)
    try:
        return {name: _server(name, entry) for name, entry in entries.items()}
    except ValidationError as error:
        found = error.errors(include_input=False, include_url=False)[0]
        place = ".".join(str(part) for part in found["loc"])
        raise McpError(f"the MCP file {mcp.file}: {place}: {found['msg']}") from None


def variables_of(server: McpServer) -> tuple[str, ...]:
    """The variables that it needs of its CLI's environment."""
    return (*server.pass_environment, *((server.bearer,) if server.bearer else ()))


def read_entries(file: str) -> dict[str, dict[str, Any]]:
    """What an MCP file says of each server; raises McpError."""
    try:
        with Path(file).open("rb") as opened:
            data = opened.read(FILE_BYTES + 1)
    except OSError as error:
        raise McpError(f"the MCP file {file} cannot be read: {error.strerror}") from None
    if len(data) > FILE_BYTES:
        raise McpError(f"the MCP file {file} has more than {FILE_BYTES} bytes")
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise McpError(f"the MCP file {file} is no JSON: {error}") from None
    entries = value.get("mcpServers") if isinstance(value, dict) else None
    if not isinstance(entries, dict) or not all(isinstance(entry, dict) for entry in entries.values()):
        raise McpError(f'the MCP file {file} has no object "mcpServers" with an object for each server')
    for name, entry in entries.items():
        if _NAME.fullmatch(name) is None:
            raise McpError(f"'{name}' is no name for an MCP server: letters, digits, - and _")
        if not isinstance(entry.get("command", entry.get("url")), str):
            raise McpError(f"the MCP server {name} in {file} has no command and no url")
        if not str(entry.get("url", "")).isprintable():
            raise McpError(f"the url of the MCP server {name} in {file} has a line break or what cannot be shown")
    return entries


def file_content(servers: Mapping[str, McpServer]) -> bytes:
    """The servers as a file for a CLI that puts variables in itself."""
    entries = {name: _entry(server) for name, server in servers.items()}
    return json.dumps({"mcpServers": entries}, indent=2).encode()


def _entry(server: McpServer) -> dict[str, Any]:
    if server.url is not None:
        headers = {"Authorization": f"Bearer ${{{server.bearer}}}"} if server.bearer else {}
        return {"type": "http", "url": server.url, "headers": headers}
    passed = {name: f"${{{name}}}" for name in server.pass_environment}
    return {"command": server.command[0], "args": list(server.command[1:]), "env": passed | server.environment}


def _server(name: str, entry: Mapping[str, Any]) -> McpServer:
    if "command" not in entry:
        return McpServer(url=str(entry["url"]), bearer=_bearer(name, entry.get("headers") or {}))
    arguments, variables = entry.get("args") or [], entry.get("env") or {}
    if not isinstance(arguments, list) or not all(isinstance(argument, str) for argument in arguments):
        raise McpError(f"args of the MCP server {name} is no list of texts")
    if not isinstance(variables, dict) or not all(isinstance(value, str) for value in variables.values()):
        raise McpError(f"env of the MCP server {name} is no object of texts")
    named = {key: match[1] for key, value in variables.items() if (match := _NAMED.fullmatch(value))}
    for key, value in variables.items():
        if key in named and named[key] != key:
            raise McpError(f"{key} of the MCP server {name}: this CLI passes a variable on by its own name only")
        if key not in named and (looks_secret(key) or "${" in value):
            raise McpError(f"{key} of the MCP server {name} must be the name of a variable: ${{{key}}}")
        if _VARIABLE.fullmatch(key) is None:
            raise McpError(f"'{key}' of the MCP server {name} is no name of a variable")
    return McpServer(
        command=(str(entry["command"]), *arguments),
        environment={key: value for key, value in variables.items() if key not in named},
        pass_environment=tuple(named),
    )


def _bearer(name: str, headers: Any) -> str | None:
    if not headers:
        return None
    only = headers.get("Authorization") if isinstance(headers, dict) and len(headers) == 1 else None
    match = _BEARER.fullmatch(only) if isinstance(only, str) else None
    if match is None:
        said = 'takes one header only: {"Authorization": "Bearer ${NAME}"}'
        raise McpError(f"the MCP server {name}: this CLI {said}")
    return match[1]
