"""The direction of imports: cli → app → loop → ports and core; adapters never import each other."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = sorted([*ROOT.glob("supervisor/**/*.py"), *ROOT.glob("agent_daemon/**/*.py")])

PURE = {"agent_daemon.protocol.model", "agent_daemon.protocol.paths", "agent_daemon.protocol.errors"}
PURE |= {"agent_daemon.protocol.money", "agent_daemon.protocol.outcomes"}
EFFECTS = {"subprocess", "socket", "time", "threading", "shutil", "tempfile", "random", "logging"}
ADAPTERS = ("supervisor.forges", "supervisor.workstations", "supervisor.secrets")
WIRING = {"supervisor.app", "supervisor.control", "supervisor.demo", "supervisor.serving"}


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(path: Path) -> set[str]:
    """Every module that is imported, also inside functions; `from a import b` counts as a and a.b."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_point_the_right_way(path: Path) -> None:
    name, imported = name_of(path), imports_of(path)
    if within(name, "agent_daemon"):
        assert not [i for i in imported if within(i, "supervisor")], "the daemon carries nothing of the supervisor"
    if within(name, "agent_daemon.protocol"):
        outside = [i for i in imported if within(i, "agent_daemon") and not within(i, "agent_daemon.protocol")]
        assert not outside, "the protocol stands on its own"
    if within(name, "supervisor.core"):
        own = [i for i in imported if within(i, "supervisor") and not within(i, "supervisor.core")]
        shared = {i for i in imported if within(i, "agent_daemon")}
        allowed = {i for i in shared if i in PURE or i.rsplit(".", 1)[0] in PURE}
        third = {i.split(".")[0] for i in imported} - set(sys.stdlib_module_names) - {"supervisor", "agent_daemon"}
        assert not own, "the core knows nothing outside of itself"
        assert shared == allowed, "the core uses the protocol's values only"
        assert third <= {"pydantic"}
        assert not EFFECTS & {i.split(".")[0] for i in imported}, "no input or output, no clock"
    for adapter in ADAPTERS:
        if within(name, adapter):
            others = [i for a in ADAPTERS if a != adapter for i in imported if within(i, a)]
            assert not others, "adapters never import each other"
    if not within(name, "supervisor.cli") and name not in ("supervisor.__main__",):
        assert not [i for i in imported if within(i, "supervisor.cli")], "nothing is built on the command line"
    if not within(name, "supervisor.cli") and name not in WIRING and not within(name, "supervisor.demo"):
        assert not [i for i in imported if within(i, "supervisor.app")], (
            "only the command line builds the application"
        )
        assert not [
            i
            for i in imported
            if any(within(i, a) for a in ADAPTERS) and not any(within(name, a) for a in ADAPTERS)
        ], "only `app` knows the adapters"


def test_the_host_calls_git_in_one_place_only() -> None:
    callers = [
        name_of(path)
        for path in MODULES
        if within(name_of(path), "supervisor") and '"git"' in path.read_text() and "subprocess" in path.read_text()
    ]
    assert all(within(name, "supervisor.git") or name == "supervisor.doctor" for name in callers), callers
