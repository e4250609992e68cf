"""The coding CLIs that can be driven, by the name that a configuration gives as `adapter`.

To add one: if it speaks the Agent Client Protocol, add its profile to `profiles.py`. Else write a module beside
`codex.py` that offers what `base.Adapter` says, and add a line here. Either way replay captured output of it in a
test. A CLI that is not known here runs through `command`.
"""

from agent_daemon.clis import aider, claude_code, codex, command
from agent_daemon.clis.acp import AcpAdapter
from agent_daemon.clis.base import Adapter
from agent_daemon.clis.profiles import PROFILES

ADAPTERS: dict[str, Adapter] = {
    "aider": aider,
    "claude-code": claude_code,
    "command": command,
    "codex": codex,
    **{name: AcpAdapter(profile) for name, profile in PROFILES.items()},
}
