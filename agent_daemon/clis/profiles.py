"""The coding CLIs that are driven over the Agent Client Protocol, with what is particular to each.

Known from Gemini CLI 0.61.0, OpenCode 1.18.33, Auggie 0.36.0, Copilot CLI 1.0.102, Qwen Code 0.24.4, and the
adapters claude-agent-acp 0.100.0 and codex-acp 2.6.0 of the protocol's own project.
"""

import json
import os
import re
from functools import partial
from pathlib import Path

from agent_daemon.clis import codex
from agent_daemon.clis.acp import Profile
from agent_daemon.clis.base import CliSettings, Progress, Usage, count_of, json_object, text_of
from agent_daemon.protocol.files import write_file


def _gemini(settings: CliSettings, environment: dict[str, str]) -> tuple[str, ...]:
    """Settings for a home that has none yet; later they are the user's."""
    path = settings.home / ".gemini" / "settings.json"
    if not path.exists():
        wanted = {
            "general": {"enableAutoUpdate": False, "enableAutoUpdateNotification": False, "maxAttempts": 4},
            "privacy": {"usageStatisticsEnabled": False},
            "telemetry": {"enabled": False},
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, json.dumps(wanted, indent=2).encode())
    return ()


def _gemini_log(settings: CliSettings, session_id: str) -> Path | None:
    """Its record of the conversation, with the tokens of each reply; a resumed one also has an empty one."""
    if not re.fullmatch(r"[0-9a-f-]{36}", session_id):
        return None
    found = (settings.home / ".gemini" / "tmp").glob(f"*/chats/session-*-{session_id[:8]}.jsonl")
    return max(found, key=lambda path: path.lstat().st_size, default=None)


def _gemini_usage(line: str) -> list[Progress]:
    entry = json_object(line) or {}
    tokens = entry.get("tokens")
    if not isinstance(tokens, dict):
        return []
    usage = Usage(
        model=text_of(entry, "model"),
        input_tokens=count_of(tokens, "input"),
        cached_input_tokens=count_of(tokens, "cached"),
        output_tokens=count_of(tokens, "output") + count_of(tokens, "thoughts"),
    )
    return [Progress(kind="usage", usage=usage)]


def _opencode(settings: CliSettings, environment: dict[str, str]) -> tuple[str, ...]:
    """A configuration of ours over the user's; an endpoint becomes a provider that speaks OpenAI Chat."""
    config: dict[str, object] = {"autoupdate": False, "share": "disabled", "snapshot": False}
    config["permission"] = {"doom_loop": "deny"}
    config["agent"] = {"title": {"disable": True}}
    model = settings.model
    if "base_url" in settings.options:
        key = {"apiKey": "{env:OPENCODE_KEY}"} if "OPENCODE_KEY" in environment else {}
        provider = {
            "npm": "@ai-sdk/openai-compatible",
            "name": "cloud-code",
            "options": {"baseURL": settings.options["base_url"], **key},
            "models": {model: {"name": model}},
        }
        config["provider"] = {"cloud-code": provider}
        model = f"cloud-code/{model}"
        environment.setdefault("OPENCODE_DISABLE_MODELS_FETCH", "1")
    if settings.model:
        config["model"] = config["small_model"] = model
    environment.setdefault("OPENCODE_CONFIG_CONTENT", json.dumps(config))
    return ()


def _auggie(settings: CliSettings, environment: dict[str, str]) -> tuple[str, ...]:
    """Its endpoint and its key are one variable."""
    key, url = environment.pop("AUGMENT_API_TOKEN", None), environment.pop("AUGMENT_TENANT_URL", None)
    if key and url:
        session = {"accessToken": key, "tenantURL": url, "scopes": ["read", "write"]}
        environment.setdefault("AUGMENT_SESSION_AUTH", json.dumps(session))
    return ("--retry-timeout", "60")


def _copilot(settings: CliSettings, environment: dict[str, str]) -> tuple[str, ...]:
    """With an endpoint of one's own it needs no login."""
    if "COPILOT_PROVIDER_BASE_URL" in environment:
        environment.setdefault("COPILOT_OFFLINE", "true")
    if settings.model:
        environment.setdefault("COPILOT_MODEL", settings.model)
    return ()


def _qwen(settings: CliSettings, environment: dict[str, str]) -> tuple[str, ...]:
    return ("--auth-type", "openai") if "OPENAI_API_KEY" in environment else ()


def _claude(settings: CliSettings, environment: dict[str, str]) -> tuple[str, ...]:
    environment.setdefault("CLAUDE_CONFIG_DIR", _folder(settings.home / ".claude"))
    if os.geteuid() == 0:  # as root it bypasses permissions only where it is told that this is a sandbox
        environment.setdefault("IS_SANDBOX", "1")
    if settings.model:
        environment.setdefault("ANTHROPIC_MODEL", settings.model)
    return ()


