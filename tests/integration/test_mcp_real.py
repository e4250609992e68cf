"""A real MCP server given to real CLIs: its tool reaches the model, its secret the server and nobody else."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from agent_daemon.clis.base import CliSettings
from agent_daemon.protocol.model import Mcp, McpServer
from tests.fakes.scripted_model import ScriptedModel
from tests.real_clis import Driver, need, program

SERVER = Path(__file__).parents[1] / "fakes" / "mcp_server.py"
TOKEN = "a-token-of-the-docs"


@pytest.mark.parametrize("form", ["servers", "file"])
@pytest.mark.parametrize(
    ("adapter", "name", "key"),
    [("codex", "codex", "OPENAI_API_KEY"), ("claude-code", "claude", "ANTHROPIC_API_KEY")],
)
def test_it_is_offered_to_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, adapter: str, name: str, key: str, form: str
) -> None:
    found, seen = program(name), tmp_path / "seen"
    need(found, name)
    driver = Driver.in_repository(tmp_path)
    monkeypatch.setenv("DOCS_TOKEN", TOKEN)
    monkeypatch.setenv(key, "sk-dummy-key")
    command = [sys.executable, str(SERVER), str(seen)]
    docs = McpServer(command=tuple(command), environment={"DOCS_LANGUAGE": "en"}, pass_environment=("DOCS_TOKEN",))
    entry = {
        "command": command[0],
        "args": command[1:],
        "env": {"DOCS_TOKEN": "${DOCS_TOKEN}", "DOCS_LANGUAGE": "en"},
    }
    (tmp_path / "mcp.json").write_text(json.dumps({"mcpServers": {"docs": entry}}))
    with ScriptedModel(steps=[{"shell": "env > env-of-command"}]) as model:
        settings = CliSettings(
            name=adapter,
            adapter=adapter,
            argv=(str(found),),
            home=driver.home,
            model="sonnet" if adapter == "claude-code" else "gpt-5.5",
            pass_environment=(key, "DOCS_TOKEN"),
            options={"base_url": model.base_url.removesuffix("/v1") if name == "claude" else model.base_url},
        )
        mcp = Mcp(servers={"docs": docs}) if form == "servers" else Mcp(file=str(tmp_path / "mcp.json"))
        assert driver.run(replace(settings, mcp=mcp)).outcome == "completed"
        asked = json.dumps([request.body for request in model.requests])
    got = json.loads(seen.read_text())
    assert (got["DOCS_TOKEN"], got["DOCS_LANGUAGE"]) == (TOKEN, "en")
    assert "mcp__docs" in asked  # Codex names the server, and shows its tools when they are searched for
    assert TOKEN not in asked
    assert TOKEN not in (driver.folder / "cli.log").read_text()
    if adapter == "codex":
        assert TOKEN not in (driver.tree / "env-of-command").read_text()
