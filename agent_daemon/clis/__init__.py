"""The coding CLIs that can be driven, by the name that a configuration gives as `adapter`.

To add one: write a module beside `codex.py` that offers what `base.Adapter` says, replay captured output of it in
a test, and add a line here. A CLI without a module of its own runs through `command`.
"""

from agent_daemon.clis import aider, claude_code, codex, command
from agent_daemon.clis.base import Adapter

ADAPTERS: dict[str, Adapter] = {
    "aider": aider,
    "claude-code": claude_code,
    "command": command,
    "codex": codex,
}