def _codex(settings: CliSettings, environment: dict[str, str]) -> tuple[str, ...]:
    """Configuration over the one in its home; an endpoint becomes a provider with the Responses protocol."""
    environment.setdefault("CODEX_HOME", _folder(settings.home / ".codex"))
    config: dict[str, object] = {"model": settings.model} if settings.model else {}
    if "base_url" in settings.options:
        provider = {"name": "cloud-code", "base_url": settings.options["base_url"], "env_key": "OPENAI_API_KEY"}
        config["model_providers"] = {"cloud-code": {**provider, "wire_api": "responses"}}
        config["model_provider"] = "cloud-code"
        environment.setdefault("MODEL_PROVIDER", "cloud-code")
    if config:
        environment.setdefault("CODEX_CONFIG", json.dumps(config))
    if environment.get("OPENAI_API_KEY"):  # else it would use a login of its home
        environment.setdefault("DEFAULT_AUTH_REQUEST", json.dumps({"methodId": "api-key"}))
    return ()


def _folder(path: Path) -> str:
    path.mkdir(parents=True, exist_ok=True)
    return str(path)


PROFILES: dict[str, Profile] = {
    "auggie": Profile(
        program="auggie",
        arguments=("--acp",),
        install="npm install --global @augmentcode/auggie",
        tried="0.36.0",
        logins=(".augment/session.json",),
        log_in="auggie login",
        key="AUGMENT_API_TOKEN",
        base_url="AUGMENT_TENANT_URL",
        model_option="--model",
        environment={"AUGMENT_DISABLE_AUTO_UPDATE": "1"},
        start=_auggie,
        noise=re.compile(r"^Error handling request"),
        declined=("workspace-indexing-permission",),  # it would send the whole repository to its service
    ),
    "claude-agent-acp": Profile(
        program="claude-agent-acp",
        arguments=(),
        install="npm install --global @agentclientprotocol/claude-agent-acp",
        tried="0.100.0",
        logins=(".claude/.credentials.json",),
        log_in="claude auth login",
        folders={"CLAUDE_CONFIG_DIR": ".claude"},
        key="ANTHROPIC_API_KEY",
        base_url="ANTHROPIC_BASE_URL",
        environment={"CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1", "DISABLE_AUTOUPDATER": "1"},
        start=_claude,
        mode="bypassPermissions",
    ),
    "codex-acp": Profile(
        program="codex-acp",
        arguments=(),
        install="npm install --global @agentclientprotocol/codex-acp",
        tried="2.6.0",
        logins=(".codex/auth.json",),
        log_in="codex login --device-auth",
        folders={"CODEX_HOME": ".codex"},
        key="OPENAI_API_KEY",
        base_url="OPENAI_BASE_URL",
        start=_codex,
        mode="agent-full-access",
        usage_log=codex.usage_log,
        parse_usage=partial(codex.parse, "usage"),
    ),
    "copilot": Profile(
        program="copilot",
        arguments=("--acp", "--allow-all", "--no-auto-update"),
        install="npm install --global @github/copilot",
        tried="1.0.102",
        key="COPILOT_PROVIDER_API_KEY",
        base_url="COPILOT_PROVIDER_BASE_URL",
        environment={"COPILOT_AUTO_UPDATE": "false"},
        start=_copilot,
        retries=re.compile(r"^Info: .*\bRetrying"),
        failures=re.compile(r"^Error: "),
    ),
    "gemini": Profile(
        program="gemini",
        arguments=("--acp",),
        install="npm install --global @google/gemini-cli",
        tried="0.61.0",
        logins=(".gemini/oauth_creds.json",),
        log_in="env NO_BROWSER=true gemini",
        folders={"GEMINI_CLI_HOME": ""},
        key="GEMINI_API_KEY",
        base_url="GOOGLE_GEMINI_BASE_URL",
        model_option="--model",
        environment={"GEMINI_CLI_NO_RELAUNCH": "true", "GEMINI_CLI_TRUST_WORKSPACE": "true"},
        start=_gemini,
        mode="yolo",
        usage_log=_gemini_log,
        parse_usage=_gemini_usage,
        retries=re.compile(r"^Attempt \d+ failed"),
        noise=re.compile(r"^\[STARTUP\]|^Ripgrep is not available|^Error handling request"),
    ),
    "opencode": Profile(
        program="opencode",
        arguments=("acp", "--print-logs", "--log-level", "ERROR"),  # its retries are told nowhere else
        install="npm install --global opencode-ai",
        tried="1.18.33",
        logins=(".local/share/opencode/auth.json",),
        log_in="opencode auth login",
        folders={"XDG_DATA_HOME": ".local/share"},
        key="OPENCODE_KEY",
        base_url="OPENCODE_BASE_URL",
        own_keys=True,
        environment={"OPENCODE_DISABLE_AUTOUPDATE": "1", "OPENCODE_DISABLE_LSP_DOWNLOAD": "1"},
        start=_opencode,
        tells_cost="steps",
        ledger=".local/share/opencode/opencode.db",
        retries=re.compile(r'message="stream error".* error\.error="(.*)"'),
        noise=re.compile(r"^timestamp=|^Error handling request"),
    ),
    "qwen": Profile(
        program="qwen",
        arguments=("--acp",),
        install="npm install --global @qwen-code/qwen-code",
        tried="0.24.4",
        logins=(".qwen/oauth_creds.json",),
        log_in="qwen",
        key="OPENAI_API_KEY",
        base_url="OPENAI_BASE_URL",
        model_option="--model",
        start=_qwen,
        noise=re.compile(r"^Error handling request"),
        mode="yolo",
    ),
}
