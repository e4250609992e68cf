"""MCP servers: from the configuration or a file, to each CLI in its own way, and no secret in an argument."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent_daemon.clis import ADAPTERS
from agent_daemon.clis.base import CliSettings, RunRequest
from agent_daemon.clis.mcp import McpError, servers_of
from agent_daemon.coding import CodingRun
from agent_daemon.protocol.model import CliConfig, Mcp, McpServer
from tests.coding_run import Run

SERVERS = {
    "docs": McpServer(
        command=("docs-mcp", "--stdio"), environment={"LANGUAGE": "en"}, pass_environment=("TOKEN",)
    ),
    "tracker": McpServer(url="https://mcp.example.org/", bearer="TRACKER"),
}
SECRET = "hunter2"
FILE = {
    "docs": {"command": "docs-mcp", "args": ["--stdio"], "env": {"TOKEN": "${TOKEN}", "LANGUAGE": "en"}},
    "tracker": {
        "type": "http",
        "url": "https://mcp.example.org/",
        "headers": {"Authorization": "Bearer ${TRACKER}"},
    },
}


def written(folder: Path, servers: Any) -> Mcp:
    path = folder / "mcp.json"
    path.write_text(json.dumps({"mcpServers": servers}))
    return Mcp(file=str(path))


def request(folder: Path, adapter: str, mcp: Mcp | None) -> RunRequest:
    settings = CliSettings(name=adapter, adapter=adapter, home=folder / "home", mcp=mcp)
    return RunRequest(prompt="x", prompt_file=folder / "prompt.md", worktree=folder, settings=settings)


def test_a_file_says_the_same(tmp_path: Path) -> None:
    assert servers_of(written(tmp_path, FILE)) == servers_of(Mcp(servers=SERVERS)) == SERVERS


@pytest.mark.parametrize(
    ("servers", "said"),
    [
        ({"a b": {"command": "x"}}, "no name"),
        ({"a": {"args": []}}, "no command and no url"),
        ({"a": {"command": "x", "args": "y"}}, "no list"),
        ({"a": {"command": "x", "env": {"MY_KEY": "abc"}}}, "must be the name of a variable"),
        ({"a": {"command": "x", "env": {"A": "x${B}"}}}, "must be the name of a variable"),
        ({"a": {"command": "x", "env": {"A": "${B}"}}}, "by its own name only"),
        ({"a": {"command": "x", "env": {"a b": "1"}}}, "no name of a variable"),
        ({"a": {"command": "x", "env": {"A": 1}}}, "no object of texts"),
        ({"a": {"url": "https://x", "headers": {"X-Key": "${A}"}}}, "one header only"),
        ({"a": {"url": "https://x", "headers": {"Authorization": "Bearer abc"}}}, "one header only"),
        ({"a": {"url": "https://x/\nAuthorization: y"}}, "line break"),
        ({"a": {"url": f"https://{SECRET}{'x' * 1000}"}}, "at most 1000 characters"),
        ({"a": {"command": "x", "args": [SECRET + "x" * 20_000]}}, "at most 16384 characters"),
        (["a"], "no object"),
    ],
)
def test_what_cannot_be_told(tmp_path: Path, servers: Any, said: str) -> None:
    mcp = written(tmp_path, servers)
    with pytest.raises(McpError, match=said) as refused:
        servers_of(mcp)
    assert SECRET not in str(refused.value)
    with pytest.raises(McpError):
        ADAPTERS["codex"].invocation(request(tmp_path, "codex", mcp))


@pytest.mark.parametrize("content", [None, b"{", b"[]", b"[" * 100_000, b" " * 300_000])
def test_a_file_that_is_none(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "mcp.json").write_bytes(content)
    for adapter in ("claude-code", "codex"):
        with pytest.raises(McpError, match=r"mcp\.json"):
            ADAPTERS[adapter].invocation(request(tmp_path, adapter, Mcp(file=str(tmp_path / "mcp.json"))))


@pytest.mark.parametrize("form", ["servers", "file"])
def test_how_codex_is_told(tmp_path: Path, form: str) -> None:
    mcp = Mcp(servers=SERVERS) if form == "servers" else written(tmp_path, FILE)
    argv = ADAPTERS["codex"].invocation(request(tmp_path, "codex", mcp)).argv
    told = {argv[n + 1].partition("=")[0]: argv[n + 1].partition("=")[2] for n, a in enumerate(argv) if a == "-c"}
    assert {name: json.loads(value) for name, value in told.items() if name.startswith("mcp_servers.")} == {
        "mcp_servers.docs.command": "docs-mcp",
        "mcp_servers.docs.args": ["--stdio"],
        "mcp_servers.docs.env.LANGUAGE": "en",
        "mcp_servers.docs.env_vars": ["TOKEN"],
        "mcp_servers.tracker.url": "https://mcp.example.org/",
        "mcp_servers.tracker.bearer_token_env_var": "TRACKER",
    }


def test_how_claude_code_is_told(tmp_path: Path) -> None:
    argv = ADAPTERS["claude-code"].invocation(request(tmp_path, "claude-code", Mcp(servers=SERVERS))).argv
    assert "--strict-mcp-config" in argv
    file = Path(argv[argv.index("--mcp-config") + 1])
    assert json.loads(file.read_text()) == {"mcpServers": FILE}
    given = written(tmp_path, {"a": {"command": "x", "env": {"A": "${B:-c}"}}})  # its own business
    argv = ADAPTERS["claude-code"].invocation(request(tmp_path, "claude-code", given)).argv
    assert argv[argv.index("--mcp-config") + 1] == given.file
    without = replace(request(tmp_path, "claude-code", None))
    assert not {"--mcp-config", "--strict-mcp-config"} & set(ADAPTERS["claude-code"].invocation(without).argv)


def test_a_run_with_a_file_that_is_not_there_asks_a_person(tmp_path: Path) -> None:
    cli = CliConfig(name="codex", adapter="codex", mcp=Mcp(file="/nowhere/mcp.json"))
    coding = CodingRun(Run(tmp_path, cli).attempt)
    verdict = coding.run()
    assert (coding.started, coding.mend) == (False, "correct clis.codex.mcp in config.yaml")
    assert verdict.message == "the MCP file /nowhere/mcp.json cannot be read: No such file or directory"
