"""Which coding CLI does the demo's task: the scripted program, or a real one."""

import os
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from supervisor.errors import CloudCodeError

SCRIPT = Path(__file__).with_name("scripted_cli.py")
OPENAI_URL = "https://api.openai.com/v1"
OPENAI_KEY = "OPENAI_API_KEY"


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """What the demo was asked for: an endpoint, a model, and the variable that holds its key."""

    base_url: str | None = None
    model: str | None = None
    key_name: str = OPENAI_KEY


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
        "`cloud-code demo --cli codex` uses a real one.",
        settings={"adapter": "command", "argv": [sys.executable, str(SCRIPT)]},
        patience_seconds=50,
    )


def codex(wishes: Wishes) -> DemoAgent:
    """The real Codex CLI; CloudCodeError when it is not there (E_NO_CODEX) or has no key (E_NO_KEY)."""
    program = shutil.which("codex")
    if program is None:
        raise CloudCodeError(
            "E_NO_CODEX", "The Codex CLI is not on PATH.", "Install it with `npm install --global @openai/codex`."
        )
    if not os.environ.get(wishes.key_name):
        raise CloudCodeError(
            "E_NO_KEY",
            f"Codex needs a key, and the variable {wishes.key_name} is not set.",
            f"Run `export {wishes.key_name}=…`, or name another variable with --key-env.",
        )
    settings: dict[str, Any] = {
        "adapter": "codex",
        "argv": [program],
        "pass_environment": [wishes.key_name],
        "options": {"base_url": wishes.base_url or OPENAI_URL, "env_key": wishes.key_name},
    }
    if wishes.model:
        settings["model"] = wishes.model
    return DemoAgent(
        name="codex",
        introduction=f"The coding CLI is {program}, with the model at {wishes.base_url or OPENAI_URL}.",
        settings=settings,
        patience_seconds=600,
    )


AGENTS: dict[str, Callable[[Wishes], DemoAgent]] = {"scripted": scripted, "codex": codex}
