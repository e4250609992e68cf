"""Which coding CLI does the demo's task: the scripted program, or a real one."""

import os
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from agent_daemon.clis import ADAPTERS
from supervisor.errors import CloudCodeError

SCRIPT = Path(__file__).with_name("scripted_cli.py")
OPENAI_URL = "https://api.openai.com/v1"


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """What the demo was asked for: an endpoint, a model, the variable that holds its key; None: the usual ones."""

    base_url: str | None = None
    model: str | None = None
    key_name: str | None = None


@dataclass(frozen=True, kw_only=True)
class DemoAgent:
    """A coding CLI as the demo's `config.yaml` describes it.

    `patience_seconds` is how long the task may take.
    """

    name: str
    introduction: str
    settings: Mapping[str, Any]
    patience_seconds: float


def scripted(_wishes: Wishes) -> DemoAgent:
    """The program of `scripted_cli.py`, which follows fixed steps and says so."""
    return DemoAgent(
        name="scripted",
        introduction="The coding CLI is a small scripted program that follows fixed steps: no model, no account. "
        "`cloud-code demo --cli codex` uses a real one; claude-code, aider, gemini and opencode are others.",
        settings={"adapter": "command", "argv": [sys.executable, str(SCRIPT)]},
        patience_seconds=120,
    )


def real(adapter: str, usual_key: str, usual_url: str | None, wishes: Wishes) -> DemoAgent:
    """A real coding CLI; CloudCodeError when it is not there (E_NO_CLI) or has no key (E_NO_KEY)."""
    named, install = ADAPTERS[adapter].PROGRAM, ADAPTERS[adapter].INSTALL
    program, key = shutil.which(named), wishes.key_name or usual_key
    if program is None:
        raise CloudCodeError("E_NO_CLI", f"The program {named} is not on PATH.", f"Install it with `{install}`.")
    if not os.environ.get(key):
        raise CloudCodeError(
            "E_NO_KEY",
            f"{adapter} needs a key, and the variable {key} is not set.",
            f"Run `export {key}=…`, or name another variable with --key-env.",
        )
    url = wishes.base_url or usual_url
    settings: dict[str, Any] = {
        "adapter": adapter,
        "argv": [program],
        "pass_environment": [key],
        "options": {"env_key": key} | ({"base_url": url} if url else {}),
    }
    if wishes.model:
        settings["model"] = wishes.model
    return DemoAgent(
        name=adapter,
        introduction=f"The coding CLI is {program}" + (f", with the model at {url}." if url else "."),
        settings=settings,
        patience_seconds=600,
    )


AGENTS: dict[str, Callable[[Wishes], DemoAgent]] = {
    "scripted": scripted,
    "codex": partial(real, "codex", "OPENAI_API_KEY", OPENAI_URL),
    "claude-code": partial(real, "claude-code", "ANTHROPIC_API_KEY", None),
    "aider": partial(real, "aider", "OPENAI_API_KEY", None),
    "gemini": partial(real, "gemini", "GEMINI_API_KEY", None),
    "opencode": partial(real, "opencode", "OPENAI_API_KEY", None),
}
