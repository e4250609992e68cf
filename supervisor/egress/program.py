"""Which program the proxy is: told by what it consists of, for two versions may have the same one."""

import hashlib
import subprocess
import sys
from functools import cache
from importlib.metadata import version
from pathlib import Path

import agent_daemon
import supervisor
from supervisor.core.unit import without_mark
from supervisor.egress.files import ProxyFile

UNIT = "cloud-code-egress.service"
UNIT_FILE = Path("/etc/systemd/system") / UNIT
OPTION = "--say-program"
_ANSWER_SECONDS = 60
_OURS = tuple(Path(str(package.__file__)).parent for package in (agent_daemon, supervisor))


def own_program(unit: Path = UNIT_FILE) -> str:
    """A digest of this process's modules of ours, of what it runs on, and of its unit where there is one."""
    digest = hashlib.sha256(f"{sys.version} h11 {version('h11')}".encode())
    files = {getattr(module, "__file__", None) for module in list(sys.modules.values())}
    for path in sorted(Path(file) for file in files if file):
        package = next((folder for folder in _OURS if path.is_relative_to(folder)), None)
        if package is not None:
            digest.update(f"\n{path.relative_to(package.parent)}\n".encode() + path.read_bytes())
    if unit.is_file():
        digest.update(without_mark(unit.read_text()).encode())
    return digest.hexdigest()[:16]


def is_installed(running: ProxyFile | None) -> bool:
    """Whether the proxy that runs is what would be started now; one that does not say what it is, is not."""
    return running is not None and running.program != "" and running.program == installed_program()


@cache
def installed_program() -> str:
    """What the proxy would be if it were started now: asked of it itself. Empty where it says nothing."""
    command = [sys.executable, "-P", "-m", "supervisor.egress", OPTION]  # (nothing of the folder that we are in)
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_ANSWER_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
